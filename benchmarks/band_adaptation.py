"""Scale of activations of ImageNet weights adapted to 13 bands, on EuroSAT images.

    python benchmarks/band_adaptation.py ../shared/data/sentinel/eurosat-ms

Prints the standard deviation of the first layer's output, the embedding and the logits relative to the RGB model on the
same images, by initialization of the kernels of the ten bands without ImageNet weights.
"""

import argparse
from pathlib import Path

import numpy as np
import rasterio
import torch

from geoxt import models

WEIGHTS = "efficientnet_lite0-imagenet"
BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09", "B10", "B11", "B12", "B8A")
"""Band order of EuroSAT files, with B8A last."""
RGB = [3, 2, 1]
NO_SCALE = "mean, not scaled"


def read(folder: Path) -> torch.Tensor:
    """Return images (N, 13, H, W), standardized per band over all images."""
    images = []
    for path in sorted(folder.rglob("*.tif")):
        with rasterio.open(path) as file:
            images.append(file.read().astype("float32"))
    pixels = torch.from_numpy(np.stack(images))
    return (pixels - pixels.mean((0, 2, 3), keepdim=True)) / pixels.std((0, 2, 3), keepdim=True).clamp(min=1)


def build(missing: str) -> torch.nn.Module:
    """Return the model for 13 bands, with or without scaling of the mean kernels."""
    model = models.create("efficientnet_lite0", bands=BANDS, num_classes=1000).eval()
    report = models.load(model, WEIGHTS, alias="sentinel-2", missing="mean" if missing == NO_SCALE else missing)
    if missing == NO_SCALE:
        with torch.no_grad():
            model.body.conv_stem.weight /= report.scale
    return model


def activation_stds(model: torch.nn.Module, images: torch.Tensor) -> tuple[float, float, float]:
    """Return the standard deviations of the first layer's output, the embedding and the logits."""
    with torch.no_grad():
        first = model.body.conv_stem(images)
        return first.std().item(), model.features(images).std().item(), model(images).std().item()


def main() -> None:
    """Parse arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of EuroSAT multispectral GeoTIFFs")
    images = read(parser.parse_args().folder)
    rgb = models.create("efficientnet_lite0", bands=["R", "G", "B"], num_classes=1000).eval()
    print(models.load(rgb, WEIGHTS))
    base = activation_stds(rgb, images[:, RGB])
    print(f"{len(images)} images of {images.shape[-1]} px; standard deviations relative to the RGB model")
    print(f"{'missing':18} {'first layer':>12} {'embedding':>12} {'logits':>12} {'maximum difference of logits':>30}")
    for missing in ("zero", "random", "mean", NO_SCALE):
        torch.manual_seed(0)
        model = build(missing)
        ratios = [std / base_std for std, base_std in zip(activation_stds(model, images), base, strict=True)]
        with torch.no_grad():
            difference = (model(images) - rgb(images[:, RGB])).abs().max().item()
        print(f"{missing:18} " + " ".join(f"{ratio:12.3f}" for ratio in ratios) + f" {difference:30.2e}")


if __name__ == "__main__":
    main()

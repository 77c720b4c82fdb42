"""ImageNet weights in a model for 13 bands, and whether its layers keep their size on chips of EuroSAT.

    python benchmarks/band_adaptation.py ../shared/data/sentinel/eurosat-ms

Prints the spread of the first layer's output, of the embedding and of the logits beside those of the RGB model on the
same chips, by each way of making up the kernels of the ten bands that ImageNet does not have.
"""

import argparse
from pathlib import Path

import numpy as np
import rasterio
import torch

from geoxt import models

WEIGHTS = "efficientnet_lite0-imagenet"
BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09", "B10", "B11", "B12", "B8A")
"""The bands as EuroSAT's files hold them, B8A last."""
RGB = [3, 2, 1]
NO_SCALE = "mean, not scaled"


def read(folder: Path) -> torch.Tensor:
    """Return chips (N, 13, H, W), each band at mean 0 and deviation 1 over all of them."""
    chips = []
    for path in sorted(folder.rglob("*.tif")):
        with rasterio.open(path) as file:
            chips.append(file.read().astype("float32"))
    pixels = torch.from_numpy(np.stack(chips))
    return (pixels - pixels.mean((0, 2, 3), keepdim=True)) / pixels.std((0, 2, 3), keepdim=True).clamp(min=1)


def build(missing: str) -> torch.nn.Module:
    """Return the model with 13 bands; for comparison also without the scaling of its mean kernels."""
    model = models.create("efficientnet_lite0", bands=BANDS, classes=1000).eval()
    report = models.load(model, WEIGHTS, alias="sentinel-2", missing="mean" if missing == NO_SCALE else missing)
    if missing == NO_SCALE:
        with torch.no_grad():
            model.body.conv_stem.weight /= report.scale
    return model


def spread(model: torch.nn.Module, chips: torch.Tensor) -> tuple[float, float, float]:
    """Return the deviation of the first layer's output, of the embedding and of the logits."""
    with torch.no_grad():
        first = model.body.conv_stem(chips)
        return first.std().item(), model.features(chips).std().item(), model(chips).std().item()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    chips = read(parser.parse_args().folder)
    rgb = models.create("efficientnet_lite0", bands=["R", "G", "B"], classes=1000).eval()
    print(models.load(rgb, WEIGHTS))
    base = spread(rgb, chips[:, RGB])
    print(f"{len(chips)} chips of {chips.shape[-1]} px; spread relative to the RGB model's")
    print(f"{'missing':18} {'first layer':>12} {'embedding':>12} {'logits':>12} {'largest difference of logits':>30}")
    for missing in ("zero", "random", "mean", NO_SCALE):
        torch.manual_seed(0)
        model = build(missing)
        ratios = [one / other for one, other in zip(spread(model, chips), base, strict=True)]
        with torch.no_grad():
            difference = (model(chips) - rgb(chips[:, RGB])).abs().max().item()
        print(f"{missing:18} " + " ".join(f"{ratio:12.3f}" for ratio in ratios) + f" {difference:30.2e}")


if __name__ == "__main__":
    main()

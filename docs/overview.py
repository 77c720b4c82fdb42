"""Draw the figure of the landing page from real output: `python docs/overview.py`, less than a minute on 2 cores."""

from __future__ import annotations

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.patches import Polygon, Rectangle
from PIL import Image

import geoxt
from geoxt import samplers, splits, trainers
from geoxt.testing import make_world

PICTURE = Path(__file__).parent / "_static" / "overview.png"
TITLES = ("files in two CRSs", "layers on one grid", "windows", "a trained model", "the map, as a COG")


def main() -> None:
    """Generate a world, train, predict and draw."""
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(Path(folder), size=320, scenes=1, seed=4)
        landsat = geoxt.open_cogs(world.images, product="landsat8")
        cdl = geoxt.open_cogs(world.labels, product="cdl")
        ds = geoxt.intersection(image=landsat, mask=cdl, grid="image")
        split = splits.by_block(ds, size=40, labels=ds["mask"], seed=0)
        data = trainers.WindowDataModule(ds, split, size=32, batch_size=16, length=240, seed=0)
        recipe = trainers.Recipe(lr=0.01, class_weights="balanced")
        task = trainers.Task(data.card(model="fcn", width=24), recipe)
        checkpoint = Path(folder) / "model.ckpt"
        history = trainers.fit(task, data, epochs=24, checkpoint=checkpoint, progress="none")
        cover = ds["image"].geoml.predict(checkpoint).compute()
        draw(ds, cdl, cover, [epoch["val/miou"] for epoch in history])


def draw(ds: xr.Dataset, cdl: xr.DataArray, cover: xr.DataArray, scores: list[float]) -> None:
    """Draw the five steps in a row."""
    plt.rcParams["font.size"] = 11
    figure, axes = plt.subplots(1, 5, figsize=(14, 3.5), dpi=90, layout="constrained")
    image, mask = false_color(ds["image"]), colored(ds["mask"], cdl)
    left = np.arange(image.shape[1])[None, :, None] < image.shape[1] // 2
    axes[0].imshow(colored(cdl, cdl))
    footprint = ds["image"].geoml.grid.extent.to_crs(cdl.geoml.grid.crs).exterior.points
    corners = [~cdl.geoml.grid.affine @ corner for corner in footprint]
    axes[0].add_patch(Polygon(corners, fill=False, edgecolor="white", linewidth=2))
    axes[1].imshow(np.where(left, image, mask))
    axes[2].imshow(image)
    for window in samplers.RandomSampler(ds, size=40, length=14, min_valid=1.0, seed=2):
        corner = window.col - 0.5, window.row - 0.5
        axes[2].add_patch(Rectangle(corner, 40, 40, fill=False, edgecolor="#ffd400", linewidth=1.6))
    axes[3].plot(range(1, len(scores) + 1), scores, color="#0a7d91", marker="o", markersize=4)
    axes[3].set(xlabel="epoch", ylabel="mean IoU", ylim=(0, 1), xticks=range(0, len(scores) + 1, 6), box_aspect=1)
    axes[4].imshow(colored(cover, cdl))
    for axis, title in zip(axes, TITLES, strict=True):
        axis.set_title(title)
        if axis is not axes[3]:
            axis.set(xticks=[], yticks=[])
    figure.savefig(PICTURE)
    Image.open(PICTURE).convert("RGB").quantize(96).save(PICTURE, optimize=True)


def false_color(image: xr.DataArray) -> np.ndarray:
    """Return near infrared, red and green, stretched between percentiles, as RGB."""
    values = image.sel(band=["B5", "B4", "B3"]).transpose("y", "x", "band").compute().where(lambda a: a != 0).values
    low, high = np.nanpercentile(values, (2, 98), axis=(0, 1))
    return np.nan_to_num(np.clip((values - low) / (high - low), 0, 1), nan=1.0)


def colored(codes: xr.DataArray, legend_layer: xr.DataArray) -> np.ndarray:
    """Return class codes in the colors of a legend, as RGB; background and other codes are white."""
    rgb = np.ones((*codes.shape, 3))
    for code, color in legend_layer.geoml.legend.colormap().items():
        if code:
            rgb[codes.values == code] = np.array(color[:3]) / 255
    return rgb


if __name__ == "__main__":
    main()

"""The job behind `geoxt demo`: two layers in different CRSs become a trained model, a map and its scores."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from geoxt import plot
from geoxt.align import intersection
from geoxt.errors import InputError, OutputError
from geoxt.grid import grid_of, label
from geoxt.layers import open_cogs, open_stac
from geoxt.predict import predict, require_writable, score, to_cog
from geoxt.samplers import Region
from geoxt.splits import Split, blocks
from geoxt.testing import make_world
from geoxt.trainers import DataModule, Progress, Task, fit, legend_of
from geoxt.types import SomePath

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Say = Callable[[str], None]
"""Shows a line of text."""

OUTPUTS = ("map.tif", "map.png", "samples.png", "metrics.json", "model.ckpt")
_CRS = "EPSG:32615"
"""Of the made world's map: the zone of half of its scenes. The others, and the labels, come onto its grid."""
_MOST_CLASSES = 64
"""Classes that labels may have, unless told otherwise: an image taken for labels by mistake has more values."""
_PIXELS = 750_000
"""Training pixels in an epoch: a few seconds on two cores."""
_STEPS = 20
"""Steps of the optimiser in an epoch, about."""
_BLOCKS = 72
"""Blocks to split a scene into: enough for a dozen to be held out, as large as that allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """What to do."""

    out: SomePath
    """Folder to write to."""
    seed: int = 0
    """Of the world, the split, the windows, the weights and the augmentation."""
    image: tuple[str, ...] | None = None
    """Paths and patterns of the image's files; `None` makes a world."""
    labels: str | None = None
    """File of class codes."""
    classes: int | None = None
    """Classes that the labels may have at most."""
    epochs: int = 15
    """Passes over the training windows."""
    model: str = "unet"
    """Name of an architecture."""
    block: int | None = None
    """Pixels: side of the blocks of the split; `None` takes about 72 blocks."""
    size: int | None = None
    """Pixels: side of the training windows; `None` takes three quarters of a block."""
    scene: int = 704
    """Pixels: side of a scene of the made world."""
    progress: Progress = "lines"
    """What to show while training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was done."""

    files: Mapping[str, Path]
    """Path of each output, by its name."""
    metrics: Mapping[str, Any]
    """What `metrics.json` holds."""
    seconds: float
    """Wall time of all of it."""


def run(job: Demo, *, say: Say = lambda _: None) -> Report:
    """Open, align, split, train, predict, write and score.

    Raises
    ------
    GeoxtError
        Where an input or the output is at fault; before any training.
    """
    start = time.perf_counter()
    files = {name: Path(job.out) / name for name in OUTPUTS}
    _check(job, files)
    data = _open(job, say)
    size, block = _sizes(job, data)
    split = blocks(data, size=block, seed=job.seed)
    length = max(_PIXELS // size**2, 64)
    batch = min(max(length // _STEPS, 4), 16)
    module = DataModule(data, split, size=size, length=length, batch_size=batch, seed=job.seed)
    say(f"split     {_count(split)} blocks of {block} px for training / validation / test; windows of {size} px")
    _save(plot.samples(data, list(module.windows)[:16]), files["samples.png"])

    task = Task(module.card(model=job.model), seed=job.seed)
    say(f"train     {job.model}, {_weights(task):,} weights, {job.epochs} epochs")
    history = fit(task, module, epochs=job.epochs, seed=job.seed, checkpoint=files["model.ckpt"], progress=job.progress)

    say("predict   the whole scene, in overlapping tiles")
    to_cog(predict(data["image"], task, batch_size=4), files["map.tif"])
    found = open_cogs(files["map.tif"], categorical=True)
    scores = score(found, data["mask"], region=split.test)
    metrics = {**scores, **_facts(job, task, split, block, size), "history": history}
    _write_json(metrics, files["metrics.json"])
    _save(_picture(data, found, split, scores), files["map.png"])
    return Report(files=files, metrics=metrics, seconds=time.perf_counter() - start)


def describe(report: Report) -> str:
    """Return what was written and how good it is, as text of several lines."""
    metrics = report.metrics
    lines = [f"{name:<14}{path}" for name, path in report.files.items()]
    lines += [
        "",
        f"On the {len(metrics['blocks']['test'])} held-out blocks ({metrics['pixels']:,} pixels):",
        f"  accuracy {metrics['accuracy']:6.1%}   (the most frequent class alone: {metrics['majority']:.1%})",
        f"  mean IoU {metrics['miou']:6.1%}",
    ]
    width = max(map(len, metrics["iou"]))
    lines += [f"    {name:<{width}}  {'-' if iou is None else f'{iou:6.1%}'}" for name, iou in metrics["iou"].items()]
    return "\n".join([*lines, "", f"{report.seconds:.0f} s"])


def _check(job: Demo, files: Mapping[str, Path]) -> None:
    """Refuse what can be known to fail, before anything takes time."""
    if (job.image is None) != (job.labels is None):
        given, missing = ("--image", "--labels") if job.labels is None else ("--labels", "--image")
        msg = f"Cannot train with {given} alone: pass {missing} as well, or neither for a made world."
        raise InputError(msg)
    if job.epochs < 1:
        msg = f"Cannot train for {job.epochs} epochs: pass --epochs 1 or more."
        raise InputError(msg)
    if job.seed < 0:
        msg = f"Cannot use the seed {job.seed}: pass --seed 0 or more."
        raise InputError(msg)
    for path in files.values():
        require_writable(path)


def _open(job: Demo, say: Say) -> xr.Dataset:
    """Return image and mask on the image's grid, and the mask with the classes that it holds."""
    if job.image is None or job.labels is None:
        root = Path(job.out) / "world"
        say(f"make      a small world in {root}")
        catalog = make_world(root, seed=job.seed, size=job.scene).catalog
        image = open_stac(catalog, collections=["landsat-c2-l2"], crs=_CRS, name="image")
        labels = open_stac(catalog, collections=["usda-cdl"], name="labels")
    else:
        image = open_cogs(job.image, name="image")
        labels = open_cogs(job.labels, categorical=True, resampling="nearest", name="labels")
    _announce(say, image, labels)
    data = intersection(image=image, mask=labels, grid="image")
    legend = legend_of(data["mask"], most=job.classes or _MOST_CLASSES)
    data["mask"] = data["mask"].assign_attrs(legend.attrs())
    rows, cols = grid_of(data).shape
    say(f"align     {rows} x {cols} px in {label(grid_of(data).crs)}, {len(legend)} classes: {', '.join(legend.names)}")
    return data


def _announce(say: Say, *layers: xr.DataArray) -> None:
    for layer in layers:
        grid = grid_of(layer)
        bands = f"{layer.sizes['band']} bands" if "band" in layer.dims else "classes"
        say(f"open      {layer.name}: {grid.shape[0]} x {grid.shape[1]} px, {bands}, {label(grid.crs)}")


def _sizes(job: Demo, data: xr.Dataset) -> tuple[int, int]:
    """Return the side of a training window and of a block, in pixels: multiples of 8 that suit the scene."""
    rows, cols = grid_of(data).shape
    block = job.block or min(max(round(math.sqrt(rows * cols / _BLOCKS) / 16) * 16, 16), 128)
    size = job.size or max(block * 3 // 4 // 8 * 8, 8)
    if not 0 < size <= block:
        msg = f"Cannot train on windows of {size} px in blocks of {block} px: pass --size of 1 to {block}."
        raise InputError(msg)
    return size, block


def _facts(job: Demo, task: Task, split: Split, block: int, size: int) -> dict[str, Any]:
    """Return what it takes to check the scores: which pixels are held out, and how the model came about."""
    card = task.card
    return {
        "seed": job.seed,
        "epochs": job.epochs,
        "model": {"name": card.model, "weights": _weights(task), "bands": card.bands, "window": size},
        "classes": dict(zip(map(str, card.codes), card.names, strict=True)),
        "blocks": {"size": block, **{part: _rectangles(getattr(split, part)) for part in ("train", "val", "test")}},
        "grid": {
            "crs": label(split.grid.crs),
            "transform": list(split.grid.affine)[:6],
            "shape": list(split.grid.shape),
        },
    }


def _rectangles(region: Region) -> list[list[int]]:
    """Return row, column, height and width of each rectangle."""
    return [[window.row, window.col, window.height, window.width] for window in region]


def _count(split: Split) -> str:
    return " / ".join(str(len(part)) for part in (split.train, split.val, split.test))


def _weights(task: Task) -> int:
    return sum(weight.numel() for weight in task.network.parameters())


def _picture(data: xr.Dataset, found: xr.DataArray, split: Split, scores: Mapping[str, Any]) -> Figure:
    panels = {"image": data["image"], "labels": data["mask"], "prediction": found}
    title = f"{scores['accuracy']:.1%} of the pixels in held-out blocks (outlined) are right"
    return plot.compare(panels, outlines=split.test, title=title)


def _save(figure: Figure, path: Path) -> None:
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
            figure.savefig(Path(folder) / path.name)
            (Path(folder) / path.name).replace(path)
    except OSError as error:
        msg = f"Cannot write {str(path)!r}: {error}. Free space there, or pass another --out."
        raise OutputError(msg) from error


def _write_json(values: Mapping[str, Any], path: Path) -> None:
    try:
        path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        msg = f"Cannot write {str(path)!r}: {error}. Free space there, or pass another --out."
        raise OutputError(msg) from error

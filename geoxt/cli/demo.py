"""`geoxt demo`: train on two layers in different CRSs, map the scene and score the map."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from geoxt import assess, models, plot
from geoxt.alignment import intersection
from geoxt.cli.demo_files import OUTPUTS, published_together
from geoxt.cli.errors import FILES, replaced_remedy
from geoxt.cli.map_commands import recorded_warnings
from geoxt.crs import crs_name, crs_text
from geoxt.errors import CRSError, InputError, LabelError, OutputError, optional_import
from geoxt.grid import grid_of
from geoxt.inference import predict
from geoxt.layers import open_cogs, open_stac
from geoxt.layers.files.paths import expand_paths
from geoxt.metrics.maps import score
from geoxt.samplers import Region
from geoxt.source import view_of
from geoxt.splits import Split, by_block
from geoxt.testing import make_world
from geoxt.trainers import Progress, Task, WindowDataModule, fit, legend_of_labels
from geoxt.types import SomePath
from geoxt.writers import to_cog

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Log = Callable[[str], None]
"""Prints a line of text."""

_CRS = "EPSG:32615"
"""CRS of the generated world's map: the zone of half of its scenes. The other scenes and the labels are aligned."""
_MAX_CLASSES = 64
"""Default maximum number of classes; an image passed as labels by mistake has more values."""
MIN_CLASSES = 2
"""Minimum number of classes of a training."""
_PIXELS_PER_EPOCH = 750_000
"""Training pixels per epoch: a few seconds on two cores."""
_STEPS = 20
"""Approximate optimizer steps per epoch."""
_BLOCKS = 72
"""Approximate number of blocks of the split, so that about a dozen are held out."""
_SIGNIFICANT = 5, 1000
"""Labeled held-out blocks and pixels, below which scores depend on the split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """Arguments of `geoxt demo`."""

    out: SomePath
    """Output folder."""
    seed: int = 0
    """Random seed of the world, split, windows, weights and augmentation."""
    image: tuple[str, ...] | None = None
    """Paths and glob patterns of the image's files; None generates a world."""
    labels: str | None = None
    """Raster of class codes."""
    product: str | None = None
    """Known product of the image, such as "landsat8"."""
    crs: str | None = None
    """CRS of the map, onto which images of several CRSs are resampled."""
    classes: int | None = None
    """Maximum number of classes of the labels."""
    epochs: int = 15
    """Passes over the training windows."""
    model: str = "unet"
    """Name of the architecture."""
    block: int | None = None
    """Height and width of a block of the split, in pixels; by default the scene has about 72 blocks."""
    size: int | None = None
    """Height and width of a training window, in pixels; by default three quarters of a block."""
    scene: int = 704
    """Height and width of a scene of the generated world, in pixels."""
    progress: Progress = "lines"
    """Progress display of the training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Results of a demo."""

    files: Mapping[str, Path]
    """Path of each output by name."""
    metrics: Mapping[str, Any]
    """Contents of `metrics.json`."""
    seconds: float
    """Wall time."""


def run(job: Demo, *, log: Log = lambda _: None) -> Report:
    """Open, align, split, train, predict, write, score and assess.

    All outputs are moved to their folder together at the end, so that a failing run keeps those of an earlier one.

    Raises
    ------
    GeoxtError
        If an input or the output is invalid; raised before training.
    """
    start = time.perf_counter()
    _check(job)
    with optional_import("scipy", "assess", "assess the map"):
        import scipy  # noqa: F401 (before the training)
    with published_together(Path(job.out)) as folder:
        metrics = _run(job, {name: folder / name for name in OUTPUTS}, log)
    files = {name: Path(job.out) / name for name in OUTPUTS}
    return Report(files=files, metrics=metrics, seconds=time.perf_counter() - start)


def _run(job: Demo, files: Mapping[str, Path], log: Log) -> dict[str, Any]:
    """Run all steps, write the outputs, and return the contents of `metrics.json`."""
    data = _open(job, log)
    size, block = _sizes(job, data)
    split, labeled = _split(data, block, job.seed)
    length = max(_PIXELS_PER_EPOCH // size**2, 64)
    batch = min(max(length // _STEPS, 4), 16)
    module = WindowDataModule(data, split, size=size, length=length, batch_size=batch, seed=job.seed)
    log(f"split     {_block_counts(split)} blocks of {block} px for training / validation / test; windows of {size} px")
    _save(plot.samples(data, list(module.windows)[:16]), files["samples.png"])

    task = Task(module.card(model=job.model), seed=job.seed)
    log(f"train     {job.model}, {_parameters(task):,} weights, {job.epochs} epochs")
    history = fit(task, module, epochs=job.epochs, seed=job.seed, checkpoint=files["model.ckpt"], progress=job.progress)

    log("predict   the whole scene, in overlapping tiles")
    to_cog(predict(data["image"], task, batch_size=4), files["map.tif"])
    prediction = open_cogs(files["map.tif"], categorical=True)
    scores = score(prediction, data["mask"], region=split.test)
    metrics = {**scores, **_metadata(job, task, split, block, size), "labelled": labeled, "history": history}
    _write_json(metrics, files["metrics.json"])
    _save(_picture(data, prediction, split, scores), files["map.png"])
    log("assess    accuracy and areas of the held-out blocks, with intervals")
    _assess(job, data, prediction, task, split, files["report.html"].parent)
    return metrics


def _assess(job: Demo, data: xr.Dataset, prediction: xr.DataArray, task: Task, split: Split, folder: Path) -> None:
    """Write the report of the held-out blocks."""
    with recorded_warnings() as notes:
        accuracy = assess.estimate_from_labels(prediction, data["mask"], region=split.test, seed=job.seed)
    metadata = {
        "Image": "generated" if job.image is None else job.image,
        "Labels": "generated" if job.labels is None else job.labels,
        "Split": f"{_block_counts(split)} blocks for training / validation / test",
        "Assessed": "test blocks, which are also the blocks of the bootstrap",
        "Training": f"{_count(job.epochs, 'epoch')}, seed {job.seed}",
    }
    assess.write_report(
        folder, accuracy, map=prediction, model=task, metadata=metadata, notes=notes, title="geoxt demo"
    )


def describe(report: Report) -> str:
    """Return the outputs and the scores as a table."""
    metrics = report.metrics
    test_blocks, labeled = len(metrics["blocks"]["test"]), metrics["labelled"]["test"]
    where = (
        _count(test_blocks, "held-out block")
        if labeled == test_blocks
        else f"{labeled} of {test_blocks} held-out blocks that have labels"
    )
    uncertain = labeled < _SIGNIFICANT[0] or metrics["pixels"] < _SIGNIFICANT[1]
    note = ", so few that another --seed may score differently" if uncertain else ""
    lines = [f"{name:<14}{path}" for name, path in report.files.items()]
    lines += [
        "",
        f"On the {where} ({metrics['pixels']:,} pixels){note}:",
        f"  accuracy {metrics['accuracy']:6.1%}   (always the most frequent class: {metrics['majority_accuracy']:.1%})",
        f"  mean IoU {metrics['miou']:6.1%}",
    ]
    width = max(map(len, metrics["iou"]))
    lines += [f"    {name:<{width}}  {'-' if iou is None else f'{iou:6.1%}'}" for name, iou in metrics["iou"].items()]
    return "\n".join([*lines, "", f"{report.seconds:.0f} s"])


def _check(job: Demo) -> None:
    """Raise on invalid arguments, before any work."""
    if (job.image is None) != (job.labels is None):
        present, missing = ("image", "labels") if job.labels is None else ("labels", "image")
        msg = f"Cannot train with {present} alone."
        remedy = f"Pass {{{missing}}} as well. Or pass neither, for a generated world."
        raise InputError(msg, remedy=remedy, argument=missing)
    for name in ("product", "crs"):
        if job.image is None and getattr(job, name) is not None:
            msg = f"Cannot use {name} {getattr(job, name)!r} without an image."
            raise InputError(msg, remedy="Pass {image} and {labels} as well.", argument=name)
    for name, minimum in {"epochs": 1, "seed": 0, "classes": MIN_CLASSES, "block": 1, "size": 1}.items():
        value = getattr(job, name)
        if value is not None and value < minimum:
            msg = f"Cannot use {name} {value}."
            raise InputError(msg, remedy=f"Pass {{{name}}} of {minimum} or more.", value=value, argument=name)
    models.get(job.model)  # raises for an unknown name
    if job.image is not None and job.labels is not None:
        _require_distinct_files(job.image, job.labels)


def _require_distinct_files(image: Sequence[str], labels: str) -> None:
    """Raise if the labels are among the image's files, since the model would see its target."""
    image_files = expand_paths(image)
    label_files = {str(Path(path).resolve()) for path in expand_paths(labels)}
    for path in image_files:
        if str(Path(path).resolve()) in label_files:
            msg = f"Cannot learn {labels!r} from an image that contains it: the image files include {path!r}."
            remedy = "Pass {image} with a pattern that leaves it out."
            raise InputError(msg, remedy=remedy, value=path, argument="image")


def _open(job: Demo, log: Log) -> xr.Dataset:
    """Return image and mask on the image's grid; the mask's legend has the classes that occur."""
    if job.image is None or job.labels is None:
        root = Path(job.out) / "world"
        log(f"make      a small world in {root}")
        catalog = make_world(root, seed=job.seed, size=job.scene).catalog
        image = open_stac(catalog, collections=["landsat-c2-l2"], crs=_CRS, name="image")
        labels = open_stac(catalog, collections=["usda-cdl"], name="labels")
    else:
        with replaced_remedy(f"Pass {{image}} files {FILES}.", flags=("product", "crs")):
            image = open_cogs(job.image, product=job.product, crs=job.crs, name="image")
        with replaced_remedy(f"Pass {{labels}} of one band (gdal_translate -b 1), {FILES}."):
            labels = open_cogs(job.labels, categorical=True, resampling="nearest", name="labels")
    _announce(log, image, labels)
    data = intersection(image=image, labels=labels, grid="image")
    legend = legend_of_labels(data["labels"], max_codes=_MAX_CLASSES if job.classes is None else job.classes)
    if len(legend) < MIN_CLASSES:
        msg = f"Cannot learn to tell classes apart: all labels inside the image are {legend.names[0]!r}."
        raise LabelError(msg, remedy="Pass {labels} of two classes or more.")
    data = data.rename(labels="mask")
    data["mask"] = data["mask"].assign_attrs(legend.attrs())
    rows, cols = grid_of(data).shape
    names = ", ".join(legend.distinct_names)
    log(f"align     {rows} x {cols} px in {crs_name(grid_of(data).crs)}, {len(legend)} classes: {names}")
    return data


def _announce(log: Log, *layers: xr.DataArray) -> None:
    for layer in layers:
        grid = grid_of(layer)
        content = _count(layer.sizes["band"], "band") if "band" in layer.dims else "classes"
        if layer.name == "labels" and layer.dtype.kind == "f":
            content += f" ({layer.dtype}, read as integers)"
        log(f"open      {layer.name}: {grid.shape[0]} x {grid.shape[1]} px, {content}, {crs_name(grid.crs)}")
        _require_degrees(layer)


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _require_degrees(layer: xr.DataArray) -> None:
    """Raise if coordinates under a geographic CRS exceed degrees: usually meters with the wrong CRS."""
    grid = grid_of(layer)
    assert grid.crs is not None
    west, south, east, north = grid.boundingbox.bbox
    if grid.crs.geographic and (max(-west, east) > 540 or max(-south, north) > 100):
        msg = f"Cannot use the CRS of {layer.name!r}: {crs_name(grid.crs)} is in degrees, but the coordinates are "
        msg += f"({west:g}, {south:g}) to ({east:g}, {north:g})."
        raise CRSError(msg, remedy="Assign the file its true CRS: gdal_edit.py -a_srs EPSG:….")


def _sizes(job: Demo, data: xr.Dataset) -> tuple[int, int]:
    """Return the size of a training window and of a block, in pixels: multiples of 8, suited to the scene."""
    rows, cols = grid_of(data).shape
    block, size = job.block, job.size
    if block is None:
        block = min(max(round(math.sqrt(rows * cols / _BLOCKS) / 16) * 16, 16), 128)
    if size is None:
        size = min(max(block * 3 // 4 // 8 * 8, 8), block)
    if size > block:
        msg = f"Cannot train on windows of {size} px in blocks of {block} px."
        raise InputError(msg, remedy=f"Pass {{size}} of 1 to {block}.", value=size, argument="size")
    return size, block


def _split(data: xr.Dataset, block: int, seed: int) -> tuple[Split, dict[str, int]]:
    """Return a split whose parts all have labels, and the number of labeled blocks of each part.

    Blocks are assigned at random; if a part then lacks labels, stratified by the labels.
    """
    rows, cols = grid_of(data).shape
    try:
        split = by_block(data, size=block, seed=seed)
    except InputError as error:
        msg = f"Cannot split {rows} x {cols} px into training, validation and test by blocks of {block} px: there are "
        msg += "too few blocks."
        remedy = "Pass a smaller {block}. Or pass a larger {image}."
        raise InputError(msg, remedy=remedy, value=block, argument="block") from error
    labeled = _labeled_blocks(data["mask"], split)
    if not all(labeled.values()):
        split = by_block(data, size=block, seed=seed, labels=data["mask"])
        labeled = _labeled_blocks(data["mask"], split)
    if not all(labeled.values()):
        msg = f"Cannot train, validate and test: labels lie in {_count(sum(labeled.values()), 'block')} of {block} px."
        raise InputError(msg, remedy="Pass a smaller {block}, another {seed}, or {labels} of a larger area.")
    return split, labeled


def _labeled_blocks(mask: xr.DataArray, split: Split) -> dict[str, int]:
    """Return the number of labeled blocks of each part of the split."""
    view = view_of(mask)
    return {name: sum(bool(view.read(w)[1].any()) for w in region) for name, region in split.parts.items()}


def _metadata(job: Demo, task: Task, split: Split, block: int, size: int) -> dict[str, Any]:
    """Return model, classes, grid and split blocks, to reproduce the scores."""
    card = task.card
    return {
        "seed": job.seed,
        "epochs": job.epochs,
        "model": {"name": card.model, "weights": _parameters(task), "bands": card.bands, "window": size},
        "classes": dict(zip(map(str, card.codes), card.names, strict=True)),
        "blocks": {"size": block, **{part: _rectangles(region) for part, region in split.parts.items()}},
        "grid": {
            "crs": crs_text(split.grid.crs),
            "transform": list(split.grid.affine)[:6],
            "shape": list(split.grid.shape),
        },
    }


def _rectangles(region: Region) -> list[list[int]]:
    """Return row, column, height and width of each rectangle."""
    return [[window.row, window.col, window.height, window.width] for window in region]


def _block_counts(split: Split) -> str:
    return " / ".join(str(len(part)) for part in split.parts.values())


def _parameters(task: Task) -> int:
    return sum(weight.numel() for weight in task.network.parameters())


def _picture(data: xr.Dataset, prediction: xr.DataArray, split: Split, scores: Mapping[str, Any]) -> Figure:
    panels = {"image": data["image"], "labels": data["mask"], "prediction": prediction}
    title = f"Accuracy in held-out blocks (outlined): {scores['accuracy']:.1%}"
    return plot.compare(panels, outlines=split.test, title=title)


@contextmanager
def _output_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        problem = f"Cannot write {str(path)!r}: {error}."
        raise OutputError(problem, remedy="Free space there, or pass another {out}.") from error


def _save(figure: Figure, path: Path) -> None:
    with _output_errors(path):
        figure.savefig(path)


def _write_json(values: Mapping[str, Any], path: Path) -> None:
    with _output_errors(path):
        path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

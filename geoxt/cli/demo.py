"""The job behind `geoxt demo`: two layers in different CRSs become a trained model, a map and its scores."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from geoxt import plot
from geoxt.alignment import intersection
from geoxt.cli.errors import for_the_shell
from geoxt.errors import CRSError, InputError, LabelError, OutputError
from geoxt.grid import crs_name, grid_of
from geoxt.inference import predict
from geoxt.layers import open_cogs, open_stac
from geoxt.layers.files.open import find
from geoxt.metrics.maps import score
from geoxt.samplers import Region
from geoxt.source import view_of
from geoxt.splits import Split, blocks
from geoxt.testing import make_world
from geoxt.trainers import Progress, Task, WindowDataModule, fit, legend_of
from geoxt.types import SomePath
from geoxt.writers import require_writable, to_cog

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Say = Callable[[str], None]
"""Shows a line of text."""

OUTPUTS = ("map.tif", "map.png", "samples.png", "metrics.json", "model.ckpt")
_BESIDE = "map.tif.aux.xml"
"""The map's class names, where GDAL looks for them."""
_CRS = "EPSG:32615"
"""Of the made world's map: the zone of half of its scenes. The others, and the labels, come onto its grid."""
_MOST_CLASSES = 64
"""Classes that labels may have, unless told otherwise: an image taken for labels by mistake has more values."""
FEWEST = 2
"""Classes below which there is nothing to learn."""
_PIXELS = 750_000
"""Training pixels in an epoch: a few seconds on two cores."""
_STEPS = 20
"""Steps of the optimiser in an epoch, about."""
_BLOCKS = 72
"""Blocks to split a scene into: enough for a dozen to be held out, as large as that allows."""
_FEW = 5, 1000
"""Held-out blocks and pixels with labels, below which scores are left to chance."""
_REMEDIES = {
    "image": "Pass --image files of one grid, with a CRS: leave the others out, or bring them onto it first (gdalwarp; "
    "gdal_edit.py -a_srs EPSG:… gives a CRS to a file without one).",
    "labels": "Pass --labels one band of class codes with a CRS (gdal_translate -b 1 takes one band; "
    "gdal_edit.py -a_srs EPSG:… gives a CRS to a file without one).",
}
"""What to do on the command line where the Python functions name arguments that it lacks, by layer."""


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

    All outputs come into their folder together, at the end: a run that fails leaves those of an earlier one as they
    were.

    Raises
    ------
    GeoxtError
        Where an input or the output is at fault; before any training.
    """
    start = time.perf_counter()
    _check(job)
    with for_the_shell(), _together(Path(job.out)) as folder:
        metrics = _run(job, {name: folder / name for name in OUTPUTS}, say)
    files = {name: Path(job.out) / name for name in OUTPUTS}
    return Report(files=files, metrics=metrics, seconds=time.perf_counter() - start)


def _run(job: Demo, files: Mapping[str, Path], say: Say) -> dict[str, Any]:
    """Do it all, write to the given files, and return what `metrics.json` holds."""
    data = _open(job, say)
    size, block = _sizes(job, data)
    split, labelled = _split(data, block, job.seed)
    length = max(_PIXELS // size**2, 64)
    batch = min(max(length // _STEPS, 4), 16)
    module = WindowDataModule(data, split, size=size, length=length, batch_size=batch, seed=job.seed)
    say(f"split     {_count(split)} blocks of {block} px for training / validation / test; windows of {size} px")
    _save(plot.samples(data, list(module.windows)[:16]), files["samples.png"])

    task = Task(module.card(model=job.model), seed=job.seed)
    say(f"train     {job.model}, {_weights(task):,} weights, {job.epochs} epochs")
    history = fit(task, module, epochs=job.epochs, seed=job.seed, checkpoint=files["model.ckpt"], progress=job.progress)

    say("predict   the whole scene, in overlapping tiles")
    to_cog(predict(data["image"], task, batch_size=4), files["map.tif"])
    found = open_cogs(files["map.tif"], categorical=True)
    scores = score(found, data["mask"], region=split.test)
    metrics = {**scores, **_facts(job, task, split, block, size), "labelled": labelled, "history": history}
    _write_json(metrics, files["metrics.json"])
    _save(_picture(data, found, split, scores), files["map.png"])
    return metrics


def describe(report: Report) -> str:
    """Return what was written and how good it is, as text of several lines."""
    metrics = report.metrics
    held, labelled = len(metrics["blocks"]["test"]), metrics["labelled"]["test"]
    where = (
        _many(held, "held-out block") if labelled == held else f"{labelled} of {held} held-out blocks that have labels"
    )
    chance = labelled < _FEW[0] or metrics["pixels"] < _FEW[1]
    few = ", so few that another --seed may score otherwise" if chance else ""
    lines = [f"{name:<14}{path}" for name, path in report.files.items()]
    lines += [
        "",
        f"On the {where} ({metrics['pixels']:,} pixels){few}:",
        f"  accuracy {metrics['accuracy']:6.1%}   (the most frequent class alone: {metrics['majority']:.1%})",
        f"  mean IoU {metrics['miou']:6.1%}",
    ]
    width = max(map(len, metrics["iou"]))
    lines += [f"    {name:<{width}}  {'-' if iou is None else f'{iou:6.1%}'}" for name, iou in metrics["iou"].items()]
    return "\n".join([*lines, "", f"{report.seconds:.0f} s"])


def _check(job: Demo) -> None:
    """Refuse what can be known to fail, before anything takes time."""
    if (job.image is None) != (job.labels is None):
        given, missing = ("--image", "--labels") if job.labels is None else ("--labels", "--image")
        msg = f"Cannot train with {given} alone: pass {missing} as well, or neither for a made world."
        raise InputError(msg)
    least = {"epochs": 1, "seed": 0, "classes": FEWEST, "block": 1, "size": 1}
    for option, lowest in least.items():
        given = getattr(job, option)
        if given is not None and given < lowest:
            msg = f"Cannot use --{option} {given}: pass --{option} {lowest} or more."
            raise InputError(msg)
    if job.image is not None and job.labels is not None:
        _require_apart(job.image, job.labels)


def _require_apart(image: Sequence[str], labels: str) -> None:
    """Refuse labels that are among the image's files: a model that is shown the answers scores well."""
    shown = find(image)
    truth = {str(Path(path).resolve()) for path in find(labels)}
    both = [path for path in shown if str(Path(path).resolve()) in truth]
    if both:
        msg = f"Cannot learn {labels!r} from an image that holds it: --image matches {both[0]!r} too."
        raise InputError(msg + " Pass a pattern that leaves it out.")


@contextmanager
def _together(out: Path) -> Iterator[Path]:
    """Yield a folder for all outputs; they come into `out` at the end, or not at all, and then no new folder stays."""
    new = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        for name in OUTPUTS:
            require_writable(out / name)
        with tempfile.TemporaryDirectory(dir=out, prefix=".geoxt-") as name:
            folder = Path(name)
            try:
                yield folder
            except OutputError as error:
                raise OutputError(str(error).replace(name, str(out))) from error
            for one in (*OUTPUTS, _BESIDE):
                if (folder / one).exists():
                    (folder / one).replace(out / one)
                else:
                    (out / one).unlink(missing_ok=True)
    finally:
        for folder in new:
            with suppress(OSError):  # not empty: the outputs, or the made world
                folder.rmdir()


def _open(job: Demo, say: Say) -> xr.Dataset:
    """Return image and mask on the image's grid, and the mask with the classes that it holds."""
    if job.image is None or job.labels is None:
        root = Path(job.out) / "world"
        say(f"make      a small world in {root}")
        catalog = make_world(root, seed=job.seed, size=job.scene).catalog
        image = open_stac(catalog, collections=["landsat-c2-l2"], crs=_CRS, name="image")
        labels = open_stac(catalog, collections=["usda-cdl"], name="labels")
    else:
        with for_the_shell(_REMEDIES["image"]):
            image = open_cogs(job.image, name="image")
        with for_the_shell(_REMEDIES["labels"]):
            labels = open_cogs(job.labels, categorical=True, resampling="nearest", name="labels")
    _announce(say, image, labels)
    data = intersection(image=image, labels=labels, grid="image")
    legend = legend_of(data["labels"], most=_MOST_CLASSES if job.classes is None else job.classes)
    if len(legend) < FEWEST:
        msg = f"Cannot learn to tell classes apart: the labels hold {legend.names[0]!r} alone where the image lies."
        raise LabelError(msg + " Pass labels of two classes or more.")
    data = data.rename(labels="mask")
    data["mask"] = data["mask"].assign_attrs(legend.attrs())
    rows, cols = grid_of(data).shape
    names = ", ".join(legend.distinct_names)
    say(f"align     {rows} x {cols} px in {crs_name(grid_of(data).crs)}, {len(legend)} classes: {names}")
    return data


def _announce(say: Say, *layers: xr.DataArray) -> None:
    for layer in layers:
        grid = grid_of(layer)
        held = _many(layer.sizes["band"], "band") if "band" in layer.dims else "classes"
        if layer.name == "labels" and layer.dtype.kind == "f":
            held += f" ({layer.dtype}, taken as whole numbers)"
        say(f"open      {layer.name}: {grid.shape[0]} x {grid.shape[1]} px, {held}, {crs_name(grid.crs)}")
        _require_degrees(layer)


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _require_degrees(layer: xr.DataArray) -> None:
    """Refuse a CRS in degrees for coordinates that are none: most often, metres were given the wrong CRS."""
    grid = grid_of(layer)
    assert grid.crs is not None
    west, south, east, north = grid.boundingbox.bbox
    if grid.crs.geographic and (max(-west, east) > 540 or max(-south, north) > 100):
        where = f"its CRS {crs_name(grid.crs)} counts degrees, but it reaches from ({west:g}, {south:g}) to "
        msg = f"Cannot place {layer.name!r} on Earth: {where}({east:g}, {north:g})."
        raise CRSError(msg + " Give the file the CRS that it is in: gdal_edit.py -a_srs EPSG:…")


def _sizes(job: Demo, data: xr.Dataset) -> tuple[int, int]:
    """Return the side of a training window and of a block, in pixels: multiples of 8 that suit the scene."""
    rows, cols = grid_of(data).shape
    block, size = job.block, job.size
    if block is None:
        block = min(max(round(math.sqrt(rows * cols / _BLOCKS) / 16) * 16, 16), 128)
    if size is None:
        size = min(max(block * 3 // 4 // 8 * 8, 8), block)
    if size > block:
        msg = f"Cannot train on windows of {size} px in blocks of {block} px: pass --size of 1 to {block}."
        raise InputError(msg)
    return size, block


def _split(data: xr.Dataset, block: int, seed: int) -> tuple[Split, dict[str, int]]:
    """Return a split of which each part has labels, and the number of each part's blocks that have some.

    Blocks are dealt at random; where that leaves a part without labels, so that each part has its share of them.
    """
    rows, cols = grid_of(data).shape
    try:
        split = blocks(data, size=block, seed=seed)
    except InputError as error:
        msg = f"Cannot split {rows} x {cols} px into training, validation and test by blocks of {block} px: "
        raise InputError(msg + "there are too few. Pass a smaller --block, or a larger image.") from error
    labelled = _labelled(data["mask"], split)
    if not all(labelled.values()):
        split = blocks(data, size=block, seed=seed, labels=data["mask"])
        labelled = _labelled(data["mask"], split)
    if not all(labelled.values()):
        msg = f"Cannot train, validate and test: labels lie in {_many(sum(labelled.values()), 'block')} of {block} px."
        raise InputError(msg + " Pass a smaller --block, another --seed, or labels of a larger area.")
    return split, labelled


def _labelled(mask: xr.DataArray, split: Split) -> dict[str, int]:
    """Return how many blocks of each part have labels."""
    view = view_of(mask)
    return {name: sum(bool(view.read(w)[1].any()) for w in region) for name, region in split.parts.items()}


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
            "crs": crs_name(split.grid.crs),
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
        figure.savefig(path)
    except OSError as error:
        msg = f"Cannot write {str(path)!r}: {error}. Free space there, or pass another --out."
        raise OutputError(msg) from error


def _write_json(values: Mapping[str, Any], path: Path) -> None:
    try:
        path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        msg = f"Cannot write {str(path)!r}: {error}. Free space there, or pass another --out."
        raise OutputError(msg) from error

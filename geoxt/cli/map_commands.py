"""`geoxt sample`, `geoxt assess` and `geoxt polygonize`: assess class maps, and convert them to polygons."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xarray as xr

from geoxt import assess
from geoxt.alignment import align
from geoxt.assess.accuracy import AccuracyEstimate
from geoxt.assess.map_strata import class_codes, count_strata, legend_of
from geoxt.cli.errors import FILES, replaced_remedy
from geoxt.cli.image_and_labels import open_image_and_labels
from geoxt.cli.open_images import open_images
from geoxt.errors import AssessmentWarning, InputError, optional_import
from geoxt.grid import grid_of
from geoxt.layers import open_cogs
from geoxt.legend import Legend
from geoxt.models.checkpoint import from_checkpoint
from geoxt.writers import require_writable, to_vector
from geoxt.writers.vector import DRIVERS

_VECTORS = {*DRIVERS, ".parquet"}
"""Suffixes of samples; other references are rasters."""
_BLOCKS = 10
"""Blocks of the bootstrap along the shorter side of a map."""


def sample_command(args: argparse.Namespace) -> str:
    """Draw and write a sample, and return its strata as a table.

    Raises
    ------
    GeoxtError
        If an input or the output is invalid.
    """
    require_writable(args.path)
    layer = _open(args.map, "map")
    strata: Any = "classes"
    if args.strata is not None:
        strata = None if args.strata == "none" else _open(args.strata, "strata", categorical=True)
    sample = assess.sample_design(
        layer,
        args.n,
        target_se=args.target_se,
        strata=strata,
        allocation=args.allocation,
        min_per_class=args.min_per_class,
        expected=_numbers(args.expected),
        target_class=args.target_class,
        measure=args.measure,
        systematic=args.systematic,
        seed=args.seed,
    )
    assess.write_sample(sample, args.path, classes=legend_of(layer))
    by_stratum = sample.groupby("stratum", sort=True)["stratum_pixels"].agg(["first", "size"])
    width = max(map(len, map(str, by_stratum.index)))
    lines = [
        f"{name!s:<{width}}  {count:>6,} of {pixels:,} pixels"
        for name, pixels, count in zip(by_stratum.index, by_stratum["first"], by_stratum["size"], strict=True)
    ]
    return "\n".join([*lines, f"{len(sample):,} pixels to label in the column 'reference': {args.path}"])


def assess_command(args: argparse.Namespace) -> str:
    """Estimate accuracy and areas, write the report, and return both as text.

    Raises
    ------
    GeoxtError
        If an input or the output is invalid.
    """
    require_writable(Path(args.folder) / "report.html")
    layer = _open(args.map, "map")
    network = None if args.model is None else from_checkpoint(args.model)
    metadata = {"Map": args.map, "Reference": args.sample}
    with recorded_warnings() as notes:
        if Path(args.sample).suffix.lower() in _VECTORS:
            accuracy = assess.estimate(
                args.sample,
                layer,
                reference=args.reference,
                unlabeled=args.unlabeled,
                cluster=args.cluster,
                interval=args.interval,
            )
        else:
            accuracy, metadata["Blocks"] = _from_labels(args, layer)
            notes.extend(_missing_classes(accuracy))
    if args.model is not None:
        metadata["Model"] = args.model
    metadata |= _pairs(args.metadata, "metadata")
    if args.training is not None:
        metadata["Training pixels"] = args.training
    with recorded_warnings() as further:
        area = None if args.training is None else _applicability(args)
        uncertainty = {} if args.image is None else _uncertainty(args, layer)
    notes += further
    path = assess.write_report(
        args.folder,
        accuracy,
        map=layer,
        applicability=area,
        model=network,
        metadata=metadata,
        notes=notes,
        title=args.title,
        **uncertainty,
    )
    return "\n".join([*(f"note: {note}" for note in notes), repr(accuracy), "", str(path)])


def _from_labels(args: argparse.Namespace, layer: xr.DataArray) -> tuple[AccuracyEstimate, str]:
    """Return accuracy and areas from a raster of labels, and the size of blocks in words."""
    labels = align(_open(args.sample, "labels", categorical=True), layer)
    if legend_of(labels) is None and legend_of(layer) is None:
        strata = count_strata(labels, class_codes(labels, "labels"), None)
        labels = labels.assign_attrs(Legend(strata.codes, strata.names).attrs())
    block = max(min(grid_of(layer).shape) // _BLOCKS, 1) if args.block is None else args.block
    accuracy = assess.estimate_from_labels(layer, labels, block=block, n_boot=args.n_boot, seed=args.seed)
    return accuracy, f"{block} x {block} pixels"


def _applicability(args: argparse.Namespace) -> xr.Dataset:
    """Return the area of applicability of training points in the image."""
    if args.image is None:
        problem = "Cannot compute the area of applicability without an image: its bands are the features."
        raise InputError(problem, remedy="Pass {image}. Or leave out {training}.", argument="image")
    points = _points(args.training)
    if args.folds is not None and args.folds not in points.columns:
        problem = f"Cannot find the column {args.folds!r} in {args.training!r}: its columns are {[*points.columns]}."
        raise InputError(problem, remedy="Pass {folds}, the name of a column.", value=args.folds, argument="folds")
    layer = open_image_and_labels(args.image, None, product=args.product, crs=args.crs)["image"]
    return assess.applicability(points, layer, folds=None if args.folds is None else points[args.folds].to_numpy())


def _points(path: str) -> Any:
    """Read the points of training pixels."""
    with optional_import("geopandas", "vector", "read points"):
        import geopandas
    try:
        return geopandas.read_file(path)
    except (OSError, RuntimeError) as error:  # pyogrio's errors are RuntimeErrors
        problem = f"Cannot read the training points {path!r}: {error}."
        raise InputError(problem, remedy="Pass {training} as a vector file.", argument="training") from error


def _uncertainty(args: argparse.Namespace, layer: xr.DataArray) -> dict[str, Any]:
    """Return calibration and conformal sets of the model on the labels; none, with a warning, for training pixels."""
    if args.model is None or Path(args.sample).suffix.lower() in _VECTORS:
        if args.training is not None:
            text = "Calibration and conformal sets are not computed: they need a model and a raster of labels."
            warnings.warn(text, AssessmentWarning, stacklevel=2)
            return {}
        problem = "Cannot assess the uncertainty of pixels without a model and a raster of labels."
        raise InputError(problem, remedy="Pass {model}, and a raster as {sample}. Or leave out {image}.")
    data = open_image_and_labels(args.image, args.sample, product=args.product, crs=args.crs)
    block = max(min(grid_of(layer).shape) // _BLOCKS, 1) if args.block is None else args.block
    return {
        "calibration": assess.calibrate(args.model, data, seed=args.seed),
        "conformal": assess.conformal(args.model, data, args.alpha, block=block, seed=args.seed),
    }


def _missing_classes(accuracy: AccuracyEstimate) -> list[str]:
    """Return sentences on classes that the map or the labels lack."""
    names, notes = [str(name) for name in accuracy.classes], []
    for axis, text in ((1, "The labels have classes that the map lacks"), (0, "The map has classes without a label")):
        lacking = [name for name, count in zip(names, accuracy.counts.sum(axis).tolist(), strict=True) if not count]
        notes += [f"{text}: {lacking}."] if lacking else []
    return notes


def polygonize_command(args: argparse.Namespace) -> Path:
    """Write a class map as polygons, and return the path.

    Raises
    ------
    GeoxtError
        If an input or the output is invalid.
    """
    probability = None if args.probability is None else _open(args.probability, "probability", categorical=False)
    options = {name: getattr(args, name) for name in ("min_area", "simplify", "connectivity")}
    return to_vector(_open(args.map, "map"), args.path, probability=probability, **options)


def _open(path: str, argument: str, *, categorical: bool | None = None) -> xr.DataArray:
    """Open a raster of one band."""
    flag = "MAP" if argument == "map" else f"{{{argument}}}"
    with replaced_remedy(f"Pass {flag} {FILES}."):
        if categorical is None:
            return open_images([path], name=argument)
        return open_cogs(path, categorical=categorical, resampling="nearest" if categorical else None, name=argument)


@contextmanager
def recorded_warnings() -> Iterator[list[str]]:
    """Yield a list that is filled with the messages of assessment warnings at the end; reissue other warnings."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AssessmentWarning)
        yield notes
    for warning in caught:
        if issubclass(warning.category, AssessmentWarning):
            notes.append(str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _pairs(texts: Sequence[str] | None, argument: str) -> dict[str, str]:
    """Return names and values of `NAME=VALUE` arguments."""
    pairs = dict[str, str]()
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name.strip() and equals):
            problem = f"Cannot read {text!r}: it is not a pair NAME=VALUE."
            raise InputError(problem, remedy=f"Pass {{{argument}}} NAME=VALUE.", value=text, argument=argument)
        pairs[name.strip()] = value.strip()
    return pairs


def _numbers(texts: Sequence[str] | None) -> dict[str, float] | None:
    """Return the numbers of `STRATUM=X` arguments."""
    if texts is None:
        return None
    try:
        return {name: float(value) for name, value in _pairs(texts, "expected").items()}
    except ValueError as error:
        problem = f"Cannot read the expected proportions {' '.join(texts)!r}: {error}."
        raise InputError(problem, remedy="Pass {expected} STRATUM=X with numbers.", argument="expected") from error

"""The sections of an assessment report: texts, tables and figures, before they are rendered."""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np
import xarray as xr

from geoxt._version import __version__
from geoxt.assess.accuracy import AccuracyEstimate
from geoxt.assess.continuous import ContinuousEstimate
from geoxt.assess.report_figures import interval_bar
from geoxt.assess.survey import Estimate
from geoxt.crs import crs_name
from geoxt.grid import grid_of
from geoxt.legend import Legend

MISSING = "\N{EN DASH}"
"""Text of a number that cannot be estimated."""
PACKAGES = ("numpy", "xarray", "rasterio", "pyproj", "torch")
"""Packages whose versions a report states."""
_UNITS = {"metre": "m", "foot": "ft", "US survey foot": "US ft"}
"""Symbol of a unit of PROJ."""
_MEASURES = {
    "bias": "Bias (map minus reference)",
    "rmse": "Root mean square error",
    "mae": "Mean absolute error",
    "r2": "R²",
    "mean": "Mean of the reference variable",
    "total": "Total of the reference variable (mean times hectares)",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table."""

    text: str
    """Text, not escaped."""
    graphic: str = ""
    """SVG beside the text."""
    color: str = ""
    """Color `#rrggbb` of a swatch before the text."""
    shade: float | None = None
    """Intensity of the background, 0 to 1."""
    detail: str = ""
    """Second line in small type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table with a header; its first column names the rows."""

    caption: str
    """Title and units."""
    columns: tuple[str, ...]
    """Names of the columns; of pairs of names and values, empty."""
    rows: tuple[tuple[Cell, ...], ...]
    """Cells by row."""
    matrix: bool = False
    """Whether it is drawn as a matrix of shaded squares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure with a caption and a legend."""

    graphic: str
    """SVG or an image element."""
    caption: str
    """Title and explanation."""
    key: tuple[tuple[str, str], ...] = ()
    """Name and color of each class."""


Block = str | Table | Figure
"""Part of a section; strings are paragraphs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading with its parts."""

    title: str
    """Heading."""
    blocks: tuple[Block, ...]
    """Parts, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """All contents of a report."""

    title: str
    """Heading of the page."""
    subtitle: str
    """Line below the heading."""
    key_numbers: tuple[tuple[str, str], ...]
    """Most important results: name and value."""
    sections: tuple[Section, ...]
    """Sections, in order."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """The same as JSON-compatible values."""


def key_numbers(accuracy: AccuracyEstimate | ContinuousEstimate) -> tuple[tuple[str, str], ...]:
    """Return name and value of the most important results of an assessment, with intervals."""
    if isinstance(accuracy, ContinuousEstimate):
        return tuple((_MEASURES[name], _with_half_width(getattr(accuracy, name))) for name in ("rmse", "bias", "r2"))
    overall, samples = accuracy.overall, int(accuracy.counts.sum())
    total = float(np.sum(accuracy.area.value))
    return (
        ("Overall accuracy", percent(overall.value)),
        ("95 % interval", _interval_text(overall)),
        ("Reference pixels", f"{samples:,}"),
        ("Assessed area", number(total, total) + (" ha" if accuracy.unit == "ha" else "")),
    )


def accuracy_section(accuracy: AccuracyEstimate | ContinuousEstimate, legend: Legend | None) -> Section:
    """Return the tables of accuracy."""
    if isinstance(accuracy, ContinuousEstimate):
        rows: tuple[tuple[Cell, ...], ...] = tuple(
            (Cell(text), Cell(_with_half_width(estimate)), Cell(f"{estimate.lower:.4g} to {estimate.upper:.4g}"))
            for text, estimate in ((text, getattr(accuracy, name)) for name, text in _MEASURES.items())
        )
        table = Table(caption="Errors of the map", columns=("Measure", "Estimate", "95 % interval"), rows=rows)
        return Section(title="Accuracy", blocks=(*_method(accuracy), table))
    names = class_cells(accuracy.classes, legend)
    rows = tuple(
        (
            name,
            *(_proportion(getattr(accuracy, measure), k) for measure in ("users", "producers", "f1")),
            Cell(f"{accuracy.counts[k].sum():,}"),
            Cell(f"{accuracy.counts[:, k].sum():,}"),
        )
        for k, name in enumerate(names)
    )
    columns = ("Class", "User's accuracy", "Producer's accuracy", "F1", "Mapped pixels", "Reference pixels")
    table = Table(caption="Accuracy by class, with 95 % intervals", columns=columns, rows=rows)
    text = (
        "User's accuracy is the fraction of the area mapped as a class that is of that class (precision). Producer's "
        "accuracy is the fraction of the area of a class that is mapped as that class (recall)."
    )
    return Section(title="Accuracy", blocks=(*_method(accuracy), text, table, _matrix(accuracy, names)))


def _method(accuracy: AccuracyEstimate | ContinuousEstimate) -> tuple[str, ...]:
    """Return a sentence on the design of the sample."""
    return (f"Method: {accuracy.method}.",) if accuracy.method else ()


def _matrix(accuracy: AccuracyEstimate, names: Sequence[Cell]) -> Table:
    """Return the error matrix in percent of the area, shaded by the fraction of the map class."""
    matrix = np.asarray(accuracy.error_matrix.value, float)
    row_sums = matrix.sum(1, keepdims=True)
    shades = np.divide(matrix, row_sums, out=np.zeros_like(matrix), where=row_sums > 0)
    rows = tuple(
        (
            name,
            *(
                Cell(f"{100 * value:.1f}" if count else "", shade=float(shade), detail=f"{count:,}" if count else "")
                for value, shade, count in zip(matrix[k], shades[k], accuracy.counts[k].tolist(), strict=True)
            ),
        )
        for k, name in enumerate(names)
    )
    caption = (
        "Confusion matrix: rows are classes of the map, columns those of the reference. Percent of the assessed area, "
        "and the number of pixels below; shaded by the fraction of the map class."
    )
    columns = ("Map \\ Reference", *(cell.text for cell in names))
    return Table(caption=caption, columns=columns, rows=rows, matrix=True)


def area_section(accuracy: AccuracyEstimate, legend: Legend | None) -> Section:
    """Return the table of areas."""
    area, total = accuracy.area, float(np.sum(accuracy.area.value))
    rows = tuple(
        (
            name,
            Cell(number(accuracy.mapped_area[k], total)),
            Cell(number(area.value[k], total)),
            Cell(_between(area.lower[k], area.upper[k], total)),
            Cell(f"± {number(area.ci95[k], total)}" if math.isfinite(area.ci95[k]) else MISSING),
            Cell(percent(area.value[k] / total)),
        )
        for k, name in enumerate(class_cells(accuracy.classes, legend))
    )
    columns = ("Class", "Mapped", "Estimated", "95 % interval", "± 1.96 SE", "Of all")
    text = (
        "The mapped area counts the pixels of the map, errors included. The estimated area is that of the class by the "
        "reference: the area to report, with its interval. 1.96 standard errors (SE), which papers print, are too "
        "narrow for classes with few reference pixels."
    )
    table = Table(caption=f"Area by class, {accuracy.unit}", columns=columns, rows=rows)
    return Section(title="Area", blocks=(text, table))


def class_cells(classes: Sequence[Hashable], legend: Legend | None) -> list[Cell]:
    """Return the names of classes with their colors."""
    colors: dict[str, str] = {}
    if legend is not None:
        for names in (legend.names, legend.distinct_names):
            colors |= dict(zip(names, legend.colors, strict=True))
    return [Cell(str(name), color=colors.get(str(name), "")) for name in classes]


def layer_metadata(layer: xr.DataArray) -> dict[str, str]:
    """Return name, grid and dates of a layer."""
    grid = grid_of(layer)
    assert grid.crs is not None
    unit = "°" if grid.crs.geographic else f" {_UNITS.get(grid.crs.units[0], grid.crs.units[0])}"
    rows, cols = grid.shape
    west, south, east, north = grid.boundingbox.bbox
    metadata = {
        "CRS": crs_name(grid.crs),
        "Pixel size": f"{abs(grid.resolution.x):g} x {abs(grid.resolution.y):g}{unit}",
        "Size": f"{cols:,} x {rows:,} pixels",
        "Bounds": f"{west:.8g}, {south:.8g}, {east:.8g}, {north:.8g}",
    }
    if "time" in layer.coords and layer["time"].dtype.kind == "M":
        days = np.datetime_as_string(np.sort(np.atleast_1d(layer["time"].to_numpy())), unit="D")
        metadata["Dates"] = str(days[0]) if len(days) == 1 else f"{days[0]} to {days[-1]} ({len(days)})"
    return metadata


def model_metadata(card: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of a model card as text."""
    metadata = {
        "Task": card["task"],
        "Architecture": card["model"],
        "Options": ", ".join(f"{name} = {value}" for name, value in card.get("options", {}).items()),
        "Bands": ", ".join(card["bands"]),
        "Classes": ", ".join(
            name if name == str(code) else f"{name} ({code})"
            for code, name in zip(card["codes"], card["names"], strict=True)
        ),
        "Training windows": " x ".join(map(str, card["size"])) + " pixels",
    }
    return {name: str(value) for name, value in metadata.items() if value}


def package_versions() -> dict[str, str]:
    """Return the versions of geoxt, Python and its numerical packages."""
    versions = {"geoxt": __version__, "Python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def metadata_table(caption: str, metadata: Mapping[str, Any]) -> Table:
    """Return a table of metadata: names and values."""
    return Table(caption=caption, columns=(), rows=tuple((Cell(str(k)), Cell(_text(v))) for k, v in metadata.items()))


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def json_value(value: Any) -> Any:
    """Return JSON-compatible values: fields of dataclasses, lists of arrays, null for numbers that are not finite."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: json_value(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): json_value(item) for name, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return json_value(value.tolist())
    if isinstance(value, (list, tuple, set)):
        return [json_value(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def number(value: float, scale: float) -> str:
    """Return a number with as many digits as numbers of a scale need."""
    if not math.isfinite(value):
        return MISSING
    digits = 0 if scale >= 1e4 else 1 if scale >= 1e2 else 3
    return f"{value:,.{digits}f}"


def percent(value: float) -> str:
    """Return a fraction as text in percent."""
    return f"{100 * value:.1f} %" if math.isfinite(value) else MISSING


def _interval_text(estimate: Estimate) -> str:
    known = math.isfinite(estimate.lower + estimate.upper)
    return f"{100 * estimate.lower:.1f} to {100 * estimate.upper:.1f} %" if known else "not estimable"


def _between(lower: float, upper: float, scale: float) -> str:
    return f"{number(lower, scale)} to {number(upper, scale)}" if math.isfinite(lower + upper) else MISSING


def _proportion(estimate: Estimate, k: int) -> Cell:
    value, lower, upper = (float(np.asarray(part)[k]) for part in (estimate.value, estimate.lower, estimate.upper))
    if not math.isfinite(value):
        return Cell(MISSING)
    if not math.isfinite(lower + upper):
        return Cell(percent(value), graphic=interval_bar(value, value, value), detail="no interval")
    detail = f"{100 * lower:.1f} to {100 * upper:.1f}"
    return Cell(percent(value), graphic=interval_bar(value, lower, upper), detail=detail)


def _with_half_width(estimate: Estimate) -> str:
    text = f"{estimate.value:.4g}"
    return f"{text} ± {estimate.ci95:.2g}" if math.isfinite(estimate.ci95) else text

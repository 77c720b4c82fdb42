"""Assessment reports: accuracy, areas, uncertainty and applicability of a map on one page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from geoxt.assess.accuracy import AccuracyEstimate
from geoxt.assess.continuous import ContinuousEstimate
from geoxt.assess.map_strata import legend_of
from geoxt.assess.report_content import (
    Block,
    Document,
    Figure,
    Section,
    accuracy_section,
    area_section,
    json_value,
    key_numbers,
    layer_metadata,
    metadata_table,
    model_metadata,
    package_versions,
)
from geoxt.assess.report_figures import class_image, number_image, overview
from geoxt.assess.report_pages import html_page, markdown_page
from geoxt.assess.report_uncertainty import applicability_section, calibration_section, conformal_section
from geoxt.errors import GridError, InputError, OutputError
from geoxt.grid import full_window, grid_of
from geoxt.legend import Legend
from geoxt.regions.geodesic_area import HECTARE, ground_area
from geoxt.regions.region import box
from geoxt.source import as_layer, view_of
from geoxt.storage import atomic_write
from geoxt.types import SomePath
from geoxt.writers import require_writable

FILES = ("report.json", "report.md", "report.html")
"""Files of a report."""


def write_report(
    folder: SomePath,
    accuracy: AccuracyEstimate | ContinuousEstimate,
    *,
    map: xr.DataArray | xr.Dataset | None = None,  # noqa: A002 (the map to assess, as in the literature)
    calibration: Any = None,
    conformal: Any = None,
    applicability: xr.Dataset | None = None,
    model: Any = None,
    metadata: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    title: str = "Map assessment",
) -> Path:
    """Write an assessment as a self-contained HTML page, and as Markdown and JSON.

    The page needs no network: images are embedded, and it runs no script. Existing files are replaced once the new ones
    are complete.

    Parameters
    ----------
    folder
        Folder of `report.html`, `report.md` and `report.json`; created if absent. Other files in it stay.
    accuracy
        Result of `estimate`, `estimate_from_labels` or `estimate_from_counts`.
    map
        The map, class codes or numbers (y, x), drawn at reduced size; read once, block by block.
    calibration
        Result of `calibrate`, or a `Reliability`: the reliability diagram.
    conformal
        Result of `conformal`: coverage and set sizes.
    applicability
        Result of `applicability`; computed once, block by block.
    model
        A `Task`, a `Network` or a model card, which is described in the report.
    metadata
        Names and values to state, such as {"Dates": "2021-05-03", "Split": "blocks of 128 pixels"}.
    notes
        Sentences to state, such as the warnings of the estimate.
    title
        Heading of the page.

    Returns
    -------
    Path
        Path of `report.html`.

    Raises
    ------
    InputError
        If `accuracy` is not an accuracy estimate, the model has no model card, or the map has none of the assessed
        classes or is smaller than the assessed area.
    GridError
        If the map has several bands or dates, or the area of applicability is on another grid.
    OutputError
        If the folder cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from geoxt import assess
    >>> table = assess.estimate_from_counts([[66, 4], [2, 55]], [2000, 1500], classes=["forest", "water"])
    >>> path = assess.write_report(tempfile.mkdtemp(), table, metadata={"Reference": "127 field visits"})
    >>> path.name, "127 field visits" in path.read_text(encoding="utf-8")
    ('report.html', True)
    """
    if not isinstance(accuracy, (AccuracyEstimate, ContinuousEstimate)):
        problem = f"Cannot report on a {type(accuracy).__name__}: it is not an accuracy estimate."
        raise InputError(problem, remedy="Pass {accuracy}, the result of assess.estimate.", argument="accuracy")
    layer = None if map is None else _single(as_layer(map), "map")
    card = None if model is None else _card(model)
    legend = None if layer is None else legend_of(layer)
    if layer is not None:
        _require_assessed_map(layer, legend, accuracy, applicability)
    values: dict[str, Any] = {"title": title, "created": datetime.now(UTC).isoformat(timespec="seconds")}
    values["accuracy"] = {"kind": type(accuracy).__name__, **json_value(accuracy)}
    sections = []
    if layer is not None:
        sections.append(Section(title="Map", blocks=(_map_figure(layer, legend, accuracy),)))
        values["map"] = layer_metadata(layer)
    sections.append(accuracy_section(accuracy, legend))
    if isinstance(accuracy, AccuracyEstimate):
        sections.append(area_section(accuracy, legend))
    uncertainty, numbers = _uncertainty(calibration, conformal, applicability, legend)
    sections += uncertainty
    values |= numbers
    notes = (notes,) if isinstance(notes, str) else notes
    if notes:
        sections.append(Section(title="Notes", blocks=tuple(notes)))
        values["notes"] = list(notes)
    tables: list[Block] = []
    if layer is not None:
        tables.append(metadata_table("Map", values["map"]))
    if metadata:
        tables.append(metadata_table("Assessment", metadata))
        values["metadata"] = json_value(metadata)
    if card is not None:
        tables.append(metadata_table("Model card", model_metadata(card)))
        values["model"] = json_value(card)
    values["software"] = package_versions()
    tables.append(metadata_table("Software", values["software"]))
    sections.append(Section(title="Data, model and software", blocks=tuple(tables)))
    subtitle = f"Written by geoxt {values['software']['geoxt']} on {values['created'][:10]}"
    document = Document(title=title, subtitle=subtitle, key_numbers=key_numbers(accuracy), sections=tuple(sections))
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return _write(Path(folder), (text, markdown_page(document), html_page(document)))


def _require_assessed_map(
    layer: xr.DataArray,
    legend: Legend | None,
    accuracy: AccuracyEstimate | ContinuousEstimate,
    applicability: xr.Dataset | None,
) -> None:
    """Raise if the map is not the map of the accuracy or of the area of applicability.

    Raises
    ------
    InputError
        If it has none of the assessed classes, or is smaller than the assessed area.
    GridError
        If the area of applicability is on another grid.
    """
    grid = grid_of(layer)
    if isinstance(accuracy, AccuracyEstimate) and accuracy.unit == "ha":
        names = [str(name) for name in accuracy.classes]
        if legend is not None and not {*names} & {*legend.distinct_names, *map(str, legend.codes)}:
            problem = (
                f"Cannot report on the map: its classes {[*legend.names][:5]} are none of the assessed {names[:5]}."
            )
            raise InputError(problem, remedy="Pass the assessed {map}.", argument="map")
        extent, assessed = ground_area(box(full_window(grid)), grid) / HECTARE, float(np.sum(accuracy.area.value))
        if assessed > 1.01 * extent:
            problem = (
                f"Cannot report on the map: it covers {extent:,.6g} ha, and the assessed area is {assessed:,.6g} ha."
            )
            raise InputError(problem, remedy="Pass the assessed {map}.", argument="map")
    if applicability is not None and grid_of(applicability) != grid:
        problem = "Cannot report on the map: the area of applicability is on another grid."
        remedy = "Pass {applicability} on the grid of the map: applicability.geoml.align(map)."
        raise GridError(problem, remedy=remedy, argument="applicability")


def _write(folder: Path, texts: Sequence[str]) -> Path:
    """Write the files of a report, the page last."""
    paths = [folder / name for name in FILES]
    for path in paths:
        require_writable(path)
    for path, text in zip(paths, texts, strict=True):
        try:
            with atomic_write(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        except OSError as error:
            problem = f"Cannot write {str(path)!r}: {error.strerror or error}."
            raise OutputError(problem, remedy="Free space there. Or pass another {folder}.") from error
    return paths[-1]


def _uncertainty(
    calibration: Any, conformal: Any, applicability: xr.Dataset | None, legend: Legend | None
) -> tuple[list[Section], dict[str, Any]]:
    """Return the sections on uncertainty, and their JSON-compatible values."""
    sections: list[Section] = []
    values: dict[str, Any] = {}
    if calibration is not None:
        sections.append(calibration_section(calibration))
        values["calibration"] = json_value({k: v for k, v in _fields(calibration).items() if k != "model"})
    if conformal is not None:
        sections.append(conformal_section(conformal, legend))
        values["conformal"] = json_value(conformal)
    if applicability is not None:
        section, values["applicability"] = applicability_section(applicability)
        sections.append(section)
    return sections, values


def _fields(value: Any) -> dict[str, Any]:
    return {item.name: getattr(value, item.name) for item in fields(value)}


def _single(layer: xr.DataArray, name: str) -> xr.DataArray:
    """Return a layer after a check that it has one band and date."""
    times, bands = view_of(layer).shape[:2]
    if (times, bands) != (1, 1):
        problem = f"Cannot draw the {name}: it has {times} dates and {bands} bands."
        raise GridError(problem, remedy="Select one of each with isel().")
    return layer


def _card(model: Any) -> Mapping[str, Any]:
    """Return the fields of the model card of a model."""
    card = getattr(model, "card", model)
    if not hasattr(card, "to_dict"):
        problem = f"Cannot describe a model of type {type(model).__name__!r}: it has no model card."
        raise InputError(problem, remedy="Pass {model}, a geoxt Task or Network.", argument="model")
    return card.to_dict()


def _map_figure(layer: xr.DataArray, legend: Legend | None, accuracy: AccuracyEstimate | ContinuousEstimate) -> Figure:
    """Return the map at reduced size, with its classes."""
    name = escape("map" if layer.name is None else str(layer.name))
    reduced = overview(layer)
    caption = "Every pixel" if reduced.step == 1 else f"One of {reduced.step} x {reduced.step} pixels"
    if isinstance(accuracy, ContinuousEstimate) or layer.dtype.kind == "f":
        graphic, key = number_image(reduced, name)
        return Figure(graphic=graphic, caption=f"{caption} is drawn.", key=key)
    map_legend = (legend or Legend((), ())).covering(sorted(reduced.counts))
    total = reduced.counts.total()
    key = tuple(
        (f"{label}: {100 * reduced.counts[code] / total:.1f} %", color)
        for code, label, color in zip(map_legend.codes, map_legend.distinct_names, map_legend.colors, strict=True)
    )
    caption = f"The map, and the percentage of its valid pixels by class. {caption} is drawn."
    return Figure(graphic=class_image(reduced, map_legend, name), caption=caption, key=key)

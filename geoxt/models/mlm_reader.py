"""Read a STAC item with the Machine Learning Model extension (MLM): bands, scaling, classes and task of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from geoxt.errors import InputError
from geoxt.legend import Legend
from geoxt.models.mlm import class_name

_TASKS = {
    "semantic-segmentation": "segmentation",
    "segmentation": "segmentation",
    "scene-classification": "classification",
    "classification": "classification",
    "regression": "regression",
    "similarity-search": "embedding",
}
"""Task by MLM task; detection is left out, as its outputs have no standard form."""
_CHANNELS = {"bands", "band", "channel", "channels"}
_REMEDY = "Pass geoxt.models.from_file(…, bands=[…], mean=…, std=…, legend=…) as the model."


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelItem:
    """Bands, scaling, classes and task of a model in an MLM item; None or empty if the item does not state them."""

    task: str | None = None
    """Name of the task."""
    architecture: str = "unknown"
    """Name of the architecture."""
    bands: tuple[str, ...] = ()
    """Names of the input bands, in order."""
    common_names: tuple[str, ...] = ()
    """Common name of each band, "" for a band without one; empty if none is known."""
    wavelengths: tuple[float | None, ...] = ()
    """Center wavelength of each band in micrometres; empty if none is known."""
    mean: tuple[float, ...] | None = None
    """Subtracted from each band before the model; `None` if the item has no scaling."""
    std: tuple[float, ...] | None = None
    """Divisor of each band."""
    legend: Legend | None = None
    """Classes of the channels."""
    size: tuple[int | None, int | None] = (None, None)
    """Height and width of the images, `None` for any."""


def read_item(item: Mapping[str, Any], *, scaling: bool = True) -> ModelItem:
    """Return bands, scaling, classes and task of the model of an MLM item, of versions 1.0 to 1.6 of the extension.

    Parameters
    ----------
    item
        STAC item as a dict.
    scaling
        Whether to read the scaling of the bands; False if the caller passes mean and standard deviation.

    Raises
    ------
    InputError
        If the model has no input or several, a band that is computed, or an unsupported scaling or order of dimensions.
    """
    properties = item.get("properties", {})
    inputs, outputs = list(properties.get("mlm:input") or ()), list(properties.get("mlm:output") or ())
    if len(inputs) != 1:
        msg = f"Cannot use the MLM item {item.get('id')!r}: it describes {len(inputs)} inputs."
        raise InputError(msg, remedy=_REMEDY, value=item.get("id"))
    image = inputs[0]
    bands = tuple(_band_name(band) for band in image.get("bands") or ())
    structure = image.get("input") or {}
    dims = dict(zip(structure.get("dim_order") or (), structure.get("shape") or (), strict=False))
    _require_order(list(dims))
    mean, std = _scaling(image, len(bands)) if scaling else (None, None)
    descriptions = _described_bands(item)
    described = [descriptions.get(name, {}) for name in bands]
    common = tuple(str(band.get("eo:common_name") or band.get("common_name") or "") for band in described)
    centers = tuple(band.get("eo:center_wavelength", band.get("center_wavelength")) for band in described)
    return ModelItem(
        task=_task(properties.get("mlm:tasks") or (), dims, len(outputs[0]["result"]["shape"]) if outputs else None),
        architecture=str(properties.get("mlm:architecture") or "unknown"),
        bands=bands,
        common_names=common if any(common) else (),
        wavelengths=centers if any(center is not None for center in centers) else (),
        mean=mean,
        std=std,
        legend=_legend(outputs[0].get("classification:classes") or ()) if outputs else None,
        size=(_size(dims.get("height")), _size(dims.get("width"))),
    )


def _band_name(band: Any) -> str:
    if isinstance(band, Mapping):
        if band.get("expression") is not None:
            msg = f"Cannot use the band {band.get('name')!r} of an MLM item: it is computed by an expression."
            raise InputError(msg, remedy="Pass a {layer} with this band, and the MLM item without the expression.")
        return str(band["name"])
    return str(band)


def _described_bands(item: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the descriptions of bands by name, from the item and its assets."""
    described: dict[str, Mapping[str, Any]] = {}
    holders = [*item.get("assets", {}).values(), item.get("properties", {})]
    for holder in holders:
        for key in ("raster:bands", "eo:bands", "bands"):
            for band in holder.get(key) or ():
                name = str(band.get("name"))
                described[name] = {**described.get(name, {}), **band}
    return described


def _require_order(dims: Sequence[str]) -> None:
    order = ["channel" if dim in _CHANNELS else dim for dim in dims]
    if order and [dim for dim in order if dim != "time"] != ["batch", "channel", "height", "width"]:
        msg = f"Cannot use a model whose input has the dimensions {', '.join(dims)}."
        raise InputError(msg, remedy="Export it with batch, bands, height and width, in this order.")


def _scaling(image: Mapping[str, Any], count: int) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return mean and standard deviation of the scaling (x - mean) / std of each band."""
    if image.get("pre_processing_function"):
        field = "pre_processing_function"
        msg = f"Cannot scale the bands as the MLM item states: {field!r} is not supported."
        raise InputError(msg, remedy=_REMEDY, value=image[field])
    scalings = image.get("value_scaling") or _statistics(image)
    if not scalings or not count:
        return None, None
    if len(scalings) not in (1, count):
        msg = f"Cannot scale {count} bands by the {len(scalings)} scalings of the MLM item."
        raise InputError(msg, remedy=_REMEDY)
    pairs = [_pair(scaling or {"type": "scale", "value": 1}) for scaling in scalings]
    pairs *= count if len(scalings) == 1 else 1
    return tuple(mean for mean, _ in pairs), tuple(std for _, std in pairs)


def _statistics(image: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the scalings in the fields of MLM 1.0 to 1.3: one for all bands, or one per band."""
    norm_type, statistics = image.get("norm_type"), image.get("statistics") or ()
    if norm_type is None:
        return []
    by_band = image.get("norm_by_channel", len(statistics) > 1)
    fields = {"z-score": ("mean", "stddev"), "min-max": ("minimum", "maximum")}.get(norm_type, ())
    is_complete = all(field in entry for entry in statistics for field in fields)
    clips = image.get("norm_clip") is not None
    if not fields or not statistics or not is_complete or clips or (len(statistics) > 1 and not by_band):
        msg = f"Cannot scale the bands as the MLM item states: norm_type {norm_type!r} with its statistics is "
        msg += "unsupported."
        raise InputError(msg, remedy=_REMEDY, value=norm_type)
    return [{"type": norm_type, **entry} for entry in statistics]


def _pair(scaling: Mapping[str, Any]) -> tuple[float, float]:
    match scaling.get("type"):
        case "z-score":
            return float(scaling["mean"]), float(scaling["stddev"])
        case "min-max":
            return float(scaling["minimum"]), float(scaling["maximum"]) - float(scaling["minimum"])
        case "offset":
            return float(scaling["value"]), 1.0
        case "scale":
            return 0.0, float(scaling["value"])
        case unsupported:
            msg = f"Cannot scale the bands as the MLM item states: by {unsupported!r}."
            raise InputError(msg, remedy=_REMEDY, value=unsupported)


def _task(tasks: Sequence[str], dims: Mapping[str, int], rank: int | None) -> str | None:
    task = next((_TASKS[task] for task in tasks if task in _TASKS), None)
    if tasks and task is None:
        msg = f"Cannot use a model file for {', '.join(tasks)}."
        raise InputError(msg, remedy=f"Pass a {{model}} for one of {', '.join(_TASKS)}.", value=list(tasks))
    if task == "segmentation" and "time" in dims:
        return "change" if dims["time"] == 2 else "time-series"
    if task == "regression" and rank == 4:
        return "pixelwise-regression"
    return task


def _legend(classes: Sequence[Mapping[str, Any]]) -> Legend | None:
    if not classes:
        return None
    codes = tuple(int(entry["value"]) for entry in classes)
    names = tuple(_class_title(entry) for entry in classes)
    hints = [entry.get("color_hint") for entry in classes]
    colors = tuple(f"#{hint.lower()}" for hint in hints if isinstance(hint, str) and hint)
    return Legend(codes, names, colors) if len(colors) == len(codes) else Legend(codes, names)


def _class_title(entry: Mapping[str, Any]) -> str:
    """Return the title of a class, or the description that its name is made of, else its name."""
    name, description = entry.get("name"), entry.get("description")
    if description and (not name or class_name(str(description)) == name):
        name = description
    return str(entry.get("title") or name or entry["value"])


def _size(length: int | None) -> int | None:
    return length if length is not None and length > 0 else None

"""Attributes that describe stored numbers (nodata, scale, …): marked, as xarray keeps them through arithmetic.

Their values are instances of `Stored`, which compare, print and serialize like plain numbers and text. Values that a
user assigns are plain, and are always trusted. An array whose numbers are unchanged has the encoding `ENCODING`, its
nodata value, which xarray keeps when it selects, chunks, computes or drops attributes, and drops when it calculates.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import xarray as xr

ENCODING = "geoxt_stored"
"""Encoding of arrays whose attributes describe their numbers: their nodata value, or `None`."""
NODATA = ("_FillValue", "nodata")
RADIOMETRY = ("scales", "offsets", "radiometry")
CLASSES = ("flag_values", "flag_meanings", "flag_colors")
TEXTS = ("long_name", "units")


class Stored:
    """Mixin of attribute values that describe stored numbers."""

    __slots__ = ()


class StoredInt(Stored, int):
    """An integer that describes stored numbers."""


class StoredFloat(Stored, float):
    """A number that describes stored numbers."""


class StoredText(Stored, str):
    """A text that describes stored numbers."""

    __slots__ = ()


def nodata_of(layer: xr.DataArray) -> float | None:
    """Return the nodata value of a layer: `_FillValue` or `nodata` in its attributes or encoding.

    The encoding of a floating-point layer is ignored: xarray has replaced the nodata value by NaN (`mask_and_scale`).

    Examples
    --------
    >>> import xarray as xr
    >>> nodata_of(xr.DataArray([1, 2], attrs={"_FillValue": 0}))
    0
    """
    for metadata in (layer.attrs, layer.encoding):
        nodata = metadata.get("_FillValue", metadata.get("nodata"))
        if nodata is not None and not (layer.dtype.kind == "f" and metadata is layer.encoding):
            number = np.asarray(nodata).reshape(-1)[0]
            return int(number) if layer.dtype.kind in "iub" and float(number).is_integer() else float(number)
    return None


def mark_stored(layer: xr.DataArray) -> xr.DataArray:
    """Return a layer whose attributes are marked to describe its present numbers."""
    marked = layer.assign_attrs({key: _marked(value) for key, value in layer.attrs.items() if key in _KEYS})
    marked.encoding = {**layer.encoding, ENCODING: nodata_of(layer)}
    return marked


def unmarked(attrs: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
    """Return attributes as plain numbers and text, which describe the numbers of a new array."""
    plain = {StoredInt: int, StoredFloat: float, StoredText: str}
    return {key: plain[type(value)](value) if type(value) in plain else value for key, value in attrs.items()}


def stored_nodata(layer: xr.DataArray) -> bool:
    """Return whether the nodata value of a layer describes stored numbers, not numbers after arithmetic."""
    return any(isinstance(layer.attrs.get(key), Stored) for key in NODATA)


def without_stored(layer: xr.DataArray) -> dict[Hashable, Any]:
    """Return the attributes of a layer without the descriptions of stored numbers.

    Integers and booleans computed from class codes stay class codes, of unknown classes.
    """
    attrs = {key: v for key, v in layer.attrs.items() if not (key in TEXTS and isinstance(v, Stored))}
    for keys in (NODATA, RADIOMETRY):
        if any(isinstance(attrs.get(key), Stored) for key in keys):
            attrs = {key: value for key, value in attrs.items() if key not in keys}
    empty = "flag_values" in attrs and not np.size(attrs["flag_values"])
    if empty or any(isinstance(attrs.get(key), Stored) for key in CLASSES):
        attrs = {key: value for key, value in attrs.items() if key not in CLASSES}
        if layer.dtype.kind in "biu":
            attrs["flag_values"] = np.empty(0, "uint8")
    return attrs


_KEYS: Mapping[str, None] = dict.fromkeys((*NODATA, *RADIOMETRY, *CLASSES, *TEXTS))


def _marked(value: Any) -> Any:
    number = value.item() if isinstance(value, np.generic) else value
    match number:
        case bool():
            return value
        case str():
            return StoredText(number)
        case int():
            return StoredInt(number)
        case float():
            return StoredFloat(number)
        case _:
            return value  # lists and arrays, beside which there is a text

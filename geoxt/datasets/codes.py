"""Stored numbers and colours of masks -> class codes; what is no class is an error that names the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from geoxt.datasets.assets import Array as ArrayAsset
from geoxt.datasets.assets import Raster
from geoxt.errors import LabelError
from geoxt.legend import Legend
from geoxt.types import Array

SHOWN = 5


def code_type(asset: Raster | ArrayAsset, legend: Legend | None, stored: np.dtype[Any]) -> np.dtype[Any]:
    """Return the smallest type that holds all codes of a mask; numbers of shapes keep the type that they have."""
    if asset.value == "number":
        return stored
    assert legend is not None
    return np.min_scalar_type(max((*legend.codes, *asset.ignore, 0)))


def decode(values: Array, asset: Raster | ArrayAsset, legend: Legend | None, path: str) -> Array:
    """Return class codes (…, y, x); numbers of shapes as they are.

    Parameters
    ----------
    values
        Stored numbers (…, y, x), or colours (…, 3, y, x) of a painted mask.
    asset
        What is said of them.
    legend
        The classes.
    path
        The file, for messages.

    Raises
    ------
    LabelError
        Where a pixel has no class.
    """
    if asset.value == "number":
        return values
    assert legend is not None
    if isinstance(asset, Raster) and asset.colors is not None:
        return _painted(values, asset, legend, path)
    table = dict(asset.codes or {code: code for code in legend.codes})
    table |= dict.fromkeys(asset.ignore, asset.ignore[0] if asset.ignore else 0)
    return _looked_up(values, table, path, "codes").astype(code_type(asset, legend, values.dtype))


def _painted(values: Array, asset: Raster, legend: Legend, path: str) -> Array:
    if values.shape[-3] < 3:
        msg = f"Cannot read the colours of {path!r}: it has {values.shape[-3]} band(s), not 3. Fetch it again."
        raise LabelError(msg)
    rgb = np.moveaxis(values, -3, -1)[..., :3].astype(np.int64)
    if asset.colors == "snap":
        rgb = np.where(rgb >= 128, 255, 0)
    packed = rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
    table = {int(color[1:], 16): code for code, color in zip(legend.codes, legend.colors, strict=True)}
    return _looked_up(packed, table, path, "colours").astype(code_type(asset, legend, values.dtype))


def _looked_up(values: Array, table: Mapping[int, int], path: str, what: str) -> Array:
    keys = np.array(sorted(table), dtype=np.int64)
    codes = np.array([table[key] for key in keys.tolist()], dtype=np.int64)
    whole = values.astype(np.int64)
    at = np.minimum(np.searchsorted(keys, whole), len(keys) - 1)
    known = (keys[at] == whole) & (whole == values)
    if not known.all():
        strange = np.unique(values[~known])
        numbers = [f"#{int(v):06x}" if what == "colours" else f"{v:g}" for v in strange[:SHOWN]]
        shown = ", ".join(numbers) + (", …" if len(strange) > SHOWN else "")
        msg = f"Cannot tell the class of {int((~known).sum())} pixels in {path!r}: {shown} are none of the {what} that "
        raise LabelError(msg + "the dataset has. Fetch it again, or load another release.")
    return codes[at]

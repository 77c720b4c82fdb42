"""Convert stored values and colors of masks to class codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from geoxt.datasets.assets import FETCH_AGAIN, HDF5Array, Raster
from geoxt.errors import LabelError
from geoxt.legend import Legend
from geoxt.types import Array

SHOWN = 5


def code_type(asset: Raster | HDF5Array, legend: Legend | None, stored: np.dtype[Any]) -> np.dtype[Any]:
    """Return the smallest dtype for the codes of a mask, or the stored dtype for instance numbers."""
    if asset.instances:
        return stored
    assert legend is not None
    return np.min_scalar_type(max((*legend.codes, *asset.ignore, 0)))


def decode(values: Array, asset: Raster | HDF5Array, legend: Legend | None, path: str) -> Array:
    """Return class codes (…, y, x); instance numbers are unchanged.

    Parameters
    ----------
    values
        Stored values (…, y, x), or colors (…, 3, y, x) of an RGB mask.
    asset
        Asset of the spec, with its codes or colors.
    legend
        Classes of the dataset.
    path
        Path of the file, for errors.

    Raises
    ------
    LabelError
        If the value of a pixel is not a class or not a whole number.
    """
    if asset.instances:
        if values.dtype.kind == "f" and not (is_whole := np.isfinite(values) & (values == np.floor(values))).all():
            msg = f"Cannot read the instance numbers in {path!r}: {values[~is_whole].flat[0]:g} is not a whole number."
            raise LabelError(msg, remedy=FETCH_AGAIN)
        return values
    assert legend is not None
    if isinstance(asset, Raster) and asset.colors is not None:
        return _decode_colors(values, asset, legend, path)
    table = dict(asset.codes or {code: code for code in legend.codes})
    table |= dict.fromkeys(asset.ignore, asset.ignore[0] if asset.ignore else 0)
    return _look_up(values, table, path, "codes").astype(code_type(asset, legend, values.dtype))


def _decode_colors(values: Array, asset: Raster, legend: Legend, path: str) -> Array:
    if values.shape[-3] < 3:
        msg = f"Cannot read the colors of {path!r}: it has {values.shape[-3]} band(s), not 3."
        raise LabelError(msg, remedy=FETCH_AGAIN)
    rgb = np.moveaxis(values, -3, -1)[..., :3].astype(np.int64)
    if asset.colors == "snap":
        rgb = np.where(rgb >= 128, 255, 0)
    packed = rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
    table = {int(color[1:], 16): code for code, color in zip(legend.codes, legend.colors, strict=True)}
    return _look_up(packed, table, path, "colors").astype(code_type(asset, legend, values.dtype))


def _look_up(values: Array, table: Mapping[int, int], path: str, kind: str) -> Array:
    keys = np.array(sorted(table), dtype=np.int64)
    codes = np.array([table[key] for key in keys.tolist()], dtype=np.int64)
    exact = values if values.dtype.kind != "f" else np.where(np.abs(values) < 2**53, values, 0)  # NaN becomes 0
    integers = exact.astype(np.int64)
    positions = np.minimum(np.searchsorted(keys, integers), len(keys) - 1)
    is_code = (keys[positions] == integers) & (integers == values)  # the second term rejects fractional values
    if not is_code.all():
        unknown = np.unique(values[~is_code])
        texts = [f"#{int(v):06x}" if kind == "colors" else f"{v:g}" for v in unknown[:SHOWN]]
        listed = ", ".join(texts) + (", …" if len(unknown) > SHOWN else "")
        msg = f"Cannot determine the class of {int((~is_code).sum())} pixels in {path!r}: {listed} are none of the "
        msg += f"{kind} of the dataset."
        raise LabelError(msg, remedy="Fetch the dataset again with force=True, or load another release.")
    return codes[positions]

"""Attributes and validity of layers after arithmetic, from the sources behind them.

xarray keeps attributes through arithmetic, numbers change: a `_FillValue` of 0 is wrong for `crops == 1`. Which pixels
are valid is then known from the dask graph: those that are valid in all sources that they are calculated from.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from functools import reduce
from operator import and_
from typing import Any

import dask.array
import numpy as np
import xarray as xr

from geoxt.errors import InputError, OverflowWarning
from geoxt.grid import full_window, grid_of, pixel_offset
from geoxt.source.fill import free_fill
from geoxt.source.source_uses import SourceUse, SourceUses, find_uses, wrapping
from geoxt.source.stored_attrs import ENCODING, NODATA, mark_stored, nodata_of, stored_nodata, without_stored
from geoxt.source.validity_graph import valid_mask
from geoxt.types import Array

_REMEDY = (
    "Calculate before compute() or persist(), on one grid. Or set missing pixels to NaN yourself and state it: "
    "layer.where(layer != layer.attrs['_FillValue']) first, layer.assign_attrs(_FillValue=float('nan')) last."
)


def resolve_attrs(layer: xr.DataArray) -> xr.DataArray:
    """Return a layer whose nodata value, scales and classes describe its numbers.

    A layer that was only selected from, rearranged or computed is returned unchanged, as is the nodata value that a
    user assigned. After arithmetic on a lazy layer, a pixel is valid if it is not NaN and the pixels of all sources
    that it is calculated from are valid; missing ones become NaN, or a new `_FillValue` in a wider type of integers.

    Raises
    ------
    InputError
        If the valid pixels cannot be known, such as after arithmetic on computed arrays.
    """
    uses = find_uses(layer.data) if isinstance(layer.variable._data, dask.array.Array) else None  # noqa: SLF001
    if uses is None or not uses.uses:
        if ENCODING not in layer.encoding:
            if stored_nodata(layer) and not _is_nan(layer):
                raise _unknown(layer, "its nodata value describes other numbers")
            attrs = without_stored(layer)
            return layer if list(attrs) == list(layer.attrs) else _with_attrs(layer, attrs)
        _require_nodata(layer)
        return layer
    if uses.copied and len({repr(use.base.source.nodata) for use in uses.uses}) == 1:
        described = _with_nodata(layer, uses)
        return described if ENCODING in layer.encoding else mark_stored(described)
    _warn_of_wrapping(layer, uses)
    attrs = without_stored(layer)
    if any(key in attrs for key in NODATA):
        return _with_attrs(layer, attrs)  # assigned by the user, after the arithmetic
    masks = _masks(layer, uses)
    if not masks:
        return _with_attrs(layer, attrs)
    valid = reduce(and_, masks)
    dtype, nodata = free_fill(layer.dtype)
    variable = layer.variable.astype(dtype).where(valid, dtype.type(nodata)).transpose(*layer.dims)
    return _with_attrs(layer.copy(data=variable.data), {**attrs, "_FillValue": nodata})


def _with_nodata(layer: xr.DataArray, uses: SourceUses) -> xr.DataArray:
    """Return a layer of unchanged numbers with the nodata value of its sources if it lost it with its attributes."""
    nodata = uses.uses[0].base.source.nodata
    if nodata is None or any(key in layer.attrs for key in NODATA):
        return layer
    return layer.assign_attrs(_FillValue=layer.dtype.type(nodata).item())


def _require_nodata(layer: xr.DataArray) -> None:
    """Raise if a computed layer has lost its nodata value with its attributes: other layers may be among its pixels."""
    nodata = layer.encoding[ENCODING]
    if nodata is not None and not np.isnan(nodata) and nodata_of(layer) is None:
        name = "the layer" if layer.name is None else repr(layer.name)
        remedy = f"Assign it again: layer.assign_attrs(_FillValue={nodata}). Or, if all pixels are valid, call "
        raise InputError(
            f"Cannot tell the valid pixels of {name}: it had the nodata value {nodata}, and lost its attributes.",
            remedy=f"{remedy}layer.drop_encoding().",
        )


def _warn_of_wrapping(layer: xr.DataArray, uses: SourceUses) -> None:
    """Warn of differences of unsigned pixels, except class codes."""
    dtype = None if "flag_values" in layer.attrs else wrapping(layer.data, uses)
    if dtype is not None:
        name = "The layer" if layer.name is None else repr(layer.name)
        msg = f"{name} holds differences of {dtype} pixels, which wrap around below zero. Open the layer with "
        msg += "rescale=True, or convert it first: layer.astype('float32'). geoxt.indices.append calculates in float."
        warnings.warn(msg, OverflowWarning, stacklevel=3)


def _with_attrs(layer: xr.DataArray, attrs: dict[Hashable, Any]) -> xr.DataArray:
    described = layer.copy(deep=False)
    described.attrs = attrs
    return described


def _is_nan(layer: xr.DataArray) -> bool:
    """Return whether missing pixels are NaN, which arithmetic keeps."""
    nodata = nodata_of(layer)
    return layer.dtype.kind == "f" and nodata is not None and bool(np.isnan(nodata))


def _unknown(layer: xr.DataArray, why: str) -> InputError:
    name = "the layer" if layer.name is None else repr(layer.name)
    return InputError(f"Cannot tell the valid pixels of {name}: {why}.", remedy=_REMEDY)


def _masks(layer: xr.DataArray, uses: SourceUses) -> list[xr.Variable]:
    """Return the valid masks of sources whose missing pixels are not NaN in the layer."""
    to_float = layer.dtype.kind == "f"
    marked = [use for use in uses.uses if not _all_nan(use, to_float=to_float)]
    if not marked:
        return []
    if not uses.reduced and (uses.moved or not uses.pointwise):
        of_sources = {use.array.name: None for use in uses.uses} | {use.array.name: _values_mask(use) for use in marked}
        exact = valid_mask(layer.data, of_sources)
        if exact is not None:
            return [xr.Variable(layer.dims, exact)]
    masks = []
    for use in marked:
        mask = _mask_at(layer, use, uses)
        if mask is not None:
            masks.append(mask)
        elif not (to_float and use.masked):
            why = "it is calculated from other pixels or time steps of a layer with a nodata value"
            raise _unknown(layer, why)
    return masks


def _all_nan(use: SourceUse, *, to_float: bool) -> bool:
    """Return whether a source has no missing pixels, or they are NaN in the layer calculated from it."""
    source = use.base.source
    nan = source.dtype.kind == "f" and (source.nodata is None or np.isnan(source.nodata))
    return (nan and to_float) or (source.nodata is None and not nan)


def _values_mask(use: SourceUse) -> dask.array.Array:
    """Return the valid mask of a source by its values."""
    source, values = use.base.source, use.array
    valid = ~dask.array.isnan(values) if values.dtype.kind == "f" else dask.array.ones_like(values, dtype=bool)
    if source.nodata is not None and not np.isnan(source.nodata):
        valid = valid & (values != values.dtype.type(source.nodata))
    return valid


def _mask_at(layer: xr.DataArray, use: SourceUse, uses: SourceUses) -> xr.Variable | None:
    """Return the valid mask of a source at the pixels of a layer; `None` if their relation is unknown."""
    grid, source = grid_of(layer), use.base.source
    offset = pixel_offset(grid, source.grid)
    if offset is None or not uses.pointwise:
        return None
    window = full_window(grid).shift(*offset)
    for axis, start, stop in ((2, window.row, window.stop[0]), (3, window.col, window.stop[1])):
        first, last = use.selected[axis]
        if start < first or stop > last + 1:
            return None
    dims = [("time", "band", "y", "x")[axis] for axis in use.base.axes]
    present = {str(d).rpartition("_")[2] for d in layer.dims}
    removed = {"time", "band"} - present
    # Pixels that are combined with a reduction of the same source also depend on the other pixels of the reduction.
    if len(use.reductions) > 1 or (uses.reduced and use.reductions != {0} and not removed and not use.masked):
        return None
    mask = xr.Variable(dims, _values_mask(use))
    mask = mask.isel(y=slice(window.row, window.stop[0]), x=slice(window.col, window.stop[1]))
    for axis, dim in ((1, "band"), (0, "time")):
        if dim not in mask.dims:
            continue
        used = list(use.selected[axis])
        positions = _positions(layer, dim, use, axis)
        if uses.reduced and dim not in present and dim in layer.coords and len(used) > 1:
            return None  # the label of a reduction does not show which of these it was calculated from
        if positions is not None:
            mask = mask.isel({dim: positions})
        elif dim == "band" or len(used) == 1:
            mask = mask.isel({dim: used}).all(dim)
        elif uses.reduced and not any(str(d).endswith(dim) for d in layer.dims) and not use.masked:
            mask = mask.isel({dim: used}).all(dim)  # fill values are among the numbers of the reduction
        else:
            return None
    names = {str(d).rpartition("_")[2]: str(d) for d in layer.dims}
    return xr.Variable([names[str(d)] for d in mask.dims], mask.data)


def _positions(layer: xr.DataArray, dim: str, use: SourceUse, axis: int) -> Any:
    """Return the positions in a source of a layer's time steps or bands, by their labels; `None` if it has others."""
    name = next((d for d in layer.coords if str(d) == dim or (d in layer.dims and str(d).endswith(f"_{dim}"))), None)
    labels = use.base.labels.get(axis)
    if name is None or labels is None:
        return None
    position_of = {labels[position]: position for position in use.selected[axis]}
    band_labels: Array = layer[name].to_numpy()
    if len(position_of) < len(use.selected[axis]) or any(
        label not in position_of for label in np.atleast_1d(band_labels)
    ):
        return None
    return [position_of[label] for label in band_labels] if band_labels.ndim else position_of[band_labels[()]]

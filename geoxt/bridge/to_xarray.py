"""Tensors -> DataArray: what a model made of windows, back on the grid that they were drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from geoxt.bridge.read_batch import Sample
from geoxt.errors import GridError, InputError
from geoxt.grid import coordinates, grid_of, parse_crs, window_grid
from geoxt.legend import Legend
from geoxt.samplers import WindowSequence
from geoxt.types import Array
from geoxt.windows import Window

DIMS = {2: (), 3: ("band",), 4: ("time", "band")}
"""Dimensions before y and x, by the dimensions of one window's values."""
WHOLE = 1e-3
"""Pixels: how far from whole pixels of one grid the windows of a batch may lie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Laid:
    """Windows on a grid whose pixels are those of the values."""

    grid: GeoBox
    """Of the rectangle that holds all windows."""
    places: tuple[tuple[slice, slice], ...]
    """Rows and columns of each."""


def to_xarray(
    values: torch.Tensor | Array,
    windows: WindowSequence | Sequence[Window] | Sample,
    *,
    like: xr.DataArray | xr.Dataset | GeoBox | None = None,
    fill: float | None = None,
    legend: Legend | None = None,
) -> xr.DataArray:
    """Return a batch of values as one georeferenced DataArray.

    Parameters
    ----------
    values
        (batch, height, width), (batch, band, height, width) or (batch, time, band, height, width): of a model, say.
        Height and width are those of the windows, or whole fractions or multiples of them, which makes pixels larger
        or smaller.
    windows
        Where each lies: the batch of the loader that the model was given, which carries `transform` and `crs`; or a
        sampler, or windows of the grid of `like`.
    like
        A layer, Dataset or grid that the windows refer to; a batch and a sampler know theirs.
    fill
        Value of pixels that no window holds, and `_FillValue` of the result; NaN for floating point. Integers need it
        where the windows leave pixels out.
    legend
        Classes that the values are codes of, for the attributes.

    Returns
    -------
    xarray.DataArray
        In memory, over the rectangle that holds all windows. Where windows overlap, the first that holds a pixel gives
        it, as the first scene does in a mosaic.

    Raises
    ------
    InputError, GridError
        Where there is not one window for each of the values, their grid is not known, or they lie on several.
    """
    array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if array.ndim - 1 not in DIMS:
        msg = f"Cannot lay values of shape {array.shape} on a grid: pass (batch, …, height, width) with at most"
        raise InputError(msg + " time and band between.")
    laid = _of_batch(windows, array) if isinstance(windows, dict) else _of_windows(windows, array, like)
    missing = np.ones(laid.grid.shape, bool)
    out = np.zeros((*array.shape[1:-2], *laid.grid.shape), array.dtype)
    for one, place in zip(array, laid.places, strict=True):
        new = missing[place]
        out[..., *place][..., new] = one[..., new]
        missing[place] = False
    fill = np.nan if fill is None and array.dtype.kind == "f" else fill
    if missing.any():
        if fill is None:
            msg = f"Cannot leave {int(missing.sum())} pixels between windows of {array.dtype} without a value."
            raise InputError(msg + " Pass fill=… for those.")
        out[..., missing] = fill
    attrs: dict[str, Any] = {} if legend is None else dict(legend.attrs())
    if fill is not None:
        attrs["_FillValue"] = array.dtype.type(fill)
    return xr.DataArray(out, dims=(*DIMS[array.ndim - 1], "y", "x"), coords=coordinates(laid.grid), attrs=attrs)


def _of_windows(windows: WindowSequence | Sequence[Window], values: Array, like: Any) -> _Laid:
    """Lay windows of a grid."""
    some = list(windows)
    _require_count(len(some), values)
    if len({w.node for w in some}) > 1:
        msg = "Cannot lay windows of several children of a tree on one grid. Pass those of one child at a time."
        raise GridError(msg)
    if isinstance(windows, WindowSequence):
        grid = windows.grid
    elif like is None:
        msg = "Cannot lay windows on a grid: a list of windows does not say which. Pass like=, the layer they are of."
        raise InputError(msg)
    else:
        grid = like if isinstance(like, GeoBox) else grid_of(like)
    return _laid(grid, [(w.row, w.col, w.height, w.width) for w in some], values.shape[-2:])


def _of_batch(batch: Sample, values: Array) -> _Laid:
    """Lay windows by the transforms of their batch."""
    lacking = [key for key in ("transform", "crs", "bounds") if key not in batch]
    if lacking:
        msg = f"Cannot lay a batch on a grid: it has no {lacking[0]!r}. Pass a batch of geoml.loader(), or windows."
        raise InputError(msg)
    names = set(batch["crs"])
    if len(names) > 1:
        msg = f"Cannot lay windows in {sorted(names)} on one grid. Pass those of one CRS at a time."
        raise GridError(msg)
    transforms = np.asarray(batch["transform"], "float64")
    _require_count(len(transforms), values)
    height, width = _shape(batch)
    first = Affine(*transforms[0])
    rects = []
    for one in transforms:
        col, row = ~first @ (one[2], one[5])
        near = max(abs(col - round(col)), abs(row - round(row))) < WHOLE
        if not near or not np.allclose(one[[0, 1, 3, 4]], transforms[0][[0, 1, 3, 4]], rtol=1e-9):
            msg = f"Cannot lay windows on one grid: one lies {col:.3f} columns and {row:.3f} rows from the first."
            raise GridError(msg + " Pass windows of one grid, before any augmentation.")
        rects.append((round(row), round(col), height, width))
    return _laid(GeoBox((height, width), first, parse_crs(names.pop())), rects, values.shape[-2:])


def _shape(batch: Sample) -> tuple[int, int]:
    """Return height and width of a batch's windows: those of any of its layers."""
    found = [v.shape[-2:] for k, v in batch.items() if k.endswith("_valid") and getattr(v, "ndim", 0) > 2]
    if not found:
        msg = "Cannot tell the size of a batch's windows: it has no '<layer>_valid'. Pass windows in its place."
        raise InputError(msg)
    return int(found[0][0]), int(found[0][1])


def _laid(grid: GeoBox, rects: Sequence[tuple[int, int, int, int]], shape: tuple[int, ...]) -> _Laid:
    """Return rectangles (row, column, height, width) of a grid on that of their values."""
    sizes = {rect[2:] for rect in rects}
    if len(sizes) > 1:
        msg = f"Cannot lay windows of the sizes {sorted(sizes)} as values of one size {tuple(shape)}."
        raise InputError(msg)
    height, width = sizes.pop()
    table = np.array(rects, "float64")
    top, left = table[:, 0].min(), table[:, 1].min()
    bottom, right = table[:, 0].max() + height, table[:, 1].max() + width
    rectangle = window_grid(grid, Window(int(top), int(left), int(bottom - top), int(right - left)))
    zoom = shape[0] / height, shape[1] / width
    starts = (table[:, :2] - (top, left)) * zoom
    sides = (bottom - top) * zoom[0], (right - left) * zoom[1]
    if not np.array_equal(starts, np.rint(starts)) or any(side != round(side) for side in sides):
        msg = f"Cannot lay values of {shape[0]} x {shape[1]} for windows of {height} x {width}: they start between"
        raise GridError(msg + " pixels of one grid. Draw windows at multiples of the model's stride.")
    scale = Affine.scale(1 / zoom[1], 1 / zoom[0])
    own = GeoBox((round(sides[0]), round(sides[1])), rectangle.affine @ scale, grid.crs)
    places = tuple((slice(r, r + shape[0]), slice(c, c + shape[1])) for r, c in starts.astype(int).tolist())
    return _Laid(grid=own, places=places)


def _require_count(count: int, values: Array) -> None:
    if count != len(values) or not count:
        msg = f"Cannot lay {len(values)} values on {count} windows: pass one window for each, and at least one."
        raise InputError(msg)

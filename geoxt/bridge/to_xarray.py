"""Values of windows, such as model outputs, as one georeferenced DataArray."""

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
from geoxt.crs import parse_crs
from geoxt.errors import GridError, InputError
from geoxt.grid import coordinates, grid_of, window_grid
from geoxt.legend import Legend
from geoxt.samplers import WindowSequence
from geoxt.types import Array
from geoxt.windows import Window

LEADING_DIMS = {2: (), 3: ("band",), 4: ("time", "band")}
"""Dimensions before y and x, by the number of dimensions of one window's values."""
TOLERANCE = 1e-3
"""Pixels: maximum distance of the windows of a batch from whole pixels of one grid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Placement:
    """Positions of windows on a grid with the pixels of their values."""

    grid: GeoBox
    """Grid of the rectangle that contains all windows."""
    slices: tuple[tuple[slice, slice], ...]
    """Rows and columns of each window."""


def to_xarray(
    values: torch.Tensor | Array,
    windows: WindowSequence | Sequence[Window] | Sample,
    *,
    like: xr.DataArray | xr.Dataset | GeoBox | None = None,
    fill: float | None = None,
    legend: Legend | None = None,
) -> xr.DataArray:
    """Return values of windows, such as model outputs of a batch, as one georeferenced DataArray.

    Parameters
    ----------
    values
        (batch, height, width), (batch, band, height, width) or (batch, time, band, height, width). Height and width are
        those of the windows, or whole multiples or fractions of them, which makes pixels smaller or larger.
    windows
        The batch of the loader, with its `transform` and `crs`; or a sampler, or windows of the grid of `like`.
    like
        The layer, Dataset or grid to which a list of windows refers.
    fill
        Value of pixels outside all windows, and `_FillValue` of the result. Default: NaN for floating point; required
        for other dtypes if there are such pixels.
    legend
        Class codes, names and colors for the attributes.

    Returns
    -------
    xarray.DataArray
        In memory, over the rectangle that contains all windows. Where windows overlap, the first one wins, as the first
        scene does in a mosaic.

    Raises
    ------
    InputError
        If the numbers of values and windows differ, their grid is unknown, or `fill` is missing.
    GridError
        If windows lie on several grids, or values start between pixels of one grid.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> from geoxt.bridge import loader, to_xarray
    >>> from geoxt.samplers import GridSampler
    >>> image = make_layer(np.arange(64.0).reshape(8, 8), name="image")
    >>> batch = next(iter(loader(image, GridSampler(image, size=4), batch_size=4)))
    >>> bool((to_xarray(batch["image"], batch) == image).all())
    True
    """
    array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if array.ndim - 1 not in LEADING_DIMS:
        raise InputError(
            f"Cannot place values of shape {array.shape} on a grid.",
            remedy="Pass {values} as (batch, …, height, width) with at most time and band between.",
        )
    placement = _place_batch(windows, array) if isinstance(windows, dict) else _place_windows(windows, array, like)
    missing = np.ones(placement.grid.shape, bool)
    out = np.zeros((*array.shape[1:-2], *placement.grid.shape), array.dtype)
    for pixels, part in zip(array, placement.slices, strict=True):
        is_new = missing[part]
        out[..., *part][..., is_new] = pixels[..., is_new]
        missing[part] = False
    fill = np.nan if fill is None and array.dtype.kind == "f" else fill
    if missing.any():
        if fill is None:
            raise InputError(
                f"Cannot leave {int(missing.sum())} pixels between windows of {array.dtype} without a value.",
                remedy="Pass {fill}, their value.",
            )
        out[..., missing] = fill
    attrs: dict[str, Any] = {} if legend is None else dict(legend.attrs())
    if fill is not None:
        attrs["_FillValue"] = array.dtype.type(fill)
    dims = (*LEADING_DIMS[array.ndim - 1], "y", "x")
    return xr.DataArray(out, dims=dims, coords=coordinates(placement.grid), attrs=attrs)


def _place_windows(windows: WindowSequence | Sequence[Window], values: Array, like: Any) -> _Placement:
    """Return the placement of windows of a grid."""
    sequence = list(windows)
    _require_count(len(sequence), values)
    if len({w.node for w in sequence}) > 1:
        raise GridError(
            "Cannot place windows of several nodes of a tree on one grid.", remedy="Pass those of one node at a time."
        )
    if isinstance(windows, WindowSequence):
        grid = windows.grid
    elif like is None:
        raise InputError(
            "Cannot place windows on a grid: a list of windows does not state which.",
            remedy="Pass {like}, the layer of the windows.",
        )
    else:
        grid = grid_of(like)
    return _placement(grid, [(w.row, w.col, w.height, w.width) for w in sequence], values.shape[-2:])


def _place_batch(batch: Sample, values: Array) -> _Placement:
    """Return the placement of the windows of a batch by their transforms."""
    for key in ("transform", "crs", "bounds"):
        if key not in batch:
            raise InputError(
                f"Cannot place a batch on a grid: it has no {key!r}.", remedy="Pass a batch of loader(), or windows."
            )
    names = set(batch["crs"])
    if len(names) > 1:
        raise GridError(
            f"Cannot place windows in {sorted(names)} on one grid.", remedy="Pass those of one CRS at a time."
        )
    transforms = np.asarray(batch["transform"], "float64")
    _require_count(len(transforms), values)
    height, width = _size_of(batch)
    first = Affine(*transforms[0])
    rectangles = []
    for transform in transforms:
        # Columns and rows from the first window; the batch has lost the integer offsets of its windows.
        col, row = ~first @ (transform[2], transform[5])
        aligned = max(abs(col - round(col)), abs(row - round(row))) < TOLERANCE
        if not aligned or not np.allclose(transform[[0, 1, 3, 4]], transforms[0][[0, 1, 3, 4]], rtol=1e-9):
            raise GridError(
                f"Cannot place windows on one grid: one lies {col:.3f} columns and {row:.3f} rows from the first.",
                remedy="Pass windows of one grid, before any augmentation.",
            )
        rectangles.append((round(row), round(col), height, width))
    return _placement(GeoBox((height, width), first, parse_crs(names.pop())), rectangles, values.shape[-2:])


def _size_of(batch: Sample) -> tuple[int, int]:
    """Return height and width of the windows of a batch."""
    sizes = (v.shape[-2:] for k, v in batch.items() if k.endswith("_valid") and getattr(v, "ndim", 0) > 2)
    size = next(sizes, None)
    if size is None:
        raise InputError(
            "Cannot determine the size of a batch's windows: it has no '<layer>_valid'.",
            remedy="Pass {windows} instead.",
        )
    return int(size[0]), int(size[1])


def _placement(grid: GeoBox, rectangles: Sequence[tuple[int, int, int, int]], shape: tuple[int, ...]) -> _Placement:
    """Return the placement of rectangles (row, column, height, width) of a grid, at the pixels of their values."""
    sizes = {rectangle[2:] for rectangle in rectangles}
    if len(sizes) > 1:
        raise InputError(
            f"Cannot place windows of the sizes {sorted(sizes)} as values of one size {tuple(shape)}.",
            remedy="Pass windows of one size.",
        )
    height, width = sizes.pop()
    table = np.array(rectangles, "float64")
    top, left = table[:, 0].min(), table[:, 1].min()
    bottom, right = table[:, 0].max() + height, table[:, 1].max() + width
    extent = window_grid(grid, Window(int(top), int(left), int(bottom - top), int(right - left)))
    # Pixels of the values per pixel of the grid; a model's stride of 4 makes it 1/4.
    zoom = shape[0] / height, shape[1] / width
    starts = (table[:, :2] - (top, left)) * zoom
    sides = (bottom - top) * zoom[0], (right - left) * zoom[1]
    if not np.array_equal(starts, np.rint(starts)) or any(side != round(side) for side in sides):
        raise GridError(
            f"Cannot place values of {shape[0]} x {shape[1]} for windows of {height} x {width}: they start between"
            " pixels of one grid.",
            remedy="Draw windows at multiples of the model's stride.",
        )
    affine = extent.affine @ Affine.scale(1 / zoom[1], 1 / zoom[0])
    slices = tuple((slice(r, r + shape[0]), slice(c, c + shape[1])) for r, c in starts.astype(int).tolist())
    return _Placement(grid=GeoBox((round(sides[0]), round(sides[1])), affine, grid.crs), slices=slices)


def _require_count(count: int, values: Array) -> None:
    if count != len(values) or not count:
        raise InputError(
            f"Cannot place {len(values)} values on {count} windows.",
            remedy="Pass one window for each, and at least one.",
        )

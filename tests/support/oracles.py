"""Exact and slow resampling in plain numpy and pyproj, for tests to compare with: no tolerance, no shortcut."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from affine import Affine
from numpy.typing import ArrayLike, NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from geoxt.errors import CRSError

__all__ = ["Resampled", "bilinear", "kernel_scale", "nearest", "source_coordinates", "widened_bilinear"]

Floats = NDArray[np.float64]

_WIDEN_BELOW = 0.95  # GDAL widens its kernel where target pixels are over 5 % larger (alg/gdalwarpkernel.cpp)


class Resampled(NamedTuple):
    """A raster brought to another grid."""

    values: NDArray[Any]
    """(..., y, x). Where not valid: nodata or 0 of `nearest`, nan of the others."""
    valid: NDArray[np.bool_]
    """(y, x)."""
    margin: Floats
    """(y, x): distance in source pixels to the discontinuity of `values` or `valid`: to the edge between two
    pixels for `nearest`, and in weight from one half to the validity's threshold for the others."""


@lru_cache(256)
def transformer(source: Any, target: Any) -> Transformer:
    """Return pyproj's transformer between two CRSs; between some datums it takes 0.1 s to build."""
    return Transformer.from_crs(source, target, always_xy=True)


def source_coordinates(src_grid: GeoBox, dst_grid: GeoBox) -> tuple[Floats, Floats]:
    """
    Return the coordinates of the target's pixel centres in the source, in pixels.

    Parameters
    ----------
    src_grid, dst_grid
        Grids of the source and of the target.

    Returns
    -------
    tuple of ndarray
        Fractional column and row in the source, of dims (y, x): 0.5 is the centre of the first pixel. They are inf
        where a position cannot be projected. A source in degrees may begin at any meridian.
    """
    height, width = dst_grid.shape.yx
    col, row = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x, y = _apply(dst_grid.affine, col, row)
    if src_grid.crs != dst_grid.crs:
        project = transformer(_wkt(dst_grid), _wkt(src_grid))
        x, y = project.transform(x, y)
    x, y = np.where(np.isfinite(x), x, np.nan), np.where(np.isfinite(y), y, np.nan)
    if src_grid.crs is not None and src_grid.crs.geographic:
        box = src_grid.boundingbox
        west = (box.left + box.right) / 2 - 180
        x = np.where((x < box.left) | (x > box.right), west + (x - west) % 360, x)
    affine = src_grid.affine
    determinant = affine.a * affine.e - affine.b * affine.d
    x, y = x - affine.c, y - affine.f
    cols = (affine.e * x - affine.b * y) / determinant
    rows = (affine.a * y - affine.d * x) / determinant
    return np.nan_to_num(cols, nan=np.inf), np.nan_to_num(rows, nan=np.inf)


def nearest(src: ArrayLike, src_grid: GeoBox, dst_grid: GeoBox, nodata: float | None = None) -> Resampled:
    """
    Take, for each target pixel, the source pixel in which its centre lies.

    Parameters
    ----------
    src
        Array of dims (..., y, x).
    src_grid, dst_grid
        Grids of the source and of the target.
    nodata
        Value of source pixels that are not valid, and of target pixels outside the source (else 0).

    Returns
    -------
    Resampled
        Valid where every band is. A comparison should leave out pixels whose `margin` is below 1e-3 or so.
    """
    values = np.asarray(src)
    col, row = source_coordinates(src_grid, dst_grid)
    margin = np.minimum(_to_whole(col), _to_whole(row))
    inside, i, j = _pixel(row, col, src_grid.shape.yx)
    picked = np.where(inside, values[..., i, j], values.dtype.type(0 if nodata is None else nodata))
    valid = inside & np.all(_valid(picked, nodata).reshape(-1, *inside.shape), axis=0)
    return Resampled(picked, valid, margin)


def bilinear(src: ArrayLike, valid: ArrayLike | None, src_grid: GeoBox, dst_grid: GeoBox) -> Resampled:
    """
    Interpolate between the four source pixels round each target pixel's centre, in float64.

    Parameters
    ----------
    src
        Array of dims (..., y, x).
    valid
        Bool of dims (y, x). None: all are.
    src_grid, dst_grid
        Grids of the source and of the target.

    Returns
    -------
    Resampled
        Weights are shared among the valid neighbours; a pixel is valid where they have at least half of the weight.
        What lies outside the source is not valid.
    """
    return _triangle(src, valid, src_grid, dst_grid, (1.0, 1.0))


def widened_bilinear(
    src: ArrayLike,
    valid: ArrayLike | None,
    src_grid: GeoBox,
    dst_grid: GeoBox,
    scale: tuple[float, float] | None = None,
) -> Resampled:
    """
    Interpolate as GDAL does: where target pixels are over 5 % larger, the kernel widens to the ratio.

    Parameters
    ----------
    src, valid, src_grid, dst_grid
        See `bilinear`.
    scale
        Size of a source pixel in target pixels, along the source's columns and rows: GDAL's warp options ``XSCALE``
        and ``YSCALE``. None takes `kernel_scale`.

    Returns
    -------
    Resampled
        The same as `bilinear` where both scales are 0.95 or more. Where either is less, the kernel widens along each
        axis whose scale is below 1.

    Notes
    -----
    The values are GDAL's to 1e-9 of their range, but two rules differ. GDAL takes a target pixel for valid where the
    source pixel under its centre is; and in a source of one row or column it takes the nearest pixel.
    """
    scale = scale or kernel_scale(src_grid, dst_grid)
    widen = min(scale) < _WIDEN_BELOW
    return _triangle(src, valid, src_grid, dst_grid, tuple(min(part, 1.0) if widen else 1.0 for part in scale))


def kernel_scale(src_grid: GeoBox, dst_grid: GeoBox, *, clip: bool = True) -> tuple[float, float]:
    """
    Return the size of a source pixel in target pixels, along the source's columns and rows, as GDAL works it out.

    Parameters
    ----------
    src_grid, dst_grid
        Grids of the source and of the target.
    clip
        Whether the part of the target outside the source counts, as it does in GDAL, for pixels but not for extent:
        where a target reaches over the edge, GDAL's kernel is then narrower than the true ratio. False gives the
        true ratio.

    Returns
    -------
    tuple of float
        Columns and rows of the target over the width and height of the rectangle, in source pixels, that holds the
        corners of all its pixels. So GDAL's kernel depends on the window that is warped.
    """
    height, width = dst_grid.shape.yx
    col, row = source_coordinates(src_grid, _corners(dst_grid))
    finite = np.isfinite(col) & np.isfinite(row)
    spans = []
    for coordinate, limit in zip((col, row), src_grid.shape.xy, strict=True):
        bounded = np.clip(coordinate[finite], 0, limit) if clip else coordinate[finite]
        spans.append(float(np.ptp(bounded)) if bounded.size else 0.0)
    return width / spans[0] if spans[0] else 1.0, height / spans[1] if spans[1] else 1.0


def _triangle(
    src: ArrayLike, valid: ArrayLike | None, src_grid: GeoBox, dst_grid: GeoBox, scale: tuple[float, ...]
) -> Resampled:
    """Weigh the source pixels within one (scaled) pixel by one minus their (scaled) distance along each axis."""
    values = np.asarray(src, dtype="float64")
    shape = src_grid.shape.yx
    good = np.ones(shape, bool) if valid is None else np.asarray(valid, bool)
    col, row = source_coordinates(src_grid, dst_grid)
    finite = np.isfinite(col) & np.isfinite(row)
    u, v = np.where(finite, col, -1e6) - 0.5, np.where(finite, row, -1e6) - 0.5
    across, down = (int(np.ceil(1 / part)) for part in scale)
    total, weight, reach = np.zeros((*values.shape[:-2], *u.shape)), np.zeros(u.shape), np.zeros(u.shape)
    for dy in range(1 - down, down + 1):
        for dx in range(1 - across, across + 1):
            j, i = np.floor(u).astype(int) + dx, np.floor(v).astype(int) + dy
            share = np.clip(1 - np.abs(j - u) * scale[0], 0, None) * np.clip(1 - np.abs(i - v) * scale[1], 0, None)
            inside = (i >= 0) & (i < shape[0]) & (j >= 0) & (j < shape[1])
            i, j = np.where(inside, i, 0), np.where(inside, j, 0)
            used = np.where(inside & good[i, j], share, 0)
            total += np.where(used > 0, values[..., i, j], 0) * used
            weight += used
            reach += share
    part = weight / reach
    fine = finite & (part >= 0.5)
    with np.errstate(invalid="ignore"):
        return Resampled(np.where(fine, total / np.where(fine, weight, 1), np.nan), fine, np.abs(part - 0.5))


def _corners(grid: GeoBox) -> GeoBox:
    """Grid whose pixels have their centres on the corners of the pixels of `grid`."""
    a, b, c, d, e, f = grid.affine[:6]
    height, width = grid.shape.yx
    return GeoBox((height + 1, width + 1), Affine(a, b, c - (a + b) / 2, d, e, f - (d + e) / 2), grid.crs)


def _apply(affine: Any, col: Floats, row: Floats) -> tuple[Floats, Floats]:
    return affine.a * col + affine.b * row + affine.c, affine.d * col + affine.e * row + affine.f


def _wkt(grid: GeoBox) -> str:
    if grid.crs is None:
        msg = f"Cannot resample between a grid that has a CRS and one that has none: {grid!r}. Pass grids with crs=…"
        raise CRSError(msg)
    return grid.crs.to_wkt()


def _to_whole(coordinates: Floats) -> Floats:
    """Distance to the nearest whole number."""
    finite = np.where(np.isfinite(coordinates), coordinates, 0.5)
    return np.asarray(np.abs(finite - np.rint(finite)))


def _pixel(row: Floats, col: Floats, shape: tuple[int, int]) -> tuple[NDArray[np.bool_], Any, Any]:
    """Whole row and column where they are inside, else (0, 0)."""
    inside = (row >= 0) & (row < shape[0]) & (col >= 0) & (col < shape[1])
    return inside, np.where(inside, row, 0).astype(int), np.where(inside, col, 0).astype(int)


def _valid(values: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    if nodata is None:
        return np.ones(values.shape, bool)
    return np.asarray(~np.isnan(values) if np.isnan(nodata) else values != nodata)

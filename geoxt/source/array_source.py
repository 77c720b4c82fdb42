"""Source over an array: in memory, or a dask array with operations other than the selection of a source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import dask.array
import numpy as np
import shapely
from odc.geo.geobox import GeoBox

from geoxt.footprints import outline
from geoxt.pixels.resample import FetchWindow, resample
from geoxt.pixels.transform import PixelTransform
from geoxt.types import Array, Mask, Resampling
from geoxt.windows import Window


@dataclass(frozen=True, kw_only=True, eq=False)
class ArraySource:
    """An array on one grid, read on the same or another grid."""

    array: Any
    """(time, band, y, x), or without the axes that `axes` lacks: a numpy or dask array."""
    array_grid: GeoBox
    """Grid of the array."""
    grid: GeoBox
    """Grid that windows refer to."""
    nodata: float | None = None
    """Nodata value; NaN is always invalid."""
    resampling: Resampling = "bilinear"
    """Resampling method, if the grids differ."""
    clips: tuple[GeoBox, ...] = ()
    """Grids outside which pixels are invalid, of layers that were cropped before they were aligned."""
    axes: tuple[int, ...] = (0, 1)
    """Axes that the array has: 0 for time, 1 for band. The others have length one. They are not added to a dask array,
    as dask then computes whole chunks for each window, instead of passing the window on to the source of the array."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the array."""
        return np.dtype(self.array.dtype)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Time steps, bands, rows, columns."""
        times, bands = (int(self.array.shape[self.axes.index(a)]) if a in self.axes else 1 for a in (0, 1))
        return times, bands, *self.grid.shape

    @property
    def fill(self) -> float:
        """Value of invalid pixels."""
        if self.nodata is not None:
            return self.nodata
        return np.nan if self.dtype.kind == "f" else 0

    def onto(self, grid: GeoBox, *, resampling: Resampling | None = None) -> ArraySource:
        """Return the same array on another grid, lazily."""
        return replace(self, grid=grid, resampling=resampling or self.resampling)

    def select(self, times: Sequence[int], bands: Sequence[int]) -> ArraySource:
        """Return the source of some time steps and bands."""
        chosen = [indices for axis, indices in enumerate((list(times), list(bands))) if axis in self.axes]
        return replace(self, array=self.array[np.ix_(*chosen)] if chosen else self.array)

    def footprint(self) -> shapely.Geometry:
        """Return the outline of the array in pixels of the grid (x is the column, y the row)."""
        rows, cols = self.grid.shape
        box = shapely.box(0, 0, cols, rows)
        if self.array_grid == self.grid:
            return box
        array_outline = outline(self.array_grid, self.grid)
        return box if array_outline is None else shapely.intersection(array_outline, box)

    def read(
        self,
        window: Window,
        *,
        times: Sequence[int] | None = None,
        bands: Sequence[int] | None = None,
        dtype: np.dtype[Any] | None = None,
    ) -> tuple[Array, Mask]:
        """Return values and valid mask (time, band, height, width) of a window; dask is computed in this thread."""
        steps = range(self.shape[0]) if times is None else times
        band_indices = list(range(self.shape[1]) if bands is None else bands)
        transform = PixelTransform(self.grid, self.array_grid)
        shape = (len(steps), len(band_indices), *window.shape)
        values, valid = self._filled(shape, dtype or self.dtype), np.zeros(shape, bool)
        for index, step in enumerate(steps):
            resampled = self._read(transform, window, step, band_indices)
            if resampled is None:
                continue
            pixels, valid[index] = resampled
            if values.dtype.kind in "iu" and pixels.dtype.kind == "f":  # casting NaN to an integer is undefined
                pixels = np.where(valid[index], pixels, self.fill if np.isfinite(self.fill) else 0)
            values[index] = pixels
        for clip in self.clips:
            inside = clip_mask(PixelTransform(self.grid, clip), clip, window)
            if inside is not None:
                valid &= inside
                values[~valid] = self.fill
        return values, valid

    def _filled(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return an array of the fill value, or of 0 if the dtype cannot hold it."""
        return np.full(shape, 0 if dtype.kind in "iu" and not np.isfinite(self.fill) else self.fill, dtype)

    def _read(
        self, transform: PixelTransform, window: Window, step: int, bands: list[int]
    ) -> tuple[Array, Mask] | None:
        def fetch(needed: Window) -> tuple[Array, Mask | None]:
            rows, cols = slice(needed.row, needed.stop[0]), slice(needed.col, needed.stop[1])
            values = self.array[(*(index for axis, index in enumerate((step, bands)) if axis in self.axes), rows, cols)]
            if isinstance(values, dask.array.Array):
                values = values.compute(scheduler="synchronous")
            values = values if 1 in self.axes else values[None]
            return values, valid_mask(values, self.nodata)

        if transform.shift is not None:
            return copy_window(fetch, transform, window, self.dtype, self.fill)
        resampled = resample(fetch, transform, window, self.resampling)
        return None if resampled is None else finish_resampled(*resampled, self.dtype, self.fill, self.nodata)


def copy_window(
    fetch: FetchWindow, transform: PixelTransform, window: Window, dtype: np.dtype[Any], fill: float
) -> tuple[Array, Mask] | None:
    """Return the pixels of a coinciding grid unchanged, invalid ones too; outside it the fill value."""
    copied = transform.copied(window)
    assert copied is not None
    inside = copied.intersect(Window(0, 0, *transform.source.shape))
    if inside is None:
        return None
    pixels, pixels_valid = fetch(inside)
    values, valid = np.full((len(pixels), *window.shape), fill, dtype), np.zeros((len(pixels), *window.shape), bool)
    target = inside.within(copied)
    values[:, *target] = pixels
    valid[:, *target] = True if pixels_valid is None else pixels_valid
    return transform.oriented(values), transform.oriented(valid)


def clip_mask(transform: PixelTransform, clip: GeoBox, window: Window) -> Mask | None:
    """Return which pixels of a window lie inside a grid, the source of `transform`; `None` if all do."""
    rows, cols = clip.shape
    control = transform.control_grid(window)
    if control.discontinuous is None and control.extent is not None:
        (top, left), (bottom, right) = control.extent
        if min(top, left) >= 0 and bottom <= rows - 1 and right <= cols - 1:
            return None
    pixels = np.floor(control.coordinates() + 0.5)
    inside = (pixels[0] >= 0) & (pixels[0] < rows) & (pixels[1] >= 0) & (pixels[1] < cols)
    return None if inside.all() else inside


def valid_mask(values: Array, nodata: float | None) -> Mask | None:
    """Return which values are neither nodata nor NaN; `None` if all are valid."""
    valid: Mask | None = None
    if values.dtype.kind == "f":
        valid = ~np.isnan(values)
    if nodata is not None and not np.isnan(nodata):
        differs = values != _in_dtype(nodata, values.dtype)
        valid = differs if valid is None else valid & differs
    return None if valid is None or valid.all() else valid


@lru_cache(maxsize=256)
def _in_dtype(nodata: float, dtype: np.dtype[Any]) -> Any:
    """Return nodata in an integer dtype that can hold it: NumPy then compares without casting, four times as fast."""
    limits = np.iinfo(dtype) if dtype.kind in "iu" else None
    representable = limits is not None and limits.min <= nodata <= limits.max and nodata == int(nodata)
    return dtype.type(nodata) if representable else nodata


def finish_resampled(
    values: Array, valid: Mask | None, dtype: np.dtype[Any], fill: float, nodata: float | None
) -> tuple[Array, Mask]:
    """Return resampled values in the layer's dtype, integers rounded, invalid ones set to the fill value."""
    values = cast_values(values, dtype, dtype, valid=valid, nodata=nodata)
    if valid is None:
        return values, np.broadcast_to(True, values.shape)
    return np.where(valid, values, np.asarray(fill).astype(dtype)), valid


def cast_values(
    values: Array,
    stored: np.dtype[Any],
    dtype: np.dtype[Any],
    *,
    valid: Mask | None = None,
    nodata: float | None = None,
) -> Array:
    """Return resampled values cast to `dtype` by way of the layer's dtype `stored`; integers are rounded.

    Valid values that average to `nodata` become the next number, as in GDAL: otherwise they would be invalid once the
    layer is computed.
    """
    if stored.kind in "iu" and values.dtype.kind == "f":
        values = np.rint(values, out=values)
        if valid is not None and values.dtype != dtype:  # casting NaN is undefined, other invalid values may not fit
            np.copyto(values, 0, where=~valid)
    elif values.dtype.kind in "iu" and np.can_cast(values.dtype, stored):
        values = values.astype(stored, copy=False)  # a wider stored type holds the same integers
        return _without_nodata(values, valid, nodata, stored).astype(dtype, copy=False)
    if values.dtype.kind == "f":
        values = values if stored.kind in "iu" else values.astype(stored, copy=False)
        values = _without_nodata(values, valid, nodata, stored)
    return values if values.dtype == dtype else values.astype(stored, copy=False).astype(dtype, copy=False)


def _without_nodata(values: Array, valid: Mask | None, nodata: float | None, stored: np.dtype[Any]) -> Array:
    """Return values with valid values that equal nodata replaced by the next number."""
    if nodata is None or np.isnan(nodata):
        return values
    hits = values == (
        np.asarray(nodata).astype(values.dtype) if values.dtype.kind == "f" else _in_dtype(nodata, stored)
    )
    if valid is not None:
        hits &= valid
    return np.where(hits, _next(nodata, stored), values) if hits.any() else values


def _next(nodata: float, dtype: np.dtype[Any]) -> Any:
    """Return the next number after nodata, or the previous number at the end of the range."""
    if dtype.kind == "f":
        upwards = np.nextafter(dtype.type(nodata), dtype.type(np.inf))
        return upwards if np.isfinite(upwards) else np.nextafter(dtype.type(nodata), dtype.type(-np.inf))
    return nodata + 1 if nodata < np.iinfo(dtype).max else nodata - 1

"""Pixels: any other layer as a source: arrays in memory, and dask arrays that something was done to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    """An array on one grid, read onto the same or another grid."""

    array: Any
    """(time, band, y, x): a numpy or dask array."""
    own: GeoBox
    """The grid of the array."""
    grid: GeoBox
    """The grid that windows refer to."""
    nodata: float | None = None
    """Value that marks missing pixels; NaN always does."""
    resampling: Resampling = "bilinear"
    """How pixels come onto the grid, where it is not the array's own."""
    clips: tuple[GeoBox, ...] = ()
    """Grids beyond which nothing is valid, from layers that were cut before they were aligned."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the array."""
        return np.dtype(self.array.dtype)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Time steps, bands, rows, columns."""
        return int(self.array.shape[0]), int(self.array.shape[1]), *self.grid.shape

    @property
    def fill(self) -> float:
        """Value of invalid pixels."""
        if self.nodata is not None:
            return self.nodata
        return np.nan if self.dtype.kind == "f" else 0

    def onto(self, grid: GeoBox, *, resampling: Resampling | None = None) -> ArraySource:
        """Return the same array on another grid; nothing is computed."""
        return replace(self, grid=grid, resampling=resampling or self.resampling)

    def footprint(self) -> shapely.Geometry:
        """Return the outline of the array, in pixels of the grid (x is the column, y the row)."""
        rows, cols = self.grid.shape
        box = shapely.box(0, 0, cols, rows)
        if self.own == self.grid:
            return box
        found = outline(self.own, self.grid)
        return box if found is None else shapely.intersection(found, box)

    def read(
        self,
        window: Window,
        *,
        times: Sequence[int] | None = None,
        bands: Sequence[int] | None = None,
        dtype: np.dtype[Any] | None = None,
    ) -> tuple[Array, Mask]:
        """Return values and validity (time, band, height, width) of a window; dask is computed in this thread."""
        steps = range(self.array.shape[0]) if times is None else times
        chosen = list(range(self.array.shape[1]) if bands is None else bands)
        mapping = PixelTransform(self.grid, self.own)
        shape = (len(steps), len(chosen), *window.shape)
        values, valid = self._filled(shape, dtype or self.dtype), np.zeros(shape, bool)
        for place, step in enumerate(steps):
            found = self._read(mapping, window, step, chosen)
            if found is None:
                continue
            pixels, valid[place] = found
            if values.dtype.kind in "iu" and pixels.dtype.kind == "f":
                pixels = np.where(valid[place], pixels, self.fill if np.isfinite(self.fill) else 0)
            values[place] = pixels
        for clip in self.clips:
            inside = clip_mask(PixelTransform(self.grid, clip), clip, window)
            if inside is not None:
                valid &= inside
                values[~valid] = self.fill
        return values, valid

    def _filled(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return an array of the fill value, 0 where the type cannot hold it."""
        return np.full(shape, 0 if dtype.kind in "iu" and not np.isfinite(self.fill) else self.fill, dtype)

    def _read(self, mapping: PixelTransform, window: Window, step: int, bands: list[int]) -> tuple[Array, Mask] | None:
        def fetch(need: Window) -> tuple[Array, Mask | None]:
            rows, cols = slice(need.row, need.stop[0]), slice(need.col, need.stop[1])
            piece = self.array[step, bands, rows, cols]
            if isinstance(piece, dask.array.Array):
                piece = piece.compute(scheduler="synchronous")
            return piece, valid_mask(piece, self.nodata)

        if mapping.shift is not None:
            return copy_window(fetch, mapping, window, self.dtype, self.fill)
        found = resample(fetch, mapping, window, self.resampling)
        return None if found is None else finish_resampled(*found, self.dtype, self.fill)


def copy_window(
    fetch: FetchWindow, mapping: PixelTransform, window: Window, dtype: np.dtype[Any], fill: float
) -> tuple[Array, Mask] | None:
    """Return the pixels of a grid that coincides, as they are, those that count as missing too; beyond it the fill."""
    assert mapping.shift is not None
    wanted = window.shift(*mapping.shift)
    inside = wanted.intersect(Window(0, 0, *mapping.source.shape))
    if inside is None:
        return None
    piece, good = fetch(inside)
    values, valid = np.full((len(piece), *window.shape), fill, dtype), np.zeros((len(piece), *window.shape), bool)
    here = inside.within(wanted)
    values[:, *here] = piece
    valid[:, *here] = True if good is None else good
    return values, valid


def clip_mask(mapping: PixelTransform, clip: GeoBox, window: Window) -> Mask | None:
    """Return which pixels of a window lie inside a clip, to which the mapping leads; `None` where all do."""
    rows, cols = clip.shape
    patch = mapping.control_grid(window)
    if patch.discontinuous is None and patch.extent is not None:
        (top, left), (bottom, right) = patch.extent
        if min(top, left) >= 0 and bottom <= rows - 1 and right <= cols - 1:
            return None
    found = np.floor(patch.coordinates() + 0.5)
    inside = (found[0] >= 0) & (found[0] < rows) & (found[1] >= 0) & (found[1] < cols)
    return None if inside.all() else inside


def valid_mask(values: Array, nodata: float | None) -> Mask | None:
    """Return which values are neither nodata nor NaN; `None` where all are valid."""
    good: Mask | None = None
    if values.dtype.kind == "f":
        good = ~np.isnan(values)
    if nodata is not None and not np.isnan(nodata):
        differs = values != _typed(nodata, values.dtype)
        good = differs if good is None else good & differs
    return None if good is None or good.all() else good


def _typed(nodata: float, dtype: np.dtype[Any]) -> Any:
    """Return nodata in the type of the values where that is the same number: to compare then takes a quarter."""
    limits = np.iinfo(dtype) if dtype.kind in "iu" else None
    same = limits is not None and limits.min <= nodata <= limits.max and nodata == int(nodata)
    return dtype.type(nodata) if same else nodata


def finish_resampled(values: Array, valid: Mask | None, dtype: np.dtype[Any], fill: float) -> tuple[Array, Mask]:
    """Return resampled values in the layer's type, integers rounded, the fill value where they are invalid."""
    if valid is None:
        valid = np.broadcast_to(True, values.shape)
    else:
        values = np.where(valid, values, fill)
    return cast_values(values, dtype, dtype), valid


def cast_values(values: Array, stored: np.dtype[Any], dtype: np.dtype[Any]) -> Array:
    """Return resampled values as a layer of one type would hold them, given in another type."""
    if stored.kind in "iu" and values.dtype.kind == "f":
        values = np.rint(values, out=values)
    return values if values.dtype == dtype else values.astype(stored, copy=False).astype(dtype, copy=False)

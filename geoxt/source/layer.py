"""DataArray <-> source: a source becomes a lazy layer, and any layer becomes a view that reads windows."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask.array
import numpy as np
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import GridError
from geoxt.grid import coordinates, full_window, grid_of, pixel_offset, window_grid, with_yx_dims
from geoxt.source.array_source import ArraySource
from geoxt.source.dask_source import SourceSelection, find_selection, to_dask
from geoxt.source.protocol import Source
from geoxt.types import Array, Mask, Resampling
from geoxt.windows import Window

DIMS = ("time", "band", "y", "x")
CHUNK = 1024
"""Pixels: side of a dask chunk of a layer, unless told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A layer, as windows are read from it: straight from its source where it is untouched, else through dask."""

    source: Source
    """Where the pixels come from."""
    grid: GeoBox
    """The grid of the layer, to which its windows refer."""
    window: Window
    """The rectangle of the source's grid that the layer is."""
    times: tuple[int, ...]
    """Positions of the layer's time steps in the source."""
    bands: tuple[int, ...]
    """Positions of its bands in the source."""
    dims: tuple[str, ...]
    """The layer's dimensions, among (time, band, y, x)."""

    @property
    def direct(self) -> bool:
        """Whether windows are read past dask: from files, or from an array in memory."""
        return not (isinstance(self.source, ArraySource) and isinstance(self.source.array, dask.array.Array))

    @property
    def remote(self) -> bool:
        """Whether its windows come over a network: then many are read at once."""
        return bool(getattr(self.source, "remote", False))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Time steps, bands, rows, columns; 1 for a dimension that the layer lacks."""
        return len(self.times), len(self.bands), *self.grid.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the layer."""
        return self.source.dtype

    def read(self, window: Window, *, dtype: np.dtype[Any] | None = None) -> tuple[Array, Mask]:
        """Return values and validity (time, band, height, width) of a window of the layer.

        Values are what computing the layer gives. Beyond the layer, nothing is valid and the value is the fill value:
        the layer's nodata, else NaN for floating point and 0 for integers. Infinite values stay, but are not valid.
        A layer without times is the same in all of them. `dtype` gives them in another type.
        """
        static = window.time is None or "time" not in self.dims
        times = self.times if static else [self.times[t] for t in window.time or ()]
        moved = window.shift(self.window.row, self.window.col)
        values, valid = self.source.read(moved, times=times, bands=self.bands, dtype=dtype)
        if self.source.dtype.kind == "f":
            finite = np.isfinite(values)
            valid = valid if finite.all() else valid & finite
        if self.window.contains(moved):
            return values, valid
        inside = np.zeros(window.shape, bool)
        shared = moved.intersect(self.window)
        if shared is not None:
            inside[shared.within(moved)] = True
        valid = valid & inside
        return np.where(valid | inside, values, np.asarray(self.source.fill).astype(values.dtype)), valid

    def footprint(self) -> shapely.Geometry:
        """Return the area that can hold valid pixels, in pixels of the layer's grid (x is the column, y the row)."""
        rows, cols = self.grid.shape
        moved = shapely.transform(self.source.footprint(), lambda p: p - (self.window.col, self.window.row))
        return shapely.intersection(moved, shapely.box(0, 0, cols, rows))


def view_of(layer: xr.DataArray) -> View:
    """Return the view that reads windows of a layer.

    Parameters
    ----------
    layer
        Dimensions among (time, band, y, x) in any order, with CRS and regular coordinates.

    Returns
    -------
    View
        Of the files, where the layer's dask graph shows that nothing but choosing was done since it was opened or
        aligned; else of the array, which is computed window by window.

    Raises
    ------
    GridError, CRSError
        Where the layer has other dimensions, no regular grid or no CRS.
    """
    grid = grid_of(layer)
    layer = standard_dims(layer)
    extra = [str(d) for d in layer.dims if d not in DIMS]
    if extra:
        msg = f"Cannot read {layer.name!r} by windows: it has the dimensions {extra} beside (time, band, y, x)."
        raise GridError(msg + " Choose along them with isel(), or rename them.")
    chosen = layer.chunks is not None and layer.dims[-2:] == ("y", "x")
    found = find_selection(layer.data) if chosen else None
    if found is not None and _axes(layer) == found.axes and _as_opened(layer, grid, found):
        return _direct(layer, grid, found)
    if layer.chunks is None and not getattr(layer.variable, "_in_memory", True):
        layer = layer.chunk()  # lazy without dask: asking for its data would load it whole
    ordered = layer.transpose(*DIMS, missing_dims="ignore")
    array = ordered.data
    for axis, dim in enumerate(DIMS[:2]):
        if dim not in layer.dims:
            array = array[(slice(None),) * axis + (None,)]
    source = ArraySource(array=array, own=grid, grid=grid, nodata=nodata_of(layer), resampling=resampling_of(layer))
    dims = tuple(str(d) for d in ordered.dims)
    times, bands = tuple(range(array.shape[0])), tuple(range(array.shape[1]))
    return View(source=source, grid=grid, window=full_window(grid), times=times, bands=bands, dims=dims)


def standard_dims(layer: xr.DataArray) -> xr.DataArray:
    """Return a layer with dimensions time, band, y and x: "mask_band" is renamed band, latitude is renamed y."""
    layer = with_yx_dims(layer)
    names = {d: plain for d in layer.dims for plain in DIMS[:2] if str(d).endswith(f"_{plain}")}
    names = {d: plain for d, plain in names.items() if plain not in layer.dims}
    return layer.rename(names) if len(set(names.values())) == len(names) else layer


def _as_opened(layer: xr.DataArray, grid: GeoBox, found: SourceSelection) -> bool:
    """Tell whether a layer's coordinates and nodata still are what its source says."""
    source, stated = found.source, nodata_of(layer)
    same = stated == source.nodata or (stated is not None and source.nodata is not None and stated != stated)  # noqa: PLR0124
    return same and pixel_offset(grid, window_grid(source.grid, found.window)) == (0, 0)


def _axes(layer: xr.DataArray) -> tuple[int, ...]:
    return tuple(DIMS.index(str(d)) for d in layer.dims)


def _direct(layer: xr.DataArray, grid: GeoBox, found: SourceSelection) -> View:
    return View(
        source=found.source,
        grid=grid,
        window=found.window,
        times=found.times,
        bands=found.bands,
        dims=tuple(str(d) for d in layer.dims),
    )


def to_layer(
    source: Source,
    *,
    dims: Sequence[str],
    coords: Mapping[str, Any],
    attrs: Mapping[Hashable, Any],
    name: Hashable | None = None,
    chunks: Mapping[str, int] | int | None = None,
) -> xr.DataArray:
    """Return a lazy layer over a source.

    Parameters
    ----------
    source
        Where the pixels come from.
    dims
        Dimensions among (time, band, y, x), in this order; one that is left out has length one in the source.
    coords
        Coordinates along time and band, by name, as xarray takes them.
    attrs
        Attributes; `_FillValue` among them is the layer's nodata.
    name
        Name of the layer.
    chunks
        Chunk sizes by dimension, or one number for y and x. By default 1024 along y and x, one time step, all bands.
    """
    axes = tuple(DIMS.index(d) for d in dims)
    sizes = parse_chunks(chunks)
    array = to_dask(source, axes=axes, chunks=tuple(sizes[d] for d in dims))
    layer = xr.DataArray(array, dims=tuple(dims), coords={**coords, **coordinates(source.grid)}, attrs=dict(attrs))
    layer.name = name  # given to the constructor, None would mean the name of the dask array
    return layer


def parse_chunks(chunks: Mapping[str, int] | int | None) -> dict[str, int]:
    """Return the chunk size along each dimension."""
    given = {"y": chunks, "x": chunks} if isinstance(chunks, int) else dict(chunks or {})
    return {"time": 1, "band": -1, "y": CHUNK, "x": CHUNK, **given}


def nodata_of(layer: xr.DataArray) -> float | None:
    """Return the value that marks missing pixels of a layer: `_FillValue` in its attributes or encoding."""
    for place in (layer.attrs, layer.encoding):
        found = place.get("_FillValue", place.get("nodata"))
        if found is not None and not (layer.dtype.kind == "f" and place is layer.encoding):
            return float(found)
    return None


def is_categorical(layer: xr.DataArray) -> bool:
    """Tell whether a layer holds class codes: CF `flag_values` in its attributes."""
    return "flag_values" in layer.attrs


def resampling_of(layer: xr.DataArray) -> Resampling:
    """Return how a layer comes onto another grid: nearest for class codes, bilinear for all else."""
    return "nearest" if is_categorical(layer) or layer.dtype.kind == "b" else "bilinear"

"""Conversion between sources and layers: lazy DataArrays over a source, and views that read windows of any layer."""

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
from geoxt.source.derived import resolve_attrs
from geoxt.source.protocol import Source
from geoxt.source.stored_attrs import mark_stored, nodata_of
from geoxt.types import Array, Mask, Resampling
from geoxt.windows import Window

DIMS = ("time", "band", "y", "x")
CHUNK = 1024
"""Default side of the dask chunks of a layer, in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Reads windows of a layer: from its source if the layer is a selection of one, else through dask."""

    source: Source
    """Source of the pixels."""
    grid: GeoBox
    """Grid of the layer, which windows refer to."""
    window: Window
    """Window of the source's grid that the layer covers."""
    times: tuple[int, ...]
    """Indices of the layer's time steps in the source."""
    bands: tuple[int, ...]
    """Indices of the layer's bands in the source."""
    dims: tuple[str, ...]
    """Dimensions of the layer, among (time, band, y, x)."""

    @property
    def direct(self) -> bool:
        """Whether windows are read without dask: from files or from an array in memory."""
        return not (isinstance(self.source, ArraySource) and isinstance(self.source.array, dask.array.Array))

    @property
    def remote(self) -> bool:
        """Whether files are remote, so that many windows should be read concurrently."""
        return bool(getattr(self.source, "remote", False))

    @property
    def cached(self) -> bool:
        """Whether decoded blocks of files are cached."""
        return getattr(self.source, "block_cache", None) is not None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Time steps, bands, rows, columns; 1 for a dimension that the layer lacks."""
        return len(self.times), len(self.bands), *self.grid.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the layer."""
        return self.source.dtype

    def read(self, window: Window, *, dtype: np.dtype[Any] | None = None) -> tuple[Array, Mask]:
        """Return values and valid mask (time, band, height, width) of a window of the layer.

        Values equal those of computing the layer, cast to `dtype`. Pixels outside the layer are invalid and hold the
        fill value: the layer's nodata, else NaN for floating point and 0 for integers. Infinite values are kept, but
        are invalid. The time steps of the window are ignored for a layer without a time dimension.
        """
        static = window.time is None or "time" not in self.dims
        times = self.times if static else [self.times[t] for t in window.time or ()]
        source_window = window.shift(self.window.row, self.window.col)
        values, valid = self.source.read(source_window, times=times, bands=self.bands, dtype=dtype)
        if self.source.dtype.kind == "f":
            finite = np.isfinite(values)
            valid = valid if finite.all() else valid & finite
        if self.window.contains(source_window):
            return values, valid
        inside = source_window.mask_inside(self.window)
        valid = valid & inside
        return np.where(valid | inside, values, np.asarray(self.source.fill).astype(values.dtype)), valid

    def footprint(self) -> shapely.Geometry:
        """Return the area that can hold valid pixels, in pixels of the layer's grid (x is the column, y the row)."""
        rows, cols = self.grid.shape
        footprint = shapely.transform(self.source.footprint(), lambda p: p - (self.window.col, self.window.row))
        return shapely.intersection(footprint, shapely.box(0, 0, cols, rows))


def view_of(layer: xr.DataArray) -> View:
    """Return a view that reads windows of a layer.

    Parameters
    ----------
    layer
        Layer with dimensions among (time, band, y, x) in any order, regular coordinates and a CRS.

    Returns
    -------
    View
        View of the source, if the layer's dask graph shows that it was only indexed since it was opened or aligned;
        else of the array, which is computed window by window.

    Raises
    ------
    GridError
        If the layer has other dimensions or no regular grid.
    CRSError
        If the layer has no CRS.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> from geoxt import Window
    >>> from geoxt.source import view_of
    >>> layer = make_layer(np.arange(16.0).reshape(4, 4))
    >>> values, valid = view_of(layer).read(Window(0, 0, 2, 2))
    >>> values.squeeze()
    array([[0., 1.],
           [4., 5.]])
    """
    grid = grid_of(layer)
    layer = standard_dims(layer)
    extra = [str(d) for d in layer.dims if d not in DIMS]
    if extra:
        problem = f"Cannot read windows of {layer.name!r}: it has the dimensions {extra} besides (time, band, y, x)."
        raise GridError(problem, remedy="Select along them with isel(), or rename them.")
    is_dask = layer.chunks is not None and layer.dims[-2:] == ("y", "x")
    selection = find_selection(layer.data) if is_dask else None
    if selection is not None and _axes(layer) == selection.axes and _matches_source(layer, grid, selection):
        return _view_of_source(layer, grid, selection)
    layer = resolve_attrs(layer)
    if layer.chunks is None and not getattr(layer.variable, "_in_memory", True):
        layer = layer.chunk()  # a lazy backend array without dask, whose .data would load all of it
    ordered = layer.transpose(*DIMS, missing_dims="ignore")
    source = ArraySource(
        array=ordered.data,
        array_grid=grid,
        grid=grid,
        nodata=nodata_of(layer),
        resampling=resampling_of(layer),
        axes=tuple(axis for axis, dim in enumerate(DIMS[:2]) if dim in layer.dims),
    )
    dims = tuple(str(d) for d in ordered.dims)
    times, bands = (tuple(range(length)) for length in source.shape[:2])
    return View(source=source, grid=grid, window=full_window(grid), times=times, bands=bands, dims=dims)


def standard_dims(layer: xr.DataArray) -> xr.DataArray:
    """Return a layer with dimensions time, band, y and x: "mask_band" is renamed band, latitude is renamed y."""
    layer = with_yx_dims(layer)
    names = {d: standard for d in layer.dims for standard in DIMS[:2] if str(d).endswith(f"_{standard}")}
    names = {d: standard for d, standard in names.items() if standard not in layer.dims}
    return layer.rename(names) if len(set(names.values())) == len(names) else layer


def _matches_source(layer: xr.DataArray, grid: GeoBox, selection: SourceSelection) -> bool:
    """Return whether the layer still has the grid and nodata value of its source."""
    source, nodata = selection.source, nodata_of(layer)
    both_nan = nodata is not None and source.nodata is not None and nodata != nodata  # noqa: PLR0124
    same_nodata = nodata == source.nodata or both_nan
    return same_nodata and pixel_offset(grid, window_grid(source.grid, selection.window)) == (0, 0)


def _axes(layer: xr.DataArray) -> tuple[int, ...]:
    return tuple(DIMS.index(str(d)) for d in layer.dims)


def _view_of_source(layer: xr.DataArray, grid: GeoBox, selection: SourceSelection) -> View:
    return View(
        source=selection.source,
        grid=grid,
        window=selection.window,
        times=selection.times,
        bands=selection.bands,
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
        Source of the pixels.
    dims
        Dimensions among (time, band, y, x), in this order; omitted ones have length one in the source.
    coords
        Coordinates along time and band, as for `xarray.DataArray`.
    attrs
        Attributes; `_FillValue` is the nodata value.
    name
        Name of the layer.
    chunks
        Chunk sizes by dimension, or one number for y and x. By default 1024 along y and x, one time step, all bands.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.source import ArraySource, to_layer
    >>> from geoxt.testing import make_grid
    >>> grid = make_grid((4, 4))
    >>> source = ArraySource(array=np.zeros((1, 1, 4, 4)), array_grid=grid, grid=grid)
    >>> to_layer(source, dims=("y", "x"), coords={}, attrs={}, name="height").shape
    (4, 4)
    """
    axes = tuple(DIMS.index(d) for d in dims)
    sizes = parse_chunks(chunks)
    labels = {a: _labels(coords[d]) for a, d in enumerate(DIMS[:2]) if d in dims and d in coords}
    array = to_dask(source, axes=axes, chunks=tuple(sizes[d] for d in dims), labels=labels)
    layer = xr.DataArray(array, dims=tuple(dims), coords={**coords, **coordinates(source.grid)}, attrs=dict(attrs))
    layer.name = name  # DataArray(name=None) would take the name of the dask array
    return mark_stored(layer)


def _labels(coord: Any) -> Array:
    """Return the values of a coordinate that is given as (dims, values), as an array or as a list."""
    return np.atleast_1d(np.asarray(coord[1] if isinstance(coord, tuple) else coord))


def parse_chunks(chunks: Mapping[str, int] | int | None) -> dict[str, int]:
    """Return the chunk size along each dimension."""
    by_dim = {"y": chunks, "x": chunks} if isinstance(chunks, int) else dict(chunks or {})
    return {"time": 1, "band": -1, "y": CHUNK, "x": CHUNK, **by_dim}


def is_categorical(layer: xr.DataArray) -> bool:
    """Return whether a layer holds class codes: it has the CF attribute `flag_values`.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> from geoxt import Legend
    >>> from geoxt.source import is_categorical
    >>> land = make_layer(np.ones((4, 4), "uint8"))
    >>> is_categorical(land), is_categorical(land.assign_attrs(Legend([1], ["forest"]).attrs()))
    (False, True)
    """
    return "flag_values" in layer.attrs


def resampling_of(layer: xr.DataArray) -> Resampling:
    """Return the default resampling method of a layer: nearest for class codes and bool, else bilinear.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> from geoxt.source import resampling_of
    >>> resampling_of(make_layer(np.ones((4, 4))))
    'bilinear'
    """
    return "nearest" if is_categorical(layer) or layer.dtype.kind == "b" else "bilinear"

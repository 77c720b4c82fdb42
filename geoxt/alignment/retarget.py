"""Move one layer to another grid lazily; pixels are resampled once, even of a layer that is moved repeatedly."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace

import dask.array
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.crs import crs_name, parse_crs
from geoxt.errors import CRSError, InputError, OverlapError
from geoxt.footprints import footprint, outline, overlap
from geoxt.grid import coordinates, full_window, grid_of, pixel_offset
from geoxt.source import (
    ArraySource,
    Mosaic,
    Source,
    VectorSource,
    View,
    is_categorical,
    is_interpolated,
    mark_interpolated,
    nodata_of,
    resampling_of,
    resolve_attrs,
    to_layer,
    unmarked,
    view_of,
)
from geoxt.source.dask_warp import warp_dask
from geoxt.source.embedding_attrs import is_unit_length, require_whole_vectors, unit_length_of
from geoxt.source.fill import free_fill
from geoxt.source.interpolated import interpolates, source_interpolates
from geoxt.source.layer import standard_dims
from geoxt.types import Resampling

Chunks = Mapping[str, int] | int | None
"""Dask chunk sizes: one number for y and x, or by dimension."""


def to_grid(
    layer: xr.DataArray, target: GeoBox, *, resampling: Resampling | None = None, chunks: Chunks = None
) -> xr.DataArray:
    """Return a layer on a grid that it overlaps.

    Raises
    ------
    OverlapError
        If they do not overlap.
    """
    grid = grid_of(layer)
    if grid == target and resampling is None:
        return layer.assign_coords(coordinates(target))
    if grid != target:
        require_overlap("the layer" if layer.name is None else layer.name, grid, "the target grid", target)
    return warp_to_grid(layer, target, resampling or resampling_of(layer), chunks)


def warp_to_grid(layer: xr.DataArray, target: GeoBox, resampling: Resampling, chunks: Chunks = None) -> xr.DataArray:
    """Return a layer on any grid; nodata beyond its extent.

    Raises
    ------
    InputError
        If class codes would be interpolated, or bands of embeddings be of different pixels.
    """
    layer = resolve_attrs(layer)
    if is_categorical(layer) and resampling not in {"nearest", "mode"}:
        raise InputError(
            f"Cannot align {layer.name!r} by {resampling!r}: it holds class codes.",
            remedy="Pass {resampling:'nearest'} or {resampling:'mode'}.",
        )
    require_whole_vectors(layer.attrs, resampling, "resampling")
    view = view_of(layer)
    layer = standard_dims(layer)
    dims = [d for d in view.dims if d not in {"y", "x"}]
    coords = {
        str(name): c for name, c in layer.coords.items() if not {"y", "x"} & set(c.dims) and name != "spatial_ref"
    }
    attrs = dict(layer.attrs)
    widens = nodata_of(layer) is None and view.dtype.kind in "biu" and not _contains(view.grid, target)
    blended = isinstance(view.source, ArraySource) and view.source.array_grid == view.grid and is_interpolated(layer)
    if isinstance(view.source, ArraySource) and isinstance(view.source.array, dask.array.Array):
        array, nodata = view.source.array, nodata_of(layer)
        if widens:
            dtype, nodata = free_fill(array.dtype)
            array, attrs["_FillValue"] = array.astype(dtype), nodata
        array = warp_dask(array, view.grid, target, resampling, nodata, chunks)
        warped = xr.DataArray(
            array,
            dims=[*dims, "y", "x"],
            coords={**coords, **coordinates(target)},
            attrs=unmarked(attrs),
            name=layer.name,
        )
        blended |= interpolates(resampling) and pixel_offset(target, view.grid) is None
        warped = _keep_unit_length(warped, layer, target, resampling)
        return mark_interpolated(warped) if blended else warped
    source = retarget(view, target, resampling)
    if widens and source.nodata is None:
        source = with_fill(source)
        attrs["_FillValue"] = source.nodata
    warped = to_layer(source, dims=[*dims, "y", "x"], coords=coords, attrs=attrs, name=layer.name, chunks=chunks)
    if isinstance(source, ArraySource):
        warped = _keep_unit_length(warped, layer, target, resampling)
    return mark_interpolated(warped) if blended or source_interpolates(source) else warped


def _keep_unit_length(
    warped: xr.DataArray, layer: xr.DataArray, target: GeoBox, resampling: Resampling
) -> xr.DataArray:
    """Scale the vectors of a resampled layer to unit length, if those of the layer have unit length.

    Raises
    ------
    InputError
        If the layer lacks bands of the vectors.
    """
    if (
        not is_unit_length(layer.attrs)
        or not interpolates(resampling)
        or pixel_offset(target, grid_of(layer)) is not None
    ):
        return warped
    if not unit_length_of(layer):
        msg = f"Cannot average vectors of unit length: {layer.name!r} has {layer.sizes.get('band', 1)} of their "
        msg += f"{layer.attrs.get('dimensions')} bands."
        raise InputError(msg, remedy="Pass {resampling:'nearest'}. Or align all bands, and select from the result.")
    norm = (warped.astype("float64") ** 2).sum("band", skipna=False) ** 0.5
    unit = (warped / norm.where(norm != 0, 1)).astype(warped.dtype).transpose(*warped.dims)
    return unit.assign_attrs(unmarked(warped.attrs)).rename(warped.name)


def with_fill(source: Source) -> Source:
    """Return a source of integers without nodata in a wider type, with a nodata value that no pixel has."""
    dtype, nodata = free_fill(source.dtype)
    match source:
        case ArraySource():
            return replace(source, array=source.array.astype(dtype), nodata=nodata)
        case Mosaic() | VectorSource():
            return replace(source, dtype=dtype, nodata=nodata)
        case _:
            problem = f"Cannot mark the missing pixels of a {type(source).__name__} without a nodata value."
            raise InputError(problem, remedy="Set one: layer.assign_attrs(_FillValue=…).")


def _contains(grid: GeoBox, target: GeoBox) -> bool:
    """Return whether a target grid lies inside a grid, so far from its edges that interpolation has values."""
    offset = pixel_offset(target, grid)
    if offset is not None:
        return full_window(grid).contains(full_window(target).shift(*offset))
    polygon = outline(grid, target)
    rows, cols = target.shape
    margin = 1.0
    return polygon is not None and polygon.covers(shapely.box(-margin, -margin, cols + margin, rows + margin))


def retarget(view: View, target: GeoBox, resampling: Resampling) -> Source:
    """Return the source of a view on another grid, cut to the view's extent.

    The result reads the files (or the array) of the view in their grids, so that pixels are resampled once, even after
    an earlier `align`.
    """
    # Pixels beyond the view must stay missing on the new grid, although the files may have them: hence the clips.
    match view.source:
        case Mosaic() as source:
            return source.choose(view.times, view.bands, clip=(view.grid,)).onto(target, resampling=resampling)
        case ArraySource() as source:
            source = source.select(view.times, view.bands)
            rows, cols = view.window.within(full_window(source.grid))
            if source.array_grid == source.grid:
                array = source.array[..., rows, cols]
                return replace(source, array=array, array_grid=view.grid, grid=target, resampling=resampling, clips=())
            return replace(source, grid=target, resampling=resampling, clips=(*source.clips, view.grid))
        case VectorSource() as source:
            return source.clip(view.grid).onto(target)
        case _ as source:
            return source.onto(target, resampling=resampling)


def require_overlap(name: Hashable, grid: GeoBox, other_name: Hashable, other: GeoBox) -> None:
    """Raise an OverlapError that states both extents if two grids do not overlap."""
    if overlap(grid, other) is None:
        raise no_overlap([(name, grid), (other_name, other)])


def no_overlap(named_grids: Iterable[tuple[Hashable, GeoBox]]) -> OverlapError:
    """Return the error of grids that do not overlap."""
    extents = [f"{name!r} lies in {_extent(grid)} ({crs_name(grid.crs)})" for name, grid in named_grids]
    return OverlapError(
        f"Cannot bring layers together that do not overlap: {', '.join(extents)}.",
        remedy="Pass layers that overlap.",
    )


def _extent(grid: GeoBox) -> str:
    """Return longitudes and latitudes to two decimals."""
    try:
        west, south, east, north = footprint(grid, parse_crs("EPSG:4326")).bounds
    except CRSError:
        return f"{tuple(grid.boundingbox)}"
    return f"{west:.2f} to {east:.2f} E, {south:.2f} to {north:.2f} N"

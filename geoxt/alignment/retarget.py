"""One layer onto another grid: nothing is read, and pixels are resampled once."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import dask.array
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import CRSError, InputError, OverlapError
from geoxt.footprints import footprint, overlap
from geoxt.grid import coordinates, crs_name, full_window, grid_of, parse_crs
from geoxt.source import (
    ArraySource,
    Mosaic,
    Source,
    VectorSource,
    View,
    is_categorical,
    nodata_of,
    resampling_of,
    to_layer,
    view_of,
)
from geoxt.source.dask_warp import warp_dask
from geoxt.source.layer import standard_dims
from geoxt.types import Resampling


def onto_grid(
    layer: xr.DataArray,
    target: GeoBox,
    *,
    resampling: Resampling | None = None,
    chunks: Mapping[str, int] | int | None = None,
) -> xr.DataArray:
    """Return a layer on a grid, which must have a place in common with it."""
    own = grid_of(layer)
    how = resampling or resampling_of(layer)
    if own == target:
        return layer.assign_coords(coordinates(target)) if resampling is None else warped(layer, target, how, chunks)
    require_overlap(_name(layer), own, "the other", target)
    return warped(layer, target, how, chunks)


def warped(
    layer: xr.DataArray, target: GeoBox, how: Resampling, chunks: Mapping[str, int] | int | None
) -> xr.DataArray:
    """Return a layer on a grid, wherever that lies."""
    if is_categorical(layer) and how not in {"nearest", "mode"}:
        msg = f"Cannot align {layer.name!r} by {how!r}: it holds class codes. Pass resampling='nearest' or 'mode'."
        raise InputError(msg)
    view = view_of(layer)
    layer = standard_dims(layer)
    dims = [d for d in view.dims if d not in {"y", "x"}]
    coords = {
        str(name): c for name, c in layer.coords.items() if not {"y", "x"} & set(c.dims) and name != "spatial_ref"
    }
    if isinstance(view.source, ArraySource) and isinstance(view.source.array, dask.array.Array):
        array = warp_dask(view.source.array, view.grid, target, how, nodata_of(layer), chunks)
        array = array[tuple(slice(None) if d in dims else 0 for d in ("time", "band"))]
        return xr.DataArray(
            array,
            dims=[*dims, "y", "x"],
            coords={**coords, **coordinates(target)},
            attrs=dict(layer.attrs),
            name=layer.name,
        )
    source = retarget(view, target, how)
    return to_layer(source, dims=[*dims, "y", "x"], coords=coords, attrs=layer.attrs, name=layer.name, chunks=chunks)


def retarget(view: View, target: GeoBox, how: Resampling) -> Source:
    """Return the source of a view on another grid, cut to what the view shows."""
    match view.source:
        case Mosaic() as source:
            return source.choose(view.times, view.bands, clip=_clip(view)).onto(target, resampling=how)
        case ArraySource() as source:
            array = source.array[np.ix_(view.times, view.bands)]
            rows, cols = view.window.within(full_window(source.grid))
            if source.own == source.grid:
                own, array = view.grid, array[:, :, rows, cols]
                return ArraySource(array=array, own=own, grid=target, nodata=source.nodata, resampling=how)
            clips = (*source.clips, *_clip(view))
            return ArraySource(
                array=array, own=source.own, grid=target, nodata=source.nodata, resampling=how, clips=clips
            )
        case VectorSource() as source:
            return source.clip(view.grid).onto(target)
        case _ as source:
            return source.onto(target, resampling=how)


def _clip(view: View) -> tuple[GeoBox, ...]:
    """Return the grid beyond which a view shows nothing."""
    return (view.grid,)


def require_overlap(name: Hashable, grid: GeoBox, other_name: Hashable, other: GeoBox) -> None:
    """Check that two grids have a place in common.

    Raises
    ------
    OverlapError
        Where they have none; the message gives both extents.
    """
    if overlap(grid, other) is not None:
        return
    places = [f"{n!r} lies in {_bounds(g)} ({crs_name(g.crs)})" for n, g in ((name, grid), (other_name, other))]
    msg = f"Cannot bring layers together that do not overlap: {places[0]}, {places[1]}. Pass layers of one place."
    raise OverlapError(msg)


def _name(layer: xr.DataArray) -> str:
    return "the layer" if layer.name is None else str(layer.name)


def _bounds(grid: GeoBox) -> str:
    """Return longitudes and latitudes, short."""
    try:
        west, south, east, north = footprint(grid, parse_crs("EPSG:4326")).bounds
    except CRSError:
        return f"{tuple(grid.boundingbox)}"
    return f"{west:.2f} to {east:.2f} E, {south:.2f} to {north:.2f} N"

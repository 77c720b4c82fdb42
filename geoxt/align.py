"""Bring layers onto one grid: align, intersection and union. Nothing is read, and pixels are resampled once."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import dask.array
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import CRSError, InputError, OverlapError
from geoxt.footprints import footprint, overlap
from geoxt.grid import coordinates, grid_of, label, offset, parse_crs, snap, whole
from geoxt.source import (
    Mosaic,
    Pixels,
    Shapes,
    Source,
    View,
    is_categorical,
    nodata_of,
    resampling_of,
    to_layer,
    view_of,
)
from geoxt.source.graph import warp_dask
from geoxt.source.layer import plain_dims
from geoxt.types import Resampling
from geoxt.windows import Window


def align(
    layer: xr.DataArray,
    other: xr.DataArray | xr.Dataset | GeoBox,
    *,
    resampling: Resampling | None = None,
    chunks: Mapping[str, int] | int | None = None,
) -> xr.DataArray:
    """Return a layer on the grid of another.

    Parameters
    ----------
    layer
        The layer to move: dimensions (time, band, y, x), time and band may be absent.
    other
        The layer, or the grid, whose CRS, resolution and extent the result has.
    resampling
        By default "nearest" for class codes and "bilinear" for all else.
    chunks
        Dask chunk sizes of the result: one number for y and x, or by dimension.

    Returns
    -------
    xarray.DataArray
        Lazy: no pixel is read or computed. A layer as it was opened or aligned goes back to its files, so that its
        pixels are resampled once however often it is aligned; where the grids coincide they are copied.

    Raises
    ------
    OverlapError
        Where the layer and the grid have no place in common.
    """
    target = grid_of(other)
    own = grid_of(layer)
    how = resampling or resampling_of(layer)
    if own == target:
        return layer.assign_coords(coordinates(target)) if resampling is None else _align(layer, target, how, chunks)
    require_overlap(_name(layer), own, "the other", target)
    return _align(layer, target, how, chunks)


def _align(
    layer: xr.DataArray, target: GeoBox, how: Resampling, chunks: Mapping[str, int] | int | None
) -> xr.DataArray:
    if is_categorical(layer) and how not in {"nearest", "mode"}:
        msg = f"Cannot align {layer.name!r} by {how!r}: it holds class codes. Pass resampling='nearest' or 'mode'."
        raise InputError(msg)
    view = view_of(layer)
    layer = plain_dims(layer)
    dims = [d for d in view.dims if d not in {"y", "x"}]
    coords = {
        str(name): c for name, c in layer.coords.items() if not {"y", "x"} & set(c.dims) and name != "spatial_ref"
    }
    if isinstance(view.source, Pixels) and isinstance(view.source.array, dask.array.Array):
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
        case Pixels() as source:
            array = source.array[np.ix_(view.times, view.bands)]
            rows, cols = view.window.within(whole(source.grid))
            if source.own == source.grid:
                own, array = view.grid, array[:, :, rows, cols]
                return Pixels(array=array, own=own, grid=target, nodata=source.nodata, resampling=how)
            clips = (*source.clips, *_clip(view))
            return Pixels(array=array, own=source.own, grid=target, nodata=source.nodata, resampling=how, clips=clips)
        case Shapes() as source:
            return source.clip(view.grid).onto(target)
        case _ as source:
            return source.onto(target, resampling=how)


def _clip(view: View) -> tuple[GeoBox, ...]:
    """Return the grid beyond which a view shows nothing."""
    return (view.grid,)


def intersection(
    *, grid: str | xr.DataArray | GeoBox | None = None, resampling: Resampling | None = None, **layers: xr.DataArray
) -> xr.Dataset:
    """Return layers on one grid, cut to the extent that all of them share.

    Parameters
    ----------
    grid
        Whose grid the result has: the name of one of the layers, another layer, or a grid. By default the first
        layer's.
    resampling
        How pixels come onto the grid; by default "nearest" for class codes and "bilinear" for all else.
    **layers
        The layers, by the names they shall have.

    Returns
    -------
    xarray.Dataset
        Lazy. A layer that lies on the grid already is cut, never resampled.

    Raises
    ------
    OverlapError
        Where two layers have no place in common; the message says where each lies.
    """
    if not layers:
        msg = "Cannot intersect nothing: pass layers by name, e.g. intersection(image=landsat, mask=cdl)."
        raise InputError(msg)
    base_name, base = _base(grid, layers)
    window: Window | None = whole(base)
    for name, layer in layers.items():
        require_overlap(base_name, base, name, grid_of(layer))
        found = overlap(base, grid_of(layer))
        shared = None if window is None or found is None else window.intersect(found)
        if shared is None:
            msg = f"Cannot intersect the layers {list(layers)}: no place is common to all of them. Leave one out."
            raise OverlapError(msg)
        window = shared
    assert window is not None
    rows, cols = window.within(whole(base))
    target = base[rows, cols]
    out = {}
    for name, layer in layers.items():
        place = offset(target, grid_of(layer))
        if place is not None and resampling is None and whole(grid_of(layer)).contains(whole(target).shift(*place)):
            row, col = place
            piece = layer.isel(y=slice(row, row + target.shape[0]), x=slice(col, col + target.shape[1]))
            out[name] = piece.assign_coords(coordinates(target))
        else:
            out[name] = align(layer, target, resampling=resampling if not is_categorical(layer) else None)
    return dataset(out)


def dataset(layers: Mapping[str, xr.DataArray]) -> xr.Dataset:
    """Return layers of one grid as a Dataset; those whose bands or times differ keep them under names of their own."""
    for dim in ("band", "time"):
        having = {n: a for n, a in layers.items() if dim in a.dims}
        if len(having) > 1 and not _agree([a.indexes.get(dim) for a in having.values()]):
            layers = {
                n: _own_dim(n, a, dim) if n in having and n != next(iter(having)) else a for n, a in layers.items()
            }
    stray = {"common_name", "wavelength"}
    cleaned = {
        n: a if "band" in a.dims else a.drop_vars([c for c in a.coords if c in stray | {"band"}], errors="ignore")
        for n, a in layers.items()
    }
    return xr.Dataset(cleaned, attrs={})


def _agree(indexes: Sequence[Any]) -> bool:
    first = indexes[0]
    return all(i is not None and first is not None and first.equals(i) for i in indexes)


def _own_dim(name: str, layer: xr.DataArray, dim: str) -> xr.DataArray:
    return layer.rename({c: f"{name}_{c}" for c in layer.coords if dim in layer[c].dims} | {dim: f"{name}_{dim}"})


def _base(grid: str | xr.DataArray | GeoBox | None, layers: Mapping[str, xr.DataArray]) -> tuple[str, GeoBox]:
    if isinstance(grid, str):
        if grid not in layers:
            msg = f"Cannot take the grid of {grid!r}: the layers are {list(layers)}. Pass grid= one of these."
            raise InputError(msg)
        return grid, grid_of(layers[grid])
    if grid is None:
        name = next(iter(layers))
        return name, grid_of(layers[name])
    return "the grid", grid_of(grid)


def union(*layers: xr.DataArray, chunks: Mapping[str, int] | int | None = None) -> xr.DataArray:
    """Return one layer that covers what several layers of one kind cover; where they overlap, the first wins.

    Parameters
    ----------
    *layers
        Layers with the same bands, and the same times if they have any. The result has the first one's CRS,
        resolution and pixel lattice.
    chunks
        Dask chunk sizes of the result.

    Returns
    -------
    xarray.DataArray
        Lazy.

    Raises
    ------
    InputError
        Where layers differ in bands, times, nodata or classes.
    """
    if not layers:
        msg = "Cannot unite nothing: pass two or more layers."
        raise InputError(msg)
    first = layers[0]
    for other in layers[1:]:
        _require_kind(first, other)
    base = grid_of(first)
    target = _cover(base, [grid_of(layer) for layer in layers])
    moved = [_align(layer, target, resampling_of(layer), chunks) for layer in layers]
    views = [view_of(layer) for layer in moved]
    sources = [v.source for v in views if isinstance(v.source, Mosaic)]
    if len(sources) == len(layers) and all(s.stackable(sources[0]) for s in sources):
        source = sources[0].beneath(sources[1:])
        dims = [d for d in views[0].dims if d not in {"y", "x"}]
        coords = {str(n): c for n, c in moved[0].coords.items() if n not in {"y", "x", "spatial_ref"}}
        return to_layer(
            source, dims=[*dims, "y", "x"], coords=coords, attrs=first.attrs, name=first.name, chunks=chunks
        )
    out = moved[-1]
    for layer in reversed(moved[:-1]):
        out = layer.where(_valid(layer), out)
    return out.assign_attrs(first.attrs).rename(first.name)


def _valid(layer: xr.DataArray) -> xr.DataArray:
    """Return where a layer is valid, as far as its values say."""
    nodata = nodata_of(layer)
    good = layer.notnull()
    if nodata is None and layer.dtype.kind != "f":
        msg = f"Cannot unite {layer.name!r}: it has no nodata value to tell its gaps by. Open it with nodata=…"
        raise InputError(msg)
    return good if nodata is None else good & (layer != nodata)


def _cover(base: GeoBox, grids: Sequence[GeoBox]) -> GeoBox:
    assert base.crs is not None
    bounds = np.array([base.boundingbox[:4] if g == base else footprint(g, base.crs).bounds for g in grids])
    (left, bottom), (right, top) = bounds[:, :2].min(0), bounds[:, 2:].max(0)
    size = abs(base.affine.a), abs(base.affine.e)
    return snap((left, bottom, right, top), size, base.affine, base.crs)


def _require_kind(first: xr.DataArray, other: xr.DataArray) -> None:
    names: list[tuple[str, Any, Any]] = [("dimensions", set(first.dims), set(other.dims))]
    shared = [d for d in ("band", "time") if d in first.coords and d in other.coords]
    names += [(d, np.atleast_1d(first[d]).tolist(), np.atleast_1d(other[d]).tolist()) for d in shared]
    names.append(("nodata", nodata_of(first), nodata_of(other)))
    names.append(("classes", _codes(first), _codes(other)))
    for what, a, b in names:
        if a != b:
            msg = f"Cannot unite {first.name!r} and {other.name!r}: their {what} are {a} and {b}. Make them the same."
            raise InputError(msg)


def _codes(layer: xr.DataArray) -> tuple[Hashable, ...]:
    return tuple(np.asarray(layer.attrs.get("flag_values", ())).tolist())


def require_overlap(name: Hashable, grid: GeoBox, other_name: Hashable, other: GeoBox) -> None:
    """Check that two grids have a place in common.

    Raises
    ------
    OverlapError
        Where they have none; the message gives both extents.
    """
    if overlap(grid, other) is not None:
        return
    places = [f"{n!r} lies in {_bounds(g)} ({label(g.crs)})" for n, g in ((name, grid), (other_name, other))]
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


__all__ = ["align", "dataset", "intersection", "require_overlap", "union"]

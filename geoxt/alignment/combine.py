"""Layers of several grids together: cut to what they share, or joined to all that they cover."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.alignment.retarget import onto_grid, require_overlap, warped
from geoxt.errors import InputError, OverlapError
from geoxt.footprints import footprint, overlap
from geoxt.grid import coordinates, full_window, grid_of, pixel_offset, snap_grid
from geoxt.source import Mosaic, is_categorical, nodata_of, resampling_of, to_layer, view_of
from geoxt.types import Resampling
from geoxt.windows import Window


def shared(
    base_name: str, base: GeoBox, layers: Mapping[str, xr.DataArray], *, resampling: Resampling | None = None
) -> xr.Dataset:
    """Return layers on a grid, cut to the extent that all of them share.

    Raises
    ------
    OverlapError
        Where there is none.
    """
    window: Window | None = full_window(base)
    for name, layer in layers.items():
        require_overlap(base_name, base, name, grid_of(layer))
        found = overlap(base, grid_of(layer))
        common = None if window is None or found is None else window.intersect(found)
        if common is None:
            msg = f"Cannot intersect the layers {list(layers)}: no place is common to all of them. Leave one out."
            raise OverlapError(msg)
        window = common
    assert window is not None
    rows, cols = window.within(full_window(base))
    target = base[rows, cols]
    out = {}
    for name, layer in layers.items():
        place = pixel_offset(target, grid_of(layer))
        if (
            place is not None
            and resampling is None
            and full_window(grid_of(layer)).contains(full_window(target).shift(*place))
        ):
            row, col = place
            piece = layer.isel(y=slice(row, row + target.shape[0]), x=slice(col, col + target.shape[1]))
            out[name] = piece.assign_coords(coordinates(target))
        else:
            out[name] = onto_grid(layer, target, resampling=resampling if not is_categorical(layer) else None)
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


def united(layers: Sequence[xr.DataArray], chunks: Mapping[str, int] | int | None = None) -> xr.DataArray:
    """Return one layer that covers what several layers cover; where they overlap, the first wins."""
    first = layers[0]
    for other in layers[1:]:
        require_kind(first, other)
    base = grid_of(first)
    target = _cover(base, [grid_of(layer) for layer in layers])
    moved = [warped(layer, target, resampling_of(layer), chunks) for layer in layers]
    views = [view_of(layer) for layer in moved]
    sources = [v.source for v in views if isinstance(v.source, Mosaic)]
    if len(sources) == len(layers) and all(s.stackable(sources[0]) for s in sources):
        source = sources[0].stack_under(sources[1:])
        dims = [d for d in views[0].dims if d not in {"y", "x"}]
        coords = {str(n): c for n, c in moved[0].coords.items() if n not in {"y", "x", "spatial_ref"}}
        return to_layer(
            source, dims=[*dims, "y", "x"], coords=coords, attrs=first.attrs, name=first.name, chunks=chunks
        )
    out = moved[-1]
    for layer in reversed(moved[:-1]):
        out = layer.where(valid_of(layer), out)
    return out.assign_attrs(first.attrs).rename(first.name)


def valid_of(layer: xr.DataArray) -> xr.DataArray:
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
    return snap_grid((left, bottom, right, top), size, base.affine, base.crs)


def require_kind(first: xr.DataArray, other: xr.DataArray) -> None:
    """Check that two layers have the same dimensions, bands, times, nodata and classes."""
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

"""Bring layers onto one grid: align, intersection and union. Nothing is read, and pixels are resampled once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, overload

import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.alignment.align_tree import onto_tree, shared_grid, shared_tree, tree_onto, united_tree
from geoxt.alignment.combine import dataset, shared, united
from geoxt.alignment.retarget import onto_grid, require_overlap, retarget
from geoxt.errors import InputError
from geoxt.grid import grid_of
from geoxt.types import Resampling

Layer = xr.DataArray | xr.DataTree
"""A layer, or a tree that holds one in each child."""


@overload
def align(
    layer: Layer,
    other: xr.DataArray | xr.Dataset | GeoBox,
    *,
    resampling: Resampling | None = None,
    chunks: Mapping[str, int] | int | None = None,
) -> xr.DataArray: ...
@overload
def align(
    layer: Layer,
    other: xr.DataTree,
    *,
    resampling: Resampling | None = None,
    chunks: Mapping[str, int] | int | None = None,
) -> xr.DataTree: ...
def align(
    layer: Layer,
    other: xr.DataArray | xr.Dataset | xr.DataTree | GeoBox,
    *,
    resampling: Resampling | None = None,
    chunks: Mapping[str, int] | int | None = None,
) -> Layer:
    """Return a layer on the grid of another.

    Parameters
    ----------
    layer
        The layer to move: dimensions (time, band, y, x), time and band may be absent. Or a tree with a layer in each
        child, as `open_cogs(…, crs="native")` gives it.
    other
        The layer, or the grid, whose CRS, resolution and extent the result has; or a tree of several.
    resampling
        By default "nearest" for class codes and "bilinear" for all else.
    chunks
        Dask chunk sizes of the result: one number for y and x, or by dimension.

    Returns
    -------
    xarray.DataArray
        Lazy: no pixel is read or computed. A layer as it was opened or aligned goes back to its files, so that its
        pixels are resampled once however often it is aligned; where the grids coincide they are copied. The children
        of a tree become one layer: the first valid pixel wins, in the order of children and of the scenes in them, and
        scenes of the same time are one step.
    xarray.DataTree
        Where the other is a tree: the layer on each child's grid that it overlaps, under its name. Of a tree onto a
        tree, the child whose pixels coincide is copied; only where there is none, the others are resampled.

    Raises
    ------
    OverlapError
        Where the layer and the grid have no place in common.
    """
    if isinstance(other, xr.DataTree):
        return onto_tree(layer, other, resampling=resampling, chunks=chunks)
    if isinstance(layer, xr.DataTree):
        return tree_onto(layer, grid_of(other), resampling=resampling, chunks=chunks)
    return onto_grid(layer, grid_of(other), resampling=resampling, chunks=chunks)


@overload
def intersection(
    *, grid: str | xr.DataArray | GeoBox | None = None, resampling: Resampling | None = None, **layers: xr.DataArray
) -> xr.Dataset: ...
@overload
def intersection(
    *,
    grid: str | xr.DataArray | xr.DataTree | GeoBox | None = None,
    resampling: Resampling | None = None,
    **layers: Layer,
) -> xr.Dataset | xr.DataTree: ...
def intersection(
    *,
    grid: str | xr.DataArray | xr.DataTree | GeoBox | None = None,
    resampling: Resampling | None = None,
    **layers: Any,
) -> xr.Dataset | xr.DataTree:
    """Return layers on one grid, cut to the extent that all of them share.

    Parameters
    ----------
    grid
        Whose grid the result has: the name of one of the layers, another layer, or a grid. By default the first
        layer's.
    resampling
        How pixels come onto the grid; by default "nearest" for class codes and "bilinear" for all else.
    **layers
        The layers, by the names they shall have; each a DataArray, or a tree with one in each child.

    Returns
    -------
    xarray.Dataset
        Lazy. A layer that lies on the grid already is cut, never resampled.
    xarray.DataTree
        Where the grid is that of a tree: its children in which all layers share a place, each such a Dataset.

    Raises
    ------
    OverlapError
        Where two layers have no place in common; the message says where each lies.
    """
    if not layers:
        msg = "Cannot intersect nothing: pass layers by name, e.g. intersection(image=landsat, mask=cdl)."
        raise InputError(msg)
    name, base = _base(grid, layers)
    if isinstance(base, xr.DataTree):
        return shared_tree(base, layers, resampling=resampling)
    if any(isinstance(layer, xr.DataTree) for layer in layers.values()):
        return shared_grid(name, base, layers, resampling=resampling)
    return shared(name, base, layers, resampling=resampling)


def _base(
    grid: str | xr.DataArray | xr.DataTree | GeoBox | None, layers: Mapping[str, Layer]
) -> tuple[str, GeoBox | xr.DataTree]:
    """Return whose grid layers come onto: its name, and the grid or the tree of several."""
    if isinstance(grid, str) and grid not in layers:
        msg = f"Cannot take the grid of {grid!r}: the layers are {list(layers)}. Pass grid= one of these."
        raise InputError(msg)
    name = next(iter(layers)) if grid is None else grid if isinstance(grid, str) else "the grid"
    chosen = layers[name] if grid is None or isinstance(grid, str) else grid
    return name, chosen if isinstance(chosen, xr.DataTree) else grid_of(chosen)


@overload
def union(*layers: xr.DataArray, chunks: Mapping[str, int] | int | None = None) -> xr.DataArray: ...
@overload
def union(*layers: Layer, chunks: Mapping[str, int] | int | None = None) -> Layer: ...
def union(*layers: Layer, chunks: Mapping[str, int] | int | None = None) -> Layer:
    """Return one layer that covers what several layers of one kind cover; where they overlap, the first wins.

    Parameters
    ----------
    *layers
        Layers with the same bands, and the same times if they have any. The result has the first one's CRS,
        resolution and pixel lattice. With a tree among them, the result is a tree.
    chunks
        Dask chunk sizes of the result.

    Returns
    -------
    xarray.DataArray
        Lazy.
    xarray.DataTree
        Of trees: children whose pixels coincide are united, all others stand side by side, none is resampled.

    Raises
    ------
    InputError
        Where layers differ in bands, times, nodata or classes.
    """
    if not layers:
        msg = "Cannot unite nothing: pass two or more layers."
        raise InputError(msg)
    plain = [layer for layer in layers if isinstance(layer, xr.DataArray)]
    return united(plain, chunks) if len(plain) == len(layers) else united_tree(layers, chunks)


__all__ = ["align", "dataset", "intersection", "require_overlap", "retarget", "union"]

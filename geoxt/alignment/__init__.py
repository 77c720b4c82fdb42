"""Bring layers to one grid: align, intersection and union. All are lazy, and pixels are resampled once."""

from __future__ import annotations

from typing import overload

import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.alignment.combine import align_to_grids, intersect_on_grids, to_dataset, unite, unite_nodes
from geoxt.alignment.label_roles import as_labels
from geoxt.alignment.merge import layer_name
from geoxt.alignment.retarget import Chunks
from geoxt.alignment.retarget import require_overlap as require_overlap
from geoxt.alignment.retarget import retarget as retarget
from geoxt.errors import InputError
from geoxt.grid import with_yx_dims
from geoxt.source import resolve_attrs, stack_bands
from geoxt.trees import SomeData, from_nodes, grids_of, layers_by_name, layers_of
from geoxt.types import Resampling

Layer = xr.DataArray | xr.DataTree
"""A layer, or a tree with one in each node."""
SomeLayer = xr.DataArray | xr.Dataset | xr.DataTree
"""A layer, a Dataset of one variable per band, or a tree with a layer in each node."""


@overload
def align(
    layer: Layer,
    other: xr.DataArray | xr.Dataset | GeoBox,
    *,
    resampling: Resampling | None = None,
    chunks: Chunks = None,
) -> xr.DataArray: ...
@overload
def align(
    layer: xr.Dataset,
    other: xr.DataArray | xr.Dataset | GeoBox,
    *,
    resampling: Resampling | None = None,
    chunks: Chunks = None,
) -> xr.Dataset: ...
@overload
def align(
    layer: SomeData,
    other: xr.DataTree,
    *,
    resampling: Resampling | None = None,
    chunks: Chunks = None,
) -> xr.DataTree: ...
def align(
    layer: SomeData,
    other: SomeData | GeoBox,
    *,
    resampling: Resampling | None = None,
    chunks: Chunks = None,
) -> SomeData:
    """Return a layer on the grid of another.

    Parameters
    ----------
    layer
        The layer to move: dimensions (time, band, y, x), time and band may be absent. Or a Dataset, each of whose
        layers is moved, such as one variable per band from `odc.stac.load`. Or a tree with a layer in each node, as
        `open_cogs(…, crs="native")` returns it.
    other
        The layer or the grid whose CRS, resolution and extent the result has; or a tree with several grids.
    resampling
        Default: "nearest" for class codes, "bilinear" otherwise. Integers named `mask` or `label` are class codes;
        others of one band are interpolated, and cannot be used as labels afterwards.
    chunks
        Dask chunk sizes of the result: one number for y and x, or by dimension.

    Returns
    -------
    xarray.DataArray
        Lazy: no pixel is read. A layer that was only opened, aligned or selected from is read from its files again, so
        that repeated alignment resamples its pixels once; if the grids coincide, pixels are copied. The nodes of a tree
        become one layer: the first valid pixel wins, in the order of the nodes and their scenes, and scenes of the same
        time become one time step.
    xarray.Dataset
        Of a Dataset: the same variables.
    xarray.DataTree
        If the other is a tree: the layer on the grid of each node that it overlaps, under its name. Of a tree, nodes
        whose pixels coincide with the target's are preferred; the others are resampled only if there are none.

    Raises
    ------
    OverlapError
        If the layer overlaps no grid of the other.
    InputError
        If class codes would be interpolated, or a node of a tree holds several layers.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.testing import make_grid, make_layer
    >>> align(make_layer(np.ones((8, 8))), make_grid((4, 4), resolution=60)).shape
    (4, 4)
    """
    targets = {"": other} if isinstance(other, GeoBox) else grids_of(other)
    name = other.name if isinstance(other, xr.DataArray) else None
    target_name = "the target grid" if name is None else name
    if isinstance(layer, xr.Dataset):
        ds = with_yx_dims(layer)
        variables = {name: [_resolve_attrs(part, name)] for name, part in layers_by_name(ds).items()}
    else:
        layers = [_resolve_attrs(part, str(part.name)) for part in layers_of(layer).values()]
        variables = {layer_name(layers[0]): layers}
    aligned = {
        name: align_to_grids(layers, targets, resampling=resampling, chunks=chunks, name=target_name)
        for name, layers in variables.items()
    }
    if not isinstance(layer, xr.Dataset) and not isinstance(other, xr.DataTree):
        return next(iter(aligned.values()))[next(iter(targets))]
    nodes = {
        node: to_dataset({name: by_node[node] for name, by_node in aligned.items() if node in by_node})
        for node in targets
        if any(node in by_node for by_node in aligned.values())
    }
    return from_nodes(nodes, like=other if isinstance(other, xr.DataTree) else layer)


@overload
def intersection(
    *,
    grid: str | xr.DataArray | xr.Dataset | GeoBox | None = None,
    resampling: Resampling | None = None,
    **layers: xr.DataArray | xr.Dataset,
) -> xr.Dataset: ...
@overload
def intersection(
    *,
    grid: str | SomeData | GeoBox | None = None,
    resampling: Resampling | None = None,
    **layers: SomeLayer,
) -> xr.Dataset | xr.DataTree: ...
def intersection(
    *,
    grid: str | SomeData | GeoBox | None = None,
    resampling: Resampling | None = None,
    **layers: SomeLayer,
) -> xr.Dataset | xr.DataTree:
    """Return layers on one grid, cut to the intersection of their extents.

    Parameters
    ----------
    grid
        The grid of the result: the name of one of the layers, another layer, or a grid. Default: the first layer's.
    resampling
        Default: "nearest" for class codes, "bilinear" otherwise.
    **layers
        The layers by their names in the result: each a DataArray, a Dataset of one variable per band (stacked along
        `band`), or a tree with a layer in each node. Integers named `mask` or `label` are class codes.

    Returns
    -------
    xarray.Dataset
        Lazy. A layer whose pixels coincide with the grid's is cut, never resampled.
    xarray.DataTree
        If the grid is that of a tree: such a Dataset for each node in which all layers share an area.

    Raises
    ------
    OverlapError
        If two layers do not overlap; the message states their extents.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> image, mask = make_layer(np.ones((8, 8))), make_layer(np.ones((4, 4), "uint8"), resolution=60)
    >>> dict(intersection(image=image, mask=mask, grid="image").sizes)
    {'y': 8, 'x': 8}
    """
    if not layers:
        raise InputError(
            "Cannot intersect layers: none is given.",
            remedy="Pass layers by name, e.g. intersection(image=landsat, mask=cdl).",
        )
    if isinstance(grid, str) and grid not in layers:
        raise InputError(
            f"Cannot take the grid of {grid!r}: the layers are {list(layers)}.", remedy="Pass {grid}, one of them."
        )
    name = next(iter(layers)) if grid is None else grid if isinstance(grid, str) else "the grid"
    base = layers[name] if grid is None or isinstance(grid, str) else grid
    targets = {"": base} if isinstance(base, GeoBox) else grids_of(base)
    parts = {key: [as_labels(part, key) for part in _parts(layer)] for key, layer in layers.items()}
    cut = intersect_on_grids(name, targets, parts, resampling=resampling)
    return from_nodes(cut, like=base) if isinstance(base, xr.DataTree) else cut[""]


@overload
def union(*layers: xr.DataArray | xr.Dataset, chunks: Chunks = None) -> xr.DataArray: ...
@overload
def union(*layers: SomeLayer, chunks: Chunks = None) -> Layer: ...
def union(*layers: SomeLayer, chunks: Chunks = None) -> Layer:
    """Return one layer over the union of the layers' extents; where they overlap, the first valid pixel wins.

    Parameters
    ----------
    *layers
        Layers with the same bands, and the same times if they have any: DataArrays, Datasets of one variable per band,
        or trees with a layer in each node.
    chunks
        Dask chunk sizes of the result.

    Returns
    -------
    xarray.DataArray
        Lazy, with the CRS, resolution and pixel lattice of the first layer. Layers of different nodata values get one
        that no valid pixel has, in a wider type if necessary.
    xarray.DataTree
        If one of the layers is a tree: nodes whose pixels coincide are united, the others stand side by side; none is
        resampled.

    Raises
    ------
    InputError
        If layers differ in bands, times or classes, or the missing pixels of a layer cannot be determined.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> west = make_layer(np.ones((4, 4)), left=0, resolution=10)
    >>> east = make_layer(np.ones((4, 4)), left=20, resolution=10)
    >>> union(west, east).shape
    (4, 6)
    """
    if not layers:
        raise InputError("Cannot unite layers: none is given.", remedy="Pass two or more layers.")
    parts = [_resolve_attrs(part, str(part.name)) for layer in layers for part in _parts(layer)]
    if any(isinstance(layer, xr.DataTree) for layer in layers):
        return xr.DataTree.from_dict(unite_nodes(parts, chunks))
    return unite(parts, chunks)


def _resolve_attrs(layer: xr.DataArray, name: str) -> xr.DataArray:
    """Return a layer whose attributes describe its numbers; integers named `mask` or `label` are class codes."""
    resolved = resolve_attrs(layer)
    return as_labels(resolved, name) if resolved.sizes.get("band", 1) == 1 else resolved


def _parts(layer: SomeLayer) -> list[xr.DataArray]:
    """Return the layer of each node; the variables of a Dataset are bands of one layer."""
    if isinstance(layer, xr.Dataset):
        ds = with_yx_dims(layer)
        variables = layers_by_name(ds).values()
        return [resolve_attrs(*variables)] if len(variables) == 1 else [stack_bands(ds)]
    return [resolve_attrs(part) for part in layers_of(layer).values()]


__all__ = ["align", "intersection", "to_dataset", "union"]

"""Combine layers of several grids over the intersection or the union of their extents."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.alignment.label_roles import require_known_labels
from geoxt.alignment.merge import (
    first_valid,
    layer_name,
    merge_on_grid,
    mosaics_of,
    overlapping,
    require_same_kind,
    stack_mosaics,
    with_common_fill,
)
from geoxt.alignment.retarget import Chunks, no_overlap, to_grid, warp_to_grid
from geoxt.errors import OverlapError
from geoxt.footprints import bounds_near, overlap
from geoxt.grid import COINCIDE, coordinates, full_window, grid_of, pixel_offset, snap_grid
from geoxt.source import is_categorical, resampling_of
from geoxt.trees import node_names
from geoxt.types import Resampling
from geoxt.windows import Window

Layers = Mapping[str, Sequence[xr.DataArray]]
"""By name: the layers of all nodes of one input."""


def align_to_grids(
    layers: Sequence[xr.DataArray],
    targets: Mapping[str, GeoBox],
    *,
    resampling: Resampling | None = None,
    chunks: Chunks = None,
    name: Hashable = "the target grid",
) -> dict[str, xr.DataArray]:
    """Return layers merged on each grid that they overlap, by node; errors name a grid without node by `name`.

    Raises
    ------
    OverlapError
        If they overlap no grid.
    """
    aligned = {}
    for node, grid in targets.items():
        overlaps = overlapping(layers, grid)
        if overlaps and len(targets) == 1 and "time" in overlaps[0].dims:
            overlaps = list(layers)  # all time steps, wherever the grid lies
        if overlaps:
            aligned[node] = merge_on_grid(overlaps, grid, resampling=resampling, chunks=chunks)
    if not aligned:
        grids = [(layer_name(layer), grid_of(layer)) for layer in layers]
        raise no_overlap([*grids, *((node or name, grid) for node, grid in targets.items())])
    return aligned


def intersect_on_grids(
    base_name: str, targets: Mapping[str, GeoBox], layers: Layers, *, resampling: Resampling | None = None
) -> dict[str, xr.Dataset]:
    """Return the layers of each node on its grid, cut to the intersection of their extents there.

    Raises
    ------
    OverlapError
        If they share an area on no grid.
    """
    cut, errors = {}, []
    for node, grid in targets.items():
        try:
            cut[node] = _intersect(node or base_name, grid, layers, resampling)
        except OverlapError as error:
            errors.append(error)
    if not cut:
        if len(errors) == 1:
            raise errors[0]
        raise OverlapError(
            f"Cannot intersect {list(layers)}: they share an area in none of the nodes {list(targets)}.",
            remedy="Pass layers that overlap.",
        )
    return cut


def _intersect(name: str, grid: GeoBox, layers: Layers, resampling: Resampling | None) -> xr.Dataset:
    window: Window | None = full_window(grid)
    single = {}
    for key, parts in layers.items():
        overlaps = overlapping(parts, grid)
        if not overlaps:
            raise no_overlap([(name, grid), *((key, grid_of(part)) for part in parts)])
        if "time" in overlaps[0].dims and len(overlaps) < len(parts):
            overlaps = list(parts)
        if resampling is None:
            for part in overlaps:
                require_known_labels(part, key, grid)
        single[key] = overlaps[0] if len(overlaps) == 1 else merge_on_grid(overlaps, grid, resampling=resampling)
        extent = overlap(grid, grid_of(single[key]))
        window = None if window is None or extent is None else window.intersect(extent)
    if window is None:
        raise OverlapError(
            f"Cannot intersect the layers {list(layers)}: they have no area in common.", remedy="Leave one out."
        )
    rows, cols = window.within(full_window(grid))
    target = grid[rows, cols]
    return to_dataset({key: _cut_or_warp(layer, target, resampling) for key, layer in single.items()})


def _cut_or_warp(layer: xr.DataArray, target: GeoBox, resampling: Resampling | None) -> xr.DataArray:
    """Return the part of a layer on a grid: copied if the pixels coincide, else resampled."""
    offset = pixel_offset(target, grid_of(layer))
    if offset is not None and resampling is None:
        row, col = offset
        if full_window(grid_of(layer)).contains(full_window(target).shift(row, col)):
            part = layer.isel(y=slice(row, row + target.shape[0]), x=slice(col, col + target.shape[1]))
            return part.assign_coords(coordinates(target))
    return to_grid(layer, target, resampling=None if is_categorical(layer) else resampling)


def to_dataset(layers: Mapping[str, xr.DataArray]) -> xr.Dataset:
    """Return layers of one grid as a Dataset.

    Layers whose bands or times differ from the first layer's have them along separate dimensions: `mask_time`.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> from geoxt.alignment import to_dataset
    >>> layer = make_layer(np.zeros((4, 4)))
    >>> sorted(to_dataset({"image": layer, "height": layer}))
    ['height', 'image']
    """
    for dim in ("band", "time"):
        with_dim = {name: layer for name, layer in layers.items() if dim in layer.dims}
        indexes = [layer.indexes.get(dim) for layer in with_dim.values()]
        if len(with_dim) > 1 and not _equal(indexes):
            first = next(iter(with_dim))
            layers = {
                name: _rename_dim(name, layer, dim) if name in with_dim and name != first else layer
                for name, layer in layers.items()
            }
    # Scalar band coordinates of a single-band layer would become those of the whole Dataset.
    scalars = {"common_name", "wavelength", "band"}
    cleaned = {
        name: layer if "band" in layer.dims else layer.drop_vars(scalars & set(map(str, layer.coords)))
        for name, layer in layers.items()
    }
    return xr.Dataset(cleaned, attrs={})


def _equal(indexes: Sequence[Any]) -> bool:
    first = indexes[0]
    return all(index is not None and first is not None and first.equals(index) for index in indexes)


def _rename_dim(name: str, layer: xr.DataArray, dim: str) -> xr.DataArray:
    coords = {c: f"{name}_{c}" for c in layer.coords if dim in layer[c].dims}
    return layer.rename(coords | {dim: f"{name}_{dim}"})


def unite(layers: Sequence[xr.DataArray], chunks: Chunks = None) -> xr.DataArray:
    """Return the union of layers on the pixel lattice of the first; the first valid pixel wins."""
    first = layers[0]
    for other in layers[1:]:
        require_same_kind(first, other)
    base = grid_of(first)
    target = _cover(base, [grid_of(layer) for layer in layers])
    warped = with_common_fill([warp_to_grid(layer, target, resampling_of(layer), chunks) for layer in layers])
    mosaics = mosaics_of(warped)
    if mosaics and all(mosaic.stackable(mosaics[0]) for mosaic in mosaics):
        return stack_mosaics(warped, mosaics, chunks)
    return first_valid(warped)


def unite_nodes(layers: Sequence[xr.DataArray], chunks: Chunks = None) -> dict[str, xr.Dataset]:
    """Return layers by node: layers whose pixels coincide are united in one node, any other layer gets a node."""
    groups: list[list[xr.DataArray]] = []
    for layer in layers:
        same = (g for g in groups if pixel_offset(grid_of(layer), grid_of(g[0])) is not None)
        group = next(same, None)
        if group is None:
            groups.append([layer])
        else:
            group.append(layer)
    name = layer_name(groups[0][0])
    nodes = node_names(grid_of(group[0]).crs for group in groups)
    united = [group[0] if len(group) == 1 else unite(group, chunks) for group in groups]
    return {node: layer.to_dataset(name=name) for node, layer in zip(nodes, united, strict=True)}


def _cover(base: GeoBox, grids: Sequence[GeoBox]) -> GeoBox:
    """Return the grid on the pixel lattice of `base` that covers all grids."""
    assert base.crs is not None
    bounds = np.array([base.boundingbox[:4] if g == base else bounds_near(g, base) for g in grids])
    (left, bottom), (right, top) = bounds[:, :2].min(0), bounds[:, 2:].max(0)
    if base.crs.geographic and right - left > 360:  # a whole circle holds every longitude
        full = bounds[:, 2] - bounds[:, 0] >= 360 - COINCIDE * abs(base.affine.a)
        left, right = bounds[np.argmax(full), [0, 2]] if full.any() else (left, left + 360)
    size = abs(base.affine.a), abs(base.affine.e)
    return snap_grid((left, bottom, right, top), size, base.affine, base.crs)

"""Trees of several CRSs: a layer onto each child, the children onto one grid, and trees beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.alignment.combine import dataset, require_kind, shared, united, valid_of
from geoxt.alignment.retarget import onto_grid, warped
from geoxt.errors import OverlapError
from geoxt.footprints import footprint, overlap
from geoxt.grid import crs_name, grid_of, parse_crs, pixel_offset
from geoxt.source import Mosaic, is_categorical, resampling_of, to_layer, view_of
from geoxt.trees import grids_of, layers_of, node_names, tree_of
from geoxt.types import Resampling

Chunks = Mapping[str, int] | int | None


def onto_tree(
    layer: xr.DataArray | xr.DataTree, tree: xr.DataTree, *, resampling: Resampling | None = None, chunks: Chunks = None
) -> xr.DataTree:
    """Return a layer, or the layers of a tree, on the grid of each child that they overlap.

    Raises
    ------
    OverlapError
        Where they overlap none.
    """
    parts = {}
    for node, grid in grids_of(tree).items():
        near = _near(layer, grid)
        if near:
            found = _joined(near, grid, resampling=resampling, chunks=chunks)
            parts[node] = found.to_dataset(name=name_of(near[0]))
    if not parts:
        raise _apart(layer, "the tree", grids_of(tree).values())
    return tree_of(parts)


def tree_onto(
    tree: xr.DataTree, target: GeoBox, *, resampling: Resampling | None = None, chunks: Chunks = None
) -> xr.DataArray:
    """Return the layers of a tree as one layer on a grid: the first valid pixel in the order of children wins.

    Raises
    ------
    OverlapError
        Where none of them overlaps the grid.
    """
    near = _near(tree, target)
    if not near:
        raise _apart(tree, "the grid", [target])
    if "time" in near[0].dims:
        near = _layers(tree)  # so that the steps do not depend on the place
    return _joined(near, target, resampling=resampling, chunks=chunks)


def shared_tree(
    base: xr.DataTree, layers: Mapping[str, xr.DataArray | xr.DataTree], *, resampling: Resampling | None = None
) -> xr.DataTree:
    """Return layers on the grids of a tree's children, each child cut to the extent that all of them share there."""
    parts = {}
    for node, grid in grids_of(base).items():
        own = {name: _near(layer, grid) for name, layer in layers.items()}
        if not all(own.values()):
            continue
        try:
            moved = {
                n: near[0] if len(near) == 1 else _joined(near, grid, resampling=resampling) for n, near in own.items()
            }
            parts[node] = shared(node, grid, moved, resampling=resampling)
        except OverlapError:
            continue
    if not parts:
        msg = f"Cannot intersect {list(layers)}: in none of the children {list(grids_of(base))} do all of them share "
        raise OverlapError(msg + "a place. Pass layers of one place.")
    return tree_of(parts)


def shared_grid(
    name: str, base: GeoBox, layers: Mapping[str, xr.DataArray | xr.DataTree], *, resampling: Resampling | None = None
) -> xr.Dataset:
    """Return layers on one grid, cut to the extent that all of them share; the children of a tree are joined."""
    moved = {
        n: tree_onto(a, base, resampling=resampling) if isinstance(a, xr.DataTree) else a for n, a in layers.items()
    }
    return shared(name, base, moved, resampling=resampling)


def united_tree(trees: Sequence[xr.DataArray | xr.DataTree], chunks: Chunks = None) -> xr.DataTree:
    """Return one tree of several: children whose pixels coincide are united, all others stand side by side."""
    groups: list[list[xr.DataArray]] = []
    for layer in (one for tree in trees for one in _layers(tree)):
        same = next((g for g in groups if pixel_offset(grid_of(layer), grid_of(g[0])) is not None), None)
        if same is None:
            groups.append([layer])
        else:
            same.append(layer)
    name = name_of(groups[0][0])
    nodes = node_names(grid_of(group[0]).crs for group in groups)
    found = [group[0] if len(group) == 1 else united(group, chunks) for group in groups]
    return tree_of({node: layer.to_dataset(name=name) for node, layer in zip(nodes, found, strict=True)})


def name_of(layer: xr.DataArray) -> str:
    """Return the name of a layer in a Dataset: its own, else "mask" for class codes and "image" for all else."""
    return str(layer.name) if layer.name is not None else "mask" if is_categorical(layer) else "image"


def _layers(data: xr.DataArray | xr.DataTree) -> list[xr.DataArray]:
    return list(layers_of(data).values()) if isinstance(data, xr.DataTree) else [data]


def _near(data: xr.DataArray | xr.DataTree, grid: GeoBox) -> list[xr.DataArray]:
    """Return the layers that overlap a grid: where there are such whose pixels coincide with its own, these alone."""
    found = [layer for layer in _layers(data) if overlap(grid, grid_of(layer)) is not None]
    return [layer for layer in found if pixel_offset(grid_of(layer), grid) is not None] or found


def _joined(
    layers: Sequence[xr.DataArray], target: GeoBox, *, resampling: Resampling | None = None, chunks: Chunks = None
) -> xr.DataArray:
    """Return layers as one on a grid, each resampled once; the first valid pixel wins."""
    first = layers[0]
    if len(layers) == 1:
        return onto_grid(first, target, resampling=resampling, chunks=chunks)
    moved = [warped(layer, target, resampling or resampling_of(layer), chunks) for layer in layers]
    sources = [view.source for view in map(view_of, moved)]
    mosaics = [source for source in sources if isinstance(source, Mosaic)]
    if len(mosaics) == len(layers) and all(_alike(first, layer) for layer in layers) and _stackable(mosaics):
        return _stacked(moved, mosaics, chunks)
    out = moved[-1]
    for layer in reversed(moved[:-1]):
        require_kind(layer, out)
        out = layer.where(valid_of(layer), out)
    return out.assign_attrs(first.attrs).rename(first.name)


def _alike(first: xr.DataArray, other: xr.DataArray) -> bool:
    """Tell whether two layers have the same dimensions and attributes that decide values."""
    codes = [np.asarray(layer.attrs.get("flag_values", ())).tolist() for layer in (first, other)]
    return first.dims == other.dims and codes[0] == codes[1]


def _stackable(mosaics: Sequence[Mosaic]) -> bool:
    """Tell whether scenes of mosaics on one grid can be those of one mosaic."""
    facts = [
        (m.bands, m.dtype, repr(m.nodata), m.resampling, m.clips, m.errors, m.composite, m.rescale, m.credentials)
        for m in mosaics
    ]
    return all(one == facts[0] for one in facts)


def _stacked(layers: Sequence[xr.DataArray], mosaics: Sequence[Mosaic], chunks: Chunks) -> xr.DataArray:
    """Return one layer of the scenes of several mosaics on one grid; steps of the same time are one step."""
    steps: dict[Any, tuple[int, ...]] = {}
    scenes: list[Any] = []
    for layer, mosaic in zip(layers, mosaics, strict=True):
        times = layer["time"].to_numpy().tolist() if "time" in layer.dims else [None]
        for time, step in zip(times, mosaic.steps, strict=True):
            steps[time] = (*steps.get(time, ()), *(len(scenes) + i for i in step))
        scenes += mosaic.scenes
    first = layers[0]
    coords: dict[str, Any] = {
        str(n): c for n, c in first.coords.items() if not {"y", "x", "time"} & set(c.dims) and n != "spatial_ref"
    }
    if "time" in first.dims:
        steps = dict(sorted(steps.items()))
        coords["time"] = np.array(list(steps), first["time"].dtype)
    source = replace(mosaics[0], scenes=tuple(scenes), steps=tuple(steps.values()))
    return to_layer(
        source, dims=[str(d) for d in first.dims], coords=coords, attrs=first.attrs, name=first.name, chunks=chunks
    )


def _apart(data: xr.DataArray | xr.DataTree, name: str, others: Any) -> OverlapError:
    """Return the error of layers that overlap none of some grids."""
    wgs84 = parse_crs("EPSG:4326")
    places = []
    for grid in (*map(grid_of, _layers(data)), *others):
        west, south, east, north = footprint(grid, wgs84).bounds
        places.append(f"{crs_name(grid.crs)} at {west:.2f} to {east:.2f} E, {south:.2f} to {north:.2f} N")
    count = len(_layers(data))
    msg = f"Cannot bring layers together that do not overlap: they lie in {'; '.join(places[:count])}, {name} in "
    return OverlapError(msg + "; ".join(places[count:]) + ". Pass layers of one place.")


__all__ = ["dataset", "name_of", "onto_tree", "shared_grid", "shared_tree", "tree_onto", "united_tree"]

"""Samplers over a tree: one for each child, options of its own for each, and its share of the ground."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import numpy as np
import shapely
import xarray as xr

from geoxt.errors import GridError, InputError, OverlapError
from geoxt.grid import grid_of
from geoxt.regions.geodesic_area import ground_area
from geoxt.regions.rasterize import states_crs
from geoxt.regions.region import Region, TreeRegion
from geoxt.samplers.constraints import Options, Scope
from geoxt.samplers.time_windows import Times
from geoxt.trees import children, layers_of
from geoxt.types import Floats

T = TypeVar("T")


def sampler_per_node(
    tree: xr.DataTree, options: Options, make: Callable[[str, xr.Dataset, Options], T]
) -> dict[str, T]:
    """Return what `make` gives for each child of a tree in which a window finds a place, by node.

    Raises
    ------
    OverlapError
        Where no child has such a place; what the first one says.
    InputError
        Where a region says no CRS, or times are not given by node.
    """
    found: dict[str, T] = {}
    missed: OverlapError | None = None
    for node, child in children(tree).items():
        try:
            found[node] = make(node, child, _own(options, node, child))
        except OverlapError as error:
            missed = missed or error
    if not found and missed is not None:
        raise missed
    return found


def _own(options: Options, node: str, child: xr.Dataset) -> Options:
    """Return the options of one child.

    Raises
    ------
    OverlapError
        Where the region, or the times, are not of this child.
    """
    own = dict(options)
    region, times = options.get("region"), options.get("times")
    if region is not None:
        own["region"] = _region(region, node, child)
    if isinstance(times, Mapping):
        if node not in times:
            msg = f"Cannot sample node {node!r}: times= has {list(times)}. Make them of the tree that is sampled."
            raise OverlapError(msg)
        own["times"] = times[node]
    elif isinstance(times, Times):
        msg = "Cannot take the same positions along time in all children of a tree: each has its own time steps."
        raise InputError(msg + " Pass times= made of the tree, as time_steps(tree).")
    return cast("Options", own)


def _region(region: Any, node: str, child: xr.Dataset) -> Any:
    if isinstance(region, TreeRegion):
        found = region.parts.get(node)
        if found is None or not len(found):
            msg = f"Cannot sample node {node!r}: the region is of {list(region.parts)}. Split the tree you sample."
            raise OverlapError(msg)
        return found
    if isinstance(region, Region):
        try:
            return region.on(grid_of(child))
        except GridError as error:
            raise OverlapError(str(error)) from error
    if not states_crs(region):
        msg = f"Cannot place the region {region!r:.80} in a tree: its children have several CRSs, and it states none."
        raise InputError(msg + " Pass region=(geometry or bounds, crs).")
    return region


def ground(scope: Scope) -> float:
    """Return the area on the ground in which the windows of a scope lie: region and footprints, square metres."""
    region = shapely.intersection(scope.region.geometry, shapely.union_all(list(scope.footprints)))
    return ground_area(region, scope.grid)


def shares(areas: Mapping[str, float]) -> Floats:
    """Return the share of each child, that add up to one."""
    found: Floats = np.array(list(areas.values()), "float64")
    return np.asarray(found / found.sum())


def layer_in(given: xr.DataArray | xr.DataTree | str | None, node: str, what: str) -> xr.DataArray | str | None:
    """Return the layer of one child that a tree beside the sampled one holds.

    Raises
    ------
    InputError
        Where it is one layer of one grid, or lacks the child.
    """
    if given is None or isinstance(given, str):
        return given
    found = layers_of(given) if isinstance(given, xr.DataTree) else {}
    if node not in found:
        has = list(found) or "one grid"
        msg = f"Cannot take {what} of node {node!r}: they have {has}. Pass {what}= a tree with the same children,"
        raise InputError(msg + " as layer.geoml.align(tree) gives it.")
    return found[node]

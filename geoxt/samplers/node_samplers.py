"""One sampler per node of a tree: the options, layers and sampling weight of each node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import shapely
import xarray as xr

from geoxt.errors import GridError, InputError, OverlapError
from geoxt.grid import grid_of
from geoxt.regions.geodesic_area import ground_area
from geoxt.regions.rasterize import has_crs
from geoxt.regions.region import GridRegion, Region
from geoxt.samplers.constraints import Constraints, NodeOptions, Options
from geoxt.samplers.time_windows import Times
from geoxt.trees import SomeData, layers_of, nodes_of
from geoxt.types import Floats

T = TypeVar("T")


def sampler_per_node(
    data: SomeData, options: Options, make: Callable[[str, xr.Dataset, NodeOptions], T]
) -> dict[str, T]:
    """Return a sampler for each node in which at least one window fits.

    Parameters
    ----------
    data
        A layer, a Dataset of layers on one grid, or a tree of these.
    options
        Options of all nodes.
    make
        Function from the name, layers and options of a node to its sampler; raises OverlapError if no window fits.

    Raises
    ------
    OverlapError
        If no window fits in any node; the error of the first node.
    """
    nodes = nodes_of(data)
    samplers: dict[str, T] = {}
    first_error: OverlapError | None = None
    for node, ds in nodes.items():
        try:
            samplers[node] = make(node, ds, _node_options(options, node, ds))
        except OverlapError as error:
            first_error = first_error or error
    if not samplers and first_error is not None:
        raise first_error
    return samplers


def _node_options(options: Options, node: str, ds: xr.Dataset) -> NodeOptions:
    """Return the options of one node.

    Raises
    ------
    OverlapError
        If the region or the times exclude the node.
    """
    node_options: NodeOptions = dict(options)
    region, times = options.get("region"), options.get("times")
    if region is not None:
        node_options["region"] = _node_region(region, node, ds)
    if times is not None:
        times_by_node = {"": times} if isinstance(times, Times) else times
        if node not in times_by_node:
            raise OverlapError(
                f"Cannot take time steps of {_describe([node])}: they are given for {_describe(times_by_node)}.",
                remedy="Pass {times} made of the data that is sampled, as time_steps(data) returns it.",
                argument="times",
            )
        node_options["times"] = times_by_node[node]
    return node_options


def _node_region(region: Any, node: str, ds: xr.Dataset) -> Any:
    """Return the part of a region on one node."""
    if isinstance(region, Region) and list(region.nodes) != [""]:
        grid_region = region.nodes.get(node)
        if not grid_region:
            raise OverlapError(
                f"Cannot sample {_describe([node])}: the region is of {_describe(region.nodes)}.",
                remedy="Pass {region} a part of a split of the data that is sampled.",
                argument="region",
            )
        return grid_region
    if not node:
        return region
    if isinstance(region, (Region, GridRegion)):
        grid_region = region if isinstance(region, GridRegion) else region.nodes[""]
        try:
            return grid_region.on(grid_of(ds))
        except GridError as error:
            raise OverlapError(error.problem, remedy=error.remedy) from error
    if not has_crs(region):
        raise InputError(
            f"Cannot place the region {region!r:.80} in a tree: its nodes have several CRSs, and it states none.",
            remedy="Pass {region:(geometry or bounds, crs)}.",
            argument="region",
        )
    return region


def node_weights(samplers: Mapping[str, T], weight: Callable[[T], float]) -> Floats:
    """Return the weight of each node's sampler, normalized to a sum of 1."""
    if len(samplers) == 1:
        return np.ones(1)
    weights = np.array([weight(sampler) for sampler in samplers.values()], "float64")
    return np.asarray(weights / weights.sum())


def sampled_area(constraints: Constraints) -> float:
    """Return the area on the ground in which windows may lie, region and footprints, in square metres."""
    footprint = shapely.union_all(list(constraints.footprints))
    return ground_area(shapely.intersection(constraints.region.geometry, footprint), constraints.grid)


def layer_per_node(layers_or_tree: SomeData, nodes: Mapping[str, Any], argument: str) -> dict[str, xr.DataArray]:
    """Return the layer of weights or labels for each node of the sampled data.

    Parameters
    ----------
    layers_or_tree
        A layer, or a tree with one layer in each node.
    nodes
        The nodes of the sampled data.
    argument
        Name of the argument, for errors.

    Raises
    ------
    InputError
        If a node has no layer.
    """
    layers = layers_of(layers_or_tree)
    for node in nodes:
        if node not in layers:
            raise InputError(
                f"Cannot take {argument} of {_describe([node])}: they are given for {_describe(layers)}.",
                remedy=f"Pass {{{argument}}} with the same nodes as the data, as layer.geoml.align(data) returns it.",
                argument=argument,
            )
    return layers


def _describe(nodes: Any) -> str:
    """Return node names for an error."""
    names = list(nodes)
    if names == [""]:
        return "one grid"
    return f"node {names[0]!r}" if len(names) == 1 else f"the nodes {names}"

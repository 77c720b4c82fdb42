"""Trees: several grids side by side, an `xarray.DataTree` with a child of layers for each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import xarray as xr
from odc.geo import CRS
from odc.geo.geobox import GeoBox

from geoxt.errors import GridError, InputError
from geoxt.grid import grid_of, label


def children(tree: xr.DataTree) -> dict[str, xr.Dataset]:
    """Return the Datasets of layers in a tree, by the path of their nodes, in order.

    Raises
    ------
    GridError
        Where no node holds a layer.
    """
    found = {}
    for node in tree.subtree:
        if any({"y", "x"} <= set(a.dims) for a in node.data_vars.values()):
            found[node.relative_to(tree)] = node.to_dataset()
    if not found:
        names = [node.path for node in tree.leaves]
        msg = f"Cannot find layers in the tree: none of its nodes {names} has a variable with y and x."
        raise GridError(msg + " Pass a tree as open_cogs(…, crs='native') gives it.")
    return found


def grids_of(tree: xr.DataTree) -> dict[str, GeoBox]:
    """Return the grid of each child of a tree, by node."""
    return {node: grid_of(child) for node, child in children(tree).items()}


def layers_of(tree: xr.DataTree) -> dict[str, xr.DataArray]:
    """Return the one layer that each child of a tree holds, by node.

    Raises
    ------
    InputError
        Where a child holds several; the message names them.
    """
    found = {}
    for node, child in children(tree).items():
        names = [str(n) for n, a in child.data_vars.items() if {"y", "x"} <= set(a.dims)]
        if len(names) > 1:
            msg = f"Cannot take one layer of the tree: {node!r} holds {names}. Choose one with"
            raise InputError(msg + f" tree.map_over_datasets(lambda child: child[[{names[0]!r}]]).")
        found[node] = child[names[0]]
    return found


def tree_of(parts: Mapping[str, xr.Dataset]) -> xr.DataTree:
    """Return the tree whose children are given, by node."""
    return xr.DataTree.from_dict(dict(parts))


def node_names(places: Iterable[CRS | None]) -> list[str]:
    """Return a node's name for each grid by its CRS: "epsg_32615", then "epsg_32615_2" for another grid in that CRS.

    Examples
    --------
    >>> node_names([CRS("EPSG:32615"), CRS("EPSG:32616"), CRS("EPSG:32615")])
    ['epsg_32615', 'epsg_32616', 'epsg_32615_2']
    """
    names: list[str] = []
    for crs in places:
        plain = re.sub(r"[^0-9a-z]+", "_", label(crs).lower()).strip("_")
        number, name = 1, plain
        while name in names:
            number += 1
            name = f"{plain}_{number}"
        names.append(name)
    return names

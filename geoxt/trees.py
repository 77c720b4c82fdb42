"""Nodes of a tree: layers on several grids by node name; data on one grid is a tree whose only node is ""."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import xarray as xr
from odc.geo import CRS
from odc.geo.geobox import GeoBox

from geoxt.crs import crs_name
from geoxt.errors import GridError, InputError
from geoxt.grid import grid_of, with_yx_dims

SomeData = xr.DataArray | xr.Dataset | xr.DataTree
"""A layer, a Dataset of layers on one grid, or a tree of such Datasets."""
T = TypeVar("T")


def nodes_of(data: SomeData) -> dict[str, xr.Dataset]:
    """Return the Datasets of a layer, a Dataset or a tree by node name.

    Public functions call this once; code below them handles the mapping, whatever the number of grids.

    Parameters
    ----------
    data
        A layer, a Dataset of layers on one grid, or a tree of such Datasets.

    Returns
    -------
    dict
        Of a tree: the Dataset of each node that holds a layer (a variable with y and x), by its path relative to the
        root, in order. Of a layer or a Dataset: the Dataset under the name "", with latitude and longitude renamed to y
        and x. Nothing is computed.

    Raises
    ------
    GridError
        If no node of a tree holds a layer.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> layer = xr.DataArray(np.zeros((2, 3)), dims=("y", "x"), name="elevation")
    >>> {node: list(ds.data_vars) for node, ds in nodes_of(layer).items()}
    {'': ['elevation']}
    >>> list(nodes_of(xr.DataTree.from_dict({"west": layer.to_dataset(), "east": layer.to_dataset()})))
    ['west', 'east']
    """
    if not isinstance(data, xr.DataTree):
        data = with_yx_dims(data)
        return {"": data if isinstance(data, xr.Dataset) else _to_dataset(data)}
    nodes = {
        node.relative_to(data).removeprefix("."): node.to_dataset()
        for node in data.subtree
        if any(map(is_layer, node.data_vars.values()))
    }
    if not nodes:
        names = [node.path for node in data.leaves]
        raise GridError(
            f"Cannot find layers in the tree: none of its nodes {names} has a variable with y and x.",
            remedy="Pass a tree as open_cogs(…, crs='native') returns it.",
        )
    return nodes


def from_nodes(nodes: Mapping[str, T], *, like: SomeData) -> T | xr.DataTree:
    """Return values by node in the structure of `like`: a DataTree for a tree, else the value of the only node.

    Parameters
    ----------
    nodes
        A layer or a Dataset for each node.
    like
        The data whose nodes they are.
    """
    if not isinstance(like, xr.DataTree):
        return nodes[""]
    datasets: dict[str, Any] = {
        node or "/": _to_dataset(value) if isinstance(value, xr.DataArray) else value for node, value in nodes.items()
    }
    return xr.DataTree.from_dict(datasets)


def _to_dataset(layer: xr.DataArray) -> xr.Dataset:
    """Return a Dataset of one layer; xarray requires a name that no coordinate has."""
    return layer.to_dataset(name="layer" if layer.name is None or layer.name in layer.coords else layer.name)


def is_layer(variable: xr.DataArray) -> bool:
    """Return whether a variable is a layer: whether it has the dimensions y and x."""
    return {"y", "x"} <= set(variable.dims)


def require_data(data: object) -> None:
    """Raise if an object is no layer, Dataset or tree, such as a path or an array without coordinates."""
    if isinstance(data, xr.DataArray | xr.Dataset | xr.DataTree):
        return
    several = isinstance(data, Sequence) and not isinstance(data, str)
    remedy = (
        "Pass one {layer}; join dates by xr.concat([before, after], 'time')."
        if several
        else "Pass a {layer} opened by open_cogs()."
    )
    raise InputError(f"Cannot predict from a {type(data).__name__}.", remedy=remedy, argument="layer")


def layers_by_name(ds: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return the layers of a Dataset by name: its variables with the dimensions y and x."""
    return {str(name): variable for name, variable in ds.data_vars.items() if is_layer(variable)}


def grids_of(data: SomeData) -> dict[str, GeoBox]:
    """Return the grid of each node: of a layer or a Dataset under the name ""."""
    return {node: grid_of(ds) for node, ds in nodes_of(data).items()}


def layers_of(data: SomeData) -> dict[str, xr.DataArray]:
    """Return the layer of each node by node name; "" for a DataArray or Dataset.

    Raises
    ------
    InputError
        If a node holds several layers; the message names them.
    """
    if isinstance(data, xr.DataArray):
        return {"": with_yx_dims(data)}
    layers = {}
    for node, ds in nodes_of(data).items():
        named = layers_by_name(ds)
        if len(named) != 1:
            where = f"node {node!r}" if node else "the Dataset"
            select = "tree.map_over_datasets(lambda ds: ds[['image']])" if node else "ds['image']"
            raise InputError(
                f"Cannot take one layer of the data: {where} holds {list(named)}.",
                remedy=f"Choose one, as {select} does.",
            )
        (layers[node],) = named.values()
    return layers


def node_names(crs_of_grids: Iterable[CRS | None]) -> list[str]:
    """Return a node name for each grid by its CRS: "epsg_32615", and "epsg_32615_2" for a second grid in that CRS.

    Examples
    --------
    >>> node_names([CRS("EPSG:32615"), CRS("EPSG:32616"), CRS("EPSG:32615")])
    ['epsg_32615', 'epsg_32616', 'epsg_32615_2']
    """
    names: list[str] = []
    for crs in crs_of_grids:
        base = re.sub(r"[^0-9a-z]+", "_", crs_name(crs).lower()).strip("_")
        number, name = 1, base
        while name in names:
            number += 1
            name = f"{base}_{number}"
        names.append(name)
    return names

"""Predict a tree of several CRSs: a lazy map for each child, on its own grid."""

from __future__ import annotations

from collections.abc import Callable

import xarray as xr

from geoxt.errors import InputError
from geoxt.source import is_categorical
from geoxt.trees import children, tree_of


def over_tree(tree: xr.DataTree, run: Callable[[xr.DataArray], xr.DataArray]) -> xr.DataTree:
    """Return the tree of what `run` gives for the image of each child, under its own name.

    Raises
    ------
    InputError
        Where a child holds no image, or several.
    """
    parts = {}
    for node, child in children(tree).items():
        images = [a for a in child.data_vars.values() if {"y", "x"} <= set(a.dims) and not is_categorical(a)]
        if len(images) != 1:
            found = [str(name) for name in child.data_vars]
            msg = f"Cannot choose what to predict from: {node!r} holds {found}, {len(images)} of which are images."
            raise InputError(msg + " Choose one with tree.map_over_datasets(lambda child: child[['image']]).")
        parts[node] = run(images[0]).to_dataset()
    return tree_of(parts)

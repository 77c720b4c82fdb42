"""Nodes of layers, Datasets and trees, and results in the structure of the input."""

import numpy as np
import pytest
import xarray as xr

from geoxt.errors import GridError, InputError
from geoxt.grid import coordinates
from geoxt.testing import make_grid
from geoxt.trees import from_nodes, grids_of, layers_of, nodes_of

GRIDS = {"west": make_grid((4, 5)), "east": make_grid((3, 6), crs="EPSG:32616")}


def make_layer(grid, name="image"):
    return xr.DataArray(np.zeros(grid.shape), dims=("y", "x"), coords=coordinates(grid), name=name)


def make_tree():
    return xr.DataTree.from_dict({node: make_layer(grid).to_dataset() for node, grid in GRIDS.items()})


@pytest.mark.parametrize("name", ["image", None, "y"])
def test_layer_is_a_node_without_a_name(name):
    layer = make_layer(GRIDS["west"], name)
    nodes = nodes_of(layer)
    assert list(nodes) == [""]
    xr.testing.assert_equal(next(iter(nodes[""].data_vars.values())).variable, layer.variable)
    assert grids_of(layer) == grids_of(nodes[""]) == {"": GRIDS["west"]}
    assert layers_of(layer)[""] is layer
    assert from_nodes({"": layer}, like=layer) is layer


def test_tree_has_a_node_for_each_grid():
    tree = make_tree()
    assert grids_of(tree) == GRIDS
    assert {node: layer.name for node, layer in layers_of(tree).items()} == {"west": "image", "east": "image"}
    xr.testing.assert_identical(from_nodes(nodes_of(tree), like=tree), tree)
    xr.testing.assert_identical(from_nodes(layers_of(tree), like=tree), tree)


def test_layers_at_the_root_are_the_node_without_a_name():
    tree = xr.DataTree(make_layer(GRIDS["west"]).to_dataset())
    assert list(nodes_of(tree)) == [""]
    xr.testing.assert_identical(from_nodes(nodes_of(tree), like=tree), tree)


def test_several_or_no_layers_raise():
    ds = make_layer(GRIDS["west"]).to_dataset().assign(mask=make_layer(GRIDS["west"]))
    with pytest.raises(InputError, match=r"the Dataset holds \['image', 'mask'\]. Choose one, as ds\['image'\] does"):
        layers_of(ds)
    with pytest.raises(InputError, match=r"node 'west' holds \['image', 'mask'\]. Choose one, as tree.map_over"):
        layers_of(xr.DataTree.from_dict({"west": ds}))
    with pytest.raises(GridError, match=r"Cannot find layers in the tree: none of its nodes \['/west'\]"):
        nodes_of(xr.DataTree.from_dict({"west": xr.Dataset({"a": ("time", [1])})}))

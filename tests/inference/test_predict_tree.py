"""Maps of trees and Datasets."""

import dask
import numpy as np
import pytest
import xarray as xr
from torch import nn

import geoxt
from geoxt.errors import InputError
from geoxt.grid import coordinates, grid_of
from geoxt.inference import predict
from geoxt.source import unstack_bands
from geoxt.testing import make_grid
from geoxt.trees import nodes_of

GRIDS = {
    "west": make_grid((50, 60), crs="EPSG:32615", left=748_000, top=4_567_000),
    "east": make_grid((40, 70), crs="EPSG:32616", left=246_800, top=4_567_000),
}


def fail_on_compute(*_, **__):
    msg = "something was computed"
    raise AssertionError(msg)


@pytest.fixture
def tree():
    nodes = {}
    for n, (node, grid) in enumerate(GRIDS.items()):
        values = np.random.default_rng(n).normal(size=(2, *grid.shape)).astype("float32")
        image = xr.DataArray(values, dims=("band", "y", "x"), coords=coordinates(grid)).chunk(y=32, x=32)
        mask = xr.DataArray(np.ones(grid.shape, "uint8"), dims=("y", "x"), attrs={"flag_values": [1]})
        nodes[node] = xr.Dataset({"image": image, "mask": mask})
    return xr.DataTree.from_dict(nodes)


def test_map_of_a_tree_equals_maps_of_its_nodes(tree):
    model = nn.Conv2d(2, 3, 3, padding=1)
    with dask.config.set(scheduler=fail_on_compute):
        predicted = tree.geoml.predict(model, size=32, overlap=8)
    assert isinstance(predicted, xr.DataTree)
    for node, child in nodes_of(predicted).items():
        assert grid_of(child) == GRIDS[node]
        alone = predict(tree[node]["image"], model, size=32, overlap=8)
        xr.testing.assert_identical(child.prediction.compute(), alone.compute())
    mosaic = predicted.geoml.align(make_grid((40, 40), crs="EPSG:5070", left=496_500, top=2_038_500))
    assert mosaic.dims == ("y", "x")
    assert set(np.unique(mosaic)) <= {0, 1, 2, 255}


def test_identity_model_returns_every_node(tree):
    predicted = predict(tree, nn.Identity(), size=16, overlap=4, output="values")
    for node, child in nodes_of(predicted).items():
        np.testing.assert_allclose(child.prediction, tree[node]["image"], atol=1e-6)


def test_node_without_exactly_one_image_raises(tree):
    masks = tree.map_over_datasets(lambda child: child[["mask"]] if "mask" in child else child)
    with pytest.raises(InputError, match=r"node 'west' has \['mask'\], 0 of which are images"):
        predict(masks, nn.Identity())


def test_tree_accessor_binds_the_public_functions(tree):
    pytest.importorskip("matplotlib")
    names = [name for name in dir(geoxt.accessor.DataTreeAccessor) if not name.startswith("_")]
    assert set(names) == {"align", "explore", "extract", "grids", "loader", "plot", "predict", "to_torch"}
    assert tree.geoml.grids == GRIDS
    assert geoxt.accessor.DataTreeAccessor.align is geoxt.align
    titles = [axes.get_title() for axes in tree.geoml.plot().axes]
    panels = ("image: 0", "image: 1", "mask")
    assert [title for title in titles if title] == [f"{node}: {panel}" for node in GRIDS for panel in panels]


def test_dataset_of_bands_or_with_one_image_is_mapped_as_its_image(tree):
    model = nn.Conv2d(2, 3, 3, padding=1)
    ds = tree["west"].to_dataset()
    expected = predict(ds.image, model, size=32, overlap=8)
    xr.testing.assert_identical(predict(ds, model, size=32, overlap=8), expected)
    bands = unstack_bands(ds.image.assign_coords(band=["red", "nir"]))
    assert set(bands.data_vars) == {"red", "nir"}
    np.testing.assert_array_equal(bands.geoml.predict(model, size=32, overlap=8), expected)
    with pytest.raises(InputError, match=r"the Dataset has \['image', 'other'\], 2 of which are images"):
        predict(xr.Dataset({"image": ds.image, "other": ds.image}), model)

"""align, intersection and union of trees and Datasets."""

import dask
import numpy as np
import pytest
import xarray as xr

import geoxt
from geoxt.alignment import align, intersection, union
from geoxt.errors import InputError, OverlapError
from geoxt.grid import coordinates, full_window, grid_of, pixel_offset
from geoxt.pixels import reader
from geoxt.source import Mosaic, unstack_bands, view_of
from geoxt.testing import distinct, make_grid, write_cog
from geoxt.trees import grids_of, layers_of, nodes_of

WEST = {"crs": "EPSG:32615", "left": 748_000.0, "top": 4_567_000.0}
EAST = {"crs": "EPSG:32616", "left": 246_800.0, "top": 4_567_000.0}
ALBERS = make_grid((120, 120), crs="EPSG:5070", left=495_500, top=2_039_500)
COLORS = {1: "#ff0000", 2: "#00ff00", 3: "#0000ff"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("trees")


@pytest.fixture(scope="module")
def paths(folder):
    """Write one scene with gaps in each of two overlapping zones."""
    paths = []
    for n, zone in enumerate((WEST, EAST)):
        values = distinct((2, 90, 100)) + 20_000 * n
        values[:, 20:40, 30:60] = 0
        paths.append(
            str(write_cog(folder / f"{n}.tif", values, grid=make_grid((90, 100), **zone), nodata=0, tiled=False))
        )
    return paths


@pytest.fixture(scope="module")
def tree(paths):
    return geoxt.open_cogs(paths, crs="native", name="image")


@pytest.fixture(scope="module")
def labels(folder):
    codes = (distinct(ALBERS.shape, "uint8") % 3) + 1
    path = write_cog(folder / "labels.tif", codes, grid=ALBERS, nodata=0, colors=COLORS, tiled=False)
    return geoxt.open_cogs(str(path), name="labels")


@pytest.fixture
def nothing_read(monkeypatch):
    def fail_on_compute(*_, **__):
        msg = "a pixel was read"
        raise AssertionError(msg)

    monkeypatch.setattr(reader, "start_read", fail_on_compute)
    with dask.config.set(scheduler=fail_on_compute):
        yield


def test_no_pixel_is_read(tree, labels, nothing_read):
    assert isinstance(intersection(image=tree, mask=labels), xr.DataTree)
    assert isinstance(intersection(image=tree, mask=labels, grid="mask"), xr.Dataset)
    assert isinstance(union(tree, labels.to_dataset(name="image").image), xr.DataTree)
    assert isinstance(align(tree, labels), xr.DataArray)
    assert isinstance(tree.geoml.align(tree), xr.DataTree)


def test_layer_aligned_to_a_tree_equals_alignment_to_each_node(tree, labels):
    aligned = labels.geoml.align(tree)
    assert grids_of(aligned) == grids_of(tree)
    for child in nodes_of(aligned).values():
        xr.testing.assert_identical(child.labels.compute(), align(labels, grid_of(child)).compute())


def test_intersection_of_a_tree_keeps_image_pixels(tree, labels):
    pair = intersection(image=tree, mask=labels, grid="image")
    for node, child in nodes_of(pair).items():
        image = tree[node].image
        assert pixel_offset(grid_of(child), grid_of(image)) is not None
        xr.testing.assert_equal(child.image.compute(), image.sel(x=child.x, y=child.y).compute())
        xr.testing.assert_equal(child["mask"].compute(), align(labels, grid_of(child)).compute())
        assert view_of(child.image).direct
        assert view_of(child["mask"]).direct


def test_tree_aligned_to_a_grid_equals_opening_on_that_grid(tree, paths):
    """Pixels are resampled once: the first valid pixel in scene order wins."""
    target = make_grid((70, 80), crs="EPSG:5070", left=496_500, top=2_038_500)
    aligned = tree.geoml.align(target)
    view = view_of(aligned)
    assert isinstance(view.source, Mosaic)
    assert len(view.source.scenes) == 2
    expected = geoxt.open_cogs(paths, grid=target).compute()
    assert 0 < (expected == 0).mean() < 0.9
    assert np.array_equal(aligned.compute(), expected)
    assert np.array_equal(view.read(full_window(target))[0][0], expected)


def test_cut_nodes_stay_missing_beyond_the_cut(tree):
    """Mosaics with different clips are merged pixel by pixel."""
    cut = tree.map_over_datasets(lambda child: child.isel(x=slice(10, 90)) if "image" in child else child)
    target = make_grid((60, 70), crs="EPSG:5070", left=496_500, top=2_038_500)
    first, second = (align(layer, target).compute() for layer in layers_of(cut).values())
    expected = xr.where(first != 0, first, second)
    actual = align(cut, target)
    assert np.array_equal(actual.compute(), expected)
    assert actual.dtype == "uint16"
    assert ((first != 0) & (second != 0)).any()


def test_scenes_of_the_same_time_are_one_step(folder):
    files = []
    for n, (zone, row, day) in enumerate(
        ((WEST, "024031", "0701"), (EAST, "023031", "0701"), (EAST, "023031", "0717"))
    ):
        name = f"LC08_L2SP_{row}_2019{day}_20200827_02_T1_SR_B2.TIF"
        grid = make_grid((60, 60), **zone)
        files.append(str(write_cog(folder / name, distinct((60, 60)) + 9000 * n, grid=grid, nodata=0, tiled=False)))
    tree = geoxt.open_cogs(files, product="landsat8", crs="native", groupby="day")
    assert [child.sizes["time"] for child in nodes_of(tree).values()] == [1, 2]
    target = make_grid((60, 70), crs="EPSG:5070", left=495_800, top=2_038_600)
    aligned = align(tree, target)
    expected = geoxt.open_cogs(files, product="landsat8", grid=target, groupby="day")
    assert aligned.time.dt.strftime("%m%d").values.tolist() == ["0701", "0717"]
    assert np.array_equal(aligned.compute(), expected.compute())


def test_coinciding_nodes_of_two_trees_are_copied(tree, labels):
    drawn = labels.geoml.align(tree)
    pair = intersection(image=tree, mask=drawn)
    for node, child in nodes_of(pair).items():
        assert np.array_equal(child["mask"], drawn[node].labels)
    other = labels.to_dataset(name="labels")
    pair = intersection(image=tree, mask=xr.DataTree.from_dict({"epsg_5070": other}))
    for child in nodes_of(pair).values():
        assert np.array_equal(child["mask"], align(labels, grid_of(child)))


def test_union_of_trees_unites_coinciding_nodes(tree, paths, folder):
    more = write_cog(
        folder / "more.tif", distinct((2, 40, 40)), grid=make_grid((40, 40), **{**WEST, "left": 750_400.0}), nodata=0,
        tiled=False,
    )  # fmt: skip
    both = union(tree, geoxt.open_cogs(str(more), name="image"))
    assert list(nodes_of(both)) == ["epsg_32615", "epsg_32616"]
    assert np.array_equal(both["epsg_32615/image"], geoxt.open_cogs([paths[0], str(more)]))
    xr.testing.assert_identical(both["epsg_32616/image"].compute(), tree["epsg_32616/image"].compute())


def test_trees_that_do_not_overlap_raise(tree, labels):
    far = geoxt.open_cogs(view_of(tree["epsg_32615"].image).source.scenes[0].assets[0].href, crs="EPSG:32615")
    far = far.assign_coords(x=far.x + 900_000)
    with pytest.raises(OverlapError, match=r"do not overlap: 'image' lies in .* \(EPSG:32615\), 'epsg_32615' lies in"):
        align(far, tree)
    with pytest.raises(
        OverlapError, match=r"\(EPSG:32615\), .*\(EPSG:32616\), 'the target grid' lies in .*\(EPSG:5070\)"
    ):
        align(tree, make_grid((9, 9), crs="EPSG:5070", left=0, top=0))
    with pytest.raises(OverlapError, match=r"intersect \['image', 'mask'\]: they share an area in none of the nodes"):
        intersection(image=tree, mask=far.isel(band=0, drop=True))
    pair = intersection(image=tree, mask=labels)
    with pytest.raises(InputError, match=r"'epsg_32615' holds \['image', 'mask'\]. Choose one"):
        align(pair, labels)
    with pytest.raises(InputError, match=r"grid of 'image2': the layers are \['image'\]"):
        intersection(image=tree, grid="image2")


def test_dataset_is_aligned_variable_by_variable(tree, labels):
    layer = tree["epsg_32615"].image
    bands = unstack_bands(layer.assign_coords(band=["red", "nir"]))
    target = grid_of(labels)
    aligned = align(bands, labels)
    assert isinstance(aligned, xr.Dataset)
    assert np.array_equal(aligned.to_dataarray("band"), align(layer, target))
    of_nodes = align(bands, tree)
    assert list(nodes_of(of_nodes)) == list(nodes_of(tree))
    assert set(of_nodes["epsg_32616"].data_vars) == {"red", "nir"}


def test_dataset_of_bands_is_one_layer_of_an_intersection(tree, labels):
    layer = tree["epsg_32615"].image.assign_coords(band=["red", "nir"])
    bands = unstack_bands(layer)
    pair = intersection(image=bands, mask=labels)
    assert pair.image.band.values.tolist() == ["red", "nir"]
    assert np.array_equal(pair.image, intersection(image=layer, mask=labels).image)
    assert np.array_equal(union(bands, bands), layer)


def test_dataset_in_degrees_is_aligned(labels):
    grid = make_grid((90, 90), crs="EPSG:4326", left=-90.02, top=41.2, resolution=0.0003)
    layer = xr.DataArray(distinct(grid.shape, "float32"), dims=("y", "x"), coords=coordinates(grid), name="dem")
    as_odc_stac = layer.to_dataset().rename(y="latitude", x="longitude")
    assert np.array_equal(align(as_odc_stac, labels).dem, align(layer, labels), equal_nan=True)

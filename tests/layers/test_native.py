"""Scenes in their native CRSs: one child per CRS, bit-equal to the files; rotated grids raise."""

import dask
import numpy as np
import pytest
import rasterio
import rasterio.windows
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import geoxt
from geoxt.crs import crs_name
from geoxt.errors import GridError, InputError, OverlapError
from geoxt.grid import full_window, grid_of, pixel_offset
from geoxt.pixels import reader
from geoxt.source import view_of
from geoxt.testing import distinct, make_grid
from geoxt.trees import grids_of, nodes_of
from geoxt.windows import Window

EAST = {"crs": "EPSG:32616", "left": 248_000.0, "top": 4_567_000.0}
WEST = {"crs": "EPSG:32615", "left": 748_000.0, "top": 4_567_000.0}
DEGREES = {"crs": "EPSG:4326", "left": -90.0, "top": 41.2, "resolution": 0.0003}


@pytest.fixture(scope="module")
def scenes(write, tmp_path_factory):
    """Write two overlapping scenes in one UTM zone, one in the next zone, and one south-up in degrees."""
    folder = tmp_path_factory.mktemp("native")
    grids = {
        "a": make_grid((60, 70), **WEST),
        "b": make_grid((50, 40), **EAST),
        "c": make_grid((40, 50), **{**WEST, "left": 748_900.0, "top": 4_566_100.0}),
        "d": make_grid((30, 45), south_up=True, **DEGREES),
    }
    return {
        name: (write(distinct((2, *g.shape)) + 9000 * n, g, f"{name}.tif", folder, nodata=0), g)
        for n, (name, g) in enumerate(grids.items())
    }


@pytest.fixture(scope="module")
def tree(scenes):
    return geoxt.open_cogs([path for path, _ in scenes.values()], crs="native", chunks=16)


def test_tree_has_one_child_per_crs_in_scene_order(tree, scenes):
    assert isinstance(tree, xr.DataTree)
    assert list(nodes_of(tree)) == ["epsg_32615", "epsg_32616", "epsg_4326"]
    assert [crs_name(grid.crs) for grid in grids_of(tree).values()] == ["EPSG:32615", "EPSG:32616", "EPSG:4326"]
    assert all(list(child.data_vars) == ["image"] for child in nodes_of(tree).values())
    assert grids_of(tree)["epsg_32615"].shape == (70, 80)
    assert grids_of(tree)["epsg_4326"] == scenes["d"][1]


@given(st.data())
def test_windows_are_bit_equal_to_the_topmost_file(tree, scenes, data):
    name = data.draw(st.sampled_from(sorted(scenes)))
    path, grid = scenes[name]
    layer = next(c.image for c in nodes_of(tree).values() if pixel_offset(grid, grid_of(c)) is not None)
    rows, cols = grid.shape
    row, col = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, cols - 1))
    window = Window(row, col, data.draw(st.integers(1, rows - row)), data.draw(st.integers(1, cols - col)))
    with rasterio.open(path) as file:
        expected = file.read(window=rasterio.windows.Window(col, row, window.width, window.height))
    layer_window = window.shift(*pixel_offset(grid, grid_of(layer)))
    lazy = (
        layer[(slice(None), *layer_window.within(full_window(grid_of(layer))))]
        .compute(scheduler="synchronous")
        .to_numpy()
    )
    values, valid = view_of(layer).read(layer_window)
    topmost = np.ones(window.shape, bool)
    if name == "c":  # "a" is listed first and covers "c"
        covered = full_window(scenes["a"][1]).intersect(window.shift(*pixel_offset(grid, scenes["a"][1])))
        if covered is not None:
            topmost[covered.within(window.shift(*pixel_offset(grid, scenes["a"][1])))] = False
    assert valid.all()
    assert np.array_equal(values[0], lazy)
    assert np.array_equal(lazy[:, topmost], expected[:, topmost])


def test_opening_reads_no_pixel(scenes, monkeypatch):
    def raise_on_read(*_, **__):
        raise AssertionError

    monkeypatch.setattr(reader, "start_read", raise_on_read)
    with dask.config.set(scheduler=raise_on_read):
        geoxt.open_cogs([path for path, _ in scenes.values()], crs="native")


def test_scenes_shifted_by_a_fraction_of_a_pixel_have_separate_children(write):
    grids = [make_grid((20, 20), **WEST), make_grid((20, 20), **{**WEST, "left": 748_010.0})]
    paths = [write(distinct((20, 20)) + n, grid) for n, grid in enumerate(grids)]
    tree = geoxt.open_cogs(paths, crs="native", name="dem")
    assert grids_of(tree) == dict(zip(["epsg_32615", "epsg_32615_2"], grids, strict=True))
    for n, child in enumerate(nodes_of(tree).values()):
        assert np.array_equal(child.dem.squeeze(), distinct((20, 20)) + n)


def test_bands_of_several_resolutions_need_resolution(write, tmp_path):
    names = "S2A_MSIL2A_20200601T100031_N0500_R122_T33UUP_20230101T000000"
    paths = [
        write(distinct((side, side)), make_grid((side, side), resolution=600.0 / side), f"{band}.tif", tmp_path / names)
        for band, side in (("B02", 60), ("B05", 30))
    ]
    with pytest.raises(
        GridError, match=r"their pixels are 10 x 10 and 20 x 20 .*EPSG:32615\. Pass bands= .*resolution="
    ):
        _one_scene(paths, crs="native")
    tree = _one_scene(paths, crs="native", resolution=10)
    assert grids_of(tree)["epsg_32615"].shape == (60, 60)
    assert np.array_equal(tree["epsg_32615/two"][0], distinct((60, 60)))


def _one_scene(paths, **options):
    """Open bands of several grids as one scene, as of a STAC item."""
    from geoxt.layers.assemble import LayerMetadata, LayerOptions
    from geoxt.layers.native import assemble_native
    from geoxt.source import Asset, Scene

    assets = []
    for path in paths:
        with rasterio.open(path) as file:
            size = file.res[0]
        side = round(600 / size)
        assets.append(Asset(href=path, band=1, grid=make_grid((side, side), resolution=size), dtype="uint16"))
    options.pop("crs")
    return assemble_native(
        [Scene(id="S2A", assets=tuple(assets))],
        LayerMetadata(bands=("B02", "B05")),
        LayerOptions(name="two", **options),
    )


def test_rotated_scenes_and_grid_argument_raise(write):
    path = write(distinct((20, 20)), make_grid((20, 20), degrees=20))
    with pytest.raises(GridError, match=r"scene '.*raster.*': its grid is rotated.*Pass crs="):
        geoxt.open_cogs(path, crs="native")
    with pytest.raises(GridError, match=r"Pass either crs='native' or grid="):
        geoxt.open_cogs(write(distinct((20, 20)), make_grid((20, 20))), crs="native", grid=make_grid((9, 9)))


def test_bbox_crops_every_child(world):
    box = (-90.003, 41.19, -89.997, 41.205)
    tree = geoxt.open_stac(str(world.items), collections="landsat-c2-l2", crs="native", bbox=box, groupby="day")
    plain = {
        node: geoxt.open_stac(str(world.items), collections="landsat-c2-l2", crs="native", groupby="day")[node]
        for node in nodes_of(tree)
    }
    assert list(plain) == ["epsg_32615", "epsg_32616"]
    for node, child in nodes_of(tree).items():
        layer, full = child["landsat-c2-l2"], plain[node]["landsat-c2-l2"]
        assert layer.sizes["x"] < full.sizes["x"]
        assert layer.time.dt.strftime("%j").item() in {"182", "189"}
        xr.testing.assert_equal(layer.compute(), full.sel(x=layer.x, y=layer.y).compute())
    with pytest.raises(InputError):
        geoxt.open_stac(str(world.items), collections="landsat-c2-l2", crs="native", bbox=(10, 50, 11, 51))


def test_vector_is_burned_on_every_intersecting_child(tree, tmp_path):
    geopandas = pytest.importorskip("geopandas")
    shapely = pytest.importorskip("shapely")
    frame = geopandas.GeoDataFrame(geometry=[shapely.box(748_300, 4_565_500, 748_900, 4_566_500)], crs="EPSG:32615")
    frame.to_file(tmp_path / "field.gpkg")
    burned = geoxt.open_vector(tmp_path / "field.gpkg", like=tree, name="field")
    assert set(nodes_of(burned)) < set(nodes_of(tree))
    for node, child in nodes_of(burned).items():
        single = geoxt.open_vector(tmp_path / "field.gpkg", grid=grids_of(tree)[node], name="field")
        xr.testing.assert_identical(child.field.compute(), single.compute())
    assert burned["epsg_32615/field"].sum() > 0
    distant_tree = geoxt.open_cogs(tree_path(tmp_path), crs="native")
    with pytest.raises(OverlapError, match="Cannot rasterize"):
        geoxt.open_vector(tmp_path / "field.gpkg", like=distant_tree)


def tree_path(folder):
    from geoxt.testing import write_cog

    return str(write_cog(folder / "far.tif", distinct((9, 9)), grid=make_grid((9, 9), crs="EPSG:32633"), tiled=False))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    from geoxt.testing import make_world

    return make_world(tmp_path_factory.mktemp("world"), size=128, blocksize=128)

"""Scenes in their own CRSs: a child for each, bit-equal to the files; what cannot stay as it is, is refused."""

import dask
import numpy as np
import pytest
import rasterio
import rasterio.windows
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import geoxt
from geoxt.errors import GridError, InputError, OverlapError
from geoxt.grid import crs_name, full_window, grid_of, pixel_offset
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
    """Two scenes in one zone, that coincide and overlap, one in the next and one in degrees, north and south up."""
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


def test_there_is_a_child_for_each_crs_in_the_order_of_scenes(tree, scenes):
    assert isinstance(tree, xr.DataTree)
    assert list(nodes_of(tree)) == ["epsg_32615", "epsg_32616", "epsg_4326"]
    assert [crs_name(grid.crs) for grid in grids_of(tree).values()] == ["EPSG:32615", "EPSG:32616", "EPSG:4326"]
    assert all(list(child.data_vars) == ["image"] for child in nodes_of(tree).values())
    assert grids_of(tree)["epsg_32615"].shape == (70, 80)
    assert grids_of(tree)["epsg_4326"] == scenes["d"][1]


@given(st.data())
def test_every_window_is_bit_equal_to_the_file_that_shows(tree, scenes, data):
    name = data.draw(st.sampled_from(sorted(scenes)))
    path, own = scenes[name]
    layer = next(c.image for c in nodes_of(tree).values() if pixel_offset(own, grid_of(c)) is not None)
    rows, cols = own.shape
    row, col = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, cols - 1))
    window = Window(row, col, data.draw(st.integers(1, rows - row)), data.draw(st.integers(1, cols - col)))
    with rasterio.open(path) as file:
        expected = file.read(window=rasterio.windows.Window(col, row, window.width, window.height))
    place = window.shift(*pixel_offset(own, grid_of(layer)))
    lazy = layer[(slice(None), *place.within(full_window(grid_of(layer))))].compute(scheduler="synchronous").to_numpy()
    values, valid = view_of(layer).read(place)
    free = np.ones(window.shape, bool)
    if name == "c":  # beneath "a", which was given first
        over = full_window(scenes["a"][1]).intersect(window.shift(*pixel_offset(own, scenes["a"][1])))
        if over is not None:
            free[over.within(window.shift(*pixel_offset(own, scenes["a"][1])))] = False
    assert valid.all()
    assert np.array_equal(values[0], lazy)
    assert np.array_equal(lazy[:, free], expected[:, free])


def test_opening_reads_no_pixel(scenes, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError

    monkeypatch.setattr(reader, "start_read", refuse)
    with dask.config.set(scheduler=refuse):
        geoxt.open_cogs([path for path, _ in scenes.values()], crs="native")


def test_scenes_shifted_by_part_of_a_pixel_have_a_child_each(write):
    grids = [make_grid((20, 20), **WEST), make_grid((20, 20), **{**WEST, "left": 748_010.0})]
    paths = [write(distinct((20, 20)) + n, grid) for n, grid in enumerate(grids)]
    tree = geoxt.open_cogs(paths, crs="native", name="dem")
    assert grids_of(tree) == dict(zip(["epsg_32615", "epsg_32615_2"], grids, strict=True))
    for n, child in enumerate(nodes_of(tree).values()):
        assert np.array_equal(child.dem.squeeze(), distinct((20, 20)) + n)


def test_bands_of_several_sizes_need_a_resolution(write, tmp_path):
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
    """Open bands of several grids as one scene, as STAC items have them."""
    from geoxt.layers.assemble import LayerMetadata, Placement
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
        [Scene(id="S2A", assets=tuple(assets))], LayerMetadata(bands=("B02", "B05")), Placement(name="two", **options)
    )


def test_turned_scenes_and_a_grid_of_ones_own_are_refused(write):
    path = write(distinct((20, 20)), make_grid((20, 20), degrees=20))
    with pytest.raises(GridError, match=r"scene '.*raster.*': its grid is rotated.*Pass crs="):
        geoxt.open_cogs(path, crs="native")
    with pytest.raises(GridError, match=r"Pass either crs='native' or grid="):
        geoxt.open_cogs(write(distinct((20, 20)), make_grid((20, 20))), crs="native", grid=make_grid((9, 9)))


def test_items_in_two_zones_are_cut_to_a_box_in_each(world):
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


def test_vectors_are_drawn_on_every_child_that_they_meet(tree, tmp_path):
    geopandas = pytest.importorskip("geopandas")
    shapely = pytest.importorskip("shapely")
    frame = geopandas.GeoDataFrame(geometry=[shapely.box(748_300, 4_565_500, 748_900, 4_566_500)], crs="EPSG:32615")
    frame.to_file(tmp_path / "field.gpkg")
    drawn = geoxt.open_vector(tmp_path / "field.gpkg", like=tree, name="field")
    assert set(nodes_of(drawn)) < set(nodes_of(tree))
    for node, child in nodes_of(drawn).items():
        alone = geoxt.open_vector(tmp_path / "field.gpkg", grid=grids_of(tree)[node], name="field")
        xr.testing.assert_identical(child.field.compute(), alone.compute())
    assert drawn["epsg_32615/field"].sum() > 0
    far = geoxt.open_cogs(tree_path(tmp_path), crs="native")
    with pytest.raises(OverlapError, match="Cannot draw"):
        geoxt.open_vector(tmp_path / "field.gpkg", like=far)


def tree_path(folder):
    from geoxt.testing import write_cog

    return str(write_cog(folder / "far.tif", distinct((9, 9)), grid=make_grid((9, 9), crs="EPSG:32633"), tiled=False))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    from geoxt.testing import make_world

    return make_world(tmp_path_factory.mktemp("world"), size=128, blocksize=128)

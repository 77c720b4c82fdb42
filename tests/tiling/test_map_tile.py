"""Tilings: every pixel in one tile, names, polygons in other CRSs, and the antimeridian."""

import geopandas
import numpy as np
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from geoxt.errors import CRSError, InputError, ReadError
from geoxt.testing import make_grid
from geoxt.tiling.map_tile import make_tiles
from geoxt.windows import Window

GRID = make_grid((70, 53))


def counts(tiles, shape=GRID.shape):
    """Return the number of tiles of each pixel."""
    pixels = np.zeros(shape, int)
    for tile in tiles:
        pixels[tile.window.within(Window(0, 0, *shape))] += 1
    return pixels


@pytest.mark.parametrize(
    ("size", "crs"), [(20, None), ((70, 7), None), (1000, None), (600.0, "EPSG:32615"), (437.0, "EPSG:32615")]
)
def test_squares_cover_each_pixel_once(size, crs):
    tiles = make_tiles({"": GRID}, size, crs)
    assert (counts(tiles) == 1).all()
    assert len({tile.name for tile in tiles}) == len(tiles)


def test_squares_of_another_crs_cover_each_pixel():
    tiles = make_tiles({"": GRID}, 700, "EPSG:5070")
    assert (counts(tiles) >= 1).all()
    for tile in tiles:  # corners are multiples of the side
        col, row = (int(number) for number in tile.name[1:].split("y"))
        square = shapely.box(col * 700, row * 700, (col + 1) * 700, (row + 1) * 700)
        there = geopandas.GeoSeries([tile.geometry], crs="OGC:CRS84").to_crs("EPSG:5070")[0]
        assert square.intersects(there)


def grid_of_box(crs, resolution, *box):
    return GeoBox.from_bbox(box, crs, resolution=resolution)


@pytest.mark.parametrize(
    ("grid", "side", "crs", "most"),
    [
        (grid_of_box("EPSG:3413", 50_000, -1e6, -1e6, 1e6, 1e6), 10, "EPSG:4326", 40),  # the pole
        (grid_of_box("EPSG:3031", 50_000, -1e6, -1e6, 1e6, 1e6), 10, "EPSG:4326", 40),
        (grid_of_box("EPSG:32660", 5000, 5e5, 6e6, 1e6, 6.5e6), 1, "EPSG:4326", 1.4),  # the antimeridian
        (grid_of_box("EPSG:3832", 50_000, -2e6, -1e6, 6e6, 1e6), 10, "EPSG:4326", 1.1),
        (grid_of_box("EPSG:4326", 0.1, 177, -20, 182, -15), 100_000, "EPSG:32760", 1.2),
        (grid_of_box("EPSG:4326", 2, -180, -90, 180, 90), 2e6, "EPSG:6933", 1.1),
        (grid_of_box("EPSG:3035", 50_000, 2.5e6, 1.4e6, 7e6, 5.5e6), 10, "EPSG:4326", 1.7),
    ],
)
def test_squares_cover_poles_and_the_antimeridian(grid, side, crs, most):
    tiles = make_tiles({"": grid}, side, crs)
    pixels = counts(tiles, grid.shape)
    assert pixels.min() >= 1
    assert pixels.mean() < most
    assert len({tile.name for tile in tiles}) == len(tiles)
    for tile in tiles:
        west, south, east, north = shapely.bounds(tile.geometry)
        assert -180 <= west < east <= 180
        assert -90 <= south < north <= 90
        assert tile.geometry.is_valid


# Squares by the package mgrs 1.6.0 (GEOTRANS of the National Geospatial-Intelligence Agency)
MGRS_POINTS = {
    "32VKN": (5.33, 60.39), "33UUU": (13.4, 52.52), "17MQV": (-78.5, -0.2), "56HLH": (151.2, -33.9),
    "60KXE": (178.4, -18.1), "01KAB": (-179.97, -16.8), "33XWG": (15.6, 78.2),
}  # fmt: skip


@pytest.mark.parametrize(("name", "lon", "lat"), [(name, *point) for name, point in MGRS_POINTS.items()])
def test_mgrs(name, lon, lat):
    lon = lon % 360 if abs(lon) > 170 else lon
    grid = grid_of_box("EPSG:4326", 0.1, lon - 3, lat - 3, lon + 3, lat + 3)
    tiles = make_tiles({"": grid}, "MGRS", None)
    pixels = counts(tiles, grid.shape)
    assert pixels.min() >= 1
    assert pixels.mean() < 2.5
    (tile,) = [tile for tile in tiles if tile.name == name]
    col, row = ~grid.affine @ (lon, lat)
    assert tile.window.contains(Window(int(row), int(col), 1, 1))


def test_mgrs_within_a_zone_is_its_squares():
    grid = grid_of_box("EPSG:32633", 10_000, 350_000, 5_410_000, 650_000, 5_700_000)
    squares = {tile.name: tile.window for tile in make_tiles({"": grid}, "mgrs", None)}
    assert set(squares.values()) == {tile.window for tile in make_tiles({"": grid}, 100_000, "EPSG:32633")}
    assert list(squares)[:2] == ["33UUS", "33UVS"]


@pytest.mark.parametrize(
    ("grid", "tiles", "crs", "text"),
    [
        (grid_of_box("EPSG:4326", 1, 0, 80, 6, 90), "MGRS", None, r"MGRS.*36 of its 60 pixels are in none"),
        (grid_of_box("EPSG:4326", 2, -180, -90, 180, 90), 2e6, "EPSG:3035", r"EPSG:3035.* pixels are in none"),
        (GRID, 0.001, "EPSG:32615", "a map can have 1,000,000"),
    ],
)
def test_maps_beyond_the_squares_raise(grid, tiles, crs, text):
    with pytest.raises(InputError, match=text):
        make_tiles({"": grid}, tiles, crs)


@pytest.mark.parametrize(
    ("box", "col"),
    [((-180, -90, 180, 90), 0), ((27, 41, 180, 80), 0), ((-170, -60, 60, 70), 0), ((200, 0, 420, 80), 0)],
)
def test_polygons_that_reach_around_the_earth(box, col):
    grid = grid_of_box("EPSG:32637", 2000, 400_000, 6_000_000, 600_000, 6_200_000)
    (tile,) = make_tiles({"": grid}, geopandas.GeoSeries([shapely.box(*box)], crs=4326), None)
    assert tile.window == Window(0, col, 100, 100)


def test_polygons_beside_the_antimeridian():
    grid = grid_of_box("EPSG:4326", 0.1, 175, -20, 185, -15)
    west = shapely.box(-179, -18, -178, -17)
    (tile,) = make_tiles({"": grid}, geopandas.GeoSeries([west], crs=4326), None)
    assert tile.window == Window(20, 60, 10, 10)
    assert tile.geometry.symmetric_difference(west).area < 1e-9


def test_polygons_take_pixels_by_their_centres():
    left, top = GRID.affine.c, GRID.affine.f
    size = GRID.resolution.x
    inside = shapely.box(left + 2.6 * size, top - 9.4 * size, left + 5.5001 * size, top - 4 * size)
    far = shapely.box(left - 9000, top, left - 8000, top + 100)
    table = geopandas.GeoDataFrame({"name": ["north / west", "far"]}, geometry=[inside, far], crs="EPSG:32615")
    for polygons in (table, table.to_crs("OGC:CRS84")):
        near, outside = make_tiles({"": GRID}, polygons, None)
        assert near.name == "north_west"
        assert (near.window.row, near.window.col, *near.window.shape) == (4, 3, 5, 3)
        assert outside.window is None
        assert outside.geometry.symmetric_difference(table.to_crs("OGC:CRS84").geometry[1]).area < 1e-8


def test_files_and_nodes(tmp_path):
    table = geopandas.GeoDataFrame(geometry=[shapely.box(*GRID.boundingbox)], crs=GRID.crs.to_wkt(), index=["all"])
    table.to_parquet(tmp_path / "tiles.parquet")
    table.to_file(tmp_path / "tiles.gpkg")
    moved = GeoBox((70, 53), Affine.translation(53 * 30, 0) * GRID.affine, GRID.crs)
    (tile,) = make_tiles({"a": GRID, "b": moved}, tmp_path / "tiles.parquet", None)
    assert (tile.name, tile.window.node, tile.window.shape) == ("a-all", "a", GRID.shape)
    assert make_tiles({"": GRID}, str(tmp_path / "tiles.gpkg"), None)[0].window.shape == GRID.shape


def test_outlines_are_cut_at_the_antimeridian():
    grid = GeoBox((10, 20), Affine(0.1, 0, 179, 0, -0.1, 10), "EPSG:4326")
    tiles = make_tiles({"": grid.to_crs("EPSG:32601")}, 500, None)
    for tile in tiles:
        west, _, east, _ = shapely.bounds(tile.geometry)
        assert -180 <= west < east <= 180
        assert tile.geometry.area < 20


@pytest.mark.parametrize(
    ("tiles", "crs", "error", "text"),
    [
        (0, None, InputError, "map tiles of 0 pixels"),
        (2.5, None, InputError, "tile_crs="),
        ("MGRS", "EPSG:32615", InputError, "tile_crs="),
        (float("nan"), "EPSG:32615", InputError, "above 0"),
        ("missing.gpkg", None, ReadError, "missing.gpkg"),
        (geopandas.GeoSeries([shapely.box(0, 0, 1, 1)]), None, CRSError, "no CRS"),
        (geopandas.GeoSeries([shapely.Point(0, 0)], crs=4326), None, InputError, "polygons"),
        (geopandas.GeoSeries([], crs=4326), None, InputError, "polygons"),
        (geopandas.GeoSeries([shapely.box(0, 0, 1, 1)], crs=4326), "EPSG:32615", InputError, "tile_crs="),
        (
            geopandas.GeoDataFrame({"id": [1, 1]}, geometry=[shapely.box(0, 0, 1, 1)] * 2, crs=4326),
            None,
            InputError,
            "'1' is the name of several",
        ),
    ],
)
def test_invalid_tilings_raise(tiles, crs, error, text):
    with pytest.raises(error, match=text):
        make_tiles({"": GRID}, tiles, crs)

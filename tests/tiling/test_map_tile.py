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

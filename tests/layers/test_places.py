"""Where an item says that it has data: places without are left out of the footprint, and no valid pixel ever is."""

from datetime import UTC, datetime

import numpy as np
import pytest
import shapely
import shapely.affinity
import shapely.geometry
from hypothesis import given, settings
from hypothesis import strategies as st

from geoxt.footprints import RELATIVE_BUFFER
from geoxt.grid import full_window, grid_of, parse_crs, transformer
from geoxt.layers import open_stac
from geoxt.samplers import RandomSampler
from geoxt.source import view_of
from geoxt.testing import distinct, make_grid, make_item, write_cog

WHEN = datetime(2022, 5, 17, 10, 30, tzinfo=UTC)
SIDE = 400
GRID = make_grid((SIDE, SIDE))
TILTED = np.array([(0.25, 0.02), (0.98, 0.2), (0.75, 0.98), (0.02, 0.8)])
"""Corners of what has data, in sides of the raster: a quarter of the raster has none."""
DATELINE = {"crs": "EPSG:32660", "left": 570_000, "top": 7_500_000, "resolution": 300}


def degrees(corners, grid, jitter=0.0, digits=None):
    """Return corners as a GeoJSON polygon of longitudes and latitudes, beside where they are by a share of the side."""
    x, y = grid.affine @ ((np.asarray(corners) + jitter) * grid.shape[::-1]).T
    points = np.stack(transformer(grid.crs, parse_crs("EPSG:4326")).transform(x, y), axis=1)
    return {"type": "Polygon", "coordinates": [np.round(points, digits or 12)[[0, 1, 2, 3, 0]].tolist()]}


def inside(corners, grid):
    rows, cols = np.indices(grid.shape) + 0.5
    polygon = shapely.polygons(np.asarray(corners) * grid.shape[::-1])
    return shapely.contains_xy(polygon, cols, rows)


def tilted(write, *, grid=GRID, geometry=None, nodata=0, name="tilted", **options):
    values = np.where(inside(TILTED, grid), np.maximum(distinct(grid.shape), 1), 0).astype("uint16")
    item = make_item(name, {"b": write(values, grid, nodata=nodata)}, time=WHEN)
    item.geometry = geometry or degrees(TILTED, grid)
    return open_stac(item, **options)


def hidden(layer):
    """Return how many valid pixels lie outside of the footprint."""
    view = view_of(layer)
    _, valid = view.read(full_window(grid_of(layer)))
    rows, cols = np.nonzero(valid[0, 0])
    return int((~shapely.intersects_xy(view.footprint(), cols + 0.5, rows + 0.5)).sum())


def share(layer):
    return view_of(layer).footprint().area / (layer.sizes["y"] * layer.sizes["x"])


@pytest.mark.parametrize(
    "options", [{}, {"crs": "EPSG:5070", "resolution": 30}, {"crs": "EPSG:4326", "resolution": 4e-4}]
)
def test_corners_without_data_are_left_out(write, options):
    layer = tilted(write, **options)
    full = shapely.Polygon(TILTED).area
    assert hidden(layer) == 0
    if not options:
        assert full < share(layer) < full + 4 * 0.8 * (RELATIVE_BUFFER + 9 / SIDE)
    assert share(layer) < 0.85


def test_samplers_draw_where_data_are_without_looking(write):
    sampler = RandomSampler(tilted(write), size=32, length=200, seed=1)
    rough = RandomSampler(tilted(write, nodata=None), size=32, length=200, seed=1)
    data = inside(TILTED, GRID)
    empty = [sum(not data[w.row : w.row + 32, w.col : w.col + 32].any() for w in one) for one in (sampler, rough)]
    assert empty[0] == 0
    assert empty[1] > 20


@settings(max_examples=10, deadline=None)
@given(
    jitter=st.lists(st.floats(-1, 1), min_size=8, max_size=8), crs=st.sampled_from([32615, 32632, 5070, 3413]),
    digits=st.sampled_from([3, 5]),
)  # fmt: skip
def test_no_valid_pixel_is_hidden_by_a_place_that_is_a_little_wrong(crs, jitter, digits, tmp_path_factory):
    left, top = (-200_000, -1_500_000) if crs == 3413 else (600_000, 4_550_000) if crs != 5070 else (0, 2_000_000)
    grid = make_grid((SIDE, SIDE), crs=f"EPSG:{crs}", left=left, top=top, resolution=300.0)  # edges bend by pixels

    def put(values, grid, nodata):
        return str(write_cog(tmp_path_factory.mktemp("p") / "a.tif", values, grid=grid, nodata=nodata, tiled=False))

    geometry = degrees(TILTED, grid, np.reshape(jitter, (4, 2)) * RELATIVE_BUFFER, digits)
    layer = tilted(put, grid=grid, geometry=geometry)
    assert hidden(layer) == 0
    assert share(layer) < 0.85


@pytest.mark.parametrize(
    "geometry",
    [
        None,
        {"type": "Point", "coordinates": [-93, 41]},
        {"type": "Polygon", "coordinates": []},
        {"type": "Polygon", "coordinates": [[[10, 50], [11, 50.2], [10.5, 51], [10, 50]]]},  # elsewhere
        {"type": "Polygon", "coordinates": [[[-120, 20], [-70, 20.5], [-71, 60], [-119, 59], [-120, 20]]]},
        {"type": "LineString", "coordinates": [[-93, 41], [-92, 41]]},
    ],
)
def test_what_says_nothing_of_the_place_leaves_the_outline(write, geometry):
    layer = tilted(write)
    item = make_item("one", {"b": view_of(layer).source.scenes[0].assets[0].href}, time=WHEN)
    item.geometry = geometry
    assert share(open_stac(item)) == pytest.approx(1)


def test_files_that_mark_nothing_are_valid_everywhere(write):
    layer = tilted(write, nodata=None)
    assert share(layer) == pytest.approx(1)
    assert hidden(layer) == 0
    assert share(tilted(write, nodata=0)) < 0.85


def test_a_place_across_the_antimeridian(write):
    grid = make_grid((SIDE, SIDE), **DATELINE)
    whole_place = shapely.geometry.shape(degrees(TILTED, grid))
    points = shapely.get_coordinates(whole_place)
    assert points[:, 0].min() < 0 < points[:, 0].max()
    turned = shapely.Polygon(np.c_[points[:, 0] % 360, points[:, 1]])
    east = shapely.intersection(turned, shapely.box(0, -90, 180, 90))
    west = shapely.affinity.translate(shapely.intersection(turned, shapely.box(180, -90, 360, 90)), -360)
    for shape in (shapely.MultiPolygon([east, west]), whole_place):
        layer = tilted(write, grid=grid, geometry=shapely.geometry.mapping(shape))
        assert hidden(layer) == 0
    halves = shapely.geometry.mapping(shapely.MultiPolygon([east, west]))
    assert share(tilted(write, grid=grid, geometry=halves)) < 0.9
    assert hidden(tilted(write, grid=grid, geometry=halves, crs="EPSG:4326", resolution=0.004)) == 0


def test_it_decides_no_pixel_and_goes_along(write):
    layer = tilted(write)
    (scene,) = view_of(layer).source.scenes
    assert shapely.from_wkb(scene.geometry).equals(shapely.geometry.shape(degrees(TILTED, GRID)))
    part = layer.isel(x=slice(100, 200), y=slice(0, 50))
    ring = view_of(part).footprint()
    moved = shapely.transform(view_of(layer).footprint(), lambda p: p - (100, 0))
    assert ring.equals(shapely.intersection(moved, shapely.box(0, 0, 100, 50)))
    told = open_stac(make_item("box", {"b": scene.assets[0].href}, time=WHEN))
    assert np.array_equal(told.compute(scheduler="synchronous"), layer.compute(scheduler="synchronous"))

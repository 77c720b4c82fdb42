"""Areas: a grid is cropped to whole pixels, also across the antimeridian."""

import numpy as np
import pytest
import shapely
import shapely.geometry

from geoxt.crs import transformer
from geoxt.errors import InputError, OverlapError
from geoxt.grid import pixel_offset
from geoxt.layers.area import area_of
from geoxt.layers.extent import bounds_in, longitudes
from geoxt.testing import make_grid

GRID = make_grid((200, 300))
LEFT, BOTTOM, RIGHT, TOP = GRID.boundingbox


def degrees(x, y):
    return transformer(GRID.crs, make_grid((1, 1), crs="EPSG:4326").crs).transform(x, y)


def test_crop_contains_the_box_on_the_pixel_lattice():
    west, south = degrees(LEFT + 2000, BOTTOM + 2000)
    east, north = degrees(LEFT + 5000, BOTTOM + 4000)
    cropped = area_of((west, south, east, north), None).cut(GRID)
    row, col = pixel_offset(cropped, GRID)
    assert 0 <= row < row + cropped.shape[0] <= 200
    assert 0 <= col < col + cropped.shape[1] <= 300
    left, bottom, right, top = cropped.boundingbox
    assert left <= LEFT + 2000
    assert right >= LEFT + 5000
    assert bottom <= BOTTOM + 2000
    assert top >= BOTTOM + 4000
    assert cropped.shape[0] < 80
    assert cropped.shape[1] < 110


@pytest.mark.parametrize("form", ["shapely", "geojson", "feature"])
def test_geometry_crops_to_its_bounds(form):
    west, south = degrees(LEFT + 2000, BOTTOM + 2000)
    shape = shapely.Point(west, south).buffer(0.01)
    geometry = {
        "shapely": shape,
        "geojson": shapely.geometry.mapping(shape),
        "feature": {"type": "Feature", "geometry": shapely.geometry.mapping(shape)},
    }[form]
    assert area_of(None, geometry).cut(GRID) == area_of(shape.bounds, None).cut(GRID)


def test_bbox_may_cross_the_antimeridian():
    grid = make_grid((20, 40), crs="EPSG:4326", left=178, top=2, resolution=0.1)
    cropped = area_of((179, 0.5, -179.5, 1.5), None).cut(grid)
    assert np.allclose(cropped.boundingbox, (179, 0.5, 180.5, 1.5))
    halves = shapely.MultiPolygon([shapely.box(179, 0.5, 180, 1.5), shapely.box(-180, 0.5, -179.5, 1.5)])
    assert area_of(None, halves).cut(grid) == cropped


def test_area_intersects_item_geometries():
    area = area_of(None, shapely.Polygon([(0, 0), (2, 0), (0, 2)]))
    assert area.intersects(shapely.geometry.mapping(shapely.box(0.5, 0.5, 0.6, 0.6)))
    assert not area.intersects(shapely.geometry.mapping(shapely.box(1.8, 1.8, 2, 2)))
    assert area.intersects(None)
    assert area_of((170, -1, -170, 1), None).intersects(shapely.geometry.mapping(shapely.box(-179, 0, -178, 1)))


@pytest.mark.parametrize(
    ("bbox", "intersects", "message"),
    [
        ((0, 0, 1), None, "Cannot read the bounds"),
        ((0, 1, 1, 0), None, "west, south, east and north"),
        ((0, 0, 1, float("nan")), None, "Cannot read the bounds"),
        ((0, 0, 1, 1), shapely.box(0, 0, 1, 1), "both given"),
        (None, "POINT (1 1)", "Cannot read a geometry"),
        (None, shapely.Polygon(), "empty geometry"),
    ],
)
def test_invalid_areas_raise(bbox, intersects, message):
    with pytest.raises(InputError, match=message):
        area_of(bbox, intersects)


def test_disjoint_area_raises():
    with pytest.raises(OverlapError, match=r"Cannot cut the layer to 10 to 11 E.*EPSG:32615.*Pass another bbox="):
        area_of((10, 50, 11, 51), None).cut(GRID)


def test_bounds_of_many_grids_equal_bounds_of_each():
    grids = [make_grid((9, 9), left=600_000 + 5000 * n, crs=f"EPSG:3261{4 + n % 2}") for n in range(6)]
    grids.append(make_grid((9, 9), crs="EPSG:5070", left=0, top=2_000_000))
    bounds = bounds_in(grids, GRID.crs)
    assert np.array_equal(bounds, np.concatenate([bounds_in([g], GRID.crs) for g in grids]))
    assert np.allclose(bounds_in([GRID], GRID.crs), [GRID.boundingbox])
    assert np.allclose(longitudes([make_grid((1, 1), crs="EPSG:32615", left=499_985)]), -93)


RINGS = {
    "beyond -180": [[-178.55, -16.66], [-178.94, -18.39], [-180.67, -18.03], [-180.27, -16.30], [-178.55, -16.66]],
    "beyond 180": [[181.45, -16.66], [181.06, -18.39], [179.33, -18.03], [179.73, -16.30], [181.45, -16.66]],
    "the long way round": [[179.27, -16.6], [-178.5, -16.6], [-178.9, -18.4], [179.3, -18.3], [179.27, -16.6]],
}


@pytest.mark.parametrize("ring", RINGS)
def test_outlines_across_the_antimeridian_are_found_on_both_sides(ring):
    outline = {"type": "Polygon", "coordinates": [RINGS[ring]]}
    boxes = [
        [179.4, -17.7, 179.95, -17.0], [-179.5, -17.7, -179.2, -17.0], [179.9, -17.7, -179.9, -17.0],
        [10, -18, 12, -17], [-170, -18, -160, -17], [179.4, 16, 179.9, 17],
    ]  # fmt: skip
    assert [area_of(box, None).intersects(outline) for box in boxes] == [True, True, True, False, False, False]


def test_outline_of_the_whole_world_is_not_taken_across_the_antimeridian():
    for west, east in ((-180, 180), (-120, 100), (-179.9, 10), (-179.9, 179.9)):
        ring = [[west, -60], [east, -60], [east, 60], [west, 60], [west, -60]]
        outline = {"type": "Polygon", "coordinates": [ring]}
        assert area_of([0, 0, 1, 1], None).intersects(outline)


SEAM = {
    "split": shapely.MultiPolygon([shapely.box(179, -18, 180, -17), shapely.box(-180, -18, -179, -17)]),
    "split, west first": shapely.MultiPolygon([shapely.box(-180, -18, -179, -17), shapely.box(179, -18, 180, -17)]),
    "beyond 180": shapely.box(179, -18, 181, -17),
    "beyond -180": shapely.box(-181, -18, -179, -17),
    "both signs": shapely.Polygon([(179, -18), (-179, -18), (-179, -17), (179, -17)]),
    "one turn on": shapely.box(539, -18, 541, -17),
    "beyond in parts": shapely.MultiPolygon([shapely.box(179, -18, 180.5, -17), shapely.box(-179.5, -18, -179, -17)]),
}  # fmt: skip


@pytest.mark.parametrize("form", SEAM)
def test_geometry_across_the_antimeridian_equals_its_box(form):
    area, expected = area_of(None, SEAM[form]), area_of((179, -18, -179, -17), None)
    assert area.bounds == expected.bounds
    assert shapely.equals(area.shape, expected.shape)
    for left in (178.5, -179.5, 180.5, -181.5):
        assert area.intersects(shapely.geometry.mapping(shapely.box(left, -18, left + 1, -17)))
    for left in (177, -178.9, 0, 181.5):
        assert not area.intersects(shapely.geometry.mapping(shapely.box(left, -18, left + 1, -17)))


@pytest.mark.parametrize(
    ("geometry", "bbox"),
    [
        (shapely.box(200, 10, 210, 20), (-160, 10, -150, 20)),
        (shapely.box(0, -10, 360, 10), (-180, -10, 180, 10)),
        (shapely.box(-200, -10, 200, 10), (-180, -10, 180, 10)),
        (shapely.box(180, -10, 190, 10), (-180, -10, -170, 10)),
        (shapely.box(170, -10, 180, 10), (170, -10, 180, 10)),
        (shapely.box(-100, -10, 100, 10), (-100, -10, 100, 10)),
        (shapely.box(350, -10, 370, 10), (-10, -10, 10, 10)),
    ],
)
def test_geometry_of_0_to_360_degrees_equals_its_box(geometry, bbox):
    area, expected = area_of(None, geometry), area_of(bbox, None)
    assert area.bounds == expected.bounds
    assert shapely.equals(area.shape, expected.shape)


def test_points_and_lines_beyond_180_degrees():
    assert area_of(None, shapely.Point(190, 10)).shape == shapely.Point(-170, 10)
    line = area_of(None, shapely.LineString([(170, 0), (190, 10)]))
    assert line.bounds == (170, 0, 190, 10)
    assert shapely.equals(line.shape, shapely.MultiLineString([[(170, 0), (180, 5)], [(-180, 5), (-170, 10)]]))
    with pytest.raises(InputError, match=r"Cannot cut a layer to a geometry with the bounds .*inf"):
        area_of(None, {"type": "Point", "coordinates": [float("inf"), 0]})


def test_geometry_within_180_degrees_is_unchanged():
    bow_tie = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])  # invalid, and usable
    assert area_of(None, bow_tie).shape.wkt == bow_tie.wkt

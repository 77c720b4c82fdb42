"""Rasterization of geometries against brute force: shapely tests each pixel centre or square."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import assume, example, given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from geoxt.pixels.scanline import burn, find_spans
from geoxt.source.project_geometries import project_geometries
from geoxt.windows import Window

SHAPE = (12, 14)
GRID = GeoBox(SHAPE, Affine.identity(), "EPSG:32615")  # coordinates equal pixel positions
FULL = Window(0, 0, *SHAPE)
SQUARES = np.array([[shapely.box(c, r, c + 1, r + 1) for c in range(SHAPE[1])] for r in range(SHAPE[0])])


def burned(geometries, *, all_touched=False, window=FULL, grid=GRID):
    """Return the position of the last geometry that covers each pixel, from 1."""
    geometries = np.array(geometries, dtype=object)
    projected, feature = project_geometries(geometries, grid.crs, grid, path="test", ids=np.arange(len(geometries)))
    out = np.zeros(window.shape, np.int32)
    burn(out, find_spans(projected, np.arange(len(projected)), window, all_touched=all_touched), feature + 1)
    return out


def holds_centres(polygon):
    """Whether the polygon contains each pixel centre, moved slightly right and less down to break ties."""
    rows, cols = np.indices(SHAPE)
    return shapely.contains_xy(polygon, cols + 0.5 + 2.0**-22, rows + 0.5 + 2.0**-38)


eighths = st.tuples(st.integers(-24, 136), st.integers(-24, 120)).map(lambda p: (p[0] / 8, p[1] / 8))
sixteenths = st.tuples(st.integers(-24, 136), st.integers(-24, 120)).map(
    lambda p: (p[0] / 8 + 1 / 16, p[1] / 8 + 1 / 16)
)


@st.composite
def polygons(draw, points=eighths):
    """Draw a valid polygon, at times with a hole; vertices often fall on pixel centres and corners."""
    shell = shapely.Polygon(draw(st.lists(points, min_size=3, max_size=6, unique=True)))
    if draw(st.booleans()):
        shell = shell.convex_hull
    assume(shell.geom_type == "Polygon" and shell.is_valid and shell.area > 0)
    hole = shapely.Polygon(draw(st.lists(points, min_size=3, max_size=3, unique=True)))
    with_hole = shapely.Polygon(shell.exterior, [hole.exterior])
    return with_hole if hole.is_valid and with_hole.is_valid and hole.area > 0 else shell


@given(polygons())
@example(shapely.box(2, 3, 5, 7))
@example(shapely.box(2.5, 3.5, 5.5, 7.5))
@example(shapely.Polygon([(0, 0), (10, 10), (0, 10)]))
def test_polygon_covers_pixels_by_centre(polygon):
    np.testing.assert_array_equal(burned([polygon]) == 1, holds_centres(polygon))


@given(polygons())
@example(shapely.box(2, 3, 5, 7))
@example(shapely.Polygon([(0, 0), (10, 10), (0, 10)]))
def test_all_touched_covers_pixels_of_positive_intersection(polygon):
    shared = shapely.area(shapely.intersection(SQUARES, polygon)) > 1e-12
    np.testing.assert_array_equal(burned([polygon], all_touched=True) == 1, shared)


@given(st.lists(sixteenths, min_size=2, max_size=5, unique=True))
def test_line_covers_the_pixels_on_its_path(points):
    line = shapely.LineString(points)
    passed = shapely.length(shapely.intersection(SQUARES, line)) > 1e-9
    np.testing.assert_array_equal(burned([line]) == 1, passed)


@pytest.mark.parametrize(
    ("geometry", "pixels"),
    [
        (shapely.Point(3, 5), [(5, 3)]),
        (shapely.Point(3.99, 5.99), [(5, 3)]),
        (shapely.LineString([(2, 4), (5, 4)]), [(4, 2), (4, 3), (4, 4)]),
        (shapely.LineString([(2, 4), (2, 6)]), [(4, 2), (5, 2)]),
        (shapely.LineString([(0, 0), (3, 3)]), [(0, 0), (1, 1), (2, 2)]),
        (shapely.LineString([(3, 3), (0, 0)]), [(0, 0), (1, 1), (2, 2)]),
        (shapely.LineString([(3, 0), (0, 3)]), [(0, 2), (1, 1), (2, 0)]),
        (shapely.MultiPoint([(0.5, 0.5), (1.5, 2.5)]), [(0, 0), (2, 1)]),
        (shapely.GeometryCollection([shapely.Point(1, 1), shapely.MultiPoint([(4, 4)])]), [(1, 1), (4, 4)]),
    ],
)
def test_points_and_lines_on_pixel_edges_go_right_and_down(geometry, pixels):
    expected = np.zeros(SHAPE, int)
    expected[tuple(np.transpose(pixels))] = 1
    np.testing.assert_array_equal(burned([geometry]), expected)


@given(st.lists(eighths, min_size=4, max_size=12, unique=True))
def test_adjacent_polygons_have_no_gap_and_no_overlap(points):
    corners = [(0, 0), (14, 0), (14, 12), (0, 12)]
    triangles = shapely.get_parts(shapely.delaunay_triangles(shapely.MultiPoint([*corners, *points])))
    hull = shapely.convex_hull(shapely.MultiPoint([*corners, *points]))
    assume(np.isclose(shapely.area(triangles).sum(), shapely.area(hull), rtol=1e-12))
    cover_counts = sum((burned([t]) for t in triangles), start=np.zeros(SHAPE, int))
    np.testing.assert_array_equal(cover_counts, 1)
    reversed_triangles = [shapely.reverse(t) for t in triangles]
    np.testing.assert_array_equal(burned(triangles), burned(reversed_triangles))


@given(polygons(), polygons(), st.integers(-3, 12), st.integers(-3, 14), st.integers(1, 9), st.integers(1, 9))
def test_window_equals_part_of_whole_and_later_geometries_win(first, second, row, col, height, width):
    wide = Window(-4, -4, 32, 32)
    window = Window(row, col, height, width)
    grid = GeoBox((40, 40), Affine.translation(-8, -8), "EPSG:32615")
    for all_touched in (False, True):
        full = burned([first, second], all_touched=all_touched, window=wide.shift(8, 8), grid=grid)
        part = burned([first, second], all_touched=all_touched, window=window.shift(8, 8), grid=grid)
        np.testing.assert_array_equal(part, full[window.within(wide)])
        first_mask, second_mask = (
            burned([g], all_touched=all_touched, window=wide.shift(8, 8), grid=grid) for g in (first, second)
        )
        np.testing.assert_array_equal(full, np.where(second_mask == 1, 2, first_mask))


@given(polygons(), st.integers(0, 2**20), st.integers(0, 2**20))
def test_grid_origin_changes_no_pixel(polygon, right, down):
    moved = GeoBox(SHAPE, Affine.translation(right, down), "EPSG:32615")
    translated = shapely.transform(polygon, lambda p: p + np.array((right, down)))
    for all_touched in (False, True):
        expected = burned([polygon], all_touched=all_touched)
        np.testing.assert_array_equal(burned([translated], all_touched=all_touched, grid=moved), expected)


def test_polygon_of_many_vertices_is_burned():
    angles = np.linspace(0, 2 * np.pi, 1000, endpoint=False)
    polygon = shapely.Polygon(np.c_[7 + 5 * np.cos(angles), 6 + 5 * np.sin(angles)])
    np.testing.assert_array_equal(burned([polygon]) == 1, holds_centres(polygon))
    window = Window(3, 4, 2, 5)
    np.testing.assert_array_equal(burned([polygon], window=window), burned([polygon])[3:5, 4:9])


def test_invalid_polygon_is_made_valid():
    bow_tie = shapely.Polygon([(1, 1), (9, 9), (9, 1), (1, 9)])
    np.testing.assert_array_equal(burned([bow_tie]) == 1, holds_centres(shapely.make_valid(bow_tie)))
    flat = shapely.Polygon([(1, 1), (9, 9), (1, 1)])
    assert not burned([flat, None, shapely.Polygon()], all_touched=True).any()


def test_pixels_are_burned_in_batches(monkeypatch):
    monkeypatch.setattr("geoxt.pixels.scanline.BATCH", 5)
    np.testing.assert_array_equal(burned([shapely.box(1, 1, 9, 9), shapely.box(4, 4, 12, 12)])[3:6, 3:6],
                                  [[1, 1, 1], [1, 2, 2], [1, 2, 2]])  # fmt: skip

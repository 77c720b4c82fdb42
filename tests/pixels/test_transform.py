"""Coordinates between grids, against pyproj at every pixel, and the same from any window."""

import pickle

import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine
from hypothesis import assume, given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from support import oracles, strategies

from geoxt.footprints import outline
from geoxt.grid import full_window
from geoxt.pixels.transform import PixelTransform
from geoxt.testing import make_grid
from geoxt.windows import Window

WORLD = GeoBox((180, 360), Affine(1, 0, -180, 0, -1, 90), "EPSG:4326")
POLE = GeoBox((90, 90), Affine(40_000, 0, -1.8e6, 0, -40_000, 1.8e6), "EPSG:3413")
DISTORTED = {
    "utm to mercator, 1 km": (
        GeoBox((200, 200), Affine(1000, 0, 400_000, 0, -1000, 6.2e6), "EPSG:32601"),
        GeoBox((200, 200), Affine(1500, 0, -19.8e6, 0, -1500, 7.5e6), "EPSG:3857"),
    ),
    "utm to utm, 1 km": (
        GeoBox((300, 300), Affine(1000, 0, 300_000, 0, -1000, 7.2e6), "EPSG:32615"),
        GeoBox((300, 300), Affine(1000, 0, 100_000, 0, -1000, 7.2e6), "EPSG:32616"),
    ),
    "polar to mercator": (POLE, GeoBox((200, 900), Affine(44_000, 0, -2e7, 0, -44_000, 1.8e7), "EPSG:3857")),
    "polar to degrees": (POLE, GeoBox((60, 360), Affine(1, 0, -180, 0, -0.5, 90), "EPSG:4326")),
    "degrees to polar": (WORLD, POLE),
    "degrees to albers": (WORLD, GeoBox((90, 90), Affine(50_000, 0, -2.3e6, 0, -50_000, 3.1e6), "EPSG:5070")),
    "coarse world to the antimeridian": (
        GeoBox((18, 36), Affine(10, 0, -180, 0, -10, 90), "EPSG:4326"),
        GeoBox((64, 64), Affine(150_000, 0, -4e6, 0, -150_000, 5e6), "EPSG:32660"),
    ),
}


def coordinates(transform, window):
    return transform.control_grid(window).coordinates()


def error(source, target):
    """Return the maximum coordinate error in source pixels, over target pixels inside the source."""
    col, row = oracles.source_coordinates(source, target)
    transform = PixelTransform(target, source)
    actual = coordinates(transform, full_window(target)) + 0.5
    inside = (col > 0) & (row > 0) & (col < source.shape[1]) & (row < source.shape[0])
    exact = np.stack((row, col))
    return np.abs(actual - exact)[:, inside].max(initial=0) / max(1, max(transform.scale) / 4)


@given(strategies.grid_pairs(scales=(0.3, 4.0)))
def test_coordinates_equal_pyproj_to_a_thousandth_of_a_pixel(pair):
    assert error(pair.src, pair.dst) < 1e-3


@pytest.mark.parametrize("name", DISTORTED)
def test_coordinates_equal_pyproj_under_strong_distortion(name):
    assert error(*DISTORTED[name]) < 1e-3


@given(strategies.grid_pairs(scales=(0.3, 4.0)), st.data())
def test_window_coordinates_equal_part_of_whole(pair, data):
    transform = PixelTransform(pair.dst, pair.src)
    window = Window(*data.draw(strategies.windows(tuple(pair.dst.shape), over=40)))
    around = window.pad(data.draw(st.integers(0, 50)))
    assert np.array_equal(coordinates(transform, window), coordinates(transform, around)[:, *window.within(around)])


@pytest.mark.parametrize("name", DISTORTED)
def test_window_coordinates_equal_part_of_whole_across_seams_and_poles(name):
    transform = PixelTransform(*reversed(DISTORTED[name]))
    outer = full_window(transform.target)
    full = coordinates(transform, outer)
    for row in range(0, outer.height - 16, 23):
        for col in range(0, outer.width - 16, 61):
            window = Window(row, col, 16, 16)
            assert np.array_equal(coordinates(transform, window), full[:, *window.within(outer)])


@given(strategies.grid_pairs(scales=(0.3, 4.0)), st.data())
def test_extent_is_the_range_of_the_coordinates(pair, data):
    transform = PixelTransform(pair.dst, pair.src)
    window = Window(*data.draw(strategies.windows(tuple(pair.dst.shape), over=40)))
    control_grid = transform.control_grid(window)
    exact = control_grid.coordinates().reshape(2, -1)
    low, high = control_grid.extent
    assert np.allclose(low, exact.min(1), atol=1e-6)
    assert np.allclose(high, exact.max(1), atol=1e-6)


@given(strategies.grid_pairs(scales=(0.3, 4.0), rotated=False))
def test_scale_is_source_pixels_per_target_pixel(pair):
    col, row = oracles.source_coordinates(pair.src, pair.dst)
    inside = (col > 0) & (row > 0) & (col < pair.src.shape[1]) & (row < pair.src.shape[0])
    assume(inside[1:-1, 1:-1].any() if min(inside.shape) > 2 else False)
    y, x = PixelTransform(pair.dst, pair.src).scale
    steps = [np.hypot(*np.gradient(axis))[inside] for axis in (row, col)]
    assert y == pytest.approx(np.median(steps[0]), rel=0.05)
    assert x == pytest.approx(np.median(steps[1]), rel=0.05)


def test_shift_is_set_only_for_whole_pixels():
    assert PixelTransform(make_grid((9, 9)), make_grid((30, 30), left=600_000 - 90)).shift == (0, 3)
    assert PixelTransform(make_grid((9, 9)), make_grid((30, 30), left=600_000 - 100)).shift is None
    flipped = PixelTransform(make_grid((9, 9), south_up=True), make_grid((12, 9)))
    assert (flipped.flips, flipped.copied(Window(0, 0, 4, 9))) == ((True, False), Window(5, 0, 4, 9))


@pytest.mark.parametrize("window", [Window(2**26, 0, 4, 4), Window(0, -(2**27), 4, 4), Window(-(2**30), 2**30, 4, 4)])
@pytest.mark.parametrize("crs", ["EPSG:32615", "EPSG:5070", "EPSG:4326"])
def test_extent_of_a_far_window_is_none_or_outside_the_raster(window, crs):
    transform = PixelTransform(make_grid((64, 64), resolution=20.0), make_grid((64, 64), crs=crs))
    extent = transform.control_grid(window).extent
    assert extent is None or (extent[0] > 64).any() or (extent[1] < 0).any()


def test_transform_pickles():
    transform = PixelTransform(make_grid((40, 40), crs="EPSG:5070", left=0, top=2e6), make_grid((40, 40)))
    other = pickle.loads(pickle.dumps(transform))
    window = Window(0, 0, 40, 40)
    assert np.array_equal(coordinates(transform, window), coordinates(other, window))


SEVERAL_OPERATIONS = {
    "degrees to South American Albers": (
        GeoBox((700, 600), Affine(0.1, 0, -90, 0, -0.1, 14), "EPSG:4326"),
        GeoBox((120, 100), Affine(50_000, 0, -2.5e6, 0, -50_000, 4e6), "ESRI:102033"),
    ),
    "German Gauss-Krueger to UTM": (
        GeoBox((600, 300), Affine(1000, 0, 3.4e6, 0, -1000, 5.95e6), "EPSG:31467"),
        GeoBox((60, 30), Affine(10_000, 0, 4e5, 0, -10_000, 5.9e6), "EPSG:25832"),
    ),
    "Conus Albers to UTM": (
        GeoBox((300, 300), Affine(3000, 0, -5e5, 0, -3000, 2.6e6), "EPSG:5070"),
        GeoBox((60, 60), Affine(10_000, 0, 2e5, 0, -10_000, 4.9e6), "EPSG:32615"),
    ),
}


@pytest.mark.filterwarnings("ignore:Best transformation is not available")
@pytest.mark.parametrize("name", SEVERAL_OPERATIONS)
def test_one_operation_transforms_all_pixels_of_a_pair_of_grids(name):
    source, target = SEVERAL_OPERATIONS[name]
    rows, cols = (g.ravel().astype("float64") for g in np.indices(target.shape))
    x, y = target.affine @ (cols + 0.5, rows + 0.5)
    group = pyproj.transformer.TransformerGroup(target.crs.proj, source.crs.proj, always_xy=True)
    assert len(group.transformers) > 1
    pixels = [~source.affine @ operation.transform(x, y) for operation in group.transformers]
    transform = PixelTransform(target, source)
    part = PixelTransform(target[3:40, 2:17], source)  # of another grid, by the same operation
    actual = transform.points(rows, cols)[::-1] + 0.5
    assert min(np.abs(actual - expected).max() for expected in pixels) < 1e-6
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(transform)).points(rows, cols), transform.points(rows, cols)
    )
    np.testing.assert_allclose(part.points(rows - 3, cols - 2), transform.points(rows, cols), atol=1e-6)
    assert error_of_outline(source, target, transform) < 1e-3


def error_of_outline(source, target, transform):
    """Return the distance of the source's outline in the target from the transform, in source pixels."""
    points = shapely.get_coordinates(outline(source, target))[:-1]
    row, col = transform.points(points[:, 1] - 0.5, points[:, 0] - 0.5) + 0.5
    rows, cols = source.shape
    return np.minimum.reduce([np.abs(row), np.abs(row - rows), np.abs(col), np.abs(col - cols)]).max()

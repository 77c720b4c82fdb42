"""GDAL's resampling: pixels by the single PROJ operation of a pair of grids, and to the last bit in every window."""

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from geoxt.crs import has_several_operations, parse_crs, transformer
from geoxt.errors import InputError
from geoxt.pixels.gdal_warp import source_window, warp
from geoxt.pixels.transform import PixelTransform
from geoxt.pixels.warp_vrt import pixel_pipeline
from geoxt.windows import Window

SIDE, PIXEL = 100_000, 10
"""Pixels of the whole source, which spans several areas of use; metres."""
PAIRS = [
    ("EPSG:5514", "EPSG:32633", 15, 50, 1.5), ("EPSG:5513", "EPSG:32633", 15, 50, 1.5),
    ("EPSG:32633", "EPSG:5513", 15, 50, 1.3), ("EPSG:23030", "EPSG:32630", -3, 43, 0.6),
    ("EPSG:21037", "EPSG:32737", 38, -2, 0.3), ("EPSG:3347", "EPSG:26715", -84, 50, 1.0),
    ("EPSG:20255", "EPSG:28355", 147, -30, 0.09), ("EPSG:5070", "EPSG:4267", -96, 38, 0),
    ("EPSG:27200", "EPSG:2193", 174, -41, 0),
]  # fmt: skip
"""Source and target; center; pixels by which GDAL's own choice of operations misses, at least."""
OFFSETS = ((0, 0), (-3, 2), (3, -3))
"""Degrees from the center of the source to that of the target."""
FULL = Window(0, 0, 24, 24)
PART = Window(9, 4, 13, 20)


def grid_at(crs, side, lon, lat, pixel=PIXEL):
    crs = parse_crs(crs)
    x, y = transformer(parse_crs("EPSG:4326"), crs).transform(lon, lat)
    size = pixel / 111_320 if crs.geographic else pixel
    return GeoBox((side, side), Affine(size, 0, x - size * side / 2, 0, -size, y + size * side / 2), crs)


def warped(transform, window, method, source_pixels):
    """Return a window of a source whose values and valid mask are functions of row and column."""
    needed = source_window(transform, transform.control_grid(window).extent, method)
    needed = needed.intersect(Window(0, 0, *transform.source.shape))
    rows, cols = np.indices(needed.shape)
    values, valid = source_pixels(rows + needed.row, cols + needed.col)
    return warp(values, valid, needed, transform.source, transform, window, method)


def positions(rows, cols):
    return np.stack([rows, cols]).astype("float64"), None


def noise(dtype, *, masked=False):
    """Return a function of row and column that gives pseudorandom pixels."""

    def pixels(rows, cols):
        values = (rows.astype("uint32") * 2654435761 ^ cols.astype("uint32") * 2246822519) >> 13
        return (values % 251).astype(dtype)[None], (values % 7 > 0)[None] if masked else None

    return pixels


@pytest.mark.filterwarnings("ignore:Best transformation is not available")
@pytest.mark.parametrize(("name", "target_crs", "lon", "lat", "missed"), PAIRS)
def test_pixels_have_the_positions_of_the_operation_of_the_sources_center(name, target_crs, lon, lat, missed):
    source = grid_at(name, SIDE, lon, lat)
    unpinned = transformer(parse_crs(target_crs), source.crs)
    assert has_several_operations(unpinned)
    largest = 0
    for east, north in OFFSETS:
        transform = PixelTransform(grid_at(target_crs, 24, lon + east, lat + north), source)
        exact = transform.points(*(n.ravel() + 0.0 for n in np.indices(FULL.shape))).reshape(2, *FULL.shape)
        if not (exact > 1000).all():
            continue
        values, valid = warped(transform, FULL, "cubic", positions)
        assert valid is None
        assert np.abs(values - exact).max() < 1e-6
        part, _ = warped(transform, PART, "cubic", positions)
        np.testing.assert_array_equal(part, values[:, 9:22, 4:24])
        x, y = unpinned.transform(*(transform.target.affine @ (0.5, 0.5)))
        col, row = ~source.affine @ (x, y)
        largest = max(largest, abs(row - 0.5 - exact[0, 0, 0]), abs(col - 0.5 - exact[1, 0, 0]))
    assert largest >= missed


@pytest.mark.filterwarnings("ignore:Best transformation is not available")
@pytest.mark.parametrize("method", ["average", "mode", "min", "max", "cubic", "lanczos"])
@pytest.mark.parametrize(
    ("source_crs", "target_crs", "lon", "lat", "dtype", "masked"),
    [
        ("EPSG:5514", "EPSG:32633", 15, 50, "int16", True), ("EPSG:26715", "EPSG:4326", -84, 50, "float64", False),
        ("EPSG:4326", "EPSG:4326", 9.123, 50.3, "uint8", False), ("EPSG:4326", "EPSG:3035", 9, 50, "float32", True),
    ],
)  # fmt: skip
def test_windows_are_bit_equal_to_that_part_of_the_whole(source_crs, target_crs, lon, lat, dtype, masked, method):
    transform = PixelTransform(grid_at(target_crs, 24, lon, lat, 2 * PIXEL), grid_at(source_crs, 60, lon, lat))
    pixels = noise(dtype, masked=masked)
    values, valid = warped(transform, FULL, method, pixels)
    valid = np.ones(values.shape, bool) if valid is None else valid
    for window in (PART, Window(1, 1, 5, 7), Window(20, 17, 4, 4)):
        part, part_valid = warped(transform, window, method, pixels)
        part_valid = np.ones(part.shape, bool) if part_valid is None else part_valid
        inside = (slice(None), *window.within(FULL))
        np.testing.assert_array_equal(part_valid, valid[inside])
        np.testing.assert_array_equal(np.where(part_valid, part, 0), np.where(valid[inside], values[inside], 0))


@pytest.mark.filterwarnings("ignore:Best transformation is not available")
@pytest.mark.parametrize("method", ["average", "mode"])
def test_valid_mask_of_a_pinned_operation(method):
    source = grid_at("EPSG:5514", SIDE, 15, 50)
    transform = PixelTransform(grid_at("EPSG:32633", 24, 17, 51), source)

    def is_valid(rows, cols):
        return (rows // 7 + cols // 5) % 3 > 0

    _, mask = warped(transform, FULL, method, lambda r, c: (positions(r, c)[0][:1], is_valid(r, c)[None]))
    rows, cols = np.rint(transform.points(*(n.ravel() + 0.0 for n in np.indices(FULL.shape))).reshape(2, 24, 24))
    near = np.stack([is_valid(rows + r, cols + c) for r in range(-2, 3) for c in range(-2, 3)])
    assert mask[0][near.all(0)].all()
    assert not mask[0][~near.any(0)].any()
    assert 0 < np.count_nonzero(~mask) < mask.size / 2


def test_pixels_outside_a_source_of_several_operations_are_invalid():
    transform = PixelTransform(grid_at("EPSG:32633", 24, 15, 50), grid_at("EPSG:5514", 10, 15, 50))
    values = np.ones((1, 10, 10), "uint8")
    _, valid = warp(values, None, Window(0, 0, 10, 10), transform.source, transform, FULL, "average")
    exact = transform.points(*(n.ravel() + 0.0 for n in np.indices(FULL.shape))).reshape(2, 24, 24)
    far = ((exact < -1.5) | (exact > 10.5)).any(0)
    within = ((exact > 0) & (exact < 9)).all(0)
    assert not valid[0][far].any()
    assert valid[0][within].all()
    assert within.any()


@pytest.mark.parametrize("factor", [2, 3, 5])
@pytest.mark.parametrize(("method", "reduce"), [("min", np.min), ("max", np.max), ("average", np.mean)])
def test_nested_pixels_in_degrees_are_those_of_blocks(factor, method, reduce):
    source = grid_at("EPSG:4326", 30 * factor, 9.123, 50.3)
    target = GeoBox((30, 30), source.affine @ Affine.scale(factor), source.crs)
    transform = PixelTransform(target, source)
    pixels = noise("float64")
    values, valid = warped(transform, Window(0, 0, 30, 30), method, pixels)
    blocks = pixels(*np.indices(source.shape))[0].reshape(30, factor, 30, factor)
    assert valid is None
    np.testing.assert_allclose(values[0], reduce(blocks, (1, 3)), rtol=1e-14)


def test_lanczos_weights_at_pixel_centers_are_those_of_the_formula():
    """With coordinates beside a center by rounding, GDAL's lanczos is wrong by up to a sixth of the range."""
    source = grid_at("EPSG:32615", 60, -94, 38)
    target = GeoBox((12, 12), source.affine @ Affine(7 / 3, 0, 16 / 3, 0, 7 / 3, 16 / 3), source.crs)
    transform = PixelTransform(target, source)
    values, _ = warped(transform, Window(0, 0, 12, 12), "lanczos", noise("float32"))
    distances = (np.arange(60) - transform.points(np.arange(12.0), np.arange(12.0))[0][:, None]) * 3 / 7
    weights = np.where(np.abs(distances) < 3, np.sinc(distances) * np.sinc(distances / 3), 0)
    weights /= weights.sum(1, keepdims=True)
    expected = weights @ noise("float64")(*np.indices((60, 60)))[0][0] @ weights.T
    np.testing.assert_allclose(values[0], expected, atol=0.2)


@pytest.mark.parametrize("west", [0, -180, 170])
def test_source_in_degrees_across_the_antimeridian(west):
    source = GeoBox((40, 360 - 2 * max(west, 0)), Affine(1, 0, west, 0, -1, -10), parse_crs("EPSG:4326"))
    transform = PixelTransform(grid_at("EPSG:32701", 20, -177.5, -30, 50_000), source)  # over 180 degrees
    values, valid = warped(transform, Window(0, 0, 20, 20), "average", positions)
    exact = transform.points(*(n.ravel() + 0.0 for n in np.indices((20, 20)))).reshape(2, 20, 20)
    clear = ((exact > 1.5) & (exact < np.array(source.shape).reshape(2, 1, 1) - 2.5)).all(0)
    assert clear.sum() > 60
    assert valid is None or valid[:, clear].all()
    assert np.abs(values - exact)[:, clear].max() < 0.6


def test_source_without_an_operation_at_its_center_is_an_error():
    crs = parse_crs("+proj=ortho +lat_0=40 +lon_0=-100 +datum=NAD27")
    source = GeoBox((10, 10), Affine(1e6, 0, 5e6, 0, -1e6, 9e6), crs)
    with pytest.raises(InputError, match="Pass resampling='bilinear'"):
        pixel_pipeline(source, grid_at("EPSG:32615", 10, -93, 40), "average")

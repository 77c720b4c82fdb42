"""GDAL's resampling between datums of several PROJ operations: by the one of the source's centre, at every pixel."""

import numpy as np
import pyproj
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from geoxt.grid import parse_crs
from geoxt.pixels.gdal_warp import warp
from geoxt.pixels.pinned_operation import pinned_operation
from geoxt.pixels.transform import PixelTransform
from geoxt.windows import Window

SIDE, PIXEL = 100_000, 10
"""Pixels of the whole source, which spans several areas of use; metres."""
CASES = {
    "EPSG:5514": ("EPSG:32633", 15, 50), "EPSG:23030": ("EPSG:32630", -3, 43), "EPSG:27200": ("EPSG:2193", 174, -41),
    "EPSG:4267": ("EPSG:32615", -94, 38),
}  # fmt: skip
OFFSETS = ((0, 0), (-3, 2), (3, -3))
"""Degrees from the centre of the source to that of the target."""


def grid_at(crs, side, lon, lat):
    crs = parse_crs(crs)
    x, y = pyproj.Transformer.from_crs(4326, crs.proj, always_xy=True).transform(lon, lat)
    size = PIXEL / 111_320 if crs.geographic else PIXEL
    return GeoBox((side, side), Affine(size, 0, x - size * side / 2, 0, -size, y + size * side / 2), crs)


def warped(transform, source, window, method, valid=None):
    """Return row and column of the source at each pixel of a window: resampled, and those of the transform."""
    rows, cols = np.indices(window.shape)
    points = transform.points((rows + window.row).ravel() + 0.0, (cols + window.col).ravel() + 0.0)
    low, high = np.floor(points.min(1)).astype(int) - 8, np.ceil(points.max(1)).astype(int) + 8
    part = Window(*low.tolist(), *(high - low).tolist())
    row, col = np.indices(part.shape).astype("float64")
    mask = None if valid is None else valid(row + part.row, col + part.col)[None]
    values, valid = warp(np.stack([row, col]), mask, part, source, transform, window, method)
    return values + low[:, None, None], points.reshape(values.shape), valid


@pytest.mark.filterwarnings("ignore:Best transformation is not available")
@pytest.mark.parametrize("name", CASES)
def test_gdal_resamples_by_the_operation_of_the_sources_center(name):
    target_crs, lon, lat = CASES[name]
    source = grid_at(name, SIDE, lon, lat)
    assert pinned_operation(source, parse_crs(target_crs)) is not None
    for east, north in OFFSETS:
        transform = PixelTransform(grid_at(target_crs, 24, lon + east, lat + north), source)
        if not (transform.points(np.zeros(1), np.zeros(1)) > 1000).all():
            continue
        values, expected, valid = warped(transform, source, Window(0, 0, 24, 24), "cubic")
        assert valid is None
        assert np.abs(values - expected).max() < 0.02


@pytest.mark.filterwarnings("ignore:Best transformation is not available")
@pytest.mark.parametrize("method", ["average", "mode"])
def test_mask_and_windows_of_a_pinned_operation(method):
    source = grid_at("EPSG:5514", SIDE, 15, 50)
    transform = PixelTransform(grid_at("EPSG:32633", 32, 17, 51), source)

    def valid(rows, cols):
        return (rows // 7 + cols // 5) % 3 > 0

    layer_values, expected, mask = warped(transform, source, Window(0, 0, 32, 32), method, valid)
    piece, _, piece_mask = warped(transform, source, Window(9, 4, 13, 20), method, valid)
    np.testing.assert_array_equal(piece_mask, mask[:, 9:22, 4:24])
    np.testing.assert_allclose(piece[piece_mask], layer_values[:, 9:22, 4:24][piece_mask], atol=1e-4)
    rows, cols = np.rint(expected)
    near = np.stack([valid(rows + r, cols + c) for r in range(-2, 3) for c in range(-2, 3)])
    assert mask[0][near.all(0)].all()
    assert not mask[0][~near.any(0)].any()
    assert 0 < np.count_nonzero(~mask) < mask.size / 2


def test_pairs_of_one_operation_are_not_pinned():
    assert pinned_operation(grid_at("EPSG:26915", 100, -94, 38), parse_crs("EPSG:32615")) is None
    assert pinned_operation(grid_at("EPSG:2056", 100, 8, 47), parse_crs("EPSG:32632")) is None

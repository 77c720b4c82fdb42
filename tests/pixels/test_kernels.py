"""The kernels against exact oracles, with nodata and widened, and against GDAL's exact warp."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.warp import Resampling, reproject
from support import oracles, strategies

from geoxt.crs import parse_crs, transformer
from geoxt.grid import full_window, to_rasterio, window_grid
from geoxt.pixels.resample import resample
from geoxt.pixels.transform import PixelTransform
from geoxt.testing import distinct, make_grid
from geoxt.windows import Window

SMALL = strategies.shapes(1, 72)
TIE = 1e-3  # source pixels: nearest may differ where a coordinate is closer to the edge between two pixels
STEP = 0.01  # bilinear may differ by this fraction of the maximum step between neighbouring pixels


def fetch_from(values, valid=None):
    def fetch(window):
        rows, cols = window.within(Window(0, 0, *values.shape[-2:]))
        return values[:, rows, cols], None if valid is None else valid[:, rows, cols]

    return fetch


def warp(values, valid, pair, window=None, method="bilinear"):
    """Return the resampled values, 0 where invalid, and the valid mask."""
    transform, window = PixelTransform(pair.dst, pair.src), window or full_window(pair.dst)
    resampled = resample(fetch_from(values, valid), transform, window, method)
    if resampled is None:
        return np.zeros((len(values), *window.shape), values.dtype), np.zeros((len(values), *window.shape), bool)
    values, valid = resampled
    return values, np.ones(values.shape, bool) if valid is None else np.broadcast_to(valid, values.shape)


def noise(shape, seed=0, dtype="float32"):
    """Return uniform noise in [0, 1): a wrong coordinate changes values by up to 1."""
    return np.random.default_rng(seed).random(shape).astype(dtype)


def true_scale(pair):
    y, x = PixelTransform(pair.dst, pair.src).scale
    return (1 / x, 1 / y) if max(x, y) > 1.05 else (1.0, 1.0)


def widened(values, valid, pair):
    """Return the oracle's bilinear values with the engine's kernel width if it is wider than a pixel."""
    scale = tuple(min(s, 1.0) for s in true_scale(pair))
    return oracles._triangle(values, valid, pair.src, pair.dst, scale)


@given(strategies.grid_pairs(shape=SMALL), st.sampled_from(["uint8", "int16", "uint32", "float32", "float64", "bool"]))
def test_nearest_takes_the_pixel_containing_the_centre(pair, dtype):
    values = distinct((2, *pair.src.shape), "uint16").astype(dtype)
    exact = oracles.nearest(values, pair.src, pair.dst)
    warped, valid_mask = warp(values, None, pair, method="nearest")
    sure = exact.margin > TIE
    assert warped.dtype == values.dtype
    assert np.array_equal(valid_mask[:, sure], np.broadcast_to(exact.valid, valid_mask.shape)[:, sure])
    assert np.array_equal(warped[:, sure & exact.valid], exact.values[:, sure & exact.valid])


@given(strategies.grid_pairs(shape=SMALL, scales=(0.3, 1.0)), st.data())
def test_bilinear_is_exact_next_to_nodata(pair, data):
    values = noise((1, *pair.src.shape), data.draw(st.integers(0, 99)))
    valid = data.draw(strategies.masks(tuple(pair.src.shape)))
    exact = widened(values, valid, pair)
    warped, valid_mask = warp(np.where(valid, values, np.float32(9999)), valid[None], pair)
    sure = exact.margin > STEP
    assert np.array_equal(valid_mask[0][sure], exact.valid[sure])
    assert np.abs(warped[0] - exact.values[0])[sure & exact.valid].max(initial=0) < STEP


@given(strategies.grid_pairs(shape=SMALL, scales=(1.1, 4.0)), st.data())
def test_kernel_widens_for_larger_target_pixels(pair, data):
    values = noise((1, *pair.src.shape), data.draw(st.integers(0, 99)))
    valid = data.draw(strategies.masks(tuple(pair.src.shape)))
    exact = widened(values, valid, pair)
    warped, valid_mask = warp(np.where(valid, values, np.float32(9999)), valid[None], pair)
    sure = exact.margin > STEP
    assert np.array_equal(valid_mask[0][sure], exact.valid[sure])
    assert np.abs(warped[0] - exact.values[0])[sure & exact.valid].max(initial=0) < STEP


@pytest.mark.parametrize("crs", ["EPSG:32615", "EPSG:32616", "EPSG:3857"])
@pytest.mark.parametrize("ratio", [1.3, 3.0])
def test_kernel_width_equals_gdal(crs, ratio):
    """GDAL measures the ratio on the bounding rectangle of the target, which rotation enlarges."""
    src = make_grid((90, 90))
    x, y = transformer(src.crs, parse_crs(crs)).transform(601_000, 4_549_000)
    size = ratio * 30 / (0.754 if crs == "EPSG:3857" else 1)
    pair = strategies.GridPair(src=src, dst=make_grid((20, 20), crs=crs, left=x, top=y, resolution=size), scale=ratio)
    down, across = PixelTransform(pair.dst, pair.src).scale
    gdal_across, gdal_down = oracles.kernel_scale(pair.src, pair.dst, clip=False)
    assert 0.9 < gdal_across * across < 1.01
    assert 0.9 < gdal_down * down < 1.01


@pytest.mark.parametrize("ratio", [0.4, 1.0, 1.04, 1.2, 3.0])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint32", "float64"])
def test_constant_raster_stays_constant(ratio, dtype):
    src, dst = make_grid((60, 60)), make_grid((15, 15), left=600_311, top=4_549_777, resolution=30 * ratio)
    value = np.iinfo(dtype).max if dtype != "float64" else 0.1
    values = np.full((1, 60, 60), value, dtype)
    warped, valid_mask = resample(fetch_from(values), PixelTransform(dst, src), full_window(dst), "bilinear")
    assert valid_mask is None or valid_mask.all()
    assert np.allclose(warped, float(value), rtol=1e-12 if dtype in ("uint32", "float64") else 1e-6)


@given(strategies.grid_pairs(shape=SMALL), st.sampled_from(["nearest", "bilinear"]), st.data())
def test_window_equals_part_of_whole(pair, method, data):
    values = noise((2, *pair.src.shape)) * 1000
    valid = np.broadcast_to(data.draw(strategies.masks(tuple(pair.src.shape))), values.shape)
    full, full_valid = warp(values, valid, pair, window=full_window(pair.dst).pad(20), method=method)
    window = Window(*data.draw(strategies.windows(tuple(pair.dst.shape))))
    warped, valid_mask = warp(values, valid, pair, window, method)
    outer = full_window(pair.dst).pad(20)
    overlap = window.intersect(outer)
    window_part, whole_part = overlap.within(window), overlap.within(outer)
    assert np.array_equal(valid_mask[:, *window_part], full_valid[:, *whole_part])
    assert np.array_equal(
        warped[:, *window_part][valid_mask[:, *window_part]], full[:, *whole_part][full_valid[:, *whole_part]]
    )


ALBERS = {"crs": "EPSG:5070", "left": 348_000, "top": 2_019_000}  # slightly inside the corner of make_grid
SEAMS = {
    "albers": (make_grid((600, 600)), make_grid((600, 600), **ALBERS)),
    "over the pole": (
        GeoBox((700, 700), Affine(4000, 0, -1.4e6, 0, -4000, 1.4e6), "EPSG:3413"),
        GeoBox((400, 720), Affine(0.5, 0, -180, 0, -0.03, 90), "EPSG:4326"),
    ),
    "world to the pole": (
        GeoBox((720, 1440), Affine(0.25, 0, -180, 0, -0.25, 90), "EPSG:4326"),
        GeoBox((400, 400), Affine(26_000, 0, -5.2e6, 0, -26_000, 5.2e6), "EPSG:3413"),
    ),
    "world to the antimeridian": (
        GeoBox((720, 1440), Affine(0.25, 0, -180, 0, -0.25, 90), "EPSG:4326"),
        GeoBox((400, 400), Affine(25_000, 0, -4.5e6, 0, -25_000, 8e6), "EPSG:32601"),
    ),
    "world to the pacific": (
        GeoBox((720, 1440), Affine(0.25, 0, -180, 0, -0.25, 90), "EPSG:4326"),
        GeoBox((300, 600), Affine(25_000, 0, -4e6, 0, -25_000, 3.6e6), "EPSG:3832"),
    ),
}


@pytest.mark.parametrize("name", SEAMS)
@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_large_window_equals_small_windows(name, method):
    src, dst = SEAMS[name]
    pair = strategies.GridPair(src=src, dst=dst, scale=1.0)
    values = noise((1, *src.shape)) * 1000
    full, full_valid = warp(values, None, pair, method=method)
    assert full_valid.mean() > 0.2
    for row, col in np.random.default_rng(0).integers(0, np.array(dst.shape) - 90, (12, 2)).tolist():
        window = Window(row, col, 90, 90)
        rows, cols = window.within(full_window(dst))
        warped, valid_mask = warp(values, None, pair, window, method)
        assert np.array_equal(valid_mask, full_valid[:, rows, cols])
        assert np.array_equal(warped[valid_mask], full[:, rows, cols][valid_mask])


@pytest.mark.parametrize("name", SEAMS)
def test_seams_and_poles_equal_the_oracle(name):
    src, dst = SEAMS[name]
    values = distinct((1, *src.shape), "float32")
    exact = oracles.nearest(values, src, dst)
    warped, valid_mask = warp(values, None, strategies.GridPair(src=src, dst=dst, scale=1.0), method="nearest")
    sure = (exact.margin > TIE) & exact.valid
    assert sure.sum() > 1000
    assert valid_mask[0][sure].all()
    assert not valid_mask[0][~exact.valid & (exact.margin > TIE)].any()
    assert (warped[0][sure] != exact.values[0][sure]).mean() == 0


def test_infinite_and_missing_values_do_not_spread():
    src, dst = make_grid((40, 40)), make_grid((30, 30), left=600_010, top=4_549_990)
    values = noise((1, 40, 40))
    plain, _ = warp(values, None, strategies.GridPair(src=src, dst=dst, scale=1.0))
    values[0, 10, 10], values[0, 20, 20] = np.nan, np.inf
    warped, valid_mask = warp(values, None, strategies.GridPair(src=src, dst=dst, scale=1.0))
    assert np.isfinite(warped[valid_mask]).all()
    touched = np.zeros((30, 30), bool)
    for at in (10, 20):
        touched[at - 1 : at + 2, at - 1 : at + 2] = True
    assert np.array_equal(warped[0][~touched], plain[0][~touched])
    assert (~valid_mask).sum() <= 2


EXACT = tuple(int(p) for p in rasterio.__version__.split(".")[:2]) >= (1, 5)


@pytest.mark.skipif(not EXACT, reason="rasterio before 1.5 does not pass a tolerance on to GDAL")
@given(strategies.grid_pairs(shape=strategies.shapes(8, 64), scales=(0.3, 1.0)))
def test_kernels_equal_gdal_without_tolerance(pair):
    values = noise((1, *pair.src.shape))
    for method in ("nearest", "bilinear"):
        exact = np.full((1, *pair.dst.shape), np.nan, "float32")
        a, b = to_rasterio(pair.src), to_rasterio(pair.dst)
        reproject(
            values, exact, src_transform=a["transform"], src_crs=a["crs"], dst_transform=b["transform"],
            dst_crs=b["crs"], dst_nodata=np.nan, resampling=Resampling[method], tolerance=0, XSCALE=1, YSCALE=1,
        )  # fmt: skip
        warped, valid_mask = warp(values, None, pair, method=method)
        col, row = oracles.source_coordinates(pair.src, pair.dst)
        height, width = pair.src.shape
        inner = (col > 0.5) & (row > 0.5) & (col < width - 0.5) & (row < height - 0.5)
        if method == "nearest":
            inner &= oracles.nearest(values, pair.src, pair.dst).margin > TIE
        if max(PixelTransform(pair.dst, pair.src).scale) > 1.05:
            continue
        assert valid_mask[0][inner].all()
        assert np.abs(warped - exact)[0][inner].max(initial=0) < STEP


@pytest.mark.parametrize("method", ["average", "mode", "min", "max", "cubic", "lanczos"])
def test_gdal_methods_are_window_independent(method):
    pair = strategies.GridPair(
        src=make_grid((90, 90), resolution=30.0),
        dst=make_grid((40, 40), **ALBERS, resolution=70.0),
        scale=2.3,
    )
    values = np.rint(noise((2, 90, 90)) * 50)
    full, full_valid = warp(values, None, pair, method=method)
    assert full_valid.mean() > 0.1
    for window in (Window(3, 5, 20, 17), Window(-4, -6, 30, 30), Window(25, 25, 15, 15)):
        warped, valid_mask = warp(values, None, pair, window, method)
        overlap = window.intersect(full_window(pair.dst))
        window_part, whole_part = overlap.within(window), overlap.within(full_window(pair.dst))
        assert np.array_equal(valid_mask[:, *window_part], full_valid[:, *whole_part])
        assert np.array_equal(
            warped[:, *window_part][valid_mask[:, *window_part]], full[:, *whole_part][full_valid[:, *whole_part]]
        )


def test_cropped_grid_equals_part_of_whole():
    """The control grid is anchored at the grid origin; another origin differs by at most its tolerance."""
    src, dst = SEAMS["albers"]
    values = noise((1, *src.shape))
    window = Window(101, 57, 64, 64)
    full, full_valid = warp(values, None, strategies.GridPair(src=src, dst=dst, scale=1.0), window)
    warped, valid_mask = warp(values, None, strategies.GridPair(src=src, dst=window_grid(dst, window), scale=1.0))
    assert np.array_equal(full_valid, valid_mask)
    assert np.abs(warped - full)[full_valid].max() < STEP

"""The oracles against GDAL, exact where rasterio 1.5 can ask for that, and against cases worked out by hand."""

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.warp import Resampling, reproject

from geoxt.errors import CRSError
from geoxt.testing import distinct, make_grid
from support.oracles import bilinear, kernel_scale, nearest, source_coordinates, widened_bilinear
from support.strategies import grid_pairs, masks, shapes

EXACT = tuple(int(part) for part in rasterio.__version__.split(".")[:2]) >= (1, 5)
NODATA = -9999.0
needs_exact = pytest.mark.skipif(not EXACT, reason="rasterio before 1.5 cannot warp without tolerance")
warps = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def gdal(src, src_grid, dst_grid, how, *, fill=0.0, **options):
    """Warp with GDAL, exactly."""
    return reproject(
        src,
        np.full(dst_grid.shape.yx, fill, src.dtype),
        src_transform=src_grid.affine,
        src_crs=src_grid.crs.to_wkt(),
        dst_transform=dst_grid.affine,
        dst_crs=dst_grid.crs.to_wkt(),
        src_nodata=fill,
        dst_nodata=fill,
        resampling=how,
        **({"tolerance": 0} if EXACT else {}),
        **options,
    )[0]


@needs_exact
@warps
@given(grid_pairs())
def test_nearest_is_gdals(pair):
    src = distinct(pair.src.shape.yx, "uint32")
    ours = nearest(src, pair.src, pair.dst)
    bad = ours.values != gdal(src, pair.src, pair.dst, Resampling.nearest)
    assert not (bad & (ours.margin > 1e-6)).any()


@needs_exact
@warps
@given(grid_pairs(shape=shapes(2, 90)))
def test_bilinear_is_gdals(pair):
    src = distinct(pair.src.shape.yx, "float64") % 97
    ours = bilinear(src, None, pair.src, pair.dst)
    theirs = gdal(src, pair.src, pair.dst, Resampling.bilinear, fill=NODATA, XSCALE=1, YSCALE=1)
    both = ours.valid & (theirs != NODATA)
    np.testing.assert_allclose(ours.values[both], theirs[both], rtol=0, atol=1e-5)
    assert not (ours.valid & (theirs == NODATA)).any(), "without nodata they differ at corners only, where GDAL is lax"


@needs_exact
@warps
@given(grid_pairs(scales=(0.8, 4), shape=shapes(20, 90)))
def test_widened_bilinear_is_gdals(pair):
    src = distinct(pair.src.shape.yx, "float64") % 97
    scale = kernel_scale(pair.src, pair.dst, clip=False)
    ours = widened_bilinear(src, None, pair.src, pair.dst, scale)
    options = {"XSCALE": scale[0], "YSCALE": scale[1]}
    theirs = gdal(src, pair.src, pair.dst, Resampling.bilinear, fill=NODATA, **options)
    both = ours.valid & (theirs != NODATA)
    np.testing.assert_allclose(ours.values[both], theirs[both], rtol=0, atol=1e-5)


@needs_exact
@warps
@given(st.data())
def test_bilinear_next_to_nodata_is_gdals_where_both_are_valid(data):
    pair = data.draw(grid_pairs(shape=shapes(20, 60)))
    valid = data.draw(masks(pair.src.shape.yx))
    src = np.where(valid, distinct(pair.src.shape.yx, "float64") % 97, NODATA)
    ours = bilinear(src, valid, pair.src, pair.dst)
    theirs = gdal(src, pair.src, pair.dst, Resampling.bilinear, fill=NODATA, XSCALE=1, YSCALE=1)
    under = nearest(src, pair.src, pair.dst, nodata=NODATA)
    both = ours.valid & (theirs != NODATA)
    np.testing.assert_allclose(ours.values[both], theirs[both], rtol=0, atol=1e-5)
    sure = under.margin > 1e-6
    np.testing.assert_array_equal((theirs != NODATA)[sure], under.valid[sure])


@needs_exact
def test_scale_of_gdal():
    pair = make_grid((200, 210)), make_grid((40, 45), left=600_400, top=4_549_500, resolution=77, degrees=0)
    src = distinct((200, 210), "float64") % 97
    ours = widened_bilinear(src, None, *pair)
    assert kernel_scale(*pair) == pytest.approx((30 / 77, 30 / 77))
    np.testing.assert_allclose(ours.values, gdal(src, *pair, Resampling.bilinear, fill=NODATA), atol=1e-6)


@pytest.mark.parametrize("crs", ["EPSG:32616", "EPSG:5070", "EPSG:4326", "EPSG:3857"])
def test_every_gdal_agrees_to_its_tolerance(crs):
    """rasterio before 1.5 has GDAL interpolate coordinates, to within an eighth of a pixel."""
    src_grid = make_grid((80, 80))
    box = src_grid.boundingbox
    x, y = rasterio.warp.transform("EPSG:32615", crs, [(box.left + box.right) / 2], [(box.top + box.bottom) / 2])
    size = 0.0003 if crs == "EPSG:4326" else 30
    dst_grid = make_grid((60, 60), crs=crs, left=x[0] - 30 * size, top=y[0] + 30 * size, resolution=size)
    ramp = np.arange(80) + 3.0 * np.arange(80)[:, np.newaxis]
    ours = bilinear(ramp, None, src_grid, dst_grid)
    theirs = gdal(ramp, src_grid, dst_grid, Resampling.bilinear, fill=NODATA, XSCALE=1, YSCALE=1)
    both = ours.valid & (theirs != NODATA)
    assert both.mean() > 0.9
    assert np.abs(ours.values - theirs)[both].max() < 0.125 * 4
    picked = nearest(ramp, src_grid, dst_grid, nodata=NODATA)
    wrong = picked.values != gdal(ramp, src_grid, dst_grid, Resampling.nearest, fill=NODATA)
    assert not (wrong & (picked.margin > 0.125)).any()


def test_whole_shift_is_a_copy():
    src, grid = distinct((2, 30, 40)), make_grid((30, 40))
    moved = make_grid((30, 40), left=600_000 + 90, top=4_550_000 + 60)
    ours = nearest(src, grid, moved, nodata=0)
    np.testing.assert_array_equal(ours.values[:, 2:, :-3], src[:, :-2, 3:])
    assert not ours.valid[:2].any()
    assert not ours.valid[:, -3:].any()
    smooth = bilinear(src, None, grid, moved)
    np.testing.assert_array_equal(smooth.values[:, 2:, :-3], src[:, :-2, 3:])
    assert np.isnan(smooth.values[:, :2]).all()


def test_margin_is_the_distance_to_the_edge_between_pixels():
    grid = make_grid((10, 10))
    moved = make_grid((10, 10), left=600_000 + 12)
    np.testing.assert_allclose(nearest(distinct((10, 10)), grid, moved).margin, 0.1, atol=1e-9)


def test_bilinear_shares_weights_among_valid_neighbours():
    grid, between = make_grid((2, 2)), make_grid((1, 1), left=600_000 + 15, top=4_550_000 - 15)
    values = [[1.0, 2.0], [3.0, 100.0]]
    assert bilinear(values, [[True, True], [True, False]], grid, between).values == 2
    half = bilinear(values, [[True, True], [False, False]], grid, between)
    assert (half.values, half.valid, half.margin) == (1.5, True, 0)
    assert not bilinear(values, [[True, False], [False, False]], grid, between).valid


def test_degrees_may_begin_at_any_meridian():
    pacific = make_grid((10, 20), crs="EPSG:4326", left=179, top=0, resolution=0.1)
    east = make_grid((10, 5), crs="EPSG:4326", left=-179.5, top=0, resolution=0.1)
    col, _ = source_coordinates(pacific, east)
    np.testing.assert_allclose(col[0], np.arange(15.5, 20))


def test_a_grid_without_crs_is_refused():
    with pytest.raises(CRSError, match="has none"):
        nearest(distinct((3, 3)), make_grid((3, 3)), make_grid((3, 3), crs=None))

"""Grids: read from and written to coordinates, cropped, overlapped across CRSs, and named in errors."""

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from support import oracles, strategies

from geoxt import grid as grids
from geoxt.crs import parse_crs
from geoxt.errors import CRSError, GridError
from geoxt.footprints import overlap
from geoxt.testing import make_grid
from geoxt.windows import Window

WORLD = GeoBox((180, 360), Affine(1, 0, -180, 0, -1, 90), "EPSG:4326")


def make_layer(grid, name="dem"):
    return xr.DataArray(np.zeros(grid.shape.yx), dims=("y", "x"), coords=grids.coordinates(grid), name=name)


def close(first, second, pixel=1e-3):
    offset = grids.pixel_offset(first, second)
    return first.shape == second.shape and offset == (0, 0) and first.affine.almost_equals(second.affine, pixel)


@given(strategies.grids(rotated=False))
def test_grid_of_a_layer_round_trips(grid):
    assert close(grids.grid_of(make_layer(grid)), grid)


@given(strategies.grids(rotated=False, shape=st.just((40, 30))), st.data())
def test_grid_of_a_slice_equals_the_window_grid(grid, data):
    row, col = data.draw(st.integers(0, 39)), data.draw(st.integers(0, 29))
    height, width = data.draw(st.integers(1, 40 - row)), data.draw(st.integers(1, 30 - col))
    layer = make_layer(grid).isel(y=slice(row, row + height), x=slice(col, col + width))
    expected = grids.window_grid(grid, Window(row, col, height, width))
    assert close(grids.grid_of(layer), expected)
    assert grids.pixel_offset(expected, grid) == (row, col)


@given(strategies.grids(), st.data())
def test_grid_of_any_window_of_a_rotated_layer_is_exact(grid, data):
    layer, (rows, cols) = make_layer(grid), grid.shape
    row, col = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, cols - 1))
    height = data.draw(st.sampled_from([1, rows - row]))
    width = data.draw(st.sampled_from([1, cols - col]))
    part = layer.isel(y=slice(row, row + height), x=slice(col, col + width))
    assert close(grids.grid_of(part), grids.window_grid(grid, Window(row, col, height, width)))


def test_strided_layer_has_a_coarser_grid():
    coarse = grids.grid_of(make_layer(make_grid((8, 8), resolution=30)).isel(y=slice(None, None, 2)))
    assert (coarse.affine.a, coarse.affine.e) == (30, -60)


def test_grid_of_a_grid_is_the_grid():
    grid = make_grid((3, 4))
    assert grids.grid_of(grid) is grid
    assert grids.full_window(grid) == Window(0, 0, 3, 4)


def test_other_dimension_names_raise():
    layer = make_layer(WORLD).rename(y="lat", x="lon")
    with pytest.raises(GridError, match=r"grid of 'dem': its dimensions are \('lat', 'lon'\).*rename"):
        grids.grid_of(layer)


def test_layer_without_crs_raises():
    layer = xr.DataArray(np.zeros((2, 2)), dims=("y", "x"), coords={"y": [1.0, 0.0], "x": [0.0, 1.0]}, name="dem")
    with pytest.raises(CRSError, match=r"'dem': it has no CRS.*assign_crs"):
        grids.grid_of(layer)


@pytest.mark.parametrize("change", ["gap", "missing"])
def test_irregular_coordinates_raise(change):
    layer = make_layer(make_grid((6, 6)))
    layer = layer.isel(x=[0, 1, 3, 4]) if change == "gap" else layer.drop_vars(["x", "y"])
    with pytest.raises(GridError, match="'dem'.*not regular"):
        grids.grid_of(layer)


@pytest.mark.parametrize("shift", [0.5, 0.002, -0.01])
def test_pixel_offset_is_none_for_fractional_shifts(shift):
    base = make_grid((9, 9))
    assert grids.pixel_offset(make_grid((9, 9), left=600_000 + 30 * shift), base) is None
    assert grids.pixel_offset(make_grid((9, 9), left=600_000 + 30 * 2), base) == (0, 2)
    assert grids.pixel_offset(make_grid((9, 9), crs="EPSG:32616"), base) is None
    assert grids.pixel_offset(make_grid((9, 9), resolution=30.01), base) is None


@given(strategies.grid_pairs(scales=(0.3, 4.0)))
def test_overlap_contains_every_pixel_by_centre(pair):
    col, row = oracles.source_coordinates(pair.src, pair.dst)
    inside = (col > 0) & (row > 0) & (col < pair.src.shape[1]) & (row < pair.src.shape[0])
    window = overlap(pair.dst, pair.src)
    if inside.any():
        rows, cols = np.nonzero(inside)
        assert window is not None
        assert window.contains(Window(int(rows.min()), int(cols.min()), int(np.ptp(rows)) + 1, int(np.ptp(cols)) + 1))


def test_disjoint_grids_have_no_overlap():
    assert overlap(make_grid((9, 9)), make_grid((9, 9), left=700_000)) is None
    assert overlap(make_grid((9, 9)), make_grid((9, 9), crs="EPSG:32645")) is None


@pytest.mark.parametrize("left", [170, -190])
def test_grid_across_the_antimeridian_overlaps_on_both_sides(left):
    grid = GeoBox((20, 20), Affine(1, 0, left, 0, -1, 60), "EPSG:4326")
    for crs in ("EPSG:32660", "EPSG:32601"):
        projected = GeoBox((50, 50), Affine(3000, 0, 400_000, 0, -3000, 6_000_000), crs)
        assert overlap(projected, grid) == grids.full_window(projected)


def test_global_grid_overlaps_projected_grids():
    for crs in ("EPSG:32615", "EPSG:5070", "EPSG:3413"):
        projected = GeoBox((50, 50), Affine(3000, 0, 100_000, 0, -3000, 2_000_000), crs)
        assert overlap(projected, WORLD) == grids.full_window(projected), crs
        assert overlap(WORLD, projected) is not None, crs


def test_polar_grid_overlaps_all_longitudes():
    pole = GeoBox((60, 60), Affine(50_000, 0, -1.5e6, 0, -50_000, 1.5e6), "EPSG:3413")
    window = overlap(WORLD, pole)
    assert window is not None
    assert (window.row, window.col, window.width) == (0, 0, 360)


@given(
    st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(1, 1e5), st.floats(1, 1e5), st.sampled_from([10.0, 30.0, 7.5])
)
def test_snapped_grid_covers_the_bounds_on_the_lattice(left, bottom, width, height, size):
    anchor = Affine(size, 0, 3.25, 0, -size, -8.5)
    bounds = (left, bottom, left + width, bottom + height)
    grid = grids.snap_grid(bounds, (size, size), anchor, parse_crs(32615))
    box, slack = grid.boundingbox, 1e-5 * size
    assert box.left - slack <= bounds[0] < box.left + size
    assert box.right + slack >= bounds[2] > box.right - size
    assert box.bottom - slack <= bounds[1] < box.bottom + size
    assert box.top + slack >= bounds[3] > box.top - size
    lattice = GeoBox((9, 9), anchor, "EPSG:32615")
    assert grids.pixel_offset(grid, lattice) is not None

"""Grids: read from and written to coordinates, cropped, overlapped across CRSs, and named in errors."""

import pickle

import numpy as np
import pyproj
import pytest
import xarray as xr
from affine import Affine
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from support import oracles, strategies

from geoxt import grid as grids
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


@pytest.mark.parametrize("value", ["EPSG:99999999", "nowhere", object()])
def test_invalid_crs_raises(value):
    with pytest.raises(CRSError, match="Cannot read a coordinate reference system from .*Pass crs="):
        grids.parse_crs(value)


def test_crs_of_code_and_wkt_are_equal():
    wkt = grids.parse_crs(5070).to_wkt()
    assert grids.parse_crs(wkt) == grids.parse_crs("EPSG:5070") == grids.parse_crs(5070)


def test_several_crs_raise_with_names():
    named_crs = [("a", grids.parse_crs(32615)), ("b", grids.parse_crs(32615)), ("c", grids.parse_crs(32616))]
    assert grids.require_one_crs(named_crs[:2]) == grids.parse_crs(32615)
    with pytest.raises(CRSError, match=r"'a' is in EPSG:32615, 'c' in EPSG:32616\. Pass crs="):
        grids.require_one_crs(named_crs)


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
    grid = grids.snap_grid(bounds, (size, size), anchor, grids.parse_crs(32615))
    box, slack = grid.boundingbox, 1e-5 * size
    assert box.left - slack <= bounds[0] < box.left + size
    assert box.right + slack >= bounds[2] > box.right - size
    assert box.bottom - slack <= bounds[1] < box.bottom + size
    assert box.top + slack >= bounds[3] > box.top - size
    lattice = GeoBox((9, 9), anchor, "EPSG:32615")
    assert grids.pixel_offset(grid, lattice) is not None


UNKNOWN_DATUM = {  # PROJ string: EPSG code of a match of 70 %, of another datum
    "+proj=tmerc +lat_0=0 +lon_0=9 +k=1 +x_0=3500000 +y_0=0 +ellps=bessel +units=m": 5683,
    "+proj=utm +zone=19 +south +ellps=intl +units=m": 2315,
    "+proj=utm +zone=33 +ellps=intl +units=m": 23033,
    "+proj=utm +zone=15 +ellps=GRS80 +units=m": 6370,
    "+proj=utm +zone=55 +south +ellps=GRS80 +units=m": 7855,
    "+proj=lcc +lat_1=49 +lat_2=44 +lat_0=46.5 +lon_0=3 +x_0=700000 +y_0=6600000 +ellps=GRS80": 2154,
    "+proj=aea +lat_1=29.5 +lat_2=45.5 +lat_0=23 +lon_0=-96 +ellps=clrk66 +units=m": 5069,
}


@pytest.mark.parametrize("text", UNKNOWN_DATUM)
def test_crs_of_unknown_datum_gets_no_authority_code(text):
    original = pyproj.CRS(text)
    for crs in (grids.parse_crs(text), grids.parse_crs(original.to_wkt())):
        assert crs.proj == original
        assert crs.epsg is None  # odc-geo would return the 70 % match, and compare by it from then on
        assert crs != grids.parse_crs(f"EPSG:{UNKNOWN_DATUM[text]}")
        assert "EPSG" not in grids.crs_name(crs)
        assert grids.parse_crs(grids.crs_text(crs)) == crs
    grid = GeoBox((3, 4), Affine(10, 0, 5e5, 0, -10, 4e6), text)  # its CRS was not parsed by geoxt
    assert grids.coordinates(grid)["spatial_ref"] == 0
    layer = make_layer(grid)
    assert grids.grid_of(layer).crs.proj == original
    assert pickle.loads(pickle.dumps(grids.grid_of(layer))).crs == grids.parse_crs(text)


@pytest.mark.parametrize("version", ["WKT1_GDAL", "WKT1_ESRI", "WKT2_2019"])
@pytest.mark.parametrize(
    "code", [4326, 4269, 32615, 32755, 3857, 3035, 3034, 3031, 5070, 2193, 2180, 28992, 31468, 2573]
)
def test_other_texts_of_a_crs_get_its_code(code, version):
    try:
        text = pyproj.CRS(code).to_wkt(version)
    except pyproj.exceptions.CRSError:
        pytest.skip(f"{version} cannot express it")
    assert str(grids.parse_crs(text)) == f"EPSG:{code}"


@pytest.mark.parametrize("text", ["OGC:CRS84", "+proj=longlat +datum=WGS84", "WGS84"])
def test_order_of_axes_does_not_matter(text):
    assert grids.parse_crs(text) == grids.parse_crs("EPSG:4326")


@given(st.sampled_from(pyproj.get_codes("EPSG", "PROJECTED_CRS")), st.sampled_from(["to_wkt", "to_proj4", "WKT1_ESRI"]))
@settings(max_examples=15, deadline=None)
@pytest.mark.filterwarnings("ignore:You will likely lose important")
def test_parsed_crs_has_the_coordinates_of_its_text(code, form):
    crs = pyproj.CRS(f"EPSG:{code}")
    text = getattr(crs, form)() if hasattr(crs, form) else crs.to_wkt(form)
    original, parsed = pyproj.CRS(text), grids.parse_crs(text)
    x, y = ([5e5, 1e5, 3e6], [4e6, 1e5, 2e6])
    try:
        expected = pyproj.Transformer.from_crs(original, original.geodetic_crs, always_xy=True).transform(x, y)
    except pyproj.exceptions.ProjError:  # of a few CRSs
        reject()
    actual = pyproj.Transformer.from_crs(parsed.proj, original.geodetic_crs, always_xy=True).transform(x, y)
    np.testing.assert_array_equal(actual, expected)


def test_name_of_a_crs_is_the_code_of_an_equal_one():
    assert grids.crs_name(grids.parse_crs("ESRI:102033")) == "ESRI:102033"
    assert grids.crs_name(grids.parse_crs(pyproj.CRS("ESRI:54009").to_wkt())) == "ESRI:54009"
    assert (
        grids.crs_name(grids.parse_crs("+proj=utm +zone=33 +ellps=intl")) == "+proj=utm +zone=33 +ellps=intl +units=m"
    )
    assert grids.crs_name(None) == "no CRS"

"""Coordinate reference systems: equal CRSs get one code, from WKT, PROJ strings and codes."""

import pickle

import numpy as np
import pyproj
import pytest
import xarray as xr
from affine import Affine
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from geoxt.crs import common_crs, crs_name, crs_text, parse_crs
from geoxt.errors import CRSError
from geoxt.grid import coordinates, grid_of


@pytest.mark.parametrize("value", ["EPSG:99999999", "nowhere", object()])
def test_invalid_crs_raises(value):
    with pytest.raises(CRSError, match="Cannot read a coordinate reference system from .*Pass crs="):
        parse_crs(value)


def test_crs_of_code_and_wkt_are_equal():
    wkt = parse_crs(5070).to_wkt()
    assert parse_crs(wkt) == parse_crs("EPSG:5070") == parse_crs(5070)


def test_several_crs_raise_with_names():
    named_crs = [("a", parse_crs(32615)), ("b", parse_crs(32615)), ("c", parse_crs(32616))]
    assert common_crs(named_crs[:2]) == parse_crs(32615)
    with pytest.raises(CRSError, match=r"'a' is in EPSG:32615, 'c' in EPSG:32616\. Pass crs="):
        common_crs(named_crs)


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
    for crs in (parse_crs(text), parse_crs(original.to_wkt())):
        assert crs.proj == original
        assert crs.epsg is None  # odc-geo would return the 70 % match, and compare by it from then on
        assert crs != parse_crs(f"EPSG:{UNKNOWN_DATUM[text]}")
        assert "EPSG" not in crs_name(crs)
        assert parse_crs(crs_text(crs)) == crs
    grid = GeoBox((3, 4), Affine(10, 0, 5e5, 0, -10, 4e6), text)  # its CRS was not parsed by geoxt
    assert coordinates(grid)["spatial_ref"] == 0
    layer = xr.DataArray(np.zeros(grid.shape.yx), dims=("y", "x"), coords=coordinates(grid))
    assert grid_of(layer).crs.proj == original
    assert pickle.loads(pickle.dumps(grid_of(layer))).crs == parse_crs(text)


@pytest.mark.parametrize("version", ["WKT1_GDAL", "WKT1_ESRI", "WKT2_2019"])
@pytest.mark.parametrize(
    "code", [4326, 4269, 32615, 32755, 3857, 3035, 3034, 3031, 5070, 2193, 2180, 28992, 31468, 2573]
)
def test_other_texts_of_a_crs_get_its_code(code, version):
    try:
        text = pyproj.CRS(code).to_wkt(version)
    except pyproj.exceptions.CRSError:
        pytest.skip(f"{version} cannot express it")
    assert str(parse_crs(text)) == f"EPSG:{code}"


@pytest.mark.parametrize("text", ["OGC:CRS84", "+proj=longlat +datum=WGS84", "WGS84"])
def test_order_of_axes_does_not_matter(text):
    assert parse_crs(text) == parse_crs("EPSG:4326")


@given(st.sampled_from(pyproj.get_codes("EPSG", "PROJECTED_CRS")), st.sampled_from(["to_wkt", "to_proj4", "WKT1_ESRI"]))
@settings(max_examples=15, deadline=None)
@pytest.mark.filterwarnings("ignore:You will likely lose important")
def test_parsed_crs_has_the_coordinates_of_its_text(code, form):
    crs = pyproj.CRS(f"EPSG:{code}")
    text = getattr(crs, form)() if hasattr(crs, form) else crs.to_wkt(form)
    original, parsed = pyproj.CRS(text), parse_crs(text)
    x, y = ([5e5, 1e5, 3e6], [4e6, 1e5, 2e6])
    try:
        expected = pyproj.Transformer.from_crs(original, original.geodetic_crs, always_xy=True).transform(x, y)
    except pyproj.exceptions.ProjError:  # of a few CRSs
        reject()
    actual = pyproj.Transformer.from_crs(parsed.proj, original.geodetic_crs, always_xy=True).transform(x, y)
    np.testing.assert_array_equal(actual, expected)


def test_name_of_a_crs_is_the_code_of_an_equal_one():
    assert crs_name(parse_crs("ESRI:102033")) == "ESRI:102033"
    assert crs_name(parse_crs(pyproj.CRS("ESRI:54009").to_wkt())) == "ESRI:54009"
    assert crs_name(parse_crs("+proj=utm +zone=33 +ellps=intl")) == "+proj=utm +zone=33 +ellps=intl +units=m"
    assert crs_name(None) == "no CRS"

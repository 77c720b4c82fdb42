"""Grids of Zarr stores: the CRS and positions of attributes and coordinates, and contradictions."""

import numpy as np
import pytest
import xarray as xr

import geoxt
from geoxt.errors import CRSError, GridError
from geoxt.grid import grid_of
from geoxt.testing import distinct

from .test_open_zarr import GRID, write_array, write_store

zarr = pytest.importorskip("zarr")


def test_no_crs_raises(tmp_path):
    write_store(tmp_path / "a.zarr", {"b": (("y", "x"), distinct((60, 70)), {})}, crs=False)
    with pytest.raises(CRSError, match="Pass source_crs='EPSG:…'"):
        geoxt.open_zarr(tmp_path / "a.zarr")
    assert grid_of(geoxt.open_zarr(tmp_path / "a.zarr", source_crs=GRID.crs)) == GRID


def test_contradicting_crs_raises(tmp_path):
    write_store(tmp_path / "a.zarr", {"b": (("y", "x"), distinct((60, 70)), {"proj:code": "EPSG:32633"})})
    with pytest.raises(CRSError, match="EPSG:32615, an attribute EPSG:32633"):
        geoxt.open_zarr(tmp_path / "a.zarr")


@pytest.mark.parametrize("attrs", [
    {"proj:code": "EPSG:32615"},
    {"proj:epsg": 32615},
    {"proj:wkt2": GRID.crs.to_wkt(version="WKT2_2019")},
    {"proj:projjson": GRID.crs.proj.to_json_dict()},
    {"stac_discovery": {"properties": {"proj:epsg": 32615}}},
    {"other_metadata": {"horizontal_CRS_code": "EPSG:32615"}},
])  # fmt: skip
def test_crs_of_group_attributes(tmp_path, attrs):
    write_store(tmp_path / "a.zarr", {"b": (("y", "x"), distinct((60, 70)), {})}, crs=False, attrs=attrs)
    assert grid_of(geoxt.open_zarr(tmp_path / "a.zarr")) == GRID


@pytest.mark.parametrize("attrs", [
    {"spatial:transform": list(GRID.affine[:6])},
    {"proj:transform": list(GRID.affine)},
    {"spatial:registration": "node", "spatial:transform": [30, 0, 600_015, 0, -30, GRID.affine.f - 15]},
])  # fmt: skip
def test_transform_of_attributes(tmp_path, attrs):
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", attributes={"proj:code": "EPSG:32615", **attrs})
    write_array(group, "b", ("y", "x"), distinct((60, 70)))
    assert grid_of(geoxt.open_zarr(tmp_path / "a.zarr")) == GRID


def test_irregular_and_contradicting_positions_raise(tmp_path):
    group = write_store(tmp_path / "a.zarr", {"b": (("y", "x"), distinct((60, 70)), {})})
    group["b"].attrs["spatial:transform"] = [30, 0, 0, 0, -30, 0]
    with pytest.raises(GridError, match="contradicts its coordinates"):
        geoxt.open_zarr(tmp_path / "a.zarr")
    del group["b"].attrs["spatial:transform"]
    group["y"][7] += 4
    with pytest.raises(GridError, match="y is not regular"):
        geoxt.open_zarr(tmp_path / "a.zarr")
    del group["y"], group["x"]
    group["b"].attrs["coordinates"] = "lat lon"
    with pytest.raises(GridError, match="given by lat and lon.*Resample it to a regular grid"):
        geoxt.open_zarr(tmp_path / "a.zarr")


def test_ascending_latitudes_of_0_to_360(tmp_path):
    values = distinct((18, 36), "int16")
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    write_array(group, "lat", ("lat",), np.arange(-85, 90, 10.0), {"units": "degrees_north"})
    write_array(group, "lon", ("lon",), np.arange(0, 360, 10.0), {"units": "degrees_east"})
    write_array(group, "t", ("lat", "lon"), values, chunks=(5, 7))
    layer = geoxt.open_zarr(tmp_path / "a.zarr")
    assert layer.odc.crs.epsg == 4326
    with xr.open_zarr(tmp_path / "a.zarr", consolidated=False, mask_and_scale=False) as ds:
        rolled = ds.t.assign_coords(lon=(ds.lon + 180) % 360 - 180).sortby("lon").sortby("lat", ascending=False)
        assert np.array_equal(layer.values[0], rolled.values)
        assert np.allclose(layer.x, rolled.lon)
        assert np.allclose(layer.y, rolled.lat)
    del group["lat"].attrs["units"]
    with pytest.raises(CRSError):
        geoxt.open_zarr(tmp_path / "a.zarr")

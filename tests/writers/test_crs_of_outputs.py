"""CRS of written files: exactly that of the layer or frame, never the EPSG code of a similar one."""

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import rasterio.warp
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

import geoxt
from geoxt.grid import grid_of
from geoxt.writers.vector import to_vector

CRSS = [
    "+proj=utm +zone=33 +ellps=intl +units=m",
    "+proj=tmerc +lat_0=0 +lon_0=9 +k=1 +x_0=3500000 +y_0=0 +ellps=bessel +units=m",
    "EPSG:32633",
    "ESRI:102033",
    "+proj=sinu +R=6371007.181 +units=m",
]


def raster(path, crs, affine):
    values = np.arange(1, 401, dtype="float32").reshape(1, 20, 20)
    wkt = pyproj.CRS(crs).to_wkt()
    profile = {"driver": "GTiff", "count": 1, "height": 20, "width": 20, "dtype": "float32", "nodata": 0}
    with rasterio.open(path, "w", crs=wkt, transform=affine, **profile) as file:
        file.write(values)
    return path


def crs_of(path):
    with rasterio.open(path) as file:
        return pyproj.CRS(file.crs.to_wkt())


@pytest.mark.parametrize("crs", CRSS)
def test_written_rasters_keep_the_crs(tmp_path, crs):
    path = raster(tmp_path / "in.tif", crs, Affine(10, 0, 5e5, 0, -10, 5e6))
    layer = geoxt.open_cogs(path)
    geoxt.to_cog(layer, tmp_path / "out.tif", progress=False)
    geoxt.to_zarr(layer, tmp_path / "out.zarr", progress=False)
    assert layer.geoml.grid.crs.proj == pyproj.CRS(crs)
    assert crs_of(tmp_path / "out.tif") == crs_of(path)
    with xr.open_zarr(tmp_path / "out.zarr", mask_and_scale=False, decode_coords="all") as store:
        assert grid_of(store["layer"]).crs == layer.geoml.grid.crs


@pytest.mark.parametrize("suffix", ["gpkg", "fgb"])
@pytest.mark.parametrize("crs", CRSS)
def test_written_features_keep_the_crs(tmp_path, crs, suffix):
    frame = geopandas.GeoDataFrame({"code": [3]}, geometry=[shapely.box(5e5, 5e6, 500100, 5000100)], crs=crs)
    path = to_vector(frame, tmp_path / f"out.{suffix}")
    assert geopandas.read_file(path).crs == pyproj.CRS(crs)
    assert type(frame.crs) is pyproj.CRS


@pytest.mark.parametrize(
    ("crs", "corner", "target"),
    [(CRSS[0], (500000, 5000000), "EPSG:32633"), (CRSS[1], (3550000, 5550000), "EPSG:25832")],
)
def test_pixels_of_an_unknown_datum_are_not_shifted_by_a_guessed_one(tmp_path, crs, corner, target):
    path = raster(tmp_path / "in.tif", crs, Affine(10, 0, corner[0], 0, -10, corner[1]))
    with rasterio.open(path) as file:
        left, _, _, top = rasterio.warp.transform_bounds(file.crs, target, *file.bounds)
        grid = GeoBox((16, 16), Affine(10, 0, left + 20, 0, -10, top - 20), target)
        expected = np.zeros(grid.shape, "float32")
        rasterio.warp.reproject(
            rasterio.band(file, 1), expected, dst_transform=grid.affine, dst_crs=target, tolerance=1e-9
        )
    actual = geoxt.open_cogs(path, grid=grid, resampling="nearest").values[0]
    assert (expected > 0).sum() > 200
    np.testing.assert_array_equal(actual, expected)

"""align() against rioxarray's reproject_match: equal grid, CRS and attributes; values equal up to GDAL's tolerance."""

import numpy as np
import pytest
import rioxarray
import xarray as xr
from support import oracles

from geoxt import open_cogs
from geoxt.grid import coordinates, grid_of, pixel_offset
from geoxt.testing import make_grid, write_cog

GDAL_TOLERANCE = 0.125
"""Maximum error of GDAL's approximate transformer, in source pixels."""
SOURCE = make_grid((120, 140), crs="EPSG:32615", left=600_000, top=4_550_000, resolution=30.0)
TARGETS = {
    "albers": make_grid((90, 80), crs="EPSG:5070", left=351_000, top=2_016_000, resolution=30.0),
    "degrees": make_grid((60, 60), crs="EPSG:4326", left=-91.80, top=41.09, resolution=3e-4),
    "shifted": make_grid((70, 70), crs="EPSG:32615", left=600_311, top=4_549_517, resolution=29.5),
}


@pytest.fixture(params=TARGETS)
def target(request):
    grid = TARGETS[request.param]
    return open_zeros(grid)


def open_zeros(grid):
    empty = np.zeros(grid.shape, "float32")
    layer = xr.DataArray(empty, dims=("y", "x"), name="like")
    return layer.assign_coords(coordinates(grid))


def opened(tmp_path, values, **options):
    path = write_cog(tmp_path / "a.tif", values, grid=SOURCE, **options)
    return open_cogs(path).isel(band=0, drop=True), rioxarray.open_rasterio(path).isel(band=0, drop=True)


def test_continuous_values_differ_by_gdal_tolerance_only(tmp_path, target):
    rows, cols = np.mgrid[: SOURCE.shape[0], : SOURCE.shape[1]]
    values = (100 * np.sin(rows / 9) + 80 * np.cos(cols / 7)).astype("float32")
    max_gradient = max(100 / 9, 80 / 7)
    layer, reference_layer = opened(tmp_path, values, nodata=-9999.0)
    aligned, reference = layer.geoml.align(target), reference_layer.rio.reproject_match(target, resampling=1)
    assert grid_of(aligned) == grid_of(target)
    assert pixel_offset(grid_of(aligned), grid_of(reference)) == (0, 0)
    assert aligned.shape == reference.shape
    assert aligned.rio.crs == reference.rio.crs
    assert aligned.rio.nodata == reference.rio.nodata
    assert np.allclose(aligned.x, reference.x)
    assert np.allclose(aligned.y, reference.y)
    a, b = aligned.to_numpy(), reference.to_numpy()
    valid = (a != -9999) & (b != -9999)
    assert valid.mean() > 0.5
    assert np.abs(a - b)[valid].max() <= 2 * GDAL_TOLERANCE * max_gradient + 1e-3


def test_class_codes_differ_only_near_pixel_edges(tmp_path, target):
    values = np.random.default_rng(0).integers(1, 200, SOURCE.shape).astype("uint8")
    layer, reference_layer = opened(tmp_path, values, nodata=0)
    aligned = layer.geoml.align(target, resampling="nearest").to_numpy()
    reference = reference_layer.rio.reproject_match(target).to_numpy()
    exact = oracles.nearest(values[None], SOURCE, grid_of(target), nodata=0)
    near_tie = np.squeeze(exact.margin)
    assert (near_tie[aligned != np.squeeze(exact.values)] < 1e-3).all()
    assert (near_tie[aligned != reference] < GDAL_TOLERANCE + 1e-3).all()


def test_align_is_lazy_unlike_reproject_match(tmp_path, target, monkeypatch):
    layer, _ = opened(tmp_path, np.ones(SOURCE.shape, "uint8"), nodata=0)
    monkeypatch.setattr("geoxt.pixels.reader.start_read", lambda *_, **__: pytest.fail("a pixel was read"))
    lazy = layer.geoml.align(target)
    assert lazy.chunks is not None
    assert lazy.attrs.items() >= {"_FillValue": 0}.items()
    assert grid_of(lazy) == grid_of(target)

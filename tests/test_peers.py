"""align() beside rioxarray's reproject_match: the same grid, CRS and attributes, and values up to GDAL's own error."""

import numpy as np
import pytest
import rioxarray
import xarray as xr
from support import oracles

from geoxt import open_cogs
from geoxt.grid import coordinates, grid_of, pixel_offset
from geoxt.testing import make_grid, write_cog

LOOSE = 0.125
"""Source pixels: how far GDAL's default transformer may be off."""
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


def test_continuous_values_differ_by_no_more_than_a_loose_pixel(tmp_path, target):
    rows, cols = np.mgrid[: SOURCE.shape[0], : SOURCE.shape[1]]
    values = (100 * np.sin(rows / 9) + 80 * np.cos(cols / 7)).astype("float32")
    steepest = max(100 / 9, 80 / 7)
    layer, peer = opened(tmp_path, values, nodata=-9999.0)
    ours, theirs = layer.geoml.align(target), peer.rio.reproject_match(target, resampling=1)
    assert grid_of(ours) == grid_of(target)
    assert pixel_offset(grid_of(ours), grid_of(theirs)) == (0, 0)
    assert ours.shape == theirs.shape
    assert ours.rio.crs == theirs.rio.crs
    assert ours.rio.nodata == theirs.rio.nodata
    assert np.allclose(ours.x, theirs.x)
    assert np.allclose(ours.y, theirs.y)
    a, b = ours.to_numpy(), theirs.to_numpy()
    both = (a != -9999) & (b != -9999)
    assert both.mean() > 0.5
    assert np.abs(a - b)[both].max() <= 2 * LOOSE * steepest + 1e-3


def test_class_codes_differ_only_near_the_edges_of_pixels(tmp_path, target):
    values = np.random.default_rng(0).integers(1, 200, SOURCE.shape).astype("uint8")
    layer, peer = opened(tmp_path, values, nodata=0)
    ours = layer.geoml.align(target, resampling="nearest").to_numpy()
    theirs = peer.rio.reproject_match(target).to_numpy()
    exact = oracles.nearest(values[None], SOURCE, grid_of(target), nodata=0)
    near_tie = np.squeeze(exact.margin)
    assert (near_tie[ours != np.squeeze(exact.values)] < 1e-3).all()
    assert (near_tie[ours != theirs] < LOOSE + 1e-3).all()


def test_align_reads_nothing_where_reproject_match_loads(tmp_path, target, monkeypatch):
    layer, _ = opened(tmp_path, np.ones(SOURCE.shape, "uint8"), nodata=0)
    monkeypatch.setattr("geoxt.pixels.reader.start_read", lambda *_, **__: pytest.fail("a pixel was read"))
    moved = layer.geoml.align(target)
    assert moved.chunks is not None
    assert moved.attrs.items() >= {"_FillValue": 0}.items()
    assert grid_of(moved) == grid_of(target)

"""South-up and mirrored grids: their pixels are flipped as copies, and never resampled."""

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

import geoxt
from geoxt.grid import coordinates, full_window
from geoxt.source import view_of
from geoxt.testing import make_grid
from geoxt.windows import Window

GRID = make_grid((20, 30))
FLIPS = {"south-up": (True, False), "east to west": (False, True), "both": (True, True)}
VALUES = {
    "int64": np.arange(600).reshape(20, 30) + 2**60 + 1,
    "uint64": np.arange(600, dtype="uint64").reshape(20, 30) + np.uint64(2**63 + 1),
    "float32": np.where(np.arange(600) % 7, np.arange(600), np.inf).reshape(20, 30).astype("float32"),
}


def flipped(grid, flips):
    rows, cols = grid.shape
    down, across = flips
    mirror = Affine(-1 if across else 1, 0, cols * across, 0, -1 if down else 1, rows * down)
    return GeoBox(grid.shape, grid.affine @ mirror, grid.crs)


def flip(values, flips):
    return values[:: -1 if flips[0] else 1, :: -1 if flips[1] else 1]


def write(path, values, grid):
    profile = {"driver": "GTiff", "count": 1, "height": grid.shape[0], "width": grid.shape[1], "dtype": values.dtype}
    with rasterio.open(path, "w", crs=grid.crs.to_wkt(), transform=grid.affine, **profile) as file:
        file.write(values, 1)
    return path


@pytest.mark.parametrize("name", FLIPS)
@pytest.mark.parametrize("dtype", VALUES)
def test_flipped_pixels_are_copied(tmp_path, name, dtype):
    values, grid = VALUES[dtype], flipped(GRID, FLIPS[name])
    path = write(tmp_path / "a.tif", flip(values, FLIPS[name]), grid)
    target = make_grid((26, 34), left=GRID.affine.c - 60, top=GRID.affine.f + 90)  # 3 rows above, 2 columns left
    array = xr.DataArray(flip(values, FLIPS[name]), dims=("y", "x"), coords=coordinates(grid), name="image")
    layers = {
        "files": geoxt.open_cogs(path, grid=target).squeeze(),
        "array": geoxt.align(array, target),
        "dask": geoxt.align(array.chunk({"y": 7, "x": 11}), target, chunks=9),
    }
    for kind, layer in layers.items():
        np.testing.assert_array_equal(layer.values[3:23, 2:32], values, err_msg=kind)
        np.testing.assert_array_equal(layer.isel(y=slice(5, 25), x=slice(0, 9)).values[:18, 2:], values[2:, :7][:18])
        _, valid = view_of(layer).read(Window(0, 0, 26, 34))
        if kind != "dask":
            np.testing.assert_array_equal(valid[0, 0, 3:23, 2:32], np.isfinite(values))
            assert valid.sum() == np.isfinite(values).sum()


@pytest.mark.parametrize("name", FLIPS)
def test_opened_layers_are_north_up(tmp_path, name):
    path = write(tmp_path / "a.tif", flip(VALUES["int64"], FLIPS[name]), flipped(GRID, FLIPS[name]))
    layer = geoxt.open_cogs(path)
    assert layer.geoml.grid == GRID
    np.testing.assert_array_equal(layer.values[0], VALUES["int64"])


@pytest.mark.parametrize("method", ["average", "cubic", "bilinear", "nearest"])
def test_every_method_copies_coinciding_pixels(tmp_path, method):
    path = write(tmp_path / "a.tif", VALUES["int64"][::-1], flipped(GRID, (True, False)))
    np.testing.assert_array_equal(geoxt.open_cogs(path, resampling=method).values[0], VALUES["int64"])


@pytest.mark.parametrize("name", FLIPS)
def test_flipped_target_reads_a_plain_file(tmp_path, name):
    path = write(tmp_path / "a.tif", VALUES["int64"], GRID)
    layer = geoxt.open_cogs(path, grid=flipped(GRID, FLIPS[name]))
    np.testing.assert_array_equal(layer.values[0], flip(VALUES["int64"], FLIPS[name]))
    batch = next(iter(layer.geoml.loader(geoxt.samplers.GridSampler(layer, size=10), batch_size=6)))
    assert batch["image"].shape == (6, 1, 10, 10)


def test_masked_and_quality_pixels_are_flipped_with_the_values(tmp_path):
    values, grid = np.arange(600, dtype="float32").reshape(20, 30), flipped(GRID, (True, False))
    values[4:9, 2:20] = np.nan
    layer = geoxt.open_cogs(write(tmp_path / "a.tif", values[::-1], grid))
    _, valid = view_of(layer).read(full_window(GRID))
    np.testing.assert_array_equal(valid[0, 0], ~np.isnan(values))

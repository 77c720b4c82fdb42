"""Sizes, lengths and buffers that are infinite, NaN or fractions raise, and name the argument and the value."""

import numpy as np
import pytest
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from geoxt import samplers, splits
from geoxt.errors import InputError

NUMBERS = [np.inf, -np.inf, np.nan, np.float64("nan"), 2.5]
PARTS = {name: shapely.box(x, 0, x + 300, 640) for name, x in (("train", 0), ("val", 320), ("test", 640))}


@pytest.fixture(scope="module")
def layer():
    grid = GeoBox((64, 96), Affine(10, 0, 0, 0, -10, 640), "EPSG:32633")
    return xr.DataArray(np.ones((64, 96), "uint8"), coords=xr_coords(grid), dims=("y", "x"))


CALLS = {
    "RandomSampler-size": lambda data, n: samplers.RandomSampler(data, size=n, length=2),
    "RandomSampler-size of width": lambda data, n: samplers.RandomSampler(data, size=(8, n), length=2),
    "RandomSampler-length": lambda data, n: samplers.RandomSampler(data, size=8, length=n),
    "RandomSampler-block": lambda data, n: samplers.RandomSampler(data, size=8, length=2, locality="block", block=n),
    "RandomSampler-buffer": lambda data, n: samplers.RandomSampler(data, size=8, length=2, locality="block", buffer=n),
    "RandomBatchSampler-batch_size": lambda data, n: samplers.RandomBatchSampler(data, size=8, length=2, batch_size=n),
    "GridSampler-size": lambda data, n: samplers.GridSampler(data, size=n),
    "GridSampler-stride": lambda data, n: samplers.GridSampler(data, size=8, stride=n),
    "by_block-size": lambda data, n: splits.by_block(data, size=n),
    "by_block-buffer": lambda data, n: splits.by_block(data, size=16, buffer=n),
    "by_block-fractions": lambda data, n: splits.by_block(data, size=16, fractions=(n, 0.2, 0.2)),
    "folds-buffer": lambda data, n: splits.folds(data, size=16, buffer=n),
    "by_region-buffer": lambda data, n: splits.by_region(data, **PARTS, buffer=n),
}


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("call", CALLS)
def test_numbers_that_are_not_whole_raise(layer, call, number):
    name = call.partition("-")[2].partition(" ")[0]
    with pytest.raises(InputError) as error:
        CALLS[call](layer, number)
    assert error.value.argument == name
    assert str(number) in str(error.value)


@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan])
def test_sizes_in_units_of_the_crs_are_finite(layer, number):
    with pytest.raises(InputError, match=r"Cannot use size=.*(inf|nan)"):
        samplers.RandomSampler(layer, size=number, length=2, units="crs")


def test_whole_floats_are_numbers_of_pixels(layer):
    assert samplers.RandomSampler(layer, size=8.0, length=np.int64(2))[1].height == 8
    assert len(splits.by_block(layer, size=16.0, buffer=np.float64(1)).train) > 0

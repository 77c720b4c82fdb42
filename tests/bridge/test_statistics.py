"""Band statistics equal numpy over all valid pixels, for any windows."""

import json

import numpy as np
import pytest
import torch
import xarray as xr

from geoxt.bridge import BandStatistics, statistics
from geoxt.bridge.statistics import SAMPLE_SIZE
from geoxt.errors import InputError
from geoxt.grid import coordinates
from geoxt.samplers import GridSampler, RandomSampler
from geoxt.testing import make_grid
from geoxt.windows import Window


def layer_of(values, **attrs):
    coords = coordinates(make_grid(values.shape[-2:])) | {"band": ["red", "nir"]}
    return xr.DataArray(values, dims=("band", "y", "x"), coords=coords, attrs=attrs)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_statistics_equal_numpy_over_valid_pixels(dtype):
    rng = np.random.default_rng(0)
    values = (rng.normal(100, 9, (2, 60, 70)) + np.array([[[0]], [[50]]])).astype(dtype)
    values[:, rng.random((60, 70)) < 0.2] = 7
    layer = layer_of(values, _FillValue=7)
    result = statistics(
        layer, GridSampler(layer, size=20, stride=20, edge="pad"), percentiles=(0, 2, 33.3, 50, 98, 100)
    )
    valid = [band[band != 7].astype("float64") for band in values]
    assert result.bands == ("red", "nir")
    assert result.count == tuple(map(len, valid))
    assert np.allclose(result.mean, [v.mean() for v in valid], rtol=1e-13)
    assert np.allclose(result.std, [v.std() for v in valid], rtol=1e-12)
    for percent, numbers in result.percentiles.items():
        assert np.allclose(numbers, [np.percentile(v, percent) for v in valid], rtol=1e-12), percent


def test_std_is_exact_for_large_means():
    values = np.random.default_rng(1).normal(0, 1, (2, 50, 50)) + 1e9
    layer = layer_of(values)
    result = statistics(layer, [Window(r, 0, 10, 50) for r in range(0, 50, 10)])
    assert np.allclose(result.std, values.std(axis=(1, 2)), rtol=1e-9)


def test_percentiles_of_a_long_stream_are_estimated():
    values = np.random.default_rng(2).random((2, 600, 600), "float32")
    layer = layer_of(values)
    assert values[0].size > SAMPLE_SIZE
    windows = list(GridSampler(layer, size=100, stride=100))
    result = statistics(layer, windows, percentiles=(1, 50, 99))
    for percent, numbers in result.percentiles.items():
        assert np.allclose(numbers, percent / 100, atol=0.005)
    assert result == statistics(layer, windows, percentiles=(1, 50, 99))
    assert result != statistics(layer, windows, percentiles=(1, 50, 99), seed=1)


def test_normalize_inverts_and_statistics_round_trip_json():
    values = np.random.default_rng(3).normal(5, 2, (2, 40, 40)).astype("float32")
    layer = layer_of(values)
    result = statistics(layer, RandomSampler(layer, size=40, length=1, seed=0))
    image = result.normalize(torch.from_numpy(values)[None])
    assert torch.allclose(image.mean(dim=(0, 2, 3)), torch.zeros(2), atol=1e-5)
    assert torch.allclose(image.std(dim=(0, 2, 3), correction=0), torch.ones(2), atol=1e-5)
    assert torch.allclose(result.denormalize(image), torch.from_numpy(values), atol=1e-5)
    assert BandStatistics.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    with pytest.raises(InputError, match="3 bands by the statistics of 2: red, nir"):
        result.normalize(torch.zeros(1, 3, 4, 4))


def test_std_of_a_constant_band_is_one():
    assert statistics(layer_of(np.full((2, 8, 8), 3.0)), [Window(0, 0, 8, 8)]).std == (1.0, 1.0)


def test_band_without_valid_pixels_raises():
    values = np.ones((2, 8, 8))
    values[1] = np.nan
    with pytest.raises(InputError, match="'nir'.*no window has a valid pixel"):
        statistics(layer_of(values), [Window(0, 0, 8, 8)])


def test_statistics_without_percentiles_equal_those_with_percentiles():
    layer, windows = layer_of(np.random.default_rng(0).normal(3, 2, (2, 8, 8))), [Window(0, 0, 8, 8)]
    plain, full = statistics(layer, windows, percentiles=()), statistics(layer, windows)
    assert (plain.mean, plain.std, plain.percentiles) == (full.mean, full.std, {})

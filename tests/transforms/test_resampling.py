"""Bilinear and nearest-neighbour resampling against a loop over pixels."""

import math

import numpy as np
import pytest
import torch

from geoxt.errors import InputError
from geoxt.transforms.resampling import bilinear, nearest, resample


def four(values, valid, x, y):
    """Return the weighted mean of the valid ones of four neighbours, and the sum of their weights."""
    height, width = values.shape
    total = weight = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for col in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < height and 0 <= col < width and valid[row, col]:
                share = (1 - abs(x - col)) * (1 - abs(y - row))
                total, weight = total + share * values[row, col], weight + share
    return (total / weight if weight >= 0.5 else 0), weight


@pytest.fixture
def coordinates():
    return torch.from_numpy(np.random.default_rng(2).uniform(-2, 7, (2, 4, 5, 2)))


def test_bilinear_uses_valid_neighbours_only(coordinates):
    rng = np.random.default_rng(0)
    values, valid = rng.normal(size=(2, 3, 5, 6)), rng.random((2, 5, 6)) > 0.3
    hidden = np.where(valid[:, None], values, np.nan)
    resampled, good = bilinear(torch.from_numpy(hidden), torch.from_numpy(valid), coordinates)
    for at in np.ndindex(2, 4, 5):
        x, y = coordinates[at].tolist()
        for band in range(3):
            expected, weight = four(values[at[0], band], valid[at[0]], x, y)
            assert resampled[at[0], band, at[1], at[2]].item() == pytest.approx(expected, abs=1e-9)
        assert good[at].item() == (weight >= 0.5)
    assert 0.1 < good.double().mean() < 0.9


def test_time_steps_have_separate_valid_masks(coordinates):
    values = torch.rand(2, 3, 2, 5, 6, dtype=torch.float64)
    valid = torch.rand(2, 3, 5, 6) > 0.3
    resampled, good = bilinear(values, valid, coordinates)
    for step in range(3):
        step_values = bilinear(values[:, step], valid[:, step], coordinates)
        assert torch.equal(resampled[:, step], step_values[0])
        assert torch.equal(good[:, step], step_values[1])


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float32])
def test_nearest_takes_the_containing_pixel(coordinates, dtype):
    values = (torch.arange(60).reshape(2, 5, 6) + 2**62 if dtype == torch.int64 else torch.rand(2, 5, 6) * 2).to(dtype)
    resampled = nearest(values, coordinates)
    for at in np.ndindex(2, 4, 5):
        col, row = (math.floor(coordinate + 0.5) for coordinate in coordinates[at].tolist())
        expected = values[at[0], row, col] if 0 <= row < 5 and 0 <= col < 6 else torch.zeros((), dtype=dtype)
        assert resampled[at] == expected


def test_interpolating_integers_raises(coordinates):
    with pytest.raises(InputError, match="Cannot interpolate 'image': its dtype is int16"):
        resample({"image": torch.zeros(2, 1, 5, 6, dtype=torch.int16)}, coordinates)

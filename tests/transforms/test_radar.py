"""Decibels against numpy, and the Lee filter against a loop over pixels."""

import numpy as np
import pytest
import torch

from geoxt.errors import InputError
from geoxt.transforms import Decibel, Lee, from_decibel, lee, to_decibel


def lee_of_one(power, valid, row, col, window, looks):
    """Return Lee's estimate of one pixel, from the valid pixels of its neighbourhood (Lee 1980, equations 20 to 23)."""
    half = window // 2
    rows, cols = slice(max(row - half, 0), row + half + 1), slice(max(col - half, 0), col + half + 1)
    near = power[rows, cols][valid[rows, cols]]
    mean, variance, noise = near.mean(), near.var(), 1 / looks
    scene = max((variance + mean**2) / (noise + 1) - mean**2, 0)
    return mean + (power[row, col] - mean) * scene / (mean**2 * noise + scene)


@pytest.mark.parametrize(("window", "looks"), [(3, 1.0), (5, 4.4), (7, 30.0)])
def test_lee_equals_brute_force(window, looks):
    rng = np.random.default_rng(3)
    power = rng.gamma(4, 0.02, (2, 9, 11)) * np.where(np.arange(11) < 5, 1, 20)
    valid = rng.random((9, 11)) > 0.2
    spoilt = np.where(valid, power, np.nan)
    filtered = lee(torch.from_numpy(spoilt), torch.from_numpy(valid), window=window, looks=looks).numpy()
    for band, row, col in np.ndindex(2, 9, 11):
        if valid[row, col]:
            expected = lee_of_one(power[band], valid, row, col, window, looks)
            assert filtered[band, row, col] == pytest.approx(expected, rel=1e-9)
        else:
            assert np.isnan(filtered[band, row, col])


def test_lee_smooths_and_preserves_edges():
    rng = np.random.default_rng(0)
    truth = np.where(np.arange(64) < 32, 0.05, 1.0) * np.ones((64, 1))
    speckled = torch.from_numpy(truth * rng.gamma(4, 1 / 4, truth.shape)).float()
    filtered = lee(speckled, window=7, looks=4).numpy()
    assert filtered[:, :26].std() < speckled[:, :26].numpy().std() / 2
    assert filtered[:, :31].mean() < 0.1
    assert filtered[:, 33:].mean() > 0.9
    assert lee(torch.zeros(5, 5)).eq(0).all()


def test_only_valid_pixels_are_filtered(make):
    batch = make(steps=2)
    batch["image"] = batch["image"].float()
    filtered = Lee(window=3, looks=2)(batch)
    expected = lee(batch["image"][1, 0, 1], batch["image_valid"][1, 0], window=3, looks=2)
    assert torch.equal(filtered["image"][1, 0, 1], expected)
    unchanged = ~batch["image_valid"][:, :, None].expand_as(filtered["image"])
    assert torch.equal(filtered["image"][unchanged], batch["image"][unchanged])


def test_decibel_equals_numpy_and_inverts():
    power = torch.logspace(-5, 2, 50, dtype=torch.float64)
    np.testing.assert_allclose(to_decibel(power).numpy(), 10 * np.log10(power.numpy()), atol=1e-12)
    torch.testing.assert_close(from_decibel(to_decibel(power)), power)
    assert to_decibel(torch.tensor([0.0, -1.0])).isnan().all()


def test_non_positive_power_is_invalid():
    image = torch.tensor([[[[1.0, 0.0, -1.0, 10.0]], [[1.0, 1.0, 1.0, 100.0]]]])
    valid = torch.tensor([[[True, True, True, False]]])
    decibels = Decibel()({"image": image, "image_valid": valid})
    assert decibels["image_valid"].tolist() == [[[True, False, False, False]]]
    assert decibels["image"].tolist() == [[[[0, 0, 0, 0]], [[0, 0, 0, 0]]]]
    back = Decibel().inverse(decibels)
    assert back["image"].tolist() == [[[[1, 0, 0, 0]], [[1, 0, 0, 0]]]]


def test_even_window_raises():
    for options in ({"window": 4}, {"looks": 0.0}):
        with pytest.raises(InputError, match="Pass an odd window= and a positive looks="):
            Lee(**options)

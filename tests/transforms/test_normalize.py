"""Normalization against numpy over valid pixels, and its inverse."""

import numpy as np
import pytest
import torch

from geoxt.errors import InputError
from geoxt.transforms import Normalize


@pytest.mark.parametrize("steps", [None, 2])
def test_normalize_equals_numpy_and_inverts(make, steps):
    batch = make(steps=steps)
    pixels, valid = batch["image"].numpy(), np.expand_dims(batch["image_valid"].numpy(), -3)
    mean, std = np.array([1500.0, 8000.0]), np.array([500.0, 3.0])
    spoilt = {**batch, "image": torch.from_numpy(np.where(valid, pixels, np.nan))}
    transform = Normalize(mean, std)
    normalized = transform(spoilt)
    expected = np.where(valid, (pixels - mean[:, None, None]) / std[:, None, None], 0)
    np.testing.assert_allclose(normalized["image"].numpy(), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(transform.inverse(normalized)["image"].numpy(), np.where(valid, pixels, 0), rtol=1e-12)


def test_statistics_follow_the_module_to_its_device():
    assert Normalize([0.0], [2.0]).to("meta").mean.device.type == "meta"


def test_invalid_statistics_raise(batch):
    with pytest.raises(InputError, match="it has 2 bands, but mean and std have 3"):
        Normalize([0, 0, 0], [1, 1, 1])(batch)
    for mean, std in (([0, 0], [1, 0]), ([0], [1, 1])):
        with pytest.raises(InputError, match="of the same length, with positive"):
            Normalize(mean, std)
    with pytest.raises(InputError, match="Cannot find the floating point layer 'mask'"):
        Normalize([0.0], [1.0], image="mask")(batch)

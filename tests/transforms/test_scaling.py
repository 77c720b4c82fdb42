"""Normalisation: numpy's, over valid pixels only, and back."""

import numpy as np
import pytest
import torch

from geoxt.errors import InputError
from geoxt.transforms import Normalize


@pytest.mark.parametrize("steps", [None, 2])
def test_it_is_that_of_numpy_and_leads_back(make, steps):
    batch = make(steps=steps)
    pixels, valid = batch["image"].numpy(), np.expand_dims(batch["image_valid"].numpy(), -3)
    mean, std = np.array([1500.0, 8000.0]), np.array([500.0, 3.0])
    spoilt = {**batch, "image": torch.from_numpy(np.where(valid, pixels, np.nan))}
    transform = Normalize(mean, std)
    found = transform(spoilt)
    expected = np.where(valid, (pixels - mean[:, None, None]) / std[:, None, None], 0)
    np.testing.assert_allclose(found["image"].numpy(), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(transform.inverse(found)["image"].numpy(), np.where(valid, pixels, 0), rtol=1e-12)


def test_statistics_go_along_to_another_device():
    assert Normalize([0.0], [2.0]).to("meta").mean.device.type == "meta"


def test_what_does_not_fit_is_refused(batch):
    with pytest.raises(InputError, match="it has 2 bands, and there are 3 statistics"):
        Normalize([0, 0, 0], [1, 1, 1])(batch)
    for mean, std in (([0, 0], [1, 0]), ([0], [1, 1])):
        with pytest.raises(InputError, match="pass as many of each, std= above zero"):
            Normalize(mean, std)
    with pytest.raises(InputError, match="Cannot find the floating point layer 'mask'"):
        Normalize([0.0], [1.0], image="mask")(batch)

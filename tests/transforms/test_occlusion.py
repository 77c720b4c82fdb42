"""Dropped bands and clouds: probabilities, fractions, and unchanged remaining pixels."""

import numpy as np
import pytest
import torch

from geoxt.errors import InputError
from geoxt.transforms import Clouds, DropBands, cloud_opacity, occlude


def test_drop_probability_and_time_steps():
    image = torch.rand(400, 2, 5, 3, 3) + 1
    output = DropBands(0.3, fill=-7.0, seed=0)({"image": image})["image"]
    dropped = (output == -7).flatten(3).all(3)
    assert torch.equal(dropped[:, 0], dropped[:, 1])
    assert torch.equal(output[~dropped], image[~dropped])
    assert dropped.float().mean() == pytest.approx(0.3, abs=0.04)


def test_min_bands_are_kept():
    dropped = DropBands(1.0, min_bands=2, seed=0)({"image": torch.ones(50, 5, 2, 2)})["image"]
    assert dropped[:, :, 0, 0].sum(1).eq(2).all()
    assert dropped[:, :, 0, 0].sum(0).gt(0).all()
    with pytest.raises(InputError, match="Cannot keep 6 bands"):
        DropBands(min_bands=6)({"image": torch.ones(1, 5, 2, 2)})
    with pytest.raises(InputError, match="p=1.5"):
        DropBands(1.5)


def test_occlude_blends_by_opacity():
    rng = np.random.default_rng(0)
    image, opacity, white = rng.random((2, 3, 4, 5)), rng.random((2, 4, 5)), rng.random((3, 1, 1))
    opacity[:, 0], opacity[:, 1] = 0, 1
    occluded = occlude(*map(torch.from_numpy, (image, opacity, white))).numpy()
    np.testing.assert_allclose(occluded, image * (1 - opacity[:, None]) + white * opacity[:, None], rtol=1e-12)
    assert np.array_equal(occluded[:, :, 0], image[:, :, 0])
    assert np.array_equal(occluded[:, :, 1], np.broadcast_to(white, image.shape)[:, :, 1])


@pytest.mark.parametrize("softness", [0.0, 0.7])
def test_cloud_fraction_is_exact(softness):
    noise = torch.randn(5, 20, 30, dtype=torch.float64)
    coverage = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0])
    opacity = cloud_opacity(noise, coverage, softness)
    assert (opacity > 0.5).flatten(1).sum(1).tolist() == [0, 60, 300, 540, 600]
    ordered = opacity.flatten(1).gather(1, noise.flatten(1).argsort(1))
    assert (ordered.diff(dim=1) >= 0).all()
    assert opacity.min() >= 0
    assert opacity.max() <= 1


@pytest.mark.parametrize("invalid", [False, True])
def test_clouded_pixels_become_invalid_on_request(make, invalid):
    batch = make(count=6, height=32, width=32, steps=2)
    clouds = Clouds(1.0, coverage=(0.3, 0.3), softness=0.0, brightness=[-1.0, -2.0], invalid=invalid, seed=2)
    clouded = clouds(batch)
    covered = clouded["image"][:, :, 0] == -1
    assert torch.equal(covered, clouded["image"][:, :, 1] == -2)
    assert torch.equal(clouded["image"][~covered[:, :, None].expand_as(clouded["image"])],
                       batch["image"][~covered[:, :, None].expand_as(clouded["image"])])  # fmt: skip
    assert covered.flatten(2).sum(2).eq(round(0.3 * 1024)).all()
    assert not torch.equal(covered[:, 0], covered[:, 1])
    assert torch.equal(clouded["image_valid"], batch["image_valid"] & ~covered if invalid else batch["image_valid"])
    steps = (covered[..., 1:] != covered[..., :-1]).float().mean()
    assert steps < 0.15  # blobs; at random it were 0.42


def test_default_brightness_is_the_brightest_valid_pixel():
    image = torch.rand(2, 3, 16, 16)
    image[0, 1, 0, 0] = 9
    valid = torch.ones(2, 16, 16, dtype=torch.bool)
    valid[0, 0, 0] = False
    clouded = Clouds(1.0, coverage=(1.0, 1.0), softness=0.0, seed=0)({"image": image, "image_valid": valid})["image"]
    expected = image.where(valid[:, None], 0).amax((2, 3), keepdim=True).expand_as(image)
    assert torch.equal(clouded, expected)


def test_cloud_free_samples_are_bit_equal():
    image = torch.rand(200, 1, 8, 8)
    clouded = Clouds(0.4, brightness=5.0, seed=1)({"image": image})["image"]
    same = (clouded == image).flatten(1).all(1)
    assert same.float().mean() == pytest.approx(0.6, abs=0.1)
    assert torch.equal(clouded, Clouds(0.4, brightness=5.0, seed=1)({"image": image})["image"])


def test_invalid_arguments_raise():
    for options in ({"p": 2.0}, {"coverage": (0.5, 0.1)}, {"size": 0.0}, {"softness": -1.0}):
        with pytest.raises(InputError):
            Clouds(**options)
    with pytest.raises(InputError, match="brightness has 2 numbers"):
        Clouds(brightness=[1.0, 2.0])({"image": torch.zeros(1, 3, 4, 4)})

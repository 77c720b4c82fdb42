"""Flips and rotations against numpy, with the affine transform of every pixel."""

import numpy as np
import pytest
import torch

from geoxt.errors import InputError
from geoxt.transforms import RandomFlipRotate, flip_rotate, flip_rotate_tensor
from geoxt.transforms.flip_rotate import FLIPS, SWAP, TURNS


@pytest.mark.parametrize(("code", "quarters"), list(zip(TURNS, range(4), strict=True)))
def test_rotations_equal_numpy(code, quarters):
    pixels = np.arange(24).reshape(2, 3, 4)
    assert np.array_equal(flip_rotate_tensor(torch.from_numpy(pixels), code), np.rot90(pixels, quarters, (-2, -1)))


@pytest.mark.parametrize(("code", "axes"), list(zip(FLIPS, [(), (-1,), (-2,), (-2, -1)], strict=True)))
def test_flips_equal_numpy(code, axes):
    pixels = np.arange(24).reshape(2, 3, 4)
    assert np.array_equal(flip_rotate_tensor(torch.from_numpy(pixels), code), np.flip(pixels, axes))


def test_eight_codes_are_distinct():
    pixels = torch.arange(9).reshape(3, 3)
    assert len({tuple(flip_rotate_tensor(pixels, code).flatten().tolist()) for code in range(8)}) == 8


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("code", range(8))
def test_affine_transform_follows_the_pixels(make, centres, code, rotated):
    batch = make(rotated=rotated)
    flipped = flip_rotate(batch, [code] * 3)
    np.testing.assert_allclose(centres(flipped["transform"], 6, 6), flipped["image"].numpy(), rtol=0, atol=1e-9)
    assert torch.equal(flipped["bounds"], batch["bounds"])
    assert torch.equal(flipped["mask"], flip_rotate_tensor(batch["mask"], code))


@pytest.mark.parametrize("code", [code for code in range(8) if not code & SWAP])
def test_flips_of_oblong_windows_keep_coordinates(make, centres, code):
    flipped = flip_rotate(make(height=6, width=8), [code] * 3)
    np.testing.assert_allclose(centres(flipped["transform"], 6, 8), flipped["image"].numpy(), rtol=0, atol=1e-9)


def test_layers_time_steps_and_boxes_rotate_alike(make, boxes_around):
    batch = make(count=8, steps=3)
    flipped = flip_rotate(batch, range(8))
    for code in range(8):
        for name in ("image", "image_valid", "mask", "mask_valid", "masks"):
            assert torch.equal(flipped[name][code], flip_rotate_tensor(batch[name][code], code)), name
        assert np.array_equal(flipped["boxes"][code], boxes_around(flipped["masks"][code]))
        assert torch.equal(flipped["labels"][code], batch["labels"][code])


@pytest.mark.parametrize("dtype", [torch.int16, torch.float16, torch.float64])
def test_any_dtype_is_bit_equal(dtype):
    pixels = torch.arange(18).reshape(2, 1, 3, 3).to(dtype)
    flipped = flip_rotate({"image": pixels}, [7, 2])["image"]
    assert flipped.dtype == dtype
    assert sorted(flipped.flatten().tolist()) == list(range(18))


def test_inplace_equals_copy(make):
    batch = make(count=8)
    expected = flip_rotate(batch, range(8))
    flipped = flip_rotate(batch, range(8), inplace=True)
    for name in ("image", "image_valid", "mask", "mask_valid"):
        assert torch.equal(flipped[name], expected[name])
        assert flipped[name].data_ptr() == batch[name].data_ptr()


def test_input_batch_is_unchanged(make):
    batch, other = make(), make()
    RandomFlipRotate(seed=0)(batch)
    assert all(torch.equal(batch[name], other[name]) for name in ("image", "mask", "transform", "bounds"))
    assert torch.equal(batch["boxes"][0], other["boxes"][0])


@pytest.mark.parametrize(("options", "count"), [({}, 8), ({"flips": False}, 4), ({"turns": False}, 4)])
def test_symmetries_are_uniformly_distributed(options, count):
    image = torch.arange(9.0).reshape(1, 1, 3, 3).expand(800, 1, 3, 3)
    flipped = RandomFlipRotate(**options, seed=3)({"image": image})["image"]
    often = np.unique(flipped.reshape(800, 9).numpy(), axis=0, return_counts=True)[1]
    assert len(often) == count
    assert often.min() > 800 / count * 0.7


def test_oblong_windows_are_not_transposed():
    image = torch.arange(6.0).reshape(1, 1, 2, 3).expand(64, 1, 2, 3)
    flipped = RandomFlipRotate(seed=0)({"image": image})["image"]
    assert flipped.shape == image.shape
    assert len(np.unique(flipped.reshape(64, 6).numpy(), axis=0)) == 4


def test_invalid_codes_raise(make):
    with pytest.raises(InputError, match="6 x 8 pixels by 90 degrees"):
        flip_rotate(make(height=6, width=8), [4, 0, 0])
    with pytest.raises(InputError, match="3 samples by 2 codes"):
        flip_rotate(make(), [0, 1])

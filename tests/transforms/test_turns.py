"""Turns: what numpy makes of the same pixels, with the affine that still leads from each pixel to its place."""

import numpy as np
import pytest
import torch

from geoxt.errors import InputError
from geoxt.transforms import RandomTurn, turn, turned
from geoxt.transforms.turns import FLIPS, SWAP, TURNS


@pytest.mark.parametrize(("code", "quarters"), list(zip(TURNS, range(4), strict=True)))
def test_quarter_turns_are_those_of_numpy(code, quarters):
    pixels = np.arange(24).reshape(2, 3, 4)
    assert np.array_equal(turned(torch.from_numpy(pixels), code), np.rot90(pixels, quarters, (-2, -1)))


@pytest.mark.parametrize(("code", "axes"), list(zip(FLIPS, [(), (-1,), (-2,), (-2, -1)], strict=True)))
def test_flips_are_those_of_numpy(code, axes):
    pixels = np.arange(24).reshape(2, 3, 4)
    assert np.array_equal(turned(torch.from_numpy(pixels), code), np.flip(pixels, axes))


def test_the_eight_codes_differ():
    pixels = torch.arange(9).reshape(3, 3)
    assert len({tuple(turned(pixels, code).flatten().tolist()) for code in range(8)}) == 8


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("code", range(8))
def test_the_affine_leads_from_each_pixel_to_its_place(make, centres, code, rotated):
    batch = make(rotated=rotated)
    found = turn(batch, [code] * 3)
    np.testing.assert_allclose(centres(found["transform"], 6, 6), found["image"].numpy(), rtol=0, atol=1e-9)
    assert torch.equal(found["bounds"], batch["bounds"])
    assert torch.equal(found["mask"], turned(batch["mask"], code))


@pytest.mark.parametrize("code", [code for code in range(8) if not code & SWAP])
def test_windows_that_are_not_square_keep_their_places(make, centres, code):
    found = turn(make(height=6, width=8), [code] * 3)
    np.testing.assert_allclose(centres(found["transform"], 6, 8), found["image"].numpy(), rtol=0, atol=1e-9)


def test_every_layer_time_step_and_box_of_a_sample_turns_alike(make, boxes_around):
    batch = make(count=8, steps=3)
    found = turn(batch, range(8))
    for code in range(8):
        for name in ("image", "image_valid", "mask", "mask_valid", "masks"):
            assert torch.equal(found[name][code], turned(batch[name][code], code)), name
        assert np.array_equal(found["boxes"][code], boxes_around(found["masks"][code]))
        assert torch.equal(found["labels"][code], batch["labels"][code])


@pytest.mark.parametrize("dtype", [torch.int16, torch.float16, torch.float64])
def test_pixels_of_any_type_stay_as_they_are(dtype):
    pixels = torch.arange(18).reshape(2, 1, 3, 3).to(dtype)
    found = turn({"image": pixels}, [7, 2])["image"]
    assert found.dtype == dtype
    assert sorted(found.flatten().tolist()) == list(range(18))


def test_writing_in_place_gives_the_same_and_writes_there(make):
    batch = make(count=8)
    expected = turn(batch, range(8))
    found = turn(batch, range(8), inplace=True)
    for name in ("image", "image_valid", "mask", "mask_valid"):
        assert torch.equal(found[name], expected[name])
        assert found[name].data_ptr() == batch[name].data_ptr()


def test_the_batch_itself_stays_as_it_was(make):
    batch, other = make(), make()
    RandomTurn(seed=0)(batch)
    assert all(torch.equal(batch[name], other[name]) for name in ("image", "mask", "transform", "bounds"))
    assert torch.equal(batch["boxes"][0], other["boxes"][0])


@pytest.mark.parametrize(("options", "count"), [({}, 8), ({"flips": False}, 4), ({"turns": False}, 4)])
def test_all_that_may_be_drawn_is_drawn_equally_often(options, count):
    image = torch.arange(9.0).reshape(1, 1, 3, 3).expand(800, 1, 3, 3)
    found = RandomTurn(**options, seed=3)({"image": image})["image"]
    often = np.unique(found.reshape(800, 9).numpy(), axis=0, return_counts=True)[1]
    assert len(often) == count
    assert often.min() > 800 / count * 0.7


def test_windows_that_are_not_square_are_drawn_without_quarters():
    image = torch.arange(6.0).reshape(1, 1, 2, 3).expand(64, 1, 2, 3)
    found = RandomTurn(seed=0)({"image": image})["image"]
    assert found.shape == image.shape
    assert len(np.unique(found.reshape(64, 6).numpy(), axis=0)) == 4


def test_what_does_not_fit_is_refused(make):
    with pytest.raises(InputError, match="6 x 8 pixels by a quarter"):
        turn(make(height=6, width=8), [4, 0, 0])
    with pytest.raises(InputError, match="3 samples by 2 codes"):
        turn(make(), [0, 1])

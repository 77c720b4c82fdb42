"""Crops against numpy slices, with coordinates of the pixels and clipped boxes."""

import numpy as np
import pytest
import torch

from geoxt.errors import InputError
from geoxt.transforms import CenterCrop, RandomCrop, crop


@pytest.mark.parametrize("rotated", [False, True])
def test_crops_are_slices_with_exact_transform(make, centres, rotated):
    batch = make(height=7, width=9, steps=2, rotated=rotated)
    corners = [(0, 0), (3, 4), (2, 1)]
    cropped = crop(batch, torch.tensor(corners), (4, 5))
    for at, (row, col) in enumerate(corners):
        for name in ("image", "image_valid", "mask", "mask_valid"):
            expected = batch[name][at].numpy()[..., row : row + 4, col : col + 5]
            assert np.array_equal(cropped[name][at], expected), name
    x_y = centres(cropped["transform"], 4, 5)
    np.testing.assert_allclose(x_y, cropped["image"][:, 0].numpy(), rtol=0, atol=1e-9)


def test_bounds_are_those_of_the_crop(batch):
    cropped = crop(batch, torch.tensor([[1, 2]] * 3), (3, 4))
    left, top = batch["transform"][:, 2] + 60, batch["transform"][:, 5] - 30
    assert torch.equal(cropped["bounds"], torch.stack([left, top - 90, left + 120, top], dim=1))


def test_boxes_are_clipped_and_removed_with_their_entries(batch, boxes_around):
    cropped = crop(batch, torch.tensor([[0, 0], [1, 3], [3, 2]]), 3)
    assert [len(entry) for entry in cropped["boxes"]] == [1, 1, 1]
    assert [entry.tolist() for entry in cropped["labels"]] == [[7], [8], [11]]
    for at in range(3):
        assert np.array_equal(cropped["boxes"][at], boxes_around(cropped["masks"][at]))


def test_positions_are_uniform_and_seeded(make):
    batch = make(count=200, height=4, width=5)
    del batch["boxes"]
    cropped = RandomCrop((3, 2), seed=5)(batch)
    corners = cropped["transform"][:, [2, 5]] - batch["transform"][:, [2, 5]]
    assert len(np.unique(corners.numpy(), axis=0)) == 2 * 4
    assert torch.equal(cropped["image"], RandomCrop((3, 2), seed=5)(batch)["image"])


def test_center_crop(batch):
    assert torch.equal(CenterCrop(2)(batch)["mask"], batch["mask"][:, 2:4, 2:4])


def test_crop_larger_than_the_window_raises(batch):
    for transform in (RandomCrop(7), CenterCrop((2, 7))):
        with pytest.raises(InputError, match="Pass a smaller size="):
            transform(batch)
    with pytest.raises(InputError, match="0 x 3 pixels"):
        RandomCrop((0, 3))

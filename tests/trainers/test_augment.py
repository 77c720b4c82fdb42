"""Turns and flips: all eight are drawn, image and mask alike, and nothing else is done to them."""

import torch

from geoxt.trainers.augment import dihedral, turn_and_flip


def all_eight(image):
    return [dihedral(image, turns=turns, flip=flip) for turns in range(4) for flip in (False, True)]


def test_image_and_mask_go_through_the_same_one_of_eight():
    torch.manual_seed(0)
    mask = torch.arange(25).reshape(1, 5, 5).repeat(64, 1, 1)
    image = torch.stack([mask, mask + 100], dim=1)
    turned, labels = turn_and_flip([image, mask])
    eight = all_eight(mask[0])
    seen = {next(i for i, one in enumerate(eight) if torch.equal(one, label)) for label in labels}
    assert seen == set(range(8))
    assert torch.equal(turned[:, 0], labels)
    assert torch.equal(turned[:, 1], labels + 100)


def test_a_batch_that_is_not_square_keeps_its_shape():
    torch.manual_seed(0)
    (turned,) = turn_and_flip([torch.rand(32, 3, 4, 6)])
    assert turned.shape == (32, 3, 4, 6)
    assert len({tuple(one.flatten().tolist()) for one in turned}) == 32

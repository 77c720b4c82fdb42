"""Random turns and flips: all eight symmetries are drawn, alike for image and mask."""

import torch

from geoxt.trainers.tasks.flips import dihedral, turn_and_flip


def all_eight(image):
    return [dihedral(image, turns=turns, flip=flip) for turns in range(4) for flip in (False, True)]


def test_image_and_mask_get_the_same_symmetry():
    torch.manual_seed(0)
    mask = torch.arange(25).reshape(1, 5, 5).repeat(64, 1, 1)
    image = torch.stack([mask, mask + 100], dim=1)
    turned, labels = turn_and_flip([image, mask])
    eight = all_eight(mask[0])
    symmetries = {next(i for i, candidate in enumerate(eight) if torch.equal(candidate, label)) for label in labels}
    assert symmetries == set(range(8))
    assert torch.equal(turned[:, 0], labels)
    assert torch.equal(turned[:, 1], labels + 100)


def test_rectangular_batch_keeps_its_shape():
    torch.manual_seed(0)
    (turned,) = turn_and_flip([torch.rand(32, 3, 4, 6)])
    assert turned.shape == (32, 3, 4, 6)
    assert len({tuple(image.flatten().tolist()) for image in turned}) == 32


def test_turns_equal_torch_and_draws_are_stable():
    tensor = torch.rand(2, 3, 5, 5)
    for turns in range(4):
        for flip in (False, True):
            expected = torch.rot90(tensor.flip(-1) if flip else tensor, turns, (-2, -1))
            assert torch.equal(dihedral(tensor, turns=turns, flip=flip), expected)
    torch.manual_seed(4)
    turns, flips = torch.randint(4, (8,)), torch.randint(2, (8,)).bool()
    torch.manual_seed(4)
    (turned,) = turn_and_flip([torch.arange(8 * 9).reshape(8, 3, 3)])
    for index, image in enumerate(torch.arange(8 * 9).reshape(8, 3, 3)):
        flipped = image.flip(-1) if flips[index] else image
        assert torch.equal(turned[index], torch.rot90(flipped, int(turns[index])))

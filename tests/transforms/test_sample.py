"""What transforms take for a batch, and what they refuse."""

import pytest
import torch

from geoxt.errors import InputError
from geoxt.transforms import RandomCrop, RandomTurn
from geoxt.transforms.sample import layers_of, valid_of


def test_layers_are_the_tensors_of_windows(batch):
    assert set(layers_of(batch)) == {"image", "image_valid", "mask", "mask_valid"}


def test_a_layer_without_validity_is_valid():
    sample = {"image": torch.zeros(2, 5, 3, 4, 6), "mask": torch.zeros(2, 4, 6, dtype=torch.int64)}
    assert valid_of(sample, "image").shape == (2, 5, 4, 6)
    assert valid_of(sample, "mask").shape == (2, 4, 6)
    assert valid_of(sample, "image").all()


def test_one_sample_is_no_batch(batch):
    one = {name: value[0] for name, value in batch.items()}
    with pytest.raises(InputError, match="Cannot transform one sample"):
        RandomTurn()(one)


def test_layers_of_several_sizes_are_refused():
    with pytest.raises(InputError, match="'mask': \\(2, 8, 8\\)"):
        RandomTurn()({"image": torch.zeros(2, 1, 4, 4), "mask": torch.zeros(2, 8, 8, dtype=torch.int64)})
    with pytest.raises(InputError, match="'label'"):
        RandomTurn()({"label": torch.zeros(2)})


def test_boxes_have_to_be_a_list(batch):
    with pytest.raises(InputError, match="a Tensor: pass boxes as a list"):
        RandomCrop(2)({**batch, "boxes": torch.stack(batch["boxes"])})

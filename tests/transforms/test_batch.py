"""Batches: layers, valid masks and boxes, and the errors for other input."""

import pytest
import torch

from geoxt.errors import InputError
from geoxt.transforms import RandomCrop, RandomFlipRotate
from geoxt.transforms.batch import layers_of, valid_of


def test_layers_are_all_image_tensors(batch):
    assert set(layers_of(batch)) == {"image", "image_valid", "mask", "mask_valid"}


def test_layer_without_valid_mask_is_valid():
    sample = {"image": torch.zeros(2, 5, 3, 4, 6), "mask": torch.zeros(2, 4, 6, dtype=torch.int64)}
    assert valid_of(sample, "image").shape == (2, 5, 4, 6)
    assert valid_of(sample, "mask").shape == (2, 4, 6)
    assert valid_of(sample, "image").all()


def test_single_sample_raises(batch):
    sample = {name: value[0] for name, value in batch.items()}
    with pytest.raises(InputError, match="Cannot transform a single sample"):
        RandomFlipRotate()(sample)


def test_layers_of_different_size_raise():
    with pytest.raises(InputError, match="'mask': \\(2, 8, 8\\)"):
        RandomFlipRotate()({"image": torch.zeros(2, 1, 4, 4), "mask": torch.zeros(2, 8, 8, dtype=torch.int64)})
    with pytest.raises(InputError, match="'label'"):
        RandomFlipRotate()({"label": torch.zeros(2)})


def test_boxes_that_are_not_a_list_raise(batch):
    with pytest.raises(InputError, match="as Tensor. Pass boxes as a list"):
        RandomCrop(2)({**batch, "boxes": torch.stack(batch["boxes"])})

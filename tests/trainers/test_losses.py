"""Losses against torch's and segmentation-models-pytorch's own; ignored pixels weigh nothing."""

import pytest
import segmentation_models_pytorch as smp
import torch
from torch.nn import functional as F

from geoxt.trainers.codes import IGNORE
from geoxt.trainers.losses import PIXEL_CLASSES, cross_entropy, dice


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 9, 8, generator=generator)
    target = torch.randint(4, (2, 9, 8), generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.3] = IGNORE
    return logits, target


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs_mean(batch, smoothing):
    logits, target = batch
    wanted = F.cross_entropy(logits, target, ignore_index=IGNORE, label_smoothing=smoothing)
    torch.testing.assert_close(cross_entropy(logits, target, smoothing), wanted)


def test_dice_is_that_of_segmentation_models(batch):
    logits, target = batch
    wanted = smp.losses.DiceLoss("multiclass", ignore_index=IGNORE)(logits, target)
    torch.testing.assert_close(dice(logits, target), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", PIXEL_CLASSES)
def test_what_is_ignored_changes_nothing(batch, name):
    logits, target = batch
    other = logits.clone()
    other.movedim(1, -1)[target == IGNORE] = 50.0
    assert torch.equal(PIXEL_CLASSES[name](other, target, 0.1), PIXEL_CLASSES[name](logits, target, 0.1))


@pytest.mark.parametrize("name", PIXEL_CLASSES)
def test_a_batch_without_labels_has_no_loss_and_no_gradient(name):
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = PIXEL_CLASSES[name](logits, torch.full((1, 4, 4), IGNORE), 0.1)
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()

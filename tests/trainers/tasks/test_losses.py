"""Losses equal those of torch and segmentation-models-pytorch; ignored pixels do not contribute."""

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from geoxt.metrics.label_codes import IGNORE
from geoxt.trainers.tasks.losses import (
    LOSSES,
    bce,
    binary_focal,
    cross_entropy,
    dice,
    focal,
    huber,
    jaccard,
    mae,
    mse,
    one_vs_rest,
)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 9, 8, generator=generator)
    target = torch.randint(4, (2, 9, 8), generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.3] = IGNORE
    return logits, target


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_equals_torch(batch, smoothing):
    logits, target = batch
    expected = F.cross_entropy(logits, target, ignore_index=IGNORE, label_smoothing=smoothing)
    torch.testing.assert_close(cross_entropy(logits, target, smoothing), expected)


def test_dice_equals_segmentation_models(batch):
    logits, target = batch
    expected = smp.losses.DiceLoss("multiclass", ignore_index=IGNORE)(logits, target)
    torch.testing.assert_close(dice(logits, target), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES["softmax"])
def test_ignored_pixels_change_nothing(batch, name):
    logits, target = batch
    other = logits.clone()
    other.movedim(1, -1)[target == IGNORE] = 50.0
    assert torch.equal(LOSSES["softmax"][name](other, target, 0.1), LOSSES["softmax"][name](logits, target, 0.1))


@pytest.mark.parametrize("name", LOSSES["softmax"])
def test_unlabeled_batch_has_zero_loss_and_gradient(name):
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = LOSSES["softmax"][name](logits, torch.full((1, 4, 4), IGNORE), 0.1)
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 3.0])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weighted_cross_entropy_equals_torch(batch, smoothing):
    logits, target = batch
    expected = F.cross_entropy(logits, target, weight=WEIGHTS, ignore_index=IGNORE, label_smoothing=smoothing)
    torch.testing.assert_close(cross_entropy(logits, target, smoothing, WEIGHTS), expected)


def test_focal_equals_brute_force(batch):
    logits, target = batch
    probabilities, terms, weights = logits.softmax(dim=1).numpy(), [], []
    for index in zip(*np.nonzero((target != IGNORE).numpy()), strict=True):
        label = int(target[index])
        p = probabilities[(index[0], label, *index[1:])]
        terms.append(-((1 - p) ** 2) * np.log(p))
        weights.append(WEIGHTS[label].item())
    assert focal(logits, target).item() == pytest.approx(np.mean(terms), rel=1e-5)
    assert focal(logits, target, 0.0, WEIGHTS).item() == pytest.approx(np.average(terms, weights=weights), rel=1e-5)


def test_jaccard_equals_segmentation_models(batch):
    logits, target = batch
    labeled = target.clamp(min=0)
    expected = smp.losses.JaccardLoss("multiclass")(logits, labeled)
    torch.testing.assert_close(jaccard(logits, labeled), expected, atol=1e-5, rtol=1e-5)
    known = target != IGNORE
    selected = logits.movedim(1, -1)[known].T[None], target[known][None]
    torch.testing.assert_close(jaccard(logits, target), jaccard(*selected))


def test_one_vs_rest_equals_torch(batch):
    logits, target = batch
    known = target != IGNORE
    truth = F.one_hot(target[known], 4).float()
    expected = F.binary_cross_entropy_with_logits(logits.movedim(1, -1)[known], truth)
    torch.testing.assert_close(one_vs_rest(logits, target), expected)


@pytest.fixture
def values():
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(4, 3, 5, 5, generator=generator)
    target = (torch.rand(4, 3, 5, 5, generator=generator) < 0.5).float()
    target[torch.rand(target.shape, generator=generator) < 0.3] = torch.nan
    return output, target


def test_label_and_value_losses_equal_torch_over_known_targets(values):
    output, target = values
    known = ~target.isnan()
    pair = output[known], target[known]
    torch.testing.assert_close(bce(output, target), F.binary_cross_entropy_with_logits(*pair))
    torch.testing.assert_close(binary_focal(output, target), sigmoid_focal_loss(*pair, alpha=-1, reduction="mean"))
    torch.testing.assert_close(mse(output, target), F.mse_loss(*pair))
    torch.testing.assert_close(mae(output, target), F.l1_loss(*pair))
    torch.testing.assert_close(huber(output, target), F.huber_loss(*pair))


@pytest.mark.parametrize("loss", [*LOSSES["sigmoid"].values(), *LOSSES["identity"].values()])
def test_unknown_values_have_zero_gradient_and_weights_scale_channels(values, loss):
    output, target = values
    output.requires_grad_()
    loss(output, target, 0.0, None).backward()
    assert (output.grad[target.isnan()] == 0).all()
    assert (output.grad[~target.isnan()] != 0).any()
    first_channel = loss(output[:, :1], target[:, :1], 0.0, None)
    torch.testing.assert_close(loss(output, target, 0.0, torch.tensor([1.0, 0.0, 0.0])), first_channel)
    assert loss(output, torch.full_like(target, torch.nan), 0.0, None) == 0

"""Losses against torch's and segmentation-models-pytorch's own; ignored pixels weigh nothing."""

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from geoxt.metrics.label_codes import IGNORE
from geoxt.trainers.tasks.losses import PIXEL_CLASSES, cross_entropy, dice, focal, jaccard, one_against_rest
from geoxt.trainers.tasks.value_losses import LABELS, VALUES, bce, binary_focal


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


WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 3.0])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weighted_cross_entropy_is_torchs(batch, smoothing):
    logits, target = batch
    wanted = F.cross_entropy(logits, target, weight=WEIGHTS, ignore_index=IGNORE, label_smoothing=smoothing)
    torch.testing.assert_close(cross_entropy(logits, target, smoothing, WEIGHTS), wanted)


def test_focal_is_that_of_brute_force(batch):
    logits, target = batch
    shares, terms, weights = logits.softmax(dim=1).numpy(), [], []
    for place in zip(*np.nonzero((target != IGNORE).numpy()), strict=True):
        label = int(target[place])
        share = shares[(place[0], label, *place[1:])]
        terms.append(-((1 - share) ** 2) * np.log(share))
        weights.append(WEIGHTS[label].item())
    assert focal(logits, target).item() == pytest.approx(np.mean(terms), rel=1e-5)
    assert focal(logits, target, 0.0, WEIGHTS).item() == pytest.approx(np.average(terms, weights=weights), rel=1e-5)


def test_jaccard_is_that_of_segmentation_models(batch):
    logits, target = batch
    whole = target.clamp(min=0)
    wanted = smp.losses.JaccardLoss("multiclass")(logits, whole)
    torch.testing.assert_close(jaccard(logits, whole), wanted, atol=1e-5, rtol=1e-5)
    known = target != IGNORE
    picked = logits.movedim(1, -1)[known].T[None], target[known][None]
    torch.testing.assert_close(jaccard(logits, target), jaccard(*picked))


def test_one_against_rest_is_torchs_binary_cross_entropy(batch):
    logits, target = batch
    known = target != IGNORE
    truth = F.one_hot(target[known], 4).float()
    wanted = F.binary_cross_entropy_with_logits(logits.movedim(1, -1)[known], truth)
    torch.testing.assert_close(one_against_rest(logits, target), wanted)


@pytest.fixture
def values():
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(4, 3, 5, 5, generator=generator)
    target = (torch.rand(4, 3, 5, 5, generator=generator) < 0.5).float()
    target[torch.rand(target.shape, generator=generator) < 0.3] = torch.nan
    return output, target


def test_losses_of_labels_and_values_are_torchs_over_what_is_known(values):
    output, target = values
    known = ~target.isnan()
    pair = output[known], target[known]
    torch.testing.assert_close(bce(output, target), F.binary_cross_entropy_with_logits(*pair))
    torch.testing.assert_close(binary_focal(output, target), sigmoid_focal_loss(*pair, alpha=-1, reduction="mean"))
    torch.testing.assert_close(VALUES["mse"](output, target, 0.0, None), F.mse_loss(*pair))
    torch.testing.assert_close(VALUES["mae"](output, target, 0.0, None), F.l1_loss(*pair))
    torch.testing.assert_close(VALUES["huber"](output, target, 0.0, None), F.huber_loss(*pair))


@pytest.mark.parametrize("loss", [*LABELS.values(), *VALUES.values()])
def test_unknown_values_have_no_gradient_and_weights_are_those_of_channels(values, loss):
    output, target = values
    output.requires_grad_()
    loss(output, target, 0.0, None).backward()
    assert (output.grad[target.isnan()] == 0).all()
    assert (output.grad[~target.isnan()] != 0).any()
    alone = loss(output[:, :1], target[:, :1], 0.0, None)
    torch.testing.assert_close(loss(output, target, 0.0, torch.tensor([1.0, 0.0, 0.0])), alone)
    assert loss(output, torch.full_like(target, torch.nan), 0.0, None) == 0

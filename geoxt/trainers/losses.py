"""Losses of pixelwise classes; pixels marked `IGNORE` count in none of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from geoxt.trainers.codes import IGNORE

Loss = Callable[[Tensor, Tensor, float], Tensor]
"""Takes logits (N, K, H, W), class indices int64 (N, H, W) and the label smoothing; returns one number."""


def cross_entropy(logits: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the mean cross entropy over labelled pixels; zero where there is none."""
    total = F.cross_entropy(logits, target, ignore_index=IGNORE, label_smoothing=smoothing, reduction="sum")
    return total / (target != IGNORE).sum().clamp(min=1)


def dice(logits: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return one minus the soft Dice coefficient, averaged over the classes that the batch holds.

    References
    ----------
    Milletari et al. 2016, https://doi.org/10.1109/3DV.2016.79
    """
    del smoothing  # has no meaning here; the argument keeps the losses interchangeable
    known = target != IGNORE
    truth = F.one_hot(target.where(known, 0), logits.shape[1]).movedim(-1, 1) * known[:, None]
    share = logits.softmax(dim=1) * known[:, None]
    both = (share * truth).sum(dim=(0, 2, 3))
    size = share.sum(dim=(0, 2, 3)) + truth.sum(dim=(0, 2, 3))
    present = truth.sum(dim=(0, 2, 3)) > 0
    coefficient = 2 * both / size.clamp(min=1e-6)
    return torch.where(present, 1 - coefficient, 0).sum() / present.sum().clamp(min=1)


def cross_entropy_dice(logits: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the sum of both losses: cross entropy for pixels, Dice for rare classes."""
    return cross_entropy(logits, target, smoothing) + dice(logits, target)


PIXEL_CLASSES: Mapping[str, Loss] = {
    "cross_entropy": cross_entropy,
    "dice": dice,
    "cross_entropy+dice": cross_entropy_dice,
}
"""Losses for one class a pixel, by name."""

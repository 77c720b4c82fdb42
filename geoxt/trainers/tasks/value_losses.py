"""Losses of yes-or-no labels and of quantities; a target of NaN counts in none of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from geoxt.trainers.tasks.losses import GAMMA, Loss


def bce(logits: Tensor, target: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Return the mean binary cross entropy over known labels.

    Parameters
    ----------
    logits
        (N, K, ...).
    target
        0, 1 or NaN (unknown), floating point, of the same shape.
    smoothing
        How far targets are moved towards one half, where 1 is all the way.
    weights
        (K,), by label.
    """
    return _mean(F.binary_cross_entropy_with_logits, logits, _soften(target, smoothing), weights)


def binary_focal(logits: Tensor, target: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Return the mean focal loss over known labels.

    References
    ----------
    Lin et al. 2017, https://doi.org/10.1109/ICCV.2017.324
    """

    def each(found: Tensor, wanted: Tensor, *, reduction: str) -> Tensor:
        share = found.sigmoid()
        miss = share * (1 - wanted) + (1 - share) * wanted
        return miss**GAMMA * F.binary_cross_entropy_with_logits(found, wanted, reduction=reduction)

    return _mean(each, logits, _soften(target, smoothing), weights)


def mse(output: Tensor, target: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Return the mean square error over known values."""
    del smoothing
    return _mean(F.mse_loss, output, target, weights)


def mae(output: Tensor, target: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Return the mean absolute error over known values."""
    del smoothing
    return _mean(F.l1_loss, output, target, weights)


def huber(output: Tensor, target: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Return the mean Huber loss over known values: square near zero, absolute beyond one.

    References
    ----------
    Huber 1964, https://doi.org/10.1214/aoms/1177703732
    """
    del smoothing
    return _mean(F.huber_loss, output, target, weights)


LABELS: Mapping[str, Loss] = {"bce": bce, "focal": binary_focal}
"""Losses for any number of labels an image, by name."""
VALUES: Mapping[str, Loss] = {"mse": mse, "mae": mae, "huber": huber}
"""Losses for quantities, by name."""


def _soften(target: Tensor, smoothing: float) -> Tensor:
    return target * (1 - smoothing) + smoothing / 2


def _mean(each: Callable[..., Tensor], output: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
    known = ~target.isnan()
    scale = known.to(output.dtype)
    if weights is not None:
        scale = scale * weights.view(-1, *[1] * (output.ndim - 2))
    found = each(output, target.where(known, 0).to(output.dtype), reduction="none")
    return (found * scale).sum() / scale.sum().clamp(min=torch.finfo(output.dtype).tiny)

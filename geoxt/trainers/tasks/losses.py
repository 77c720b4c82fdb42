"""Losses of classes, one to an image or a pixel; what is marked `IGNORE` counts in none of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from geoxt.metrics.label_codes import IGNORE

Loss = Callable[[Tensor, Tensor, float, Tensor | None], Tensor]
"""Takes outputs (N, K, ...), targets, the label smoothing and a weight for each class (K,); returns one number."""

GAMMA = 2.0
"""How much less the focal loss heeds what is right already (Lin et al. 2017)."""


def cross_entropy(logits: Tensor, target: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Return the mean cross entropy over what is labelled, weighted by class; zero where nothing is.

    Parameters
    ----------
    logits
        (N, K, ...), for any dimensions behind.
    target
        Class indices int64 (N, ...), or where samples were mixed the shares of classes, float (N, K).
    smoothing
        Share of the target that is spread over all classes.
    weights
        (K,), by class.
    """
    total = _entropy(logits, target, smoothing, weights, "sum")
    return total / _weight_of(target, weights)


def focal(logits: Tensor, target: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Return the cross entropy, each term times the square of how far its probability is from one.

    References
    ----------
    Lin et al. 2017, https://doi.org/10.1109/ICCV.2017.324
    """
    each = _entropy(logits, target, smoothing, weights, "none")
    share = logits.softmax(dim=1)
    if target.is_floating_point():
        sure = (share * target).sum(dim=1)
    else:
        sure = share.gather(1, target.where(target != IGNORE, 0)[:, None])[:, 0]
    return ((1 - sure) ** GAMMA * each).sum() / _weight_of(target, weights)


def dice(logits: Tensor, target: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Return one minus the soft Dice coefficient, averaged over the classes that the batch holds.

    References
    ----------
    Milletari et al. 2016, https://doi.org/10.1109/3DV.2016.79
    """
    del smoothing  # has no meaning here; the argument keeps the losses interchangeable
    both, share, truth = _overlap(logits, target)
    return _mean(1 - 2 * both / (share + truth).clamp(min=1e-6), truth > 0, weights)


def jaccard(logits: Tensor, target: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Return one minus the soft intersection over union, averaged over the classes that the batch holds.

    References
    ----------
    Rahman & Wang 2016, https://doi.org/10.1007/978-3-319-50835-1_22
    """
    del smoothing
    both, share, truth = _overlap(logits, target)
    return _mean(1 - both / (share + truth - both).clamp(min=1e-6), truth > 0, weights)


def one_against_rest(logits: Tensor, target: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Return the mean binary cross entropy of each class against all others."""
    mixed = target.is_floating_point()
    known = torch.ones_like(target[:, :1], dtype=torch.bool) if mixed else (target != IGNORE)[:, None]
    truth = target if mixed else _one_hot(target, logits.shape[1])
    truth = truth.to(logits.dtype) * (1 - smoothing) + smoothing / 2
    each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    scale = known.to(logits.dtype) if weights is None else known * weights.view(-1, *[1] * (logits.ndim - 2))
    return (each * scale).sum() / scale.expand_as(each).sum().clamp(min=torch.finfo(logits.dtype).tiny)


def cross_entropy_dice(logits: Tensor, target: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Return the sum of both losses: cross entropy for pixels, Dice for rare classes."""
    return cross_entropy(logits, target, smoothing, weights) + dice(logits, target, smoothing, weights)


CLASSES: Mapping[str, Loss] = {"cross_entropy": cross_entropy, "focal": focal, "bce": one_against_rest}
"""Losses for one class an image, by name."""

PIXEL_CLASSES: Mapping[str, Loss] = {
    **CLASSES,
    "dice": dice,
    "jaccard": jaccard,
    "cross_entropy+dice": cross_entropy_dice,
}
"""Losses for one class a pixel, by name."""


def _entropy(logits: Tensor, target: Tensor, smoothing: float, weights: Tensor | None, reduction: str) -> Tensor:
    mixed = target.is_floating_point()  # shares of classes: none is to be ignored, and torch takes no index for it
    ignore = {} if mixed else {"ignore_index": IGNORE}
    return F.cross_entropy(
        logits,
        target,
        weight=weights,
        label_smoothing=smoothing,
        reduction=reduction,
        **ignore,  # type: ignore[arg-type]
    )


def _weight_of(target: Tensor, weights: Tensor | None) -> Tensor:
    """Return the sum of the weights of what is labelled, at least one where weights are ones, and never zero."""
    if target.is_floating_point():
        whole = (target if weights is None else target * weights).sum()
        return whole.clamp(min=torch.finfo(whole.dtype).tiny)
    known = target != IGNORE
    if weights is None:
        return known.sum().clamp(min=1)
    return weights[target.where(known, 0)].mul(known).sum().clamp(min=torch.finfo(weights.dtype).tiny)


def _one_hot(target: Tensor, classes: int) -> Tensor:
    return F.one_hot(target.where(target != IGNORE, 0), classes).movedim(-1, 1)


def _overlap(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return for each class what is shared, predicted and true, summed over batch and pixels."""
    known = (target != IGNORE)[:, None]
    truth = _one_hot(target, logits.shape[1]) * known
    share = logits.softmax(dim=1) * known
    others = (0, *range(2, logits.ndim))
    return (share * truth).sum(dim=others), share.sum(dim=others), truth.sum(dim=others)


def _mean(each: Tensor, present: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        return torch.where(present, each, 0).sum() / present.sum().clamp(min=1)
    scale = weights * present
    return (each * scale).sum() / scale.sum().clamp(min=torch.finfo(scale.dtype).tiny)

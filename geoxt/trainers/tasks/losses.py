"""Losses by activation of the model's output: softmax (classes), sigmoid (labels) and identity (values).

Unknown targets (`IGNORE` among class indices, NaN among labels and values) do not contribute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

from geoxt.metrics.label_codes import IGNORE
from geoxt.models.network import by_channel
from geoxt.tasks import Activation

Loss = Callable[[Tensor, Tensor, float, Tensor | None], Tensor]
"""Maps outputs (N, K, ...), targets, label smoothing and class weights (K,) to a scalar."""

GAMMA = 2.0
"""Focusing parameter of the focal loss (Lin et al. 2017)."""


class MeanLoss(Metric):
    """Mean of the losses of batches, weighted by their numbers of labels, over all processes; NaN without labels."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.total: Tensor
        self.weight: Tensor
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("weight", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, loss: Tensor, weight: int) -> None:
        """Add the mean loss of a batch with `weight` labels."""
        self.total = self.total + loss.detach().to(self.total.dtype) * weight
        self.weight = self.weight + weight

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return the mean loss and the number of labels."""
        return self.total / self.weight, self.weight


def cross_entropy(logits: Tensor, target: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Return the weighted mean cross entropy over labeled pixels or images; zero if none is labeled.

    Parameters
    ----------
    logits
        (N, K, ...).
    target
        Class indices int64 (N, ...), or class probabilities of mixed samples, float (N, K).
    smoothing
        Label smoothing: fraction of the target spread evenly over all classes.
    weights
        Class weights (K,).
    """
    target = _mask_zero_weight_classes(target, weights)
    total = _cross_entropy(logits, target, smoothing, weights, "sum")
    return total / _total_weight(target, weights)


def focal(logits: Tensor, target: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Return the focal loss: cross entropy with each term scaled by (1 - p)².

    References
    ----------
    Lin et al. 2017, https://doi.org/10.1109/ICCV.2017.324
    """
    target = _mask_zero_weight_classes(target, weights)
    terms = _cross_entropy(logits, target, smoothing, weights, "none")
    probabilities = logits.softmax(dim=1)
    if target.is_floating_point():
        p_true = (probabilities * target).sum(dim=1)
    else:
        p_true = probabilities.gather(1, target.where(target != IGNORE, 0)[:, None])[:, 0]
    return ((1 - p_true) ** GAMMA * terms).sum() / _total_weight(target, weights)


def dice(logits: Tensor, target: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Return one minus the soft Dice coefficient, averaged over the classes present in the batch.

    References
    ----------
    Milletari et al. 2016, https://doi.org/10.1109/3DV.2016.79
    """
    del smoothing  # undefined for overlaps; the argument keeps losses interchangeable
    intersection, predicted, labeled = _soft_overlap(logits, target)
    return _class_mean(1 - 2 * intersection / (predicted + labeled).clamp(min=1e-6), labeled > 0, weights)


def jaccard(logits: Tensor, target: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Return one minus the soft intersection over union, averaged over the classes present in the batch.

    References
    ----------
    Rahman & Wang 2016, https://doi.org/10.1007/978-3-319-50835-1_22
    """
    del smoothing
    intersection, predicted, labeled = _soft_overlap(logits, target)
    union = predicted + labeled - intersection
    return _class_mean(1 - intersection / union.clamp(min=1e-6), labeled > 0, weights)


def one_vs_rest(logits: Tensor, target: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Return the mean binary cross entropy of each class against all others."""
    mixed = target.is_floating_point()
    labeled = torch.ones_like(target[:, :1], dtype=torch.bool) if mixed else (target != IGNORE)[:, None]
    truth = target if mixed else _one_hot(target, logits.shape[1])
    terms = F.binary_cross_entropy_with_logits(logits, _smooth(truth.to(logits.dtype), smoothing), reduction="none")
    scale = labeled.to(logits.dtype) if weights is None else labeled * by_channel(weights, logits)
    return (terms * scale).sum() / scale.expand_as(terms).sum().clamp(min=torch.finfo(logits.dtype).tiny)


def cross_entropy_dice(logits: Tensor, target: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Return the sum of cross entropy and Dice loss."""
    return cross_entropy(logits, target, smoothing, weights) + dice(logits, target, smoothing, weights)


def bce(logits: Tensor, target: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Return the mean binary cross entropy over known labels.

    Parameters
    ----------
    logits
        (N, K, ...).
    target
        0, 1 or NaN (unknown), floating point, of equal shape.
    smoothing
        Label smoothing: fraction by which targets move from 0 or 1 to one half.
    weights
        Label weights (K,).
    """
    return _known_mean(F.binary_cross_entropy_with_logits, logits, _smooth(target, smoothing), weights)


def binary_focal(logits: Tensor, target: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Return the mean binary focal loss over known labels.

    References
    ----------
    Lin et al. 2017, https://doi.org/10.1109/ICCV.2017.324
    """

    def focal_terms(logits: Tensor, target: Tensor, *, reduction: str) -> Tensor:
        p = logits.sigmoid()
        error = p * (1 - target) + (1 - p) * target
        return error**GAMMA * F.binary_cross_entropy_with_logits(logits, target, reduction=reduction)

    return _known_mean(focal_terms, logits, _smooth(target, smoothing), weights)


def mse(output: Tensor, target: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Return the mean squared error over known values."""
    del smoothing
    return _known_mean(F.mse_loss, output, target, weights)


def mae(output: Tensor, target: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Return the mean absolute error over known values."""
    del smoothing
    return _known_mean(F.l1_loss, output, target, weights)


def huber(output: Tensor, target: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Return the mean Huber loss over known values: quadratic for errors below 1, linear above.

    References
    ----------
    Huber 1964, https://doi.org/10.1214/aoms/1177703732
    """
    del smoothing
    return _known_mean(F.huber_loss, output, target, weights)


LOSSES: Mapping[Activation, Mapping[str, Loss]] = {
    "softmax": {
        "cross_entropy": cross_entropy,
        "focal": focal,
        "bce": one_vs_rest,
        "dice": dice,
        "jaccard": jaccard,
        "cross_entropy+dice": cross_entropy_dice,
    },
    "sigmoid": {"bce": bce, "focal": binary_focal},
    "identity": {"mse": mse, "mae": mae, "huber": huber},
}
"""Losses by the activation of the model's output and by name; `geoxt.tasks` lists those of each task."""


def _cross_entropy(logits: Tensor, target: Tensor, smoothing: float, weights: Tensor | None, reduction: str) -> Tensor:
    mixed = target.is_floating_point()  # torch refuses ignore_index for class probabilities
    ignore = {} if mixed else {"ignore_index": IGNORE}
    return F.cross_entropy(
        logits,
        target,
        weight=weights,
        label_smoothing=smoothing,
        reduction=reduction,
        **ignore,  # type: ignore[arg-type]
    )


def _total_weight(target: Tensor, weights: Tensor | None) -> Tensor:
    """Return the sum of the weights of labeled elements, never zero."""
    if target.is_floating_point():
        total = (target if weights is None else target * weights).sum()
        return total.clamp(min=torch.finfo(total.dtype).tiny)
    labeled = target != IGNORE
    if weights is None:
        return labeled.sum().clamp(min=1)
    return weights[target.where(labeled, 0)].mul(labeled).sum().clamp(min=torch.finfo(weights.dtype).tiny)


def _mask_zero_weight_classes(target: Tensor, weights: Tensor | None) -> Tensor:
    """Return the target without classes of weight 0: label smoothing gives their pixels a loss, but no weight."""
    if weights is None or target.is_floating_point():
        return target
    labeled = target != IGNORE
    return target.where(labeled & (weights[target.where(labeled, 0)] > 0), IGNORE)


def _one_hot(target: Tensor, classes: int) -> Tensor:
    return F.one_hot(target.where(target != IGNORE, 0), classes).movedim(-1, 1)


def _smooth(target: Tensor, smoothing: float) -> Tensor:
    return target * (1 - smoothing) + smoothing / 2


def _soft_overlap(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return intersection, predicted and labeled area per class, (K,), with probabilities as fractions of pixels."""
    labeled = (target != IGNORE)[:, None]
    truth = _one_hot(target, logits.shape[1]) * labeled
    probabilities = logits.softmax(dim=1) * labeled
    dims = (0, *range(2, logits.ndim))
    return (probabilities * truth).sum(dim=dims), probabilities.sum(dim=dims), truth.sum(dim=dims)


def _class_mean(losses: Tensor, present: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        return torch.where(present, losses, 0).sum() / present.sum().clamp(min=1)
    scale = weights * present
    return (losses * scale).sum() / scale.sum().clamp(min=torch.finfo(scale.dtype).tiny)


def _known_mean(loss: Callable[..., Tensor], output: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
    """Return the weighted mean of an elementwise loss over targets that are not NaN."""
    labeled = ~target.isnan()
    scale = labeled.to(output.dtype)
    if weights is not None:
        scale = scale * by_channel(weights, output)
    terms = loss(output, target.where(labeled, 0).to(output.dtype), reduction="none")
    return (terms * scale).sum() / scale.sum().clamp(min=torch.finfo(output.dtype).tiny)

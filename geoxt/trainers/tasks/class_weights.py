"""Class counts of the training data, streamed batch by batch, and balanced class weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from geoxt.errors import LabelError
from geoxt.metrics.label_codes import IGNORE
from geoxt.trainers.tasks.targets import Batch


def class_counts(batches: Iterable[Batch], target: Callable[[Batch], Tensor], classes: int) -> Tensor:
    """Return the number of pixels or images per class, int64 (classes,); one batch is in memory at a time.

    Parameters
    ----------
    batches
        Iterated once.
    target
        Computes the class indices of a batch, of which `IGNORE` is not counted; or multi-label targets (N, classes) of
        0, 1 and NaN.
    classes
        Number of classes.
    """
    counts = torch.zeros(classes, dtype=torch.int64)
    for batch in batches:
        labels = target(batch).cpu()
        if labels.is_floating_point():
            counts += (labels == 1).sum(dim=0)
        else:
            counts += torch.bincount(labels[labels != IGNORE].flatten(), minlength=classes)
    return counts


def balanced(counts: Tensor) -> Tensor:
    """Return balanced class weights, float32: `total / (classes present * counts)`, and 1 for an absent class.

    The mean weight over all samples is 1, as of scikit-learn's `compute_class_weight("balanced")`.

    Raises
    ------
    LabelError
        If all counts are zero.

    Examples
    --------
    >>> import torch
    >>> balanced(torch.tensor([1, 3, 0]))
    tensor([2.0000, 0.6667, 1.0000])
    """
    present = counts > 0
    if not present.any():
        msg = "Cannot balance class weights: the training data have no labels."
        raise LabelError(msg, remedy="Pass {class_weights:None}.", argument="class_weights")
    return torch.where(present, counts.sum() / (present.sum() * counts.clamp(min=1)), 1).float()

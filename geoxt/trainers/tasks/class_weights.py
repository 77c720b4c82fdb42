"""Shares of classes in the training part, streamed batch by batch, and the weights that make classes count alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from geoxt.errors import LabelError
from geoxt.metrics.label_codes import IGNORE
from geoxt.trainers.tasks.targets import Batch


def class_counts(batches: Iterable[Batch], target: Callable[[Batch], Tensor], classes: int) -> Tensor:
    """Return how often each class occurs, int64 (classes,), holding one batch at a time.

    Parameters
    ----------
    batches
        Each is gone through once.
    target
        Gives the class indices of a batch; `IGNORE` is not counted. Or, of labels (N, classes), 0, 1 and NaN.
    classes
        Number of classes.
    """
    counts = torch.zeros(classes, dtype=torch.int64)
    for batch in batches:
        found = target(batch).cpu()
        if found.is_floating_point():
            counts += (found == 1).sum(dim=0)
        else:
            counts += torch.bincount(found[found != IGNORE].flatten(), minlength=classes)
    return counts


def balanced(counts: Tensor) -> Tensor:
    """Return the weight of each class, float32: the inverse of its share, so that the mean over samples is one.

    A class that does not occur has the weight zero.

    Examples
    --------
    >>> import torch
    >>> balanced(torch.tensor([1, 3, 0]))
    tensor([2.0000, 0.6667, 0.0000])
    """
    present = counts > 0
    if not present.any():
        msg = "Cannot weigh classes by their shares: nothing in the training part is labelled. Pass class_weights=None."
        raise LabelError(msg)
    return torch.where(present, counts.sum() / (present.sum() * counts.clamp(min=1)), 0).float()

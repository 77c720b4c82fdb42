"""Scores from one confusion matrix: accuracy, kappa, and IoU, recall, precision and F1 by class name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics import Metric

from geoxt.metrics.label_codes import IGNORE
from geoxt.metrics.scores import Scores, scores_by_class


def confusion_matrix(predicted: Tensor, target: Tensor, num_classes: int) -> Tensor:
    """Return pixel counts by true class (rows) and predicted class (columns).

    Parameters
    ----------
    predicted, target
        Class indices, int64, of equal shape. Pixels whose target is `IGNORE` are not counted.
    num_classes
        Number of classes.

    Returns
    -------
    Tensor
        int64 (classes, classes).

    Examples
    --------
    >>> import torch
    >>> confusion_matrix(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 2)
    tensor([[1, 1],
            [0, 1]])
    """
    labeled = target != IGNORE
    pairs = target[labeled] * num_classes + predicted[labeled]
    return torch.bincount(pairs, minlength=num_classes * num_classes).reshape(num_classes, num_classes)


def accuracy(matrix: Tensor) -> float:
    """Return the fraction of pixels with the right class; NaN for an empty matrix.

    Examples
    --------
    >>> import torch
    >>> matrix = torch.tensor([[3, 1], [0, 4]])
    >>> accuracy(matrix)
    0.875
    """
    return float(matrix.diagonal().sum().double() / matrix.sum())


def majority_accuracy(matrix: Tensor) -> float:
    """Return the accuracy of predicting the most frequent true class everywhere (majority-class baseline).

    Examples
    --------
    >>> import torch
    >>> matrix = torch.tensor([[3, 1], [0, 4]])
    >>> majority_accuracy(matrix)
    0.5
    """
    return float(matrix.sum(dim=1).max().double() / matrix.sum())


def iou(matrix: Tensor) -> Tensor:
    """Return the intersection over union per class, float64; NaN for a class neither labeled nor predicted.

    Examples
    --------
    >>> import torch
    >>> matrix = torch.tensor([[3, 1], [0, 4]])
    >>> iou(matrix)
    tensor([0.7500, 0.8000], dtype=torch.float64)
    """
    intersection = matrix.diagonal().double()
    return intersection / (matrix.sum(dim=0) + matrix.sum(dim=1) - intersection)


def kappa(matrix: Tensor) -> float:
    """Return Cohen's kappa; NaN if agreement by chance is certain.

    References
    ----------
    Cohen 1960, https://doi.org/10.1177/001316446002000104

    Examples
    --------
    >>> import torch
    >>> kappa(torch.tensor([[3, 1], [0, 4]]))
    0.75
    """
    counts = matrix.double()
    by_chance = float((counts.sum(dim=0) * counts.sum(dim=1)).sum() / counts.sum() ** 2)
    return (accuracy(matrix) - by_chance) / (1 - by_chance) if by_chance != 1 else math.nan


def classification_scores(
    matrix: Tensor | npt.NDArray[np.int64],
    names: Sequence[str],
    *,
    unit: str = "pixels",
    area: Tensor | None = None,
    mapped_area: Tensor | None = None,
) -> Scores:
    """Return the scores of a confusion matrix: over all classes, and by class.

    Parameters
    ----------
    matrix
        Confusion matrix, int64 (K, K): counts by true class (rows) and predicted class (columns); also a sum of the
        `confusion_matrix` of several `Scores`.
    names
        Distinct class names. A row and a column beyond them count predictions of no class: they lower the accuracy and
        have no scores.
    unit
        Name of the total count: `"pixels"` or `"images"`.
    area, mapped_area
        Area of each class by the labels and by the map in hectares, float64 (K,).

    Returns
    -------
    Scores
        Over all classes `accuracy`, `kappa` (Cohen), `miou`, `macro_precision`, `macro_recall` (balanced accuracy),
        `macro_f1`, `majority_accuracy` (of predicting the most frequent true class everywhere) and the number of
        pixels or images; by class `precision`, `recall`, `f1`, `iou`, `support` (true pixels), and the areas if they
        are given. The precision of a class that is never predicted is 0 if it has true pixels. Undefined scores of a
        class are `None`, and left out of means.

    Raises
    ------
    LabelError
        If two classes have the same name.

    Examples
    --------
    >>> import torch
    >>> classification_scores(torch.tensor([[3, 1], [0, 4]]), ["forest", "water"])["iou"]
    {'forest': 0.75, 'water': 0.8}
    """
    matrix = torch.as_tensor(matrix)
    count = len(names)
    correct, labeled, predicted = matrix.diagonal().double(), matrix.sum(dim=1), matrix.sum(dim=0)
    values: dict[str, Tensor] = {
        "precision": torch.where(labeled > 0, correct / predicted.clamp(min=1), correct / predicted),
        "recall": correct / labeled,
        "f1": 2 * correct / (labeled + predicted),
        "iou": iou(matrix),
    }
    means = {name: float(column[:count].nanmean()) for name, column in values.items()}
    overall: dict[str, Any] = {"accuracy": accuracy(matrix), "kappa": kappa(matrix), "miou": means["iou"]}
    overall |= {f"macro_{name}": means[name] for name in ("precision", "recall", "f1")}
    overall |= {"majority_accuracy": majority_accuracy(matrix), unit: int(matrix.sum())}
    columns = values | {"support": labeled}
    columns |= {} if area is None else {"area": area}
    columns |= {} if mapped_area is None else {"mapped_area": mapped_area}
    by_class = scores_by_class(names, columns)
    return Scores(overall=overall, by_class=by_class, confusion_matrix=matrix.cpu().numpy())


class ConfusionMatrix(Metric):
    """Confusion matrix as a torchmetrics metric, summed over batches and processes.

    Parameters
    ----------
    num_classes
        Number of classes.
    """

    full_state_update = False

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.classes = num_classes
        self.matrix: Tensor
        self.add_state("matrix", torch.zeros(num_classes, num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Count the pixels of a batch."""
        self.matrix += confusion_matrix(predicted, target, self.classes)

    def compute(self) -> Tensor:
        """Return the counts, int64 (classes, classes)."""
        return self.matrix

"""Classification scores from one confusion matrix: accuracy, IoU, recall, precision and F1, by class name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from geoxt.errors import LabelError
from geoxt.metrics.label_codes import IGNORE


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


def segmentation_scores(matrix: Tensor, names: Sequence[str]) -> dict[str, Any]:
    """Return accuracy, mean IoU, majority-class accuracy, IoU by class name and the number of pixels.

    Parameters
    ----------
    matrix
        Confusion matrix, int64 (K, K).
    names
        Distinct class names. Rows and columns beyond them count predictions of no class: they lower the accuracy and
        have no IoU.

    Returns
    -------
    dict
        `accuracy`, `miou`, `majority_accuracy`, `iou` (by class name) and `pixels`. A class neither labeled nor
        predicted has the IoU `None` and is left out of the mean.

    Raises
    ------
    LabelError
        If two classes have the same name.

    Examples
    --------
    >>> import torch
    >>> matrix = torch.tensor([[3, 1], [0, 4]])
    >>> segmentation_scores(matrix, ["forest", "water"])["iou"]
    {'forest': 0.75, 'water': 0.8}
    """
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        msg = f"Cannot list scores by name: {duplicates[0]!r} names several classes."
        raise LabelError(msg, remedy="Pass Legend.distinct_names.", value=duplicates[0], argument="names")
    class_iou = iou(matrix)[: len(names)]
    return {
        "accuracy": accuracy(matrix),
        "miou": float(class_iou.nanmean()),
        "majority_accuracy": majority_accuracy(matrix),
        "iou": {name: None if value.isnan() else float(value) for name, value in zip(names, class_iou, strict=True)},
        "pixels": int(matrix.sum()),
    }


def flat_segmentation_scores(matrix: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Return accuracy, mean IoU and IoU by class name under the flat keys of loggers, such as `iou/Forest`.

    Examples
    --------
    >>> import torch
    >>> matrix = torch.tensor([[3, 1], [0, 4]])
    >>> sorted(flat_segmentation_scores(matrix, ["forest", "water"]))
    ['accuracy', 'iou/forest', 'iou/water', 'miou']
    """
    scores = segmentation_scores(matrix, names)
    flat = {key: float(scores[key]) for key in ("accuracy", "miou")}
    return flat | {f"iou/{name}": value for name, value in scores["iou"].items() if value is not None}


def classification_scores(matrix: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Return accuracy, macro recall (balanced accuracy), macro F1, and recall, precision and F1 by class name.

    An undefined score (a class neither labeled nor predicted) is left out, also of the means.

    Examples
    --------
    >>> import torch
    >>> matrix = torch.tensor([[3, 1], [0, 4]])
    >>> classification_scores(matrix, ["forest", "water"])["accuracy"]
    0.875
    """
    correct, labeled, predicted = matrix.diagonal().double(), matrix.sum(dim=1), matrix.sum(dim=0)
    class_scores: Mapping[str, Tensor] = {
        "recall": correct / labeled,
        "precision": correct / predicted,
        "f1": 2 * correct / (labeled + predicted),
    }
    scores = {
        "accuracy": accuracy(matrix),
        "macro_recall": float(class_scores["recall"].nanmean()),
        "macro_f1": float(class_scores["f1"].nanmean()),
    }
    for score, values in class_scores.items():
        pairs = zip(names, values, strict=True)
        scores |= {f"{score}/{name}": float(value) for name, value in pairs if not value.isnan()}
    return scores


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

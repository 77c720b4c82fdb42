"""Scores of a classification: one confusion matrix is counted, every score follows from it, by class name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from geoxt.errors import LabelError
from geoxt.metrics.label_codes import IGNORE


def confusion(predicted: Tensor, target: Tensor, classes: int) -> Tensor:
    """Count pixels by true class (rows) and predicted class (columns).

    Parameters
    ----------
    predicted, target
        Class indices, int64, of one shape; pixels whose target is `IGNORE` are not counted.
    classes
        Number of classes.

    Returns
    -------
    Tensor
        int64 (classes, classes).
    """
    known = target != IGNORE
    pairs = target[known] * classes + predicted[known]
    return torch.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def accuracy(counts: Tensor) -> float:
    """Return the share of pixels that are right; NaN where no pixel was counted."""
    return float(counts.diagonal().sum().double() / counts.sum())


def majority(counts: Tensor) -> float:
    """Return the share of the most frequent true class: what calling every pixel that class would score."""
    return float(counts.sum(dim=1).max().double() / counts.sum())


def iou(counts: Tensor) -> Tensor:
    """Return intersection over union per class, float64; NaN for a class that is neither there nor predicted."""
    both = counts.diagonal().double()
    return both / (counts.sum(dim=0) + counts.sum(dim=1) - both)


def summarise(counts: Tensor, names: Sequence[str]) -> dict[str, Any]:
    """Return accuracy, mean IoU, majority share, per-class IoU by name and the number of pixels.

    Classes that are neither in the labels nor predicted have no IoU (`None`) and do not enter the mean. Where there are
    more counts than names, the last ones are of no class: predicting them is wrong, and they have no IoU of their own.

    Raises
    ------
    LabelError
        Where two classes have one name: one of them would be lost.
    """
    if twice := sorted({name for name in names if names.count(name) > 1}):
        msg = f"Cannot list scores by name: {twice[0]!r} names several classes. Pass Legend.distinct_names."
        raise LabelError(msg)
    each = iou(counts)[: len(names)]
    return {
        "accuracy": accuracy(counts),
        "miou": float(each.nanmean()),
        "majority": majority(counts),
        "iou": {name: None if value.isnan() else float(value) for name, value in zip(names, each, strict=True)},
        "pixels": int(counts.sum()),
    }


def flatten(summary: Mapping[str, Any], stage: str) -> dict[str, float]:
    """Return the scores under the flat names that loggers use, such as `val/iou/Forest`."""
    flat = {f"{stage}/{key}": float(summary[key]) for key in ("accuracy", "miou")}
    return flat | {f"{stage}/iou/{name}": value for name, value in summary["iou"].items() if value is not None}


def report_pixels(counts: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Return accuracy, mean IoU, and IoU by class name."""
    flat = flatten(summarise(counts, names), "")
    return {name.removeprefix("/"): value for name, value in flat.items()}


def report_images(counts: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Return accuracy, mean recall (balanced accuracy), mean F1, and recall, precision and F1 by class name.

    Classes that are neither there nor predicted have none, and do not enter the means.
    """
    right, true, said = counts.diagonal().double(), counts.sum(dim=1), counts.sum(dim=0)
    each = {"recall": right / true, "precision": right / said, "f1": 2 * right / (true + said)}
    scores = {
        "accuracy": accuracy(counts),
        "recall": float(each["recall"].nanmean()),
        "f1": float(each["f1"].nanmean()),
    }
    for score, values in each.items():
        pairs = zip(names, values, strict=True)
        scores |= {f"{score}/{name}": float(value) for name, value in pairs if not value.isnan()}
    return scores


class Confusion(Metric):
    """The confusion matrix as a torchmetrics metric, summed over batches and processes."""

    full_state_update = False

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.counts: Tensor
        self.add_state("counts", torch.zeros(classes, classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Count the pixels of a batch."""
        self.counts += confusion(predicted, target, self.classes)

    def compute(self) -> Tensor:
        """Return the counts, int64 (classes, classes)."""
        return self.counts

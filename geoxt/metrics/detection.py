"""Average precision of detections, by class and IoU threshold, as COCO defines it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchvision.ops import box_iou

from geoxt.metrics.scores import Scores, scores_by_class

THRESHOLDS = tuple(0.5 + 0.05 * step for step in range(10))
"""IoU thresholds of COCO: a detection matches an instance from this IoU."""
_RECALLS = torch.linspace(0, 1, 101, dtype=torch.float64)
"""Recalls at which COCO samples the precision."""


class AveragePrecision(Metric):
    """Average precision of detections by class and IoU threshold, over COCO's 101 recall points.

    Parameters
    ----------
    num_classes
        Number of classes.
    masks
        Whether to compute the IoU of masks instead of boxes.

    References
    ----------
    Lin et al. 2014, https://doi.org/10.1007/978-3-319-10602-1_48
    """

    full_state_update = False

    def __init__(self, num_classes: int, *, masks: bool = False) -> None:
        super().__init__()
        self.classes = num_classes
        self.masks = masks
        self.matches: list[Tensor]
        self.counts: Tensor
        self.add_state("matches", [], dist_reduce_fx="cat")
        self.add_state("counts", torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, detections: Sequence[Mapping[str, Tensor]], targets: Sequence[Mapping[str, Tensor]]) -> None:
        """Add images: detections (with `scores`) and target instances of each, labels from 1."""
        for detected, target in zip(detections, targets, strict=True):
            self.counts += torch.bincount(target["labels"] - 1, minlength=self.classes)
            for label in torch.unique(detected["labels"]).tolist():
                self.matches.append(self._match(detected, target, label).to(self.device))  # NCCL gathers no CPU tensors

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the states of all processes; one without detections has rows as well, as torchmetrics requires."""
        if not self.matches:
            self.matches.append(torch.zeros(0, 2 + len(THRESHOLDS), device=self.device))
        super().sync(*args, **kwargs)

    def compute(self) -> Tensor:
        """Return average precision, float64 (classes, thresholds); NaN for a class without target instances."""
        empty = torch.zeros(0, 2 + len(THRESHOLDS), device=self.device)
        gathered: Any = self.matches  # a list, or one tensor after synchronization of processes
        matches = (torch.cat([empty, *gathered]) if isinstance(gathered, list) else gathered).cpu().double()
        rows = [_average_precision(matches[matches[:, 0] == c + 1], int(self.counts[c])) for c in range(self.classes)]
        return torch.stack(rows)

    def _match(self, detected: Mapping[str, Tensor], target: Mapping[str, Tensor], label: int) -> Tensor:
        """Return label, score and whether it matches at each threshold, of the detections of a class, best first."""
        of_class, target_of_class = detected["labels"] == label, target["labels"] == label
        order = detected["scores"][of_class].argsort(descending=True, stable=True)
        overlap = self._iou(detected, target, of_class, target_of_class)[order].cpu()
        rows = torch.zeros(len(order), 2 + len(THRESHOLDS))
        rows[:, 0], rows[:, 1] = label, detected["scores"][of_class][order].detach().cpu()
        for column, threshold in enumerate(THRESHOLDS):
            # greedy: each detection takes the unmatched instance of highest IoU
            unmatched = torch.ones(overlap.shape[1], dtype=torch.bool)
            for i, row in enumerate(overlap):
                best = row.where(unmatched, -1.0)
                if len(best) and best.max() >= threshold:
                    unmatched[best.argmax()] = False
                    rows[i, 2 + column] = 1
        return rows

    def _iou(
        self, detected: Mapping[str, Tensor], target: Mapping[str, Tensor], of_class: Tensor, target_of_class: Tensor
    ) -> Tensor:
        if not self.masks:
            return box_iou(detected["boxes"][of_class].float(), target["boxes"][target_of_class].float())
        first = (detected["masks"][of_class].flatten(1) > 0.5).float()
        second = (target["masks"][target_of_class].flatten(1) > 0).float()
        intersection = first @ second.T
        return intersection / (first.sum(dim=1)[:, None] + second.sum(dim=1) - intersection).clamp(min=1)


def detection_scores(table: Tensor, names: Sequence[str]) -> Scores:
    """Return mAP over all IoU thresholds, mAP at IoU 0.5, and average precision by class over all thresholds.

    Parameters
    ----------
    table
        Average precision (classes, thresholds), as `AveragePrecision` computes it.
    names
        Class names.
    """
    class_ap = table.mean(dim=1)
    overall = {"map": float(class_ap.nanmean()), "map50": float(table[:, 0].nanmean())}
    columns = {"ap": class_ap, "ap50": table[:, 0]}
    return Scores(overall=overall, by_class=scores_by_class(names, columns))


def _average_precision(matches: Tensor, count: int) -> Tensor:
    """Return the average precision at each threshold of one class with `count` target instances."""
    if count == 0:
        return torch.full((len(THRESHOLDS),), torch.nan, dtype=torch.float64)
    if len(matches) == 0:
        return torch.zeros(len(THRESHOLDS), dtype=torch.float64)
    true_positives = matches[matches[:, 1].argsort(descending=True, stable=True), 2:].cumsum(dim=0)
    precision = true_positives / torch.arange(1, len(true_positives) + 1, dtype=torch.float64)[:, None]
    # interpolated precision: the maximum at any higher recall
    precision = precision.flip(0).cummax(dim=0).values.flip(0)
    recall = true_positives / count
    averages: list[Any] = []
    for column in range(len(THRESHOLDS)):
        position = torch.searchsorted(recall[:, column].contiguous(), _RECALLS)
        reached = position < len(true_positives)
        averages.append((precision[position.clamp(max=len(true_positives) - 1), column] * reached).mean())
    return torch.stack(averages)

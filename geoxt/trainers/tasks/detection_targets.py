"""Detection: targets as torchvision takes them, flips of boxes, and average precision as COCO counts it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchvision.ops import box_iou

from geoxt.metrics.label_codes import IGNORE, Codes
from geoxt.trainers.tasks.flips import code_of, drawn
from geoxt.trainers.tasks.targets import Batch, entry
from geoxt.transforms import turn as turned

Instances = dict[str, Tensor]
"""The things in one image: `boxes` (M, 4) as left, top, right, bottom in pixels; `labels` (M,); `masks` (M, H, W)."""

THRESHOLDS = tuple(0.5 + 0.05 * step for step in range(10))
"""Overlaps from which a detection counts as right, as COCO has them."""
_RECALLS = torch.linspace(0, 1, 101, dtype=torch.float64)


def detection_targets(batch: Batch, codes: Codes, *, masks: bool) -> list[Instances]:
    """Return the things of each image; those of no known class, and those without extent, are left out.

    A batch has `boxes`, `labels` and, for instances, `masks`: a list with a tensor for each image. Labels become class
    indices from 1, as torchvision's models want them: 0 is what lies behind.
    """
    found = []
    for place, boxes in enumerate(entry(batch, "boxes")):
        indices = codes(entry(batch, "labels")[place].long())
        own = boxes.float().reshape(-1, 4)
        keep = (indices != IGNORE) & (own[:, 2:] > own[:, :2]).all(dim=1)
        one = {"boxes": own[keep], "labels": indices[keep] + 1}
        if masks:
            one["masks"] = entry(batch, "masks")[place][keep].to(torch.uint8)
        found.append(one)
    return found


def turn(images: Tensor, all_things: Sequence[Instances]) -> tuple[Tensor, list[Instances]]:
    """Turn and flip each square image at random, and its things alike; those not square are turned halfway."""
    square = images.shape[-1] == images.shape[-2]
    plan = [drawn(1, square=square)[0] for _ in images]
    batch: Batch = {"image": images, **{name: [one[name] for one in all_things] for name in ("boxes", "masks")
                                        if all_things and name in all_things[0]}}  # fmt: skip
    moved = turned(batch, [code_of(turns, flip=flip) for turns, flip in plan])
    own = [name for name in ("boxes", "masks") if name in moved]
    return moved["image"], [
        {**one, **{name: moved[name][place] for name in own}} for place, one in enumerate(all_things)
    ]


class AveragePrecision(Metric):
    """Average precision of detections by class and overlap, over 101 recalls as COCO has it.

    Parameters
    ----------
    classes
        Number of classes.
    masks
        Whether the overlap of masks counts, rather than that of boxes.

    References
    ----------
    Lin et al. 2014, https://doi.org/10.1007/978-3-319-10602-1_48
    """

    full_state_update = False

    def __init__(self, classes: int, *, masks: bool = False) -> None:
        super().__init__()
        self.classes = classes
        self.masks = masks
        self.hits: list[Tensor]
        self.counts: Tensor
        self.add_state("hits", [], dist_reduce_fx="cat")
        self.add_state("counts", torch.zeros(classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, found: Sequence[Mapping[str, Tensor]], truth: Sequence[Mapping[str, Tensor]]) -> None:
        """Add images: what was found (with `scores`) and what is there, labels from 1."""
        for said, known in zip(found, truth, strict=True):
            self.counts += torch.bincount(known["labels"] - 1, minlength=self.classes)
            for label in torch.unique(said["labels"]).tolist():
                self.hits.append(self._match(said, known, label))

    def compute(self) -> Tensor:
        """Return average precision, float64 (classes, thresholds); NaN for a class that is nowhere."""
        empty = torch.zeros(0, 2 + len(THRESHOLDS))
        gathered: Any = self.hits  # a list, or one tensor where processes have been put together
        hits = (torch.cat([empty, *gathered]) if isinstance(gathered, list) else gathered).double()
        rows = [_precision(hits[hits[:, 0] == c + 1], int(self.counts[c])) for c in range(self.classes)]
        return torch.stack(rows)

    def _match(self, said: Mapping[str, Tensor], known: Mapping[str, Tensor], label: int) -> Tensor:
        """Return label, score and for each threshold whether it is a hit, for the detections of a class, best first."""
        own, true = said["labels"] == label, known["labels"] == label
        order = said["scores"][own].argsort(descending=True, stable=True)
        overlap = self._overlap(said, known, own, true)[order].cpu()
        rows = torch.zeros(len(order), 2 + len(THRESHOLDS))
        rows[:, 0], rows[:, 1] = label, said["scores"][own][order].detach().cpu()
        for at, threshold in enumerate(THRESHOLDS):
            free = torch.ones(overlap.shape[1], dtype=torch.bool)
            for place, row in enumerate(overlap):
                best = row.where(free, -1.0)
                if len(best) and best.max() >= threshold:
                    free[best.argmax()] = False
                    rows[place, 2 + at] = 1
        return rows

    def _overlap(self, said: Mapping[str, Tensor], known: Mapping[str, Tensor], own: Tensor, true: Tensor) -> Tensor:
        if not self.masks:
            return box_iou(said["boxes"][own].float(), known["boxes"][true].float())
        first = (said["masks"][own].flatten(1) > 0.5).float()
        second = (known["masks"][true].flatten(1) > 0).float()
        both = first @ second.T
        return both / (first.sum(dim=1)[:, None] + second.sum(dim=1) - both).clamp(min=1)


def report_precision(table: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Return mean average precision over all overlaps and at one half, and that of each class over all overlaps."""
    each = table.mean(dim=1)
    scores = {"map": float(each.nanmean()), "map50": float(table[:, 0].nanmean())}
    return scores | {f"ap/{name}": float(one) for name, one in zip(names, each, strict=True) if not one.isnan()}


def _precision(hits: Tensor, count: int) -> Tensor:
    """Return the average precision at each threshold of one class with a number of true things."""
    if count == 0:
        return torch.full((len(THRESHOLDS),), torch.nan, dtype=torch.float64)
    if len(hits) == 0:
        return torch.zeros(len(THRESHOLDS), dtype=torch.float64)
    right = hits[hits[:, 1].argsort(descending=True, stable=True), 2:].cumsum(dim=0)
    precision = right / torch.arange(1, len(right) + 1, dtype=torch.float64)[:, None]
    precision = precision.flip(0).cummax(dim=0).values.flip(0)
    recall = right / count
    averages: list[Any] = []
    for at in range(len(THRESHOLDS)):
        place = torch.searchsorted(recall[:, at].contiguous(), _RECALLS)
        reached = place < len(right)
        averages.append((precision[place.clamp(max=len(right) - 1), at] * reached).mean())
    return torch.stack(averages)

"""Detection targets as torchvision's detectors take them, and their random flips and quarter turns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geoxt.metrics.label_codes import IGNORE, Codes
from geoxt.trainers.tasks.flips import code_of, draw_flips
from geoxt.trainers.tasks.targets import Batch, entry
from geoxt.transforms import flip_rotate

Instances = dict[str, Tensor]
"""Instances in one image: `boxes` (M, 4) as left, top, right, bottom in pixels; `labels` (M,); `masks` (M, H, W)."""


def detection_targets(batch: Batch, codes: Codes, *, masks: bool) -> list[Instances]:
    """Return the target instances of each image, without unknown classes and boxes of zero width or height.

    Parameters
    ----------
    batch
        With `boxes`, `labels` and, if `masks`, `masks`: lists with one tensor per image.
    codes
        Maps label codes to class indices. Labels become indices from 1, as torchvision counts 0 as background.
    masks
        Whether to include masks, uint8.
    """
    targets = []
    for i, all_boxes in enumerate(entry(batch, "boxes")):
        indices = codes(entry(batch, "labels")[i].long())
        boxes = all_boxes.float().reshape(-1, 4)
        keep = (indices != IGNORE) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        instances = {"boxes": boxes[keep], "labels": indices[keep] + 1}
        if masks:
            instances["masks"] = entry(batch, "masks")[i][keep].to(torch.uint8)
        targets.append(instances)
    return targets


def flip_instances(images: Tensor, targets: Sequence[Instances]) -> tuple[Tensor, list[Instances]]:
    """Return images (N, C, H, W) and their instances, flipped and turned at random, by half turns only if H != W."""
    square = images.shape[-1] == images.shape[-2]
    draws = [draw_flips(1, square=square)[0] for _ in images]
    keys = [key for key in ("boxes", "masks") if targets and key in targets[0]]
    batch: Batch = {"image": images, **{key: [instances[key] for instances in targets] for key in keys}}
    moved = flip_rotate(batch, [code_of(turns, flip=flip) for turns, flip in draws])
    return moved["image"], [
        {**instances, **{key: moved[key][i] for key in keys}} for i, instances in enumerate(targets)
    ]

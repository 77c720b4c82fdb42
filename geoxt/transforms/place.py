"""Where pixels lie once they have moved: bounds, transform and boxes follow an affine map, or are marked lost."""

from __future__ import annotations

import torch
from torch import Tensor

from geoxt.transforms.sample import BOXES, MASKS, PLACED, Sample, beside_boxes, boxes_of


def follow(sample: Sample, old_from_new: Tensor, size: tuple[int, int], *, same_outline: bool = False) -> Sample:
    """Return `transform` and `bounds` of a batch whose pixels have moved.

    Parameters
    ----------
    sample
        The batch before; what it lacks is left out.
    old_from_new
        Matrices (batch, 3, 3) float64: column, row, 1 in the new window to those in the old, from the upper left.
    size
        Height and width of the new window.
    same_outline
        Whether the window covers what it covered, so that its bounds stay.
    """
    if "transform" not in sample:
        return {}
    old = sample["transform"]
    matrix = old_from_new.to(old)
    a, b, c, d, e, f = old.unbind(1)
    (p, q, r), (s, t, u) = (matrix[:, row].unbind(1) for row in (0, 1))
    new = torch.stack(
        [a * p + b * s, a * q + b * t, a * r + b * u + c, d * p + e * s, d * q + e * t, d * r + e * u + f], 1
    )
    found = {"transform": new}
    if "bounds" in sample:
        found["bounds"] = sample["bounds"].clone() if same_outline else bounds_of(new, size)
    return found


def bounds_of(transform: Tensor, size: tuple[int, int]) -> Tensor:
    """Return left, bottom, right, top (batch, 4) of windows with the affines a to f (batch, 6)."""
    height, width = size
    a, b, c, d, e, f = transform.unbind(1)
    x = torch.stack([c, a * width + c, b * height + c, a * width + b * height + c])
    y = torch.stack([f, d * width + f, e * height + f, d * width + e * height + f])
    return torch.stack([x.amin(0), y.amin(0), x.amax(0), y.amax(0)], dim=1)


def lose(sample: Sample, lost: Tensor) -> Sample:
    """Return `bounds` and `transform`, NaN for the samples (batch,) whose pixels have no one place any more."""
    held = {name: sample[name] for name in PLACED if name in sample}
    return {name: value.masked_fill(lost.to(value.device)[:, None], float("nan")) for name, value in held.items()}


def move_boxes(sample: Sample, new_from_old: Tensor) -> Sample:
    """Return boxes that enclose where matrices (batch, 3, 3) move the corners of the old ones."""
    boxes = boxes_of(sample)
    if boxes is None:
        return {}
    return {BOXES: [_moved(one, matrix) for one, matrix in zip(boxes, new_from_old, strict=True)]}


def _moved(boxes: Tensor, matrix: Tensor) -> Tensor:
    left, top, right, bottom = boxes.double().unbind(1)
    corners = torch.stack([left, top, right, top, left, bottom, right, bottom], dim=1).reshape(-1, 4, 2)
    whole = torch.cat([corners, torch.ones_like(corners[..., :1])], dim=2) @ matrix.to(corners).T
    places = whole[..., :2] / whole[..., 2:]
    return torch.cat([places.amin(1), places.amax(1)], dim=1).to(boxes.dtype)


def clip_boxes(sample: Sample, size: tuple[int, int]) -> Sample:
    """Return boxes cut to a window, without those that lie beyond it and what belongs to them."""
    boxes = boxes_of(sample)
    if boxes is None:
        return {}
    height, width = size
    cut = [one.clamp(min=0).minimum(one.new_tensor([width, height, width, height])) for one in boxes]
    kept = [(one[:, 2] > one[:, 0]) & (one[:, 3] > one[:, 1]) for one in cut]
    beside = beside_boxes(sample, lambda entry, place: entry[kept[place].to(entry.device)])
    return {BOXES: [one[keep] for one, keep in zip(cut, kept, strict=True)], **beside}


def instances(sample: Sample) -> list[Tensor] | None:
    """Return the instance masks of each sample, or `None` where the batch has none."""
    masks = sample.get(MASKS)
    return list(masks) if isinstance(masks, list | tuple) else None

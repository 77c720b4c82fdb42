"""Georeference of transformed batches: affine transform, bounds and boxes, or NaN if the mapping is not affine."""

from __future__ import annotations

import torch
from torch import Tensor

from geoxt.torch_devices import to_float64
from geoxt.transforms.batch import BOXES, GEOREFERENCE, MASKS, Sample, boxes_of, select_box_entries


def transform_geometry(
    sample: Sample, old_from_new: Tensor, size: tuple[int, int], *, same_outline: bool = False
) -> Sample:
    """Return `transform` and `bounds` of a batch after an affine transform of its pixels.

    Parameters
    ----------
    sample
        Batch before the transform. Entries that it lacks are not returned.
    old_from_new
        Matrices (batch, 3, 3) float64 from (column, row, 1) in the new window to those in the old window; 0, 0 is the
        upper left corner.
    size
        Height and width of the new window in pixels.
    same_outline
        Whether the new window covers the same area, so that its bounds are kept.
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
    geometry = {"transform": new}
    if "bounds" in sample:
        geometry["bounds"] = sample["bounds"].clone() if same_outline else bounds_of(new, size)
    return geometry


def bounds_of(transform: Tensor, size: tuple[int, int]) -> Tensor:
    """Return left, bottom, right, top (batch, 4) of windows with affine coefficients a to f (batch, 6)."""
    height, width = size
    a, b, c, d, e, f = transform.unbind(1)
    x = torch.stack([c, a * width + c, b * height + c, a * width + b * height + c])
    y = torch.stack([f, d * width + f, e * height + f, d * width + e * height + f])
    return torch.stack([x.amin(0), y.amin(0), x.amax(0), y.amax(0)], dim=1)


def invalidate_geometry(sample: Sample, mask: Tensor) -> Sample:
    """Return `bounds` and `transform` with NaN for the samples of a mask (batch,), which have no affine grid."""
    geometry = {name: sample[name] for name in GEOREFERENCE if name in sample}
    return {name: value.masked_fill(mask.to(value.device)[:, None], float("nan")) for name, value in geometry.items()}


def transform_boxes(sample: Sample, new_from_old: Tensor) -> Sample:
    """Return the enclosing boxes of the old boxes' corners under matrices (batch, 3, 3)."""
    boxes = boxes_of(sample)
    if boxes is None:
        return {}
    return {BOXES: [_enclosing_boxes(box, matrix) for box, matrix in zip(boxes, new_from_old, strict=True)]}


def _enclosing_boxes(boxes: Tensor, matrix: Tensor) -> Tensor:
    left, top, right, bottom = to_float64(boxes).unbind(1)
    corners = torch.stack([left, top, right, top, left, bottom, right, bottom], dim=1).reshape(-1, 4, 2)
    homogeneous = torch.cat([corners, torch.ones_like(corners[..., :1])], dim=2) @ matrix.to(corners).T
    points = homogeneous[..., :2] / homogeneous[..., 2:]
    return torch.cat([points.amin(1), points.amax(1)], dim=1).to(boxes)


def clip_boxes(sample: Sample, size: tuple[int, int]) -> Sample:
    """Return boxes clipped to a window; boxes outside it are removed, with their labels, masks and scores."""
    boxes = boxes_of(sample)
    if boxes is None:
        return {}
    height, width = size
    clipped = [box.clamp(min=0).minimum(box.new_tensor([width, height, width, height])) for box in boxes]
    inside = [(box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1]) for box in clipped]
    entries = select_box_entries(sample, lambda entry, index: entry[inside[index].to(entry.device)])
    return {BOXES: [box[mask] for box, mask in zip(clipped, inside, strict=True)], **entries}


def instance_masks(sample: Sample) -> list[Tensor] | None:
    """Return the instance masks of each sample, or `None` if the batch has none."""
    masks = sample.get(MASKS)
    return list(masks) if isinstance(masks, list | tuple) else None

"""Crops of a batch, with exact bounds, affine transform and boxes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geoxt.errors import InputError
from geoxt.transforms.batch import MASKS, Sample, layers_of, size_of
from geoxt.transforms.geometry import clip_boxes, instance_masks, transform_boxes, transform_geometry
from geoxt.transforms.random_stream import RandomStream
from geoxt.types import SomeSize


def crop(sample: Sample, corners: Tensor, size: SomeSize) -> Sample:
    """Crop each sample of a batch, all its layers alike.

    Parameters
    ----------
    sample
        A batch as the loader yields it.
    corners
        (batch, 2): row and column of the upper left pixel of each crop.
    size
        Size in pixels: one number for a square, or (height, width).

    Returns
    -------
    dict
        The batch with layers, valid masks and instance masks cropped, `bounds` and `transform` of the crops, and boxes
        clipped to them. Boxes outside a crop are removed with their labels, masks and scores.

    Raises
    ------
    InputError
        If a crop reaches beyond its window.

    Examples
    --------
    >>> import torch
    >>> sample = {"image": torch.arange(16.0).reshape(1, 1, 4, 4)}
    >>> crop(sample, torch.tensor([[1, 2]]), 2)["image"]
    tensor([[[[ 6.,  7.],
              [10., 11.]]]])
    """
    layers = layers_of(sample)
    count, *old = size_of(layers)
    height, width = parse_size(size)
    origins = [(int(row), int(col)) for row, col in corners.tolist()]
    if len(origins) != count or any(
        not (0 <= row <= old[0] - height and 0 <= col <= old[1] - width) for row, col in origins
    ):
        msg = f"Cannot crop {height} x {width} pixels at {origins} from {count} windows of {old[0]} x {old[1]} pixels."
        raise InputError(msg, remedy="Pass a smaller {size}. Pass {corners} inside the windows, one per sample.")
    cropped: Sample = {
        name: torch.stack([value[at, ..., r : r + height, c : c + width] for at, (r, c) in enumerate(origins)])
        for name, value in layers.items()
    }
    masks = instance_masks(sample)
    if masks is not None:
        pairs = zip(masks, origins, strict=True)
        cropped[MASKS] = [mask[..., r : r + height, c : c + width] for mask, (r, c) in pairs]
    old_from_new = torch.eye(3, dtype=torch.float64).repeat(count, 1, 1)
    old_from_new[:, 0, 2], old_from_new[:, 1, 2] = (torch.tensor(origins).double()[:, axis] for axis in (1, 0))
    new_from_old = old_from_new.clone()
    new_from_old[:, :2, 2] *= -1
    cropped |= transform_geometry(sample, old_from_new, (height, width)) | transform_boxes(sample, new_from_old)
    return sample | cropped | clip_boxes(sample | cropped, (height, width))


def parse_size(size: SomeSize) -> tuple[int, int]:
    """Return height and width in pixels, both at least 1."""
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        msg = f"Cannot crop windows of {height} x {width} pixels."
        raise InputError(msg, remedy="Pass {size} of at least one pixel.")
    return int(height), int(width)


class RandomCrop(nn.Module):
    """Crops each sample at a random position, uniformly distributed.

    Parameters
    ----------
    size
        Size in pixels: one number for a square, or (height, width).
    seed
        Seed of this transform; by default torch's global generator is used. See `RandomStream`.
    """

    def __init__(self, size: SomeSize, *, seed: int | None = None) -> None:
        super().__init__()
        self.size = parse_size(size)
        self.rng = RandomStream(seed)

    def forward(self, sample: Sample) -> Sample:
        """Return the cropped batch."""
        count, height, width = size_of(layers_of(sample))
        ends = (max(height - self.size[0], 0) + 1, max(width - self.size[1], 0) + 1)
        return crop(sample, torch.stack([self.rng.integers(end, count) for end in ends], dim=1), self.size)


class CenterCrop(nn.Module):
    """Crops each sample at its center.

    Parameters
    ----------
    size
        Size in pixels: one number for a square, or (height, width).
    """

    def __init__(self, size: SomeSize) -> None:
        super().__init__()
        self.size = parse_size(size)

    def forward(self, sample: Sample) -> Sample:
        """Return the cropped batch."""
        count, height, width = size_of(layers_of(sample))
        corner = (max(height - self.size[0], 0) // 2, max(width - self.size[1], 0) // 2)
        return crop(sample, torch.tensor([corner] * count), self.size)

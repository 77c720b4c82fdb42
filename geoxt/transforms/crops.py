"""Crops of a batch: a smaller window of each sample, its geometry followed exactly."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geoxt.errors import InputError
from geoxt.transforms.draws import Draws
from geoxt.transforms.place import clip_boxes, follow, instances, move_boxes
from geoxt.transforms.sample import MASKS, Sample, layers_of, size_of
from geoxt.types import SomeSize


def crop(sample: Sample, corners: Tensor, size: SomeSize) -> Sample:
    """Return a batch of smaller windows, every layer of a sample cut alike.

    Parameters
    ----------
    sample
        A batch as the bridge's loader makes it.
    corners
        (batch, 2): row and column of each window's upper left pixel.
    size
        Pixels: one number for a square, or (height, width).

    Returns
    -------
    dict
        Layers, validity and instance masks cut; `bounds` and `transform` of the new windows; boxes cut to them, without
        those that lie beyond, nor what else has an entry for each box.

    Raises
    ------
    InputError
        Where a window reaches over the edge.
    """
    layers = layers_of(sample)
    count, *old = size_of(layers)
    height, width = pair(size)
    places = [(int(row), int(col)) for row, col in corners.tolist()]
    if len(places) != count or any(
        not (0 <= row <= old[0] - height and 0 <= col <= old[1] - width) for row, col in places
    ):
        msg = f"Cannot cut windows of {height} x {width} pixels at {places} out of {count} of {old[0]} x {old[1]}: "
        raise InputError(msg + "pass a smaller size=, and corners= inside, one a sample.")
    moved: Sample = {
        name: torch.stack([value[at, ..., r : r + height, c : c + width] for at, (r, c) in enumerate(places)])
        for name, value in layers.items()
    }
    masks = instances(sample)
    if masks is not None:
        cut = zip(masks, places, strict=True)
        moved[MASKS] = [one[..., r : r + height, c : c + width] for one, (r, c) in cut]
    matrix = torch.eye(3, dtype=torch.float64).repeat(count, 1, 1)
    matrix[:, 0, 2], matrix[:, 1, 2] = (torch.tensor(places).double()[:, axis] for axis in (1, 0))
    back = matrix.clone()
    back[:, :2, 2] *= -1
    moved |= follow(sample, matrix, (height, width)) | move_boxes(sample, back)
    return sample | moved | clip_boxes(sample | moved, (height, width))


def pair(size: SomeSize) -> tuple[int, int]:
    """Return height and width, both at least one pixel."""
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        msg = f"Cannot cut windows of {height} x {width} pixels: pass size= of one pixel or more."
        raise InputError(msg)
    return int(height), int(width)


class RandomCrop(nn.Module):
    """Cuts a window out of each sample at random, all places equally likely.

    Parameters
    ----------
    size
        Pixels: one number for a square, or (height, width).
    seed
        See `Draws`.
    """

    def __init__(self, size: SomeSize, *, seed: int | None = None) -> None:
        super().__init__()
        self.size = pair(size)
        self.draws = Draws(seed)

    def forward(self, sample: Sample) -> Sample:
        """Return the batch, cut."""
        count, height, width = size_of(layers_of(sample))
        spare = (max(height - self.size[0], 0) + 1, max(width - self.size[1], 0) + 1)
        return crop(sample, torch.stack([self.draws.integers(s, count) for s in spare], dim=1), self.size)


class CenterCrop(nn.Module):
    """Cuts the middle out of each sample.

    Parameters
    ----------
    size
        Pixels: one number for a square, or (height, width).
    """

    def __init__(self, size: SomeSize) -> None:
        super().__init__()
        self.size = pair(size)

    def forward(self, sample: Sample) -> Sample:
        """Return the batch, cut."""
        count, height, width = size_of(layers_of(sample))
        corner = (max(height - self.size[0], 0) // 2, max(width - self.size[1], 0) // 2)
        return crop(sample, torch.tensor([corner] * count), self.size)

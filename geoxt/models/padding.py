"""Padding of images of any height and width for networks that need multiples of a stride."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def pad(image: Tensor, multiple: int, *, least: int = 0) -> Tensor:
    """Return images (N, C, H, W) with the last rows and columns repeated, to multiples of `multiple` and `least`."""
    height, width = (max(-size % multiple, least - size) for size in image.shape[-2:])
    return F.pad(image, (0, width, 0, height), mode="replicate") if height or width else image

"""Images of any height and width for networks that halve them: padded below and at the right, and cropped after."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def pad(image: Tensor, multiple: int, *, least: int = 0) -> Tensor:
    """Repeat the last rows and columns of images (N, C, H, W) until H and W are multiples, and `least` or more."""
    height, width = (max(-size % multiple, least - size) for size in image.shape[-2:])
    return F.pad(image, (0, width, 0, height), mode="replicate") if height or width else image

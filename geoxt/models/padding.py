"""Padding of images of any height and width for networks that need multiples of a stride."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def pad(image: Tensor, multiple: int, *, least: int = 0) -> Tensor:
    """Return images (N, C, H, W) with the last rows and columns repeated, to multiples of `multiple` and `least`."""
    exporting = torch.compiler.is_exporting()  # a branch on the size would fix it in the exported program
    highest = torch.sym_max if exporting else max
    sizes = image.shape[-2:]
    height, width = (highest(-size % multiple, least - size) if least else -size % multiple for size in sizes)
    return F.pad(image, (0, width, 0, height), mode="replicate") if exporting or height or width else image  # type: ignore[arg-type]

"""Flips and quarter turns of a batch: seen from above there is no up, so all eight are equally true."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def dihedral(tensor: Tensor, *, turns: int, flip: bool) -> Tensor:
    """Return a tensor (..., H, W) flipped left to right if asked, then turned by quarter turns."""
    return torch.rot90(tensor.flip(-1) if flip else tensor, turns, (-2, -1))


def turn_and_flip(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Turn and flip each sample of a batch at random, all its tensors alike.

    Parameters
    ----------
    tensors
        Of shape (N, ..., H, W), with one N, H and W. Where H and W differ, only half turns keep the shape.

    Notes
    -----
    Draws from torch's global generator, so that a seeded run repeats.
    """
    samples, (height, width) = len(tensors[0]), tensors[0].shape[-2:]
    turns = torch.randint(4, (samples,)) if height == width else 2 * torch.randint(2, (samples,))
    flips = torch.randint(2, (samples,)).bool()
    plan = list(zip(turns.tolist(), flips.tolist(), strict=True))
    return [
        torch.stack([dihedral(one, turns=turn, flip=flip) for one, (turn, flip) in zip(tensor, plan, strict=True)])
        for tensor in tensors
    ]

"""Flips and quarter turns of training batches: which are drawn; `geoxt.transforms.turned` moves the pixels.

`RandomTurn` draws one of the eight at once, where here turn and flip are drawn one after the other: a seed would give
other batches with it, and a training that is resumed or repeated other weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geoxt.transforms.turns import LEFT, SWAP, TURNS, UP, turned

PLAIN, FLIPPED = TURNS, (LEFT, SWAP, UP, SWAP | UP | LEFT)
"""Codes of quarter turns, counter-clockwise, and of these after a flip left to right."""


def dihedral(tensor: Tensor, *, turns: int, flip: bool) -> Tensor:
    """Return a tensor (..., H, W) flipped left to right if asked, then turned by quarter turns."""
    moved = turned(tensor, code_of(turns, flip=flip))
    return moved if turns else moved.contiguous()  # with no turn, too, the layout does not depend on the tensor's


def code_of(turns: int, *, flip: bool) -> int:
    """Return the code that `geoxt.transforms.turned` knows a flip and turns after it by."""
    return (FLIPPED if flip else PLAIN)[turns]


def drawn(samples: int, *, square: bool) -> list[tuple[int, bool]]:
    """Return turns and flip of each sample, from torch's global generator; half turns only where not square."""
    turns = torch.randint(4, (samples,)) if square else 2 * torch.randint(2, (samples,))
    flips = torch.randint(2, (samples,)).bool()
    return list(zip(turns.tolist(), flips.tolist(), strict=True))


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
    height, width = tensors[0].shape[-2:]
    plan = drawn(len(tensors[0]), square=height == width)
    return [
        torch.stack([dihedral(one, turns=turn, flip=flip) for one, (turn, flip) in zip(tensor, plan, strict=True)])
        for tensor in tensors
    ]

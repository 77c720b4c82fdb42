"""Random flips and quarter turns of training batches, by `geoxt.transforms.flip_rotate_tensor`.

`transforms.RandomFlipRotate` draws one of the eight symmetries at once; these functions draw turns, then flips.
Replacing one by the other would change the batches of a seed, and so the weights of repeated or resumed trainings.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geoxt.transforms.flip_rotate import LEFT, SWAP, TURNS, UP, flip_rotate_tensor

UNFLIPPED, FLIPPED = TURNS, (LEFT, SWAP, UP, SWAP | UP | LEFT)
"""Symmetry codes of 0 to 3 quarter turns counter-clockwise, without and after a left-right flip."""


def dihedral(tensor: Tensor, *, turns: int, flip: bool) -> Tensor:
    """Return a tensor (..., H, W) flipped left-right if `flip`, then turned by quarter turns counter-clockwise."""
    moved = flip_rotate_tensor(tensor, code_of(turns, flip=flip))
    return moved if turns else moved.contiguous()  # the same memory layout with and without turns


def code_of(turns: int, *, flip: bool) -> int:
    """Return the code for `geoxt.transforms.flip_rotate_tensor` of a flip followed by quarter turns."""
    return (FLIPPED if flip else UNFLIPPED)[turns]


def draw_flips(samples: int, *, square: bool) -> list[tuple[int, bool]]:
    """Draw quarter turns and flip of each sample from torch's global generator; half turns only if not square."""
    turns = torch.randint(4, (samples,)) if square else 2 * torch.randint(2, (samples,))
    flips = torch.randint(2, (samples,)).bool()
    return list(zip(turns.tolist(), flips.tolist(), strict=True))


def turn_and_flip(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return tensors with each sample of the batch turned and flipped at random, alike in all tensors.

    Parameters
    ----------
    tensors
        (N, ..., H, W), with equal N, H and W. If H != W, only half turns are drawn.

    Notes
    -----
    Draws from torch's global generator, so that a seeded run repeats.
    """
    height, width = tensors[0].shape[-2:]
    draws = draw_flips(len(tensors[0]), square=height == width)
    return [
        torch.stack([dihedral(item, turns=turns, flip=flip) for item, (turns, flip) in zip(tensor, draws, strict=True)])
        for tensor in tensors
    ]

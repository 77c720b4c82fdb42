"""Flips and quarter turns of a batch, bit for bit: seen from above there is no up, so all eight are equally true."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geoxt.errors import InputError
from geoxt.transforms.draws import Draws
from geoxt.transforms.place import follow, instances, move_boxes
from geoxt.transforms.sample import MASKS, Sample, layers_of, size_of

SWAP, UP, LEFT = 4, 2, 1
"""Bits of a turn's code: rows and columns change places; then the order of rows turns round, then that of columns."""
TURNS = (0, SWAP | UP, UP | LEFT, SWAP | LEFT)
"""Codes of no turn and of a quarter, a half and three quarters of a turn, counter-clockwise."""
FLIPS = (0, LEFT, UP, UP | LEFT)
"""Codes of no flip, left to right, top to bottom, and both."""


def turned(tensor: Tensor, code: int) -> Tensor:
    """Return a tensor (…, height, width) turned and flipped; `code` is 0 to 7, see `SWAP`, `UP` and `LEFT`.

    Examples
    --------
    >>> turned(torch.tensor([[1, 2], [3, 4]]), SWAP | UP)
    tensor([[2, 4],
            [1, 3]])
    """
    swapped = tensor.transpose(-2, -1) if code & SWAP else tensor
    axes = [axis for axis, bit in ((-2, UP), (-1, LEFT)) if code & bit]
    return swapped.flip(axes) if axes else swapped


def turn(sample: Sample, codes: Sequence[int], *, inplace: bool = False) -> Sample:
    """Return a batch whose samples are turned and flipped, every layer of a sample alike.

    Parameters
    ----------
    sample
        A batch as the bridge's loader makes it. Where a code swaps rows and columns, windows have to be square.
    codes
        One a sample, 0 to 7, see `turned`.
    inplace
        Whether to write into the batch's own layers: quicker, as no memory is asked for.

    Returns
    -------
    dict
        Layers, validity, boxes and instance masks turned; `bounds` as before, and `transform` that leads from the new
        rows and columns to the same places.

    Raises
    ------
    InputError
        Where the number of codes is not that of samples, or windows that are not square were to be swapped.
    """
    layers = layers_of(sample)
    count, height, width = size_of(layers)
    if len(codes) != count:
        msg = f"Cannot turn {count} samples by {len(codes)} codes: pass codes= one a sample."
        raise InputError(msg)
    if height != width and any(code & SWAP for code in codes):
        msg = f"Cannot turn windows of {height} x {width} pixels by a quarter: pass square windows, or codes below 4."
        raise InputError(msg)
    moved: Sample = {name: _turned_each(value, codes, inplace=inplace) for name, value in layers.items()}
    masks = instances(sample)
    if masks is not None:
        moved[MASKS] = [turned(one, code) for one, code in zip(masks, codes, strict=True)]
    old_from_new = torch.stack([_matrix(code, height, width) for code in codes])
    there = follow(sample, old_from_new, (height, width), same_outline=True)
    return sample | moved | there | move_boxes(sample, torch.linalg.inv(old_from_new).round())


def _turned_each(layer: Tensor, codes: Sequence[int], *, inplace: bool) -> Tensor:
    out = layer if inplace else torch.empty_like(layer, memory_format=torch.contiguous_format)
    for place, code in enumerate(codes):
        one = turned(layer[place], code)
        if not inplace:
            out[place].copy_(one)
        elif code:
            out[place].copy_(one.clone() if code == SWAP else one)  # a flip is a copy, a swap a view of what is written
    return out


def _matrix(code: int, height: int, width: int) -> Tensor:
    """Return the matrix from columns and rows after a turn to those before it."""
    left, up = bool(code & LEFT), bool(code & UP)
    column = [-1.0 if left else 1.0, 0.0, width if left else 0.0]
    row = [0.0, -1.0 if up else 1.0, height if up else 0.0]
    rows = [row, column] if code & SWAP else [column, row]
    return torch.tensor([*rows, [0.0, 0.0, 1.0]], dtype=torch.float64)


class RandomTurn(nn.Module):
    """Turns and flips each sample of a batch at random, all its layers alike.

    Parameters
    ----------
    turns, flips
        Whether to draw quarter turns, and flips; with both all eight are equally likely. Where windows are not square,
        only what keeps their shape is drawn.
    inplace
        Whether to write into the batch's own layers: five times as quick, for batches that nobody else holds.
    seed
        See `Draws`.

    Notes
    -----
    Pixels move and are never computed with: values, class codes, validity, boxes and `transform` stay exact.
    """

    def __init__(
        self, *, turns: bool = True, flips: bool = True, inplace: bool = False, seed: int | None = None
    ) -> None:
        super().__init__()
        every = range(8) if turns and flips else TURNS if turns else FLIPS if flips else (0,)
        self.codes = tuple(every)
        self.inplace = inplace
        self.draws = Draws(seed)

    def forward(self, sample: Sample) -> Sample:
        """Return the batch, turned."""
        count, height, width = size_of(layers_of(sample))
        codes = [code for code in self.codes if height == width or not code & SWAP]
        chosen = self.draws.integers(len(codes), count).tolist()
        return turn(sample, [codes[place] for place in chosen], inplace=self.inplace)

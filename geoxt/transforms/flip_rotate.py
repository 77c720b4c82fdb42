"""Flips and rotations by multiples of 90 degrees: the eight symmetries of the square, without interpolation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geoxt.errors import InputError
from geoxt.transforms.batch import MASKS, Sample, layers_of, size_of
from geoxt.transforms.geometry import instance_masks, transform_boxes, transform_geometry
from geoxt.transforms.random_stream import RandomStream

SWAP, UP, LEFT = 4, 2, 1
"""Bits of a symmetry's code: transpose rows and columns, then reverse the rows, then reverse the columns."""
TURNS = (0, SWAP | UP, UP | LEFT, SWAP | LEFT)
"""Codes of rotations by 0, 90, 180 and 270 degrees, counter-clockwise."""
FLIPS = (0, LEFT, UP, UP | LEFT)
"""Codes of no flip, a horizontal flip, a vertical flip, and both."""


def flip_rotate_tensor(tensor: Tensor, code: int) -> Tensor:
    """Return a tensor (…, height, width) flipped and rotated by a code from 0 to 7, see `SWAP`, `UP` and `LEFT`.

    Examples
    --------
    >>> flip_rotate_tensor(torch.tensor([[1, 2], [3, 4]]), SWAP | UP)
    tensor([[2, 4],
            [1, 3]])
    """
    swapped = tensor.transpose(-2, -1) if code & SWAP else tensor
    axes = [axis for axis, bit in ((-2, UP), (-1, LEFT)) if code & bit]
    return swapped.flip(axes) if axes else swapped


def flip_rotate(sample: Sample, codes: Sequence[int], *, inplace: bool = False) -> Sample:
    """Flip and rotate each sample of a batch, all its layers alike.

    Parameters
    ----------
    sample
        A batch as the loader yields it. Codes that transpose rows and columns need square windows.
    codes
        One code per sample, 0 to 7, see `flip_rotate_tensor`.
    inplace
        Whether to write into the batch's tensors: faster, as no memory is allocated.

    Returns
    -------
    dict
        The batch with layers, valid masks, boxes and instance masks flipped and rotated. `transform` maps the new rows
        and columns to the same coordinates; `bounds` are unchanged.

    Raises
    ------
    InputError
        If there is not one code per sample, or a code transposes windows that are not square.

    Examples
    --------
    >>> import torch
    >>> sample = {"image": torch.arange(4.0).reshape(1, 1, 2, 2)}
    >>> flip_rotate(sample, [UP])["image"]
    tensor([[[[2., 3.],
              [0., 1.]]]])
    """
    layers = layers_of(sample)
    count, height, width = size_of(layers)
    if len(codes) != count:
        msg = f"Cannot rotate {count} samples by {len(codes)} codes."
        raise InputError(msg, remedy="Pass {codes} with one code per sample.")
    if height != width and any(code & SWAP for code in codes):
        msg = f"Cannot rotate windows of {height} x {width} pixels by 90 degrees."
        raise InputError(msg, remedy="Pass square windows, or {codes} below 4.")
    transformed: Sample = {name: _flip_rotate_layer(value, codes, inplace=inplace) for name, value in layers.items()}
    masks = instance_masks(sample)
    if masks is not None:
        transformed[MASKS] = [flip_rotate_tensor(mask, code) for mask, code in zip(masks, codes, strict=True)]
    old_from_new = torch.stack([_matrix(code, height, width) for code in codes])
    geometry = transform_geometry(sample, old_from_new, (height, width), same_outline=True)
    return sample | transformed | geometry | transform_boxes(sample, torch.linalg.inv(old_from_new).round())


def _flip_rotate_layer(layer: Tensor, codes: Sequence[int], *, inplace: bool) -> Tensor:
    out = layer if inplace else torch.empty_like(layer, memory_format=torch.contiguous_format)
    for index, code in enumerate(codes):
        image = flip_rotate_tensor(layer[index], code)
        if not inplace:
            out[index].copy_(image)
        elif code:
            # torch's flip copies, but a transpose is a view of the memory that is written to
            out[index].copy_(image.clone() if code == SWAP else image)
    return out


def _matrix(code: int, height: int, width: int) -> Tensor:
    """Return the matrix from columns and rows of the output to those of the input."""
    left, up = bool(code & LEFT), bool(code & UP)
    column = [-1.0 if left else 1.0, 0.0, width if left else 0.0]
    row = [0.0, -1.0 if up else 1.0, height if up else 0.0]
    rows = [row, column] if code & SWAP else [column, row]
    return torch.tensor([*rows, [0.0, 0.0, 1.0]], dtype=torch.float64)


class RandomFlipRotate(nn.Module):
    """Flips and rotates each sample of a batch at random by multiples of 90 degrees, all its layers alike.

    Parameters
    ----------
    turns, flips
        Whether to draw rotations, and flips. With both, all eight symmetries are equally likely. For windows that are
        not square, only symmetries that keep their shape are drawn.
    inplace
        Whether to write into the batch's tensors: five times as fast, for batches that are not used otherwise.
    seed
        Seed of this transform; by default torch's global generator is used. See `RandomStream`.

    Notes
    -----
    Pixels are moved without interpolation: values, class codes, valid masks, boxes and `transform` stay exact.
    """

    def __init__(
        self, *, turns: bool = True, flips: bool = True, inplace: bool = False, seed: int | None = None
    ) -> None:
        super().__init__()
        self.codes = tuple(range(8)) if turns and flips else TURNS if turns else FLIPS if flips else (0,)
        self.inplace = inplace
        self.rng = RandomStream(seed)

    def forward(self, sample: Sample) -> Sample:
        """Return the flipped and rotated batch."""
        count, height, width = size_of(layers_of(sample))
        codes = [code for code in self.codes if height == width or not code & SWAP]
        indices = self.rng.integers(len(codes), count).tolist()
        return flip_rotate(sample, [codes[index] for index in indices], inplace=self.inplace)

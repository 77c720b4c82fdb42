"""Warps of a batch: every layer is sampled once, at coordinates that a sample's layers share."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from geoxt.errors import InputError
from geoxt.transforms.sample import VALID, Sample, is_labels, layers_of, over_bands, valid_of

ENOUGH = 0.5
"""A pixel is valid where the weights of its valid neighbours sum to this at least."""


def bilinear(values: Tensor, valid: Tensor, coordinates: Tensor) -> tuple[Tensor, Tensor]:
    """Return values between pixels, from valid neighbours only.

    Parameters
    ----------
    values
        (batch, …, height, width), floating point; what is not valid may be anything.
    valid
        The same, without the bands where there are any.
    coordinates
        (batch, new height, new width, 2): column and row in the old window, 0 at the centre of its first pixel.

    Returns
    -------
    values : (batch, …, new height, new width)
        Weights of invalid and of missing neighbours are shared out among the others; 0 where not valid.
    valid : the same, without the bands
        Where the weights of valid neighbours sum to one half at least.
    """
    size = values.shape[-2:]
    everywhere = bool(valid.all())
    filled = (values if everywhere else values.where(over_bands(valid, values), 0)).reshape(len(values), -1, *size)
    known = valid.reshape(len(valid), -1, *size).to(values.dtype)
    places = ((2 * coordinates + 1) / coordinates.new_tensor([size[1], size[0]]) - 1).to(values.dtype)
    sums, weights = (F.grid_sample(one, places, mode="bilinear", align_corners=False) for one in (filled, known))
    new = coordinates.shape[1:3]
    found, weights = sums.reshape(*values.shape[:-2], *new), weights.reshape(*valid.shape[:-2], *new)
    good = weights >= ENOUGH
    return found.div_(over_bands(weights, values)).masked_fill_(~over_bands(good, values), 0), good


def nearest(values: Tensor, coordinates: Tensor) -> Tensor:
    """Return the nearest pixels of any type, never computed with; 0 or false beyond the edge.

    Parameters
    ----------
    values
        (batch, …, height, width).
    coordinates
        As for `bilinear`.
    """
    height, width = values.shape[-2:]
    col, row = torch.floor(coordinates + 0.5).unbind(-1)
    inside = (col >= 0) & (col < width) & (row >= 0) & (row < height)
    index = (row.clamp(0, height - 1).nan_to_num(0) * width + col.clamp(0, width - 1).nan_to_num(0)).long()
    flat = values.reshape(len(values), -1, height * width)
    new = coordinates.shape[1:3]
    taken = flat.gather(2, index.reshape(len(values), 1, -1).expand(-1, flat.shape[1], -1))
    missing = ~inside.reshape(len(values), 1, -1)
    return taken.masked_fill(missing, 0).reshape(*values.shape[:-2], *new)


def resample(sample: Sample, coordinates: Tensor, *, ignore: int | None = None) -> Sample:
    """Return the layers of a batch and their validity, sampled at coordinates.

    Class codes and truth values are taken from the nearest pixel, all else is interpolated. Every layer then has a
    validity; `ignore` is the class code of what is not valid.

    Raises
    ------
    InputError
        Where a layer holds integers that are no class codes.
    """
    layers = layers_of(sample)
    found: Sample = {}
    for name, values in layers.items():
        if name.endswith(VALID) and name.removesuffix(VALID) in layers:
            continue
        valid = valid_of(sample, name)
        if is_labels(values):
            good = nearest(valid, coordinates)
            found[name] = nearest(values, coordinates)
            if ignore is not None and values.dtype == torch.int64:
                found[name] = found[name].masked_fill(~over_bands(good, values), ignore)
        elif values.is_floating_point():
            found[name], good = bilinear(values, valid, coordinates)
        else:
            msg = f"Cannot interpolate {name!r}: it is {str(values.dtype)[6:]}. Pass dtype='float32' to loader()."
            raise InputError(msg)
        found[name + VALID] = good
    return found

"""Resampling of batches at given coordinates: bilinear from valid neighbours, or nearest neighbour."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from geoxt.errors import InputError
from geoxt.transforms.batch import VALID, Sample, expand_bands, is_labels, layers_of, valid_of

MIN_WEIGHT = 0.5
"""Minimum sum of the weights of valid neighbours for a valid result, as in `geoxt.pixels.resample`."""


def bilinear(values: Tensor, valid: Tensor, coordinates: Tensor) -> tuple[Tensor, Tensor]:
    """Interpolate bilinearly from valid neighbours, with renormalized weights.

    Parameters
    ----------
    values
        (batch, …, height, width), floating point. Invalid pixels may hold any value.
    valid
        Valid mask of the same shape, without the band dimension.
    coordinates
        (batch, new height, new width, 2): column and row in the old window; 0, 0 is the center of its first pixel.

    Returns
    -------
    values : (batch, …, new height, new width)
        Weighted mean of the valid neighbours; 0 for invalid pixels.
    valid : the same shape, without the band dimension
        Whether the weights of valid neighbours sum to at least 0.5.
    """
    size = values.shape[-2:]
    filled = (values if bool(valid.all()) else values.where(expand_bands(valid, values), 0)).reshape(
        len(values), -1, *size
    )
    mask = valid.reshape(len(valid), -1, *size).to(values.dtype)
    # grid_sample counts from -1 to 1 between the outer edges of the image (align_corners=False)
    points = ((2 * coordinates + 1) / coordinates.new_tensor([size[1], size[0]]) - 1).to(values.dtype)
    sums, weights = (F.grid_sample(image, points, mode="bilinear", align_corners=False) for image in (filled, mask))
    new = coordinates.shape[1:3]
    sums, weights = sums.reshape(*values.shape[:-2], *new), weights.reshape(*valid.shape[:-2], *new)
    new_valid = weights >= MIN_WEIGHT
    mean = sums.div_(expand_bands(weights, values)).masked_fill_(~expand_bands(new_valid, values), 0)
    return mean, new_valid


def nearest(values: Tensor, coordinates: Tensor) -> Tensor:
    """Return the nearest pixels, of any dtype and without arithmetic; 0 or False outside the window.

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
    gathered = flat.gather(2, index.reshape(len(values), 1, -1).expand(-1, flat.shape[1], -1))
    missing = ~inside.reshape(len(values), 1, -1)
    return gathered.masked_fill(missing, 0).reshape(*values.shape[:-2], *new)


def resample(sample: Sample, coordinates: Tensor, *, ignore: int | None = None) -> Sample:
    """Return the layers of a batch and their valid masks, resampled at coordinates.

    Class codes and booleans are resampled by nearest neighbour, floating point layers bilinearly. Every layer of the
    result has a valid mask. Invalid class codes are set to `ignore`, if given.

    Raises
    ------
    InputError
        If a layer holds integers other than class codes (int64).
    """
    layers = layers_of(sample)
    resampled: Sample = {}
    for name, values in layers.items():
        if name.endswith(VALID) and name.removesuffix(VALID) in layers:
            continue
        valid = valid_of(sample, name)
        if is_labels(values):
            new_valid = nearest(valid, coordinates)
            resampled[name] = nearest(values, coordinates)
            if ignore is not None and values.dtype == torch.int64:
                resampled[name] = resampled[name].masked_fill(~expand_bands(new_valid, values), ignore)
        elif values.is_floating_point():
            resampled[name], new_valid = bilinear(values, valid, coordinates)
        else:
            msg = f"Cannot interpolate {name!r}: its dtype is {str(values.dtype)[6:]}."
            raise InputError(msg, remedy="Read floats, by loader(dtype='float32').")
        resampled[name + VALID] = new_valid
    return resampled

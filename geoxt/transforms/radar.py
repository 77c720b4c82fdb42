"""Radar backscatter: conversion between power and decibels, and the Lee speckle filter."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoxt.errors import InputError
from geoxt.torch_devices import to_float64
from geoxt.transforms.batch import VALID, Sample, expand_bands, image_of, valid_of

_PLANES = 4
"""Number of bands filtered at a time, so that intermediate results stay in the CPU cache."""


def to_decibel(power: Tensor) -> Tensor:
    """Return 10 log10(power), and NaN for power that is not positive.

    Examples
    --------
    >>> to_decibel(torch.tensor([1.0, 0.01, 0.0]))
    tensor([  0., -20.,  nan])
    """
    return (10 * torch.log10(power)).where(power > 0, torch.nan)


def from_decibel(decibel: Tensor) -> Tensor:
    """Return 10 ** (decibel / 10), the inverse of `to_decibel`.

    Examples
    --------
    >>> from_decibel(torch.tensor([-10.0, 0.0, 10.0]))
    tensor([ 0.1000,  1.0000, 10.0000])
    """
    return torch.pow(10.0, decibel / 10)


def lee(power: Tensor, valid: Tensor | None = None, *, window: int = 7, looks: float = 1.0) -> Tensor:
    """Reduce speckle with the Lee filter for multiplicative noise.

    Parameters
    ----------
    power
        (…, height, width), linear intensity (not amplitude, not decibels).
    valid
        Valid mask that broadcasts against `power`; all pixels by default. Invalid neighbours and pixels outside the
        image do not count in the local mean and variance.
    window
        Side of the square neighbourhood in pixels, odd.
    looks
        Equivalent number of looks: the noise has mean 1 and variance 1 / looks.

    Returns
    -------
    Tensor
        Same shape and dtype; invalid pixels are unchanged.

    Notes
    -----
    With mean m and variance v of the neighbourhood and s = 1 / looks, the variance of the scene is
    q = max((v + m²) / (1 + s) - m², 0), and the result m + (z - m) q / (q + m² s).

    References
    ----------
    Lee 1980, https://doi.org/10.1109/TPAMI.1980.4766994

    Examples
    --------
    >>> lee(torch.full((5, 5), 0.2), window=3, looks=4)[2, 2]
    tensor(0.2000)
    """
    if window < 1 or window % 2 == 0 or not looks > 0:
        msg = f"Cannot filter with window={window} and looks={looks}."
        raise InputError(msg, remedy="Pass an odd {window} and a positive {looks}.")
    mask = torch.ones_like(power, dtype=torch.bool) if valid is None else valid.expand_as(power)
    planes, masks = (tensor.reshape(-1, *power.shape[-2:]) for tensor in (power, mask))
    slices = [slice(start, start + _PLANES) for start in range(0, len(planes), _PLANES)]
    filtered = [_lee_planes(planes[part], masks[part], window, 1 / looks) for part in slices]
    return torch.cat(filtered).reshape(power.shape)


def _lee_planes(power: Tensor, valid: Tensor, window: int, noise: float) -> Tensor:
    """Return Lee's estimate of planes (n, height, width) for the noise variance `noise`."""
    values = to_float64(power.where(valid, 0))  # squares of bright targets lose digits in float32
    count = _sums(to_float64(valid), window).clamp(min=1)
    mean = _sums(values, window) / count
    variance = (_sums(values**2, window) / count - mean**2).clamp(min=0)
    scene = ((variance + mean**2) / (1 + noise) - mean**2).clamp(min=0)
    spread = scene + mean**2 * noise
    gain = torch.where(spread > 0, scene / spread, 0)
    return (mean + gain * (values - mean)).to(power).where(valid, power)


def _sums(values: Tensor, window: int) -> Tensor:
    """Return the sum over the square window around each pixel, with zero padding."""
    half = window // 2
    for axis, padding in ((-1, (half, half, 0, 0)), (-2, (0, 0, half, half))):  # separable: rows, then columns
        size, padded = values.shape[axis], F.pad(values, padding)
        values = padded.narrow(axis, 0, size).clone()
        for step in range(1, window):
            values += padded.narrow(axis, step, size)
    return values


class Decibel(nn.Module):
    """Converts an image from power to decibels; pixels without positive power become 0 and invalid.

    Parameters
    ----------
    image
        Name of the layer.
    """

    def __init__(self, *, image: str = "image") -> None:
        super().__init__()
        self.image = image

    def forward(self, sample: Sample) -> Sample:
        """Return the batch with its image in decibels."""
        values, valid = image_of(sample, self.image), valid_of(sample, self.image)
        decibel = to_decibel(values)
        finite = decibel.isfinite()
        decibel = decibel.where(finite & expand_bands(valid, values), 0)
        return {**sample, self.image: decibel, self.image + VALID: valid & finite.all(-3)}

    def inverse(self, sample: Sample) -> Sample:
        """Return the batch with its image as power, and 0 for invalid pixels."""
        values, valid = image_of(sample, self.image), valid_of(sample, self.image)
        return {**sample, self.image: from_decibel(values).where(expand_bands(valid, values), 0)}


class Lee(nn.Module):
    """Reduces speckle in an image with the Lee filter; see `lee`.

    Parameters
    ----------
    window
        Side of the square neighbourhood in pixels, odd.
    looks
        Equivalent number of looks.
    image
        Name of the layer: linear intensity.
    """

    def __init__(self, *, window: int = 7, looks: float = 1.0, image: str = "image") -> None:
        super().__init__()
        lee(torch.ones(1, 1), window=window, looks=looks)  # raises now, not in the first batch, on invalid arguments
        self.window, self.looks = window, looks
        self.image = image

    def forward(self, sample: Sample) -> Sample:
        """Return the batch with its image filtered; invalid pixels are unchanged."""
        values, valid = image_of(sample, self.image), valid_of(sample, self.image)
        filtered = lee(values, expand_bands(valid, values), window=self.window, looks=self.looks)
        return {**sample, self.image: filtered}

"""Radar backscatter: power to decibels and back, and Lee's speckle filter."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoxt.errors import InputError
from geoxt.transforms.sample import VALID, Sample, image_of, over_bands, valid_of

_PLANES = 4
"""Bands that are filtered at a time: what they need stays in the processor's cache."""


def to_decibel(power: Tensor) -> Tensor:
    """Return 10 log10 of power; NaN where that is not above zero, which no logarithm has.

    Examples
    --------
    >>> to_decibel(torch.tensor([1.0, 0.01, 0.0]))
    tensor([  0., -20.,  nan])
    """
    return (10 * torch.log10(power)).where(power > 0, torch.nan)


def from_decibel(decibel: Tensor) -> Tensor:
    """Return the power of decibels, 10 ** (decibel / 10)."""
    return torch.pow(10.0, decibel / 10)


def lee(power: Tensor, valid: Tensor | None = None, *, window: int = 7, looks: float = 1.0) -> Tensor:
    """Return power with speckle reduced by Lee's local statistics, multiplicative noise.

    Parameters
    ----------
    power
        (…, height, width) linear intensity, not amplitude and not decibels.
    valid
        Which pixels count, to be broadcast; left out, all. Neighbours that do not, and those beyond the edge, are left
        out of mean and variance.
    window
        Pixels: side of the square neighbourhood, odd.
    looks
        Equivalent number of looks: the noise has mean 1 and variance 1 / looks.

    Returns
    -------
    Tensor
        Of the same shape and type; unchanged where not valid.

    Notes
    -----
    With mean m and variance v of the neighbourhood and s = 1 / looks, the variance of the scene is
    q = max((v + m²) / (1 + s) - m², 0), and the result m + (z - m) q / (q + m² s).

    References
    ----------
    Lee 1980, https://doi.org/10.1109/TPAMI.1980.4766994
    """
    if window < 1 or window % 2 == 0 or not looks > 0:
        msg = f"Cannot filter with window={window} and looks={looks}: pass an odd window= and looks= above zero."
        raise InputError(msg)
    known = torch.ones_like(power, dtype=torch.bool) if valid is None else valid.expand_as(power)
    planes, good = (one.reshape(-1, *power.shape[-2:]) for one in (power, known))
    parts = [slice(start, start + _PLANES) for start in range(0, len(planes), _PLANES)]
    found = [_filtered(planes[some], good[some], window, 1 / looks) for some in parts]
    return torch.cat(found).reshape(power.shape)


def _filtered(power: Tensor, known: Tensor, window: int, noise: float) -> Tensor:
    """Return Lee's estimate of planes (number, height, width)."""
    values = power.where(known, 0).double()  # squares of bright targets lose digits in float32
    count = _sums(known.double(), window).clamp(min=1)
    mean = _sums(values, window) / count
    variance = (_sums(values**2, window) / count - mean**2).clamp(min=0)
    scene = ((variance + mean**2) / (1 + noise) - mean**2).clamp(min=0)
    spread = scene + mean**2 * noise
    gain = torch.where(spread > 0, scene / spread, 0)
    return (mean + gain * (values - mean)).to(power.dtype).where(known, power)


def _sums(values: Tensor, window: int) -> Tensor:
    """Return the sum over the square around each pixel; nothing lies beyond the edge."""
    half = window // 2
    for axis, edges in ((-1, (half, half, 0, 0)), (-2, (0, 0, half, half))):
        size, wide = values.shape[axis], F.pad(values, edges)
        values = wide.narrow(axis, 0, size).clone()
        for step in range(1, window):
            values += wide.narrow(axis, step, size)
    return values


class Decibel(nn.Module):
    """Turns an image's power into decibels; where there is none above zero, the pixel is 0 and no longer valid.

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
        found = to_decibel(values)
        finite = found.isfinite()
        good = valid & finite.all(-3)
        return {**sample, self.image: found.where(finite & over_bands(valid, values), 0), self.image + VALID: good}

    def inverse(self, sample: Sample) -> Sample:
        """Return the batch with its image as power again, 0 where it is not valid."""
        values, valid = image_of(sample, self.image), valid_of(sample, self.image)
        return {**sample, self.image: from_decibel(values).where(over_bands(valid, values), 0)}


class Lee(nn.Module):
    """Reduces the speckle of an image; see `lee`.

    Parameters
    ----------
    window
        Pixels: side of the neighbourhood, odd.
    looks
        Equivalent number of looks.
    image
        Name of the layer: linear intensity.
    """

    def __init__(self, *, window: int = 7, looks: float = 1.0, image: str = "image") -> None:
        super().__init__()
        lee(torch.ones(1, 1), window=window, looks=looks)  # an odd window and looks above zero, or an error now
        self.window, self.looks = window, looks
        self.image = image

    def forward(self, sample: Sample) -> Sample:
        """Return the batch with its image filtered where it is valid."""
        values, valid = image_of(sample, self.image), valid_of(sample, self.image)
        found = lee(values, over_bands(valid, values), window=self.window, looks=self.looks)
        return {**sample, self.image: found}

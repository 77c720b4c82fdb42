"""Simulated sensor failures: dropped bands and synthetic clouds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoxt.errors import InputError
from geoxt.torch_devices import same_device, to_float64
from geoxt.transforms.batch import VALID, Sample, expand_bands, image_of, valid_of
from geoxt.transforms.random_stream import RandomStream

_OCTAVES = 3
"""Octaves of noise, each with twice the frequency and half the amplitude of the one before."""


class DropBands(nn.Module):
    """Sets random bands of each sample to a constant, in all its time steps alike.

    Parameters
    ----------
    p
        Probability of dropping a band.
    min_bands
        Minimum number of bands that remain in each sample.
    fill
        Value of a dropped band; 0 is the mean of a normalized image. The valid mask is unchanged.
    image
        Name of the layer.
    seed
        Seed of this transform; by default torch's global generator is used. See `RandomStream`.
    """

    def __init__(
        self, p: float = 0.1, *, min_bands: int = 1, fill: float = 0.0, image: str = "image", seed: int | None = None
    ) -> None:
        super().__init__()
        _require_fraction("p", p)
        self.p, self.min_bands, self.fill = p, min_bands, fill
        self.image = image
        self.rng = RandomStream(seed)

    def forward(self, sample: Sample) -> Sample:
        """Return the batch with random bands dropped."""
        values = image_of(sample, self.image)
        bands = values.shape[-3]
        if self.min_bands > bands:
            msg = f"Cannot keep {self.min_bands} bands of {self.image!r}: it has {bands}."
            raise InputError(msg, remedy="Pass a smaller {min_bands}.")
        numbers = self.rng.uniform(len(values), bands)
        rank = numbers.argsort(dim=1, descending=True).argsort(dim=1)
        dropped = same_device((numbers < self.p) & (rank >= self.min_bands), values)
        shape = (len(values), *[1] * (values.ndim - 4), bands, 1, 1)
        return {**sample, self.image: values.masked_fill(dropped.reshape(shape), self.fill)}


def occlude(values: Tensor, opacity: Tensor, brightness: Tensor) -> Tensor:
    """Return (1 - opacity) * values + opacity * brightness.

    Parameters
    ----------
    values
        (…, band, height, width).
    opacity
        (…, height, width) in [0, 1]. Pixels of opacity 0 keep their bits.
    brightness
        Brightness of the occluding layer; broadcasts against `values`.

    Examples
    --------
    >>> import torch
    >>> values, opacity = torch.zeros(1, 1, 2), torch.tensor([[0.0, 0.5]])
    >>> occlude(values, opacity, brightness=torch.tensor(1.0))
    tensor([[[0.0000, 0.5000]]])
    """
    weight = opacity.unsqueeze(-3)
    blended = (1 - weight) * values + weight * brightness
    return blended.where(weight > 0, values)


def cloud_opacity(noise: Tensor, coverage: Tensor, softness: float) -> Tensor:
    """Return the opacity of clouds, from a threshold on smooth noise.

    Parameters
    ----------
    noise
        (n, height, width), smooth.
    coverage
        (n,): fraction of pixels with an opacity above 0.5, in [0, 1].
    softness
        Width of the clouds' edges, in standard deviations of the noise; 0 for sharp edges.

    Examples
    --------
    >>> import torch
    >>> noise = torch.linspace(-1, 1, 4).reshape(1, 2, 2)
    >>> cloud_opacity(noise, torch.tensor([0.5]), softness=0)
    tensor([[[0., 0.],
             [1., 1.]]])
    """
    # The threshold lies halfway between the two order statistics that the coverage separates. One value below and one
    # above the range stand in for the missing neighbours of the lowest and the highest value.
    flat = noise.flatten(1)
    pixels = flat.shape[1]
    clear = same_device(((1 - to_float64(coverage)) * pixels).round().long().clamp(0, pixels), flat)[:, None]
    lowest, highest = flat.aminmax(dim=1, keepdim=True)
    ordered = torch.cat([2 * lowest - highest - 1, flat.sort(dim=1).values, 2 * highest - lowest + 1], dim=1)
    limit = (ordered.gather(1, clear) + ordered.gather(1, clear + 1)) / 2
    if softness == 0:
        return (flat > limit).to(noise.dtype).reshape(noise.shape)
    width = (softness * flat.std(dim=1, keepdim=True)).clamp(min=torch.finfo(flat.dtype).tiny)
    return ((flat - limit) / width + 0.5).clamp(0, 1).reshape(noise.shape)


class Clouds(nn.Module):
    """Draws random clouds over samples, different ones for each time step.

    Parameters
    ----------
    p
        Probability of clouds in a sample.
    coverage
        Smallest and largest cloud fraction of a window.
    size
        Size of the clouds as a fraction of the window.
    softness
        Width of the clouds' edges, in standard deviations of the noise that they are cut from; 0 for sharp edges.
    brightness
        Cloud brightness, one number or one per band, in the image's units. By default the brightest valid pixel of
        each band and time step.
    invalid
        Whether pixels under clouds become invalid, so that a loss ignores them.
    image
        Name of the layer.
    seed
        Seed of this transform; by default torch's global generator is used. See `RandomStream`.
    """

    def __init__(
        self,
        p: float = 0.5,
        *,
        coverage: tuple[float, float] = (0.1, 0.5),
        size: float = 0.25,
        softness: float = 0.5,
        brightness: float | Sequence[float] | None = None,
        invalid: bool = False,
        image: str = "image",
        seed: int | None = None,
    ) -> None:
        super().__init__()
        for name, fraction in (("p", p), ("coverage", coverage[0]), ("coverage", coverage[1])):
            _require_fraction(name, fraction)
        if not (0 < size <= 1 and softness >= 0 and coverage[0] <= coverage[1]):
            msg = f"Cannot draw clouds with size={size}, softness={softness} and coverage={coverage}."
            remedy = "Pass {size} above 0 and up to 1, a non-negative {softness}, and {coverage} in ascending order."
            raise InputError(msg, remedy=remedy)
        self.p, self.coverage, self.size, self.softness = p, coverage, size, softness
        self.brightness, self.invalid = brightness, invalid
        self.image = image
        self.rng = RandomStream(seed)

    def forward(self, sample: Sample) -> Sample:
        """Return the batch with clouds."""
        values, valid = image_of(sample, self.image), valid_of(sample, self.image)
        count, steps = len(values), values.shape[1] if values.ndim == 5 else 1
        cloudy = self.rng.bernoulli(self.p, count).repeat_interleave(steps)
        low, high = self.coverage
        coverage = low + (high - low) * self.rng.uniform(count * steps)
        opacity = cloud_opacity(self._noise(count * steps, values), coverage, self.softness)
        opacity = (opacity * cloudy.to(opacity)[:, None, None]).reshape(*values.shape[:-3], *values.shape[-2:])
        occluded = {**sample, self.image: occlude(values, opacity, self._brightness(values, valid))}
        return occluded | {self.image + VALID: valid & (opacity <= 0.5)} if self.invalid else occluded

    def _noise(self, count: int, like: Tensor) -> Tensor:
        """Return smooth noise (count, height, width)."""
        size = like.shape[-2:]
        total = torch.zeros(count, *size, dtype=like.dtype, device=like.device)
        for octave in range(_OCTAVES):
            cells = min(round(2**octave / self.size) + 1, max(size))
            coarse = self.rng.normal(count, 1, cells, cells).to(like)
            fine = F.interpolate(coarse, size=size, mode="bicubic", align_corners=True)
            total += fine[:, 0] / 2**octave
        return total

    def _brightness(self, values: Tensor, valid: Tensor) -> Tensor:
        if self.brightness is None:
            brightest = values.where(expand_bands(valid, values), -torch.inf).amax((-2, -1), keepdim=True)
            return brightest.where(brightest.isfinite(), 0)
        brightness = torch.as_tensor(self.brightness).to(values)
        if brightness.ndim and len(brightness) != values.shape[-3]:
            msg = f"Cannot draw clouds over {values.shape[-3]} bands: brightness has {len(brightness)} numbers."
            raise InputError(msg, remedy="Pass {brightness} as one number for all bands, or one per band.")
        return brightness.reshape(-1, 1, 1)


def _require_fraction(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise InputError(f"Cannot use {name}={value}.", remedy=f"Pass {{{name}}} between 0 and 1.")

"""What a sensor may miss: bands dropped at random, and clouds drawn over an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoxt.errors import InputError
from geoxt.transforms.draws import Draws
from geoxt.transforms.sample import VALID, Sample, image_of, over_bands, valid_of

_OCTAVES = 3
"""Layers of noise, each twice as fine and half as strong as the one before."""


class DropBands(nn.Module):
    """Sets bands of each sample to a constant at random, in all its time steps alike.

    Parameters
    ----------
    p
        Probability of each band.
    least
        Bands of a sample that stay in any case.
    fill
        What a dropped band holds; 0 is the mean of a normalised image. Validity stays as it is.
    image
        Name of the layer.
    seed
        See `Draws`.
    """

    def __init__(
        self, p: float = 0.1, *, least: int = 1, fill: float = 0.0, image: str = "image", seed: int | None = None
    ) -> None:
        super().__init__()
        _require_share("p", p)
        self.p, self.least, self.fill = p, least, fill
        self.image = image
        self.draws = Draws(seed)

    def forward(self, sample: Sample) -> Sample:
        """Return the batch with bands dropped."""
        values = image_of(sample, self.image)
        bands = values.shape[-3]
        if self.least > bands:
            msg = f"Cannot keep {self.least} bands of {self.image!r}: it has {bands}. Pass a smaller least=."
            raise InputError(msg)
        drawn = self.draws.uniform(len(values), bands)
        order = drawn.argsort(dim=1, descending=True).argsort(dim=1)
        dropped = ((drawn < self.p) & (order >= self.least)).to(values.device)
        shape = (len(values), *[1] * (values.ndim - 4), bands, 1, 1)
        return {**sample, self.image: values.masked_fill(dropped.reshape(shape), self.fill)}


def occlude(values: Tensor, opacity: Tensor, brightness: Tensor) -> Tensor:
    """Return an image behind a layer that is seen with an opacity from 0 to 1, the rest through it.

    Parameters
    ----------
    values
        (…, band, height, width).
    opacity
        (…, height, width): where it is 0 pixels keep their bits, where it is 1 they are `brightness`.
    brightness
        To be broadcast over `values`.
    """
    share = opacity.unsqueeze(-3)
    mixed = (1 - share) * values + share * brightness
    return mixed.where(share > 0, values)


def cloud_opacity(noise: Tensor, coverage: Tensor, softness: float) -> Tensor:
    """Return the opacity of clouds where noise is high.

    Parameters
    ----------
    noise
        (number, height, width), smooth.
    coverage
        (number,): share of pixels with an opacity above one half, from 0 to 1.
    softness
        Width of a cloud's edge, in deviations of the noise; 0 for a sharp one.
    """
    flat = noise.flatten(1)
    pixels = flat.shape[1]
    clear = ((1 - coverage.double()) * pixels).round().long().clamp(0, pixels).to(flat.device)[:, None]
    lowest, highest = flat.aminmax(dim=1, keepdim=True)
    ordered = torch.cat([2 * lowest - highest - 1, flat.sort(dim=1).values, 2 * highest - lowest + 1], dim=1)
    limit = (ordered.gather(1, clear) + ordered.gather(1, clear + 1)) / 2
    if softness == 0:
        return (flat > limit).to(noise.dtype).reshape(noise.shape)
    width = (softness * flat.std(dim=1, keepdim=True)).clamp(min=torch.finfo(flat.dtype).tiny)
    return ((flat - limit) / width + 0.5).clamp(0, 1).reshape(noise.shape)


class Clouds(nn.Module):
    """Draws smooth blobs over samples at random, other ones in each time step.

    Parameters
    ----------
    p
        Probability of each sample.
    coverage
        Least and largest share of a window that is covered.
    size
        Of the blobs, as a share of the window.
    softness
        Width of their edges, in deviations of the noise that they are cut from; 0 for sharp ones.
    brightness
        What they show in each band, in the image's units; left out, the brightest valid pixel of the band at that time.
    invalid
        Whether covered pixels are no longer valid: a loss then leaves them out. Else the model has to see through.
    image
        Name of the layer.
    seed
        See `Draws`.
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
        for name, share in (("p", p), ("coverage", coverage[0]), ("coverage", coverage[1])):
            _require_share(name, share)
        if not (0 < size <= 1 and softness >= 0 and coverage[0] <= coverage[1]):
            msg = f"Cannot draw clouds of size={size}, softness={softness}, coverage={coverage}: pass 0 < size <= 1, "
            raise InputError(msg + "softness= of 0 or more, and coverage= least first.")
        self.p, self.coverage, self.size, self.softness = p, coverage, size, softness
        self.brightness, self.invalid = brightness, invalid
        self.image = image
        self.draws = Draws(seed)

    def forward(self, sample: Sample) -> Sample:
        """Return the batch, partly covered."""
        values, valid = image_of(sample, self.image), valid_of(sample, self.image)
        count, steps = len(values), values.shape[1] if values.ndim == 5 else 1
        hit = self.draws.happens(self.p, count).repeat_interleave(steps)
        low, high = self.coverage
        coverage = low + (high - low) * self.draws.uniform(count * steps)
        opacity = cloud_opacity(self._noise(count * steps, values), coverage, self.softness)
        opacity = (opacity * hit.to(opacity)[:, None, None]).reshape(*values.shape[:-3], *values.shape[-2:])
        found = {**sample, self.image: occlude(values, opacity, self._brightness(values, valid))}
        return found | {self.image + VALID: valid & (opacity <= 0.5)} if self.invalid else found

    def _noise(self, count: int, like: Tensor) -> Tensor:
        """Return smooth noise (count, height, width)."""
        size = like.shape[-2:]
        total = torch.zeros(count, *size, dtype=like.dtype, device=like.device)
        for octave in range(_OCTAVES):
            cells = min(round(2**octave / self.size) + 1, max(size))
            coarse = self.draws.normal(count, 1, cells, cells).to(like)
            fine = F.interpolate(coarse, size=size, mode="bicubic", align_corners=True)
            total += fine[:, 0] / 2**octave
        return total

    def _brightness(self, values: Tensor, valid: Tensor) -> Tensor:
        if self.brightness is None:
            shown = values.where(over_bands(valid, values), -torch.inf).amax((-2, -1), keepdim=True)
            return shown.where(shown.isfinite(), 0)
        wanted = torch.as_tensor(self.brightness).to(values)
        if wanted.ndim and len(wanted) != values.shape[-3]:
            msg = f"Cannot draw clouds over {values.shape[-3]} bands: brightness has {len(wanted)} numbers. "
            raise InputError(msg + "Pass brightness= one for all, or one a band.")
        return wanted.reshape(-1, 1, 1)


def _require_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        msg = f"Cannot take {name}={value}: pass {name}= from 0 to 1."
        raise InputError(msg)

"""Normalisation by the statistics of each band, and back; what is not valid stays out of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geoxt.errors import InputError
from geoxt.transforms.sample import Sample, image_of, valid_of
from geoxt.types import Floats


def normalize(values: Tensor, mean: Tensor, std: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return (values - mean) / std band by band, and 0 (the mean) where not valid.

    Parameters
    ----------
    values
        (…, band, height, width), floating point.
    mean, std
        (band,), in the units of the values.
    valid
        (…, height, width); left out, all are.
    """
    found = (values - mean[:, None, None]).div_(std[:, None, None])
    return found if valid is None else found.masked_fill_(~valid.unsqueeze(-3), 0)


def denormalize(values: Tensor, mean: Tensor, std: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return values * std + mean band by band, the way back from `normalize`; 0 where not valid."""
    found = (values * std[:, None, None]).add_(mean[:, None, None])
    return found if valid is None else found.masked_fill_(~valid.unsqueeze(-3), 0)


class Normalize(nn.Module):
    """Brings each band of an image to mean 0 and deviation 1.

    Parameters
    ----------
    mean, std
        A number a band, in the image's units, as `geoxt.trainers.band_statistics` finds them.
    image
        Name of the layer.

    Raises
    ------
    InputError
        Where they differ in number, or a deviation is not above zero.
    """

    def __init__(self, mean: Sequence[float] | Floats, std: Sequence[float] | Floats, *, image: str = "image") -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        for name, numbers in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.as_tensor([float(number) for number in numbers]), persistent=False)
        if len(self.mean) != len(self.std) or not bool((self.std > 0).all()):
            msg = f"Cannot normalise by mean={self.mean.tolist()} and std={self.std.tolist()}: pass as many of each, "
            raise InputError(msg + "std= above zero.")
        self.image = image

    def forward(self, sample: Sample) -> Sample:
        """Return the batch with its image normalised, and 0 where it is not valid."""
        values, valid = self._checked(sample)
        return {**sample, self.image: normalize(values, self.mean.to(values), self.std.to(values), valid)}

    def inverse(self, sample: Sample) -> Sample:
        """Return the batch with its image in its own units again, and 0 where it is not valid."""
        values, valid = self._checked(sample)
        return {**sample, self.image: denormalize(values, self.mean.to(values), self.std.to(values), valid)}

    def _checked(self, sample: Sample) -> tuple[Tensor, Tensor]:
        values = image_of(sample, self.image)
        if values.shape[-3] != len(self.mean):
            msg = f"Cannot normalise {self.image!r}: it has {values.shape[-3]} bands, and there are {len(self.mean)} "
            raise InputError(msg + "statistics. Pass mean= and std= with a number a band.")
        return values, valid_of(sample, self.image)

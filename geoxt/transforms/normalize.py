"""Normalization by the mean and standard deviation of each band, and its inverse."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geoxt.errors import InputError
from geoxt.transforms.batch import Sample, image_of, valid_of
from geoxt.types import Floats


def normalize(values: Tensor, mean: Tensor, std: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return (values - mean) / std per band, and 0 (the mean) for invalid pixels.

    Parameters
    ----------
    values
        (…, band, height, width), floating point.
    mean, std
        (band,), in the units of the values.
    valid
        (…, height, width); all pixels by default.

    Examples
    --------
    >>> import torch
    >>> values = torch.tensor([[[10.0, 12.0]]])
    >>> normalize(values, mean=torch.tensor([10.0]), std=torch.tensor([2.0]))
    tensor([[[0., 1.]]])
    """
    normalized = (values - mean[:, None, None]).div_(std[:, None, None])
    return normalized if valid is None else normalized.masked_fill_(~valid.unsqueeze(-3), 0)


def denormalize(values: Tensor, mean: Tensor, std: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return values * std + mean per band, the inverse of `normalize`, and 0 for invalid pixels.

    Examples
    --------
    >>> import torch
    >>> values = torch.tensor([[[0.0, 1.0]]])
    >>> denormalize(values, mean=torch.tensor([10.0]), std=torch.tensor([2.0]))
    tensor([[[10., 12.]]])
    """
    denormalized = (values * std[:, None, None]).add_(mean[:, None, None])
    return denormalized if valid is None else denormalized.masked_fill_(~valid.unsqueeze(-3), 0)


class Normalize(nn.Module):
    """Normalizes each band of an image to mean 0 and standard deviation 1.

    Parameters
    ----------
    mean, std
        One number per band, in the image's units.
    image
        Name of the layer.

    Raises
    ------
    InputError
        If `mean` and `std` differ in length, or a standard deviation is not positive.
    """

    def __init__(self, mean: Sequence[float] | Floats, std: Sequence[float] | Floats, *, image: str = "image") -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        for name, numbers in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.as_tensor([float(number) for number in numbers]), persistent=False)
        if len(self.mean) != len(self.std) or not bool((self.std > 0).all()):
            msg = f"Cannot normalize by mean={self.mean.tolist()} and std={self.std.tolist()}."
            raise InputError(msg, remedy="Pass {mean} and {std} of the same length, with positive standard deviations.")
        self.image = image

    def forward(self, sample: Sample) -> Sample:
        """Return the batch with its image normalized, and 0 for invalid pixels."""
        values, valid = self._values_and_valid(sample)
        return {**sample, self.image: normalize(values, *self._statistics(values), valid)}

    def inverse(self, sample: Sample) -> Sample:
        """Return the batch with its image in its original units, and 0 for invalid pixels."""
        values, valid = self._values_and_valid(sample)
        return {**sample, self.image: denormalize(values, *self._statistics(values), valid)}

    def _statistics(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation in the type and on the device of the values."""
        mean, std = (number.to(values, non_blocking=values.is_cuda) for number in (self.mean, self.std))
        return mean, std

    def _values_and_valid(self, sample: Sample) -> tuple[Tensor, Tensor]:
        values = image_of(sample, self.image)
        if values.shape[-3] != len(self.mean):
            msg = f"Cannot normalize {self.image!r}: it has {values.shape[-3]} bands, but mean and std have "
            msg += f"{len(self.mean)} values."
            raise InputError(msg, remedy="Pass {mean} and {std} with one number per band.")
        return values, valid_of(sample, self.image)

"""Spectral indices appended to the bands of an image in a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from geoxt.errors import InputError
from geoxt.transforms.batch import VALID, Sample, expand_bands, image_of, valid_of
from geoxt.transforms.spectral_indices import evaluate, find_bands, indices_of


class AppendIndices(nn.Module):
    """Appends spectral indices to the bands of an image.

    Parameters
    ----------
    indices
        Names out of `geoxt.indices.INDICES`.
    bands
        Names of the image's bands in order, either common names ("red") or band names ("B4").
    common
        Common names of the bands if `bands` are band names; "" for a band without a common name.
    scale, offset
        Physical value = stored value * scale + offset, for the bands that the indices use.
    image
        Name of the layer.

    Notes
    -----
    If an index is not finite (division by zero), it is set to 0 and the pixel becomes invalid in all bands, as a batch
    has one valid mask per layer. Indices of invalid pixels are 0. All other values equal those of
    `geoxt.indices.append` bit for bit.

    Raises
    ------
    InputError
        If an index is unknown or a band is missing.
    """

    def __init__(
        self,
        indices: str | Iterable[str],
        *,
        bands: Sequence[str],
        common: Sequence[str] = (),
        scale: float = 1.0,
        offset: float = 0.0,
        image: str = "image",
    ) -> None:
        super().__init__()
        self.indices = indices_of(indices)
        self.positions = tuple(find_bands(index, bands, common) for index in self.indices)
        self.bands = tuple(bands)
        self.scale, self.offset = float(scale), float(offset)
        self.image = image

    @property
    def names(self) -> tuple[str, ...]:
        """Band names of the output image."""
        return (*self.bands, *(index.name for index in self.indices))

    def forward(self, sample: Sample) -> Sample:
        """Return the batch with the indices appended to the image's bands."""
        values, valid = image_of(sample, self.image), valid_of(sample, self.image)
        if values.shape[-3] != len(self.bands):
            msg = f"Cannot append indices to {self.image!r}: it has {values.shape[-3]} bands, not "
            msg += f"{', '.join(self.bands)}."
            raise InputError(msg, remedy="Pass {bands} with a name for each band.")
        computed: list[Tensor] = []
        for index, positions in zip(self.indices, self.positions, strict=True):
            operands = [values[..., position, :, :] for position in positions]
            computed.append(evaluate(index, operands, scale=self.scale, offset=self.offset))
        appended = torch.stack(computed, dim=-3)
        finite = appended.isfinite()
        appended = appended.where(finite & expand_bands(valid, values), 0)
        return {
            **sample,
            self.image: torch.cat([values, appended], dim=-3),
            self.image + VALID: valid & finite.all(-3),
        }

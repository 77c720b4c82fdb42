"""Spectral indices as further bands of an image in a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from geoxt.errors import InputError
from geoxt.transforms.formulas import evaluate, find_bands, indices_of
from geoxt.transforms.sample import VALID, Sample, image_of, over_bands, valid_of


class AppendIndices(nn.Module):
    """Appends spectral indices to the bands of an image.

    Parameters
    ----------
    indices
        Names out of `geoxt.transforms.INDICES`.
    bands
        Names of the image's bands in order: their common names, or their own.
    common
        Common names, where `bands` are the bands' own; "" where one has none.
    scale, offset
        Physical = stored * scale + offset, for the bands that the indices use.
    image
        Name of the layer.

    Notes
    -----
    Where an index is not finite (division by zero) it is 0, and the pixel is no longer valid: a batch says so of all
    bands at once. Where the image is not valid, indices are 0. All else is what `geoxt.indices.append` gives, bit for
    bit.

    Raises
    ------
    InputError
        Where there is no such index, or a band is missing.
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
        self.places = tuple(find_bands(index, bands, common) for index in self.indices)
        self.bands = tuple(bands)
        self.scale, self.offset = float(scale), float(offset)
        self.image = image

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the bands that an image has afterwards."""
        return (*self.bands, *(index.name for index in self.indices))

    def forward(self, sample: Sample) -> Sample:
        """Return the batch with the indices behind the image's bands."""
        values, valid = image_of(sample, self.image), valid_of(sample, self.image)
        if values.shape[-3] != len(self.bands):
            msg = f"Cannot append indices to {self.image!r}: it has {values.shape[-3]} bands, not "
            raise InputError(msg + f"{', '.join(self.bands)}. Pass bands= with a name for each.")
        added: list[Tensor] = []
        for index, places in zip(self.indices, self.places, strict=True):
            used = [values[..., place, :, :] for place in places]
            added.append(evaluate(index, used, scale=self.scale, offset=self.offset))
        found = torch.stack(added, dim=-3)
        good = valid & found.isfinite().all(-3)
        found = found.where(found.isfinite() & over_bands(valid, values), 0)
        return {**sample, self.image: torch.cat([values, found], dim=-3), self.image + VALID: good}

"""Compare the values of images with the training statistics of a model, to warn of another scale."""

from __future__ import annotations

import threading
import warnings

import numpy as np
from torch import nn

from geoxt.errors import ScaleWarning
from geoxt.models.card import Card
from geoxt.models.network import Network
from geoxt.types import Array, Mask

_LARGER = 15
"""Factor of `mean + 2 std` that the median of each band exceeds if values are scaled up; clouds and snow reach 11."""
_UNIT = 1.5
"""Largest absolute value of reflectance, or of bytes divided by 255."""
_STORED = 20
"""Least `mean + std` of stored numbers, such as bytes or reflectance times 10,000."""
_BYTE = 255
"""Largest byte; pictures stretched to bytes reach it or nearly so, and reflectance times 10,000 exceeds it."""
_MIN_PIXELS, _MAX_PIXELS = 16, 2**16


class ScaleCheck:
    """Warns once if the first images have other values than those on which a model was trained.

    Bounds are wide, so that scenes of night, sea, cloud or snow do not warn: values are too large only if the median of
    each band is 15 times `mean + 2 std`, and too small only if fractions up to 1.5 are passed to a model of stored
    numbers, or bytes up to 250-255 to a model whose mean is above 510 in each band. A model of backscatter in dB, whose
    `mean + std` is negative in each band, warns if no value is negative. Scenes without contrast are not compared.

    Parameters
    ----------
    model
        The model. Modules without a `Network` have no statistics and are not checked.
    """

    def __init__(self, model: nn.Module) -> None:
        network = next((module for module in model.modules() if isinstance(module, Network)), None)
        card = None if network is None else network.card
        unscaled = card is not None and any(pair == (0, 1) for pair in zip(card.mean, card.std, strict=True))
        self.card: Card | None = None if unscaled else card  # models without scaling take values of any scale
        self._lock = threading.Lock()

    def __call__(self, images: Array, valid: Mask | None = None) -> None:
        """Compare images (N, C, H, W) or (N, T, C, H, W) and their valid mask without C; later calls do nothing."""
        card = self.card
        if card is None or images.ndim < 4:
            return
        bands = np.moveaxis(images, -3, 0).reshape(images.shape[-3], -1)
        if valid is not None:
            bands = bands[:, valid.reshape(-1)]
        bands = bands[:, :: max(bands.shape[1] // _MAX_PIXELS, 1)]
        if bands.shape[1] < _MIN_PIXELS or len(bands) != len(card.mean) or not np.ptp(bands, axis=1).any():
            return
        with self._lock:  # tiles are read by several threads
            card, self.card = self.card, None
        if card is None or (problem := _contradiction(bands, np.array(card.mean), np.array(card.std))) is None:
            return
        low, median, high = (np.round(np.nanpercentile(bands[0], q), 6) for q in (0, 50, 100))
        msg = f"The image has {problem} values than the model was trained on: {card.bands[0]} is {low:g} to {high:g} "
        msg += f"(median {median:g}), in training its mean was {card.mean[0]:g} and its standard deviation "
        msg += f"{card.std[0]:g}. "
        if max(card.mean) < 0 <= low:
            msg += "Pass backscatter in dB: 10 * log10(power)."
        else:
            msg += "Multiply the layer by the ratio of the scales, or open it with the same rescale= as for training."
        warnings.warn(msg, ScaleWarning, stacklevel=3)


def _contradiction(bands: Array, mean: Array, std: Array) -> str | None:
    """Return "far larger", "far smaller" or "other", or `None` if values (band, pixel) may be those of the training."""
    if (np.median(bands, axis=1) > _LARGER * (np.abs(mean) + 2 * std)).all():
        return "far larger"
    if (mean + std < 0).all() and np.nanmin(bands) >= 0:
        return "other"
    integers = bool((bands == np.round(bands)).all())
    fractions = bool((np.abs(bands) <= _UNIT).all()) and not integers and (mean + std > _STORED).all()
    in_bytes = integers and bands.min() >= 0 and _BYTE - 5 <= bands.max() <= _BYTE and (mean > 2 * _BYTE).all()
    return "far smaller" if fractions or in_bytes else None

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
_PERCENTILE, _OVERSHOOT = 98, 1.25
"""Percentile that exceeds the largest valid value by this factor if values are scaled up; cubic resampling
overshoots."""
_UNIT = 1.5
"""Largest absolute value of reflectance, or of bytes divided by 255."""
_STORED = 20
"""Least `mean + std` of stored numbers, such as bytes or reflectance times 10,000."""
_BYTE = 255
"""Largest byte; pictures stretched to bytes reach it or nearly so, and reflectance times 10,000 exceeds it."""
_RADAR = ("vv", "vh", "hh", "hv")
_MIN_PIXELS, _MAX_PIXELS = 16, 2**16


class ScaleCheck:
    """Warns once if the first images have other values than those on which a model was trained.

    Bounds are wide, so that scenes of night, sea, cloud or snow do not warn: values are too large only if the median of
    each band is 15 times `mean + 2 std`, or if 2 % of a band exceed its largest valid value by 25 %; and too small only
    if fractions up to 1.5 are passed to a model of stored numbers, or bytes up to 250-255 to a model of larger
    ones. Backscatter in dB, whose `mean + std` is not positive, warns if no value is negative. Scenes without
    contrast are not compared.

    Parameters
    ----------
    model
        The model. Modules without a `Network` have no statistics and are not checked.
    """

    def __init__(self, model: nn.Module) -> None:
        network = next((module for module in model.modules() if isinstance(module, Network)), None)
        self.card: Card | None = None if network is None else network.card
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
        contradiction = None if card is None else _contradiction(bands, card)
        if card is None or contradiction is None:
            return
        problem, band = contradiction
        low, median, high = (np.round(np.nanpercentile(bands[band], q), 6) for q in (0, 50, 100))
        msg = f"The image has {problem} values than the model was trained on: {card.bands[band]} is {low:g} to "
        msg += f"{high:g} (median {median:g}), in training "
        largest = card.valid_max[band] if card.valid_max else None
        if largest is None:
            msg += f"its mean was {card.mean[band]:g} and its standard deviation {card.std[band]:g}. "
        else:
            msg += f"it was 0 to {largest:g}. "
        if problem == "other":
            msg += "Pass backscatter in dB: 10 * log10(power)."
        elif largest == _BYTE:
            msg += "Pass 8-bit images, or values stretched to 0 to 255."
        else:
            msg += "Multiply the layer by the ratio of the scales, or open it with the same rescale= as for training."
        warnings.warn(msg, ScaleWarning, stacklevel=3)


def _contradiction(bands: Array, card: Card) -> tuple[str, int] | None:
    """Return "far larger", "far smaller" or "other" and a band, or `None` if values may be those of the training.

    Bands without statistics, whose mean is 0 and deviation 1, are compared with their largest valid values only.
    """
    mean, std = np.array(card.mean), np.array(card.std)
    limit = np.array([np.nan if value is None else value for value in card.valid_max or (None,) * len(mean)], float)
    if (too_large := np.flatnonzero(np.percentile(bands, _PERCENTILE, axis=1) > _OVERSHOOT * limit)).size:
        return "far larger", int(too_large[0])
    scaled = (mean != 0) | (std != 1)
    negative = scaled & (mean + std <= 0)
    radar = np.isin([name.lower() for name in card.bands], _RADAR) | np.isin(card.common_names or [""], _RADAR)
    decibel = negative if negative.all() else negative & radar
    if decibel.any() and np.nanmin(bands[decibel]) >= 0:
        return "other", int(np.flatnonzero(decibel)[0])
    linear = np.flatnonzero((scaled | ~np.isnan(limit)) & ~decibel)
    if not linear.size:
        return None
    values, mean, std, limit = bands[linear], mean[linear], std[linear], limit[linear]
    if (np.median(values, axis=1) > _LARGER * (np.abs(mean) + 2 * std)).all() and scaled[linear].all():
        return "far larger", int(linear[0])
    integers = bool((values == np.round(values)).all())
    expected = np.fmax(mean + std, limit)
    fractions = bool((np.abs(values) <= _UNIT).all()) and not integers and (expected > _STORED).all()
    # Divided by 10,000 only, the mean is 0 and the deviation 10,000.
    large = np.isnan(limit) & ((mean > 2 * _BYTE) | ((mean == 0) & (std > 2 * _BYTE)))
    in_bytes = integers and values.min() >= 0 and _BYTE - 5 <= values.max() <= _BYTE and large.all()
    return ("far smaller", int(linear[0])) if fractions or in_bytes else None

"""A normaliser: what the values of each band are, over the windows that a sampler draws."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
import xarray as xr

from geoxt.errors import InputError
from geoxt.source import view_of
from geoxt.types import Array, Floats
from geoxt.windows import Window

PERCENTILES = (1.0, 2.0, 25.0, 50.0, 75.0, 98.0, 99.0)
KEPT = 1 << 18
"""Values of a band that percentiles are taken of, where they are too many kinds to count: a random choice of all."""
COUNTED = 1 << 16
"""Kinds of values up to which each is counted, so that percentiles are exact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What is known of the values of each band; it is made of plain numbers, and so is kept with a model."""

    bands: tuple[str, ...]
    """Their names."""
    count: tuple[int, ...]
    """Valid pixels of each; those that lie in several windows count as often."""
    mean: tuple[float, ...]
    """In the units of the layer."""
    std: tuple[float, ...]
    """Standard deviation of all these pixels (not of a sample); one for a band that does not vary."""
    percentiles: dict[float, tuple[float, ...]]
    """By percent, one value a band."""

    def normalise(self, image: torch.Tensor) -> torch.Tensor:
        """Return (…, band, height, width) with zero mean and unit deviation in each band."""
        mean, std = self._columns(image)
        return (image - mean) / std

    def restore(self, image: torch.Tensor) -> torch.Tensor:
        """Return what `normalise` was given."""
        mean, std = self._columns(image)
        return image * std + mean

    def to_dict(self) -> dict[str, Any]:
        """Return lists and numbers, as JSON and checkpoints hold them."""
        return {
            "bands": list(self.bands),
            "count": list(self.count),
            "mean": list(self.mean),
            "std": list(self.std),
            "percentiles": {str(p): list(values) for p, values in self.percentiles.items()},
        }

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Self:
        """Return what `to_dict` was called on."""
        percentiles = {float(p): tuple(values) for p, values in found["percentiles"].items()}
        plain = {key: tuple(found[key]) for key in ("bands", "count", "mean", "std")}
        return cls(**plain, percentiles=percentiles)

    def _columns(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if image.shape[-3] != len(self.bands):
            msg = f"Cannot normalise an image of {image.shape[-3]} bands by the statistics of "
            msg += f"{len(self.bands)}: {', '.join(self.bands)}. Choose those bands."
            raise InputError(msg)
        both = torch.tensor([self.mean, self.std], dtype=image.dtype, device=image.device)[:, :, None, None]
        return both[0], both[1]


def statistics(
    layer: xr.DataArray,
    windows: Iterable[Window],
    *,
    percentiles: Sequence[float] = PERCENTILES,
    seed: int = 0,
) -> Statistics:
    """Return statistics of each band over the valid pixels of some windows, read one after the other.

    Parameters
    ----------
    layer
        (band, y, x) or (y, x), with a time dimension or without.
    windows
        A sampler, or windows of the layer's grid; memory does not grow with their number.
    percentiles
        In percent. Exact for integers of up to 16 bits; else of a random choice of 262,144 values of each band, whose
        rank is off by 0.1 percent of all values at most in 2 of 3 cases.
    seed
        Of that choice.

    Raises
    ------
    InputError
        Where a band has no valid pixel.

    References
    ----------
    Chan et al. 1979, https://doi.org/10.1007/978-3-642-51461-6_3 (merging of moments, exact for large offsets);
    Vitter 1985, https://doi.org/10.1145/3147.3165 (random choice from a stream)
    """
    view = view_of(layer)
    bands = _names(layer, view.shape[1])
    moments = [_Moments() for _ in bands]
    whole = view.dtype.kind in "iu" and view.dtype.itemsize <= 2
    ranks = [_Counts(view.dtype) if whole else _Choice(np.random.default_rng((seed, n))) for n in range(len(bands))]
    for window in windows:
        values, valid = view.read(window)
        for n in range(len(bands)):
            some = values[:, n][valid[:, n]]
            if some.size:
                moments[n].add(some.astype("float64"))
                ranks[n].add(some)
    for name, one in zip(bands, moments, strict=True):
        if not one.count:
            msg = f"Cannot describe band {name!r} of {layer.name!r}: no window has a valid pixel of it. Leave it out."
            raise InputError(msg)
    found = np.array([rank.percentiles(percentiles) for rank in ranks])
    return Statistics(
        bands=bands,
        count=tuple(m.count for m in moments),
        mean=tuple(m.mean for m in moments),
        std=tuple(m.std for m in moments),
        percentiles={float(p): tuple(column.tolist()) for p, column in zip(percentiles, found.T, strict=True)},
    )


def _names(layer: xr.DataArray, count: int) -> tuple[str, ...]:
    if "band" in layer.coords and layer["band"].ndim == 1:
        return tuple(str(name) for name in layer["band"].values)
    return tuple(str(n + 1) for n in range(count))


class _Moments:
    """Count, mean and spread of a stream of numbers."""

    def __init__(self) -> None:
        self.count, self.mean, self._spread = 0, 0.0, 0.0

    def add(self, values: Floats) -> None:
        mean = float(values.mean())
        total, step = self.count + values.size, mean - self.mean
        self._spread += float(((values - mean) ** 2).sum()) + step**2 * self.count * values.size / total
        self.mean += step * values.size / total
        self.count = total

    @property
    def std(self) -> float:
        found = float(np.sqrt(self._spread / self.count))
        return found or 1.0


class _Counts:
    """How often each value comes, of a type that has few."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._least = int(np.iinfo(dtype).min)
        self._counts = np.zeros(COUNTED, "int64")

    def add(self, values: Array) -> None:
        self._counts += np.bincount(values.astype("int64") - self._least, minlength=COUNTED)

    def percentiles(self, wanted: Sequence[float]) -> list[float]:
        """Return the same as `numpy.percentile` of all values."""
        upto = self._counts.cumsum()
        places = np.asarray(wanted, "float64") / 100 * (upto[-1] - 1)
        low, high = (np.searchsorted(upto, end(places) + 1) + self._least for end in (np.floor, np.ceil))
        return list((low + (high - low) * (places - np.floor(places))).tolist())


class _Choice:
    """A random choice from a stream, each value as likely as any other."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng, self._seen = rng, 0
        self._keys, self._values = np.empty(0), np.empty(0)

    def add(self, values: Array) -> None:
        keys = np.concatenate((self._keys, self._rng.random(values.size)))
        every = np.concatenate((self._values, values.astype("float64")))
        if len(keys) > KEPT:
            kept = np.argpartition(keys, KEPT)[:KEPT]
            keys, every = keys[kept], every[kept]
        self._keys, self._values = keys, every

    def percentiles(self, wanted: Sequence[float]) -> list[float]:
        return list(np.percentile(self._values, wanted).tolist())

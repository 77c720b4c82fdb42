"""Band statistics: mean, standard deviation and percentiles of each band, and normalization by them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
import xarray as xr

from geoxt.errors import InputError
from geoxt.source import view_of
from geoxt.trees import layers_of
from geoxt.types import Array, Floats, Mask
from geoxt.windows import Window

PERCENTILES = (1.0, 2.0, 25.0, 50.0, 75.0, 98.0, 99.0)
SAMPLE_SIZE = 1 << 18
"""Values of a band from which percentiles are estimated where counting each distinct value takes too much memory."""
DISTINCT = 1 << 16
"""Distinct values of integers of up to 16 bits; each is counted, so that percentiles are exact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BandStatistics:
    """Statistics of each band, as plain numbers that a checkpoint or JSON can hold."""

    bands: tuple[str, ...]
    """Names of the bands."""
    count: tuple[int, ...]
    """Number of valid pixels; a pixel in several windows counts several times."""
    mean: tuple[float, ...]
    """Mean, in the units of the layer."""
    std: tuple[float, ...]
    """Population standard deviation; 1 for a constant band."""
    percentiles: dict[float, tuple[float, ...]]
    """Values of each band by percentage."""

    def normalize(self, image: torch.Tensor) -> torch.Tensor:
        """Return an image (…, band, height, width) with zero mean and unit standard deviation in each band."""
        mean, std = self._columns(image)
        return (image - mean) / std

    def denormalize(self, image: torch.Tensor) -> torch.Tensor:
        """Return the original image of a normalized image: the inverse of `normalize`."""
        mean, std = self._columns(image)
        return image * std + mean

    def to_dict(self) -> dict[str, Any]:
        """Return the statistics as lists and numbers, for JSON and checkpoints."""
        return {
            "bands": list(self.bands),
            "count": list(self.count),
            "mean": list(self.mean),
            "std": list(self.std),
            "percentiles": {str(p): list(values) for p, values in self.percentiles.items()},
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Return statistics from the dict of `to_dict`."""
        percentiles = {float(p): tuple(values) for p, values in fields["percentiles"].items()}
        plain = {key: tuple(fields[key]) for key in ("bands", "count", "mean", "std")}
        return cls(**plain, percentiles=percentiles)

    def _columns(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if image.shape[-3] != len(self.bands):
            raise InputError(
                f"Cannot normalize an image of {image.shape[-3]} bands by the statistics of {len(self.bands)}:"
                f" {', '.join(self.bands)}.",
                remedy="Choose those bands.",
            )
        both = torch.tensor([self.mean, self.std], dtype=image.dtype, device=image.device)[:, :, None, None]
        return both[0], both[1]


class RunningMoments:
    """Mean and standard deviation of each band of a stream of images, in one pass.

    Attributes
    ----------
    count
        (band,) number of valid pixels.
    mean
        (band,) float64.

    References
    ----------
    Chan et al. 1979, https://doi.org/10.1007/978-3-642-51461-6_3. The sum of squared deviations is merged, never
    E[x²] - E[x]², which loses all digits if the mean is large compared to the deviation.

    Examples
    --------
    >>> moments = RunningMoments()
    >>> for tile in ([[1e9, 1e9 + 1]], [[1e9 + 2, 1e9 + 3]]):
    ...     moments.update(np.array(tile))
    >>> moments.mean - 1e9, moments.std.round(3)
    (array([1.5]), array([1.118]))
    """

    def __init__(self) -> None:
        self.count, self.mean, self._spread = np.zeros(0), np.zeros(0), np.zeros(0)

    def update(self, values: Array, valid: Mask | None = None) -> None:
        """Add an image (band, …), and its valid mask of the same shape; by default finite pixels are valid."""
        valid = np.isfinite(values) if valid is None else valid
        values, valid = values.reshape(len(values), -1), valid.reshape(len(valid), -1)
        if not len(self.count):
            self.count, self.mean, self._spread = (np.zeros(len(values)) for _ in range(3))
        count = valid.sum(axis=1)
        invalid = None if count.sum() == valid.size else ~valid
        filled = values.astype("float64")  # one array, changed in place: new ones cost more than the sums
        if invalid is not None:
            filled[invalid] = 0
        mean = filled.sum(axis=1) / np.maximum(count, 1)
        filled -= mean[:, None]
        filled *= filled
        if invalid is not None:
            filled[invalid] = 0
        spread = filled.sum(axis=1)
        # Merge of two parts: M2 = M2a + M2b + (mean_b - mean_a)² na nb / (na + nb)
        total, step = np.maximum(self.count + count, 1), mean - self.mean
        self._spread += spread + step**2 * self.count * count / total
        self.mean, self.count = self.mean + step * count / total, self.count + count

    @property
    def std(self) -> Floats:
        """(band,) population standard deviation; 1 for a constant band."""
        std = np.sqrt(self._spread / np.maximum(self.count, 1))
        return np.where(std > 0, std, 1.0)


def statistics(
    layer: xr.DataArray | xr.Dataset | xr.DataTree,
    windows: Iterable[Window],
    *,
    percentiles: Sequence[float] = PERCENTILES,
    seed: int = 0,
) -> BandStatistics:
    """Return statistics of each band over the valid pixels of windows.

    Parameters
    ----------
    layer
        Dimensions (time, band, y, x), time and band may be absent. Or a tree with a layer in each node.
    windows
        A sampler, or windows of the layer's grid. They are read one after the other; memory does not grow with their
        number.
    percentiles
        Percentages. Exact for integers of up to 16 bits, else estimated from 262,144 random values of each band, with a
        standard error of the rank of at most 0.1 percent. `percentiles=()` computes none, which is faster.
    seed
        Seed of the random values.

    Raises
    ------
    InputError
        If a band has no valid pixel, or the nodes of a tree have different numbers of bands.

    References
    ----------
    Vitter 1985, https://doi.org/10.1145/3147.3165 (random sample of a stream)

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> from geoxt.samplers import GridSampler
    >>> layer = make_layer(np.arange(16.0).reshape(4, 4))
    >>> statistics(layer, GridSampler(layer, size=2)).mean
    (7.5,)
    """
    layers = layers_of(layer)
    views = {node: view_of(node_layer) for node, node_layer in layers.items()}
    counts = {node: view.shape[1] for node, view in views.items()}
    if len(set(counts.values())) > 1:
        raise InputError(
            f"Cannot compute band statistics of a tree whose nodes have different numbers of bands: {counts}.",
            remedy="Choose the same bands in each node.",
        )
    first = next(iter(layers))
    bands = _band_names(layers[first], counts[first])
    moments = RunningMoments()
    ranks = [_ranks(views[first].dtype, seed, index) for index in range(len(bands))] if percentiles else []
    for window in windows:
        values, valid = (np.moveaxis(part, 1, 0) for part in views[window.node].read(window))
        moments.update(values, valid)
        for rank, band, band_valid in zip(ranks, values, valid, strict=bool(ranks)):
            rank.update(band[band_valid])
    _require_valid(moments, bands, layers[first].name)
    table = np.array([rank.percentiles(percentiles) for rank in ranks]).reshape(len(ranks), len(percentiles))
    return BandStatistics(
        bands=bands,
        count=tuple(map(int, moments.count)),
        mean=tuple(moments.mean.tolist()),
        std=tuple(moments.std.tolist()),
        percentiles={float(p): tuple(column.tolist()) for p, column in zip(percentiles, table.T, strict=True)},
    )


def _band_names(layer: xr.DataArray, count: int) -> tuple[str, ...]:
    if "band" in layer.coords and layer["band"].ndim == 1:
        return tuple(str(name) for name in layer["band"].values)
    return tuple(str(n + 1) for n in range(count))


def _require_valid(moments: RunningMoments, bands: Sequence[str], name: object) -> None:
    counts = moments.count if len(moments.count) else np.zeros(len(bands))
    if not counts.all():
        raise InputError(
            f"Cannot compute statistics of band {bands[int(counts.argmin())]!r} of {name!r}: no window has a valid"
            " pixel of it.",
            remedy="Leave the band out.",
        )


def _ranks(dtype: np.dtype[Any], seed: int, band: int) -> _ValueCounts | _RandomSample:
    small = dtype.kind in "iu" and dtype.itemsize <= 2
    return _ValueCounts(dtype) if small else _RandomSample(np.random.default_rng((seed, band)))


class _ValueCounts:
    """Counts of each distinct value of a small integer dtype."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._smallest = int(np.iinfo(dtype).min)
        self._counts = np.zeros(DISTINCT, "int64")

    def update(self, values: Array) -> None:
        self._counts += np.bincount(values.astype("int64") - self._smallest, minlength=DISTINCT)

    def percentiles(self, percentages: Sequence[float]) -> list[float]:
        """Return the same as `numpy.percentile` of all values: linear between the two nearest ranks."""
        cumulative = self._counts.cumsum()
        ranks = np.asarray(percentages, "float64") / 100 * (cumulative[-1] - 1)
        low, high = (np.searchsorted(cumulative, end(ranks) + 1) + self._smallest for end in (np.floor, np.ceil))
        return list((low + (high - low) * (ranks - np.floor(ranks))).tolist())


class _RandomSample:
    """A random sample of a stream: every value gets a random key, and those with the smallest keys stay."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._keys, self._values = np.empty(0), np.empty(0)

    def update(self, values: Array) -> None:
        keys = np.concatenate((self._keys, self._rng.random(values.size)))
        values = np.concatenate((self._values, values.astype("float64")))
        if len(keys) > SAMPLE_SIZE:
            smallest = np.argpartition(keys, SAMPLE_SIZE)[:SAMPLE_SIZE]
            keys, values = keys[smallest], values[smallest]
        self._keys, self._values = keys, values

    def percentiles(self, percentages: Sequence[float]) -> list[float]:
        return list(np.percentile(self._values, percentages).tolist())

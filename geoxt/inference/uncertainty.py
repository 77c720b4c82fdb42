"""Measures of the uncertainty of pixels, from blended class probabilities or from the variance of a quantity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geoxt.types import Array, Floats

OF_CLASSES = ("entropy", "margin")
"""Measures of one prediction of class probabilities."""
OF_SAMPLES = ("mutual_information", "variance")
"""Measures of the spread of several predictions of class probabilities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """Measures of uncertainty as bands of a map."""

    names: tuple[str, ...]
    """Bands of the map."""
    classes: int
    """Number of channels that are class probabilities; 0 for regression, whose channels are variances."""

    @classmethod
    def of_classes(cls, channels: int, *, sampled: bool) -> Measures:
        """Return the measures of class probabilities; if `sampled`, the last channels are `OF_SAMPLES`."""
        if sampled:
            return cls(names=OF_CLASSES + OF_SAMPLES, classes=channels - len(OF_SAMPLES))
        return cls(names=OF_CLASSES, classes=channels)

    @classmethod
    def of_quantities(cls, names: Sequence[str]) -> Measures:
        """Return the variance and the standard deviation of each quantity."""
        pairs = [("variance", "std")] if len(names) == 1 else [(f"{n} variance", f"{n} std") for n in names]
        return cls(names=tuple(name for pair in pairs for name in pair), classes=0)

    def __call__(self, means: Floats) -> Array:
        """Return the bands (band, …) of blended channels (channel, …)."""
        if not self.classes:
            bands = np.repeat(means, 2, axis=0)
            np.sqrt(bands[1::2], out=bands[1::2])
            return bands
        probabilities = means[: self.classes]
        logarithms = np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
        entropy = np.maximum(-(probabilities * logarithms).sum(axis=0), 0)
        largest = np.partition(probabilities, -2, axis=0)[-2:] if self.classes > 1 else [0, probabilities[0]]
        return np.stack([entropy, largest[1] - largest[0], *means[self.classes :]])


class Spread:
    """Running mean and variance of predictions (Welford's algorithm).

    Of equal predictions the mean is exact and the variance 0.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor
        self._squares: Tensor
        self._entropy: Tensor

    def add(self, values: Tensor, *, classes: bool) -> None:
        """Add a prediction (N, K, h, w)."""
        self.count += 1
        entropy = entropy_of(values) if classes else values[:, :0]
        if self.count == 1:
            self.mean, self._squares, self._entropy = values, torch.zeros_like(values), entropy
            return
        delta = values - self.mean
        self.mean = self.mean + delta / self.count
        self._squares = self._squares + delta * (values - self.mean)
        self._entropy = self._entropy + (entropy - self._entropy) / self.count

    @property
    def variance(self) -> Tensor:
        """Unbiased variance over the predictions, (N, K, h, w)."""
        return self._squares / (self.count - 1)

    @property
    def mutual_information(self) -> Tensor:
        """Entropy of the mean minus the mean entropy, in nats, (N, 1, h, w)."""
        return (entropy_of(self.mean) - self._entropy).clamp(min=0)


def entropy_of(probabilities: Tensor) -> Tensor:
    """Return the entropy (N, 1, h, w) of class probabilities (N, K, h, w), in nats."""
    return torch.special.entr(probabilities).sum(dim=1, keepdim=True)

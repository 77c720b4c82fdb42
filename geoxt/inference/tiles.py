"""Overlapping tiles that cover a scene, and their blending weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from geoxt.errors import InputError
from geoxt.types import Floats
from geoxt.windows import Window

Blend = Literal["linear", "gaussian", "hann", "none"]
"""Blending weights of a tile: decreasing towards its edges, or all equal."""

_SHARPNESS = 8
"""Side of a tile in standard deviations of the Gaussian, as in nnU-Net (https://doi.org/10.1038/s41592-020-01008-z)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lattice:
    """Positions of the tiles of a scene.

    They depend on the shape of the scene only, so that a part of the map is computed from the same tiles as the whole.
    Tiles start every `size - overlap` pixels; the last ones are moved back to end with the scene.

    Examples
    --------
    >>> from geoxt.windows import Window
    >>> lattice = Lattice(shape=(10, 4), size=(4, 4), overlap=(1, 1))
    >>> [tile.row for tile in lattice.touching(Window(0, 0, 10, 4))]
    [0, 3, 6]
    """

    shape: tuple[int, int]
    """Rows and columns of the scene."""
    size: tuple[int, int]
    """Height and width of a tile, in pixels; a tile may be larger than the scene."""
    overlap: tuple[int, int]
    """Minimum rows and columns that neighbouring tiles share."""
    blend: Blend = "linear"
    """"linear": weights increase linearly from the edge over the overlap. "hann": the same along a squared sine.
    "gaussian": weights decrease from the centre of the tile. "none": all weights are 1."""

    def __post_init__(self) -> None:
        if not all(0 <= overlap < size for overlap, size in zip(self.overlap, self.size, strict=True)):
            msg = f"Cannot tile with an overlap of {self.overlap} and a size of {self.size} pixels."
            raise InputError(msg, remedy="Pass {overlap} from 0 to size - 1.")
        if self.blend not in get_args(Blend):
            msg = f"Cannot blend tiles by {self.blend!r}."
            raise InputError(msg, remedy=f"Pass {{blend}}, one of {', '.join(get_args(Blend))}.")

    def touching(self, window: Window) -> Iterator[Window]:
        """Yield the tiles that overlap a window of the scene, row by row."""
        cols = list(self._starts(1, window.col, window.stop[1]))
        for row in self._starts(0, window.row, window.stop[0]):
            for col in cols:
                yield Window(row, col, *self.size)

    def _starts(self, axis: int, start: int, stop: int) -> Iterator[int]:
        size, step = self.size[axis], self.size[axis] - self.overlap[axis]
        last = max(self.shape[axis] - size, 0)
        for index in range(-(-last // step) + 1):
            position = min(index * step, last)
            if position < stop and start < position + size:
                yield position

    def weights(self) -> Floats:
        """Return the weight of each pixel of a tile, float64 (height, width), all positive.

        Weights are separable: the outer product of one vector per axis. Linear and Hann weights of two neighbours that
        share exactly `overlap` pixels sum to 1, so that blending has no seams.

        Examples
        --------
        >>> Lattice(shape=(9, 9), size=(1, 4), overlap=(0, 2)).weights().round(2)
        array([[0.33, 0.67, 0.67, 0.33]])
        """
        ramp = _RAMPS[self.blend]
        down, across = (ramp(size, overlap) for size, overlap in zip(self.size, self.overlap, strict=True))
        return np.multiply.outer(down, across)

    @property
    def stride(self) -> tuple[int, int]:
        """Rows and columns between the starts of neighbouring tiles."""
        return self.size[0] - self.overlap[0], self.size[1] - self.overlap[1]


def _linear(size: int, overlap: int) -> Floats:
    # i / (overlap + 1) for the i-th pixel from the edge: never 0, and i + (overlap + 1 - i) sums to 1.
    edge = np.minimum(np.arange(1, size + 1), np.arange(size, 0, -1))
    return np.minimum(edge / (overlap + 1), 1.0)


def _hann(size: int, overlap: int) -> Floats:
    # sin² + cos² = 1 keeps the sum of two neighbours at 1.
    return np.sin(np.pi / 2 * _linear(size, overlap)) ** 2


def _gaussian(size: int, overlap: int) -> Floats:
    del overlap
    positions = (np.arange(size) + 0.5) / size - 0.5
    return np.exp(-0.5 * (_SHARPNESS * positions) ** 2)


def _equal(size: int, overlap: int) -> Floats:
    del overlap
    return np.ones(size)


_RAMPS: Mapping[Blend, Callable[[int, int], Floats]] = {
    "linear": _linear,
    "gaussian": _gaussian,
    "hann": _hann,
    "none": _equal,
}

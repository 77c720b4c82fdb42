"""Tiles that cover a scene, overlapping, and the weights by which they are blended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from geoxt.errors import InputError
from geoxt.types import Floats
from geoxt.windows import Window

Blend = Literal["linear", "gaussian", "hann", "none"]
"""How overlapping tiles are weighted: less towards their edges, or all alike."""

_SHARPNESS = 8
"""Standard deviations of a Gaussian in a tile's side, as nnU-Net has it (https://doi.org/10.1038/s41592-020-01008-z)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lattice:
    """Where the tiles of a whole scene lie.

    The lattice depends on the scene's shape alone, so that a part of the scene meets the same tiles as the whole. Tiles
    start every `size - overlap` pixels; the last ones are moved back, so that they end with the scene.

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
    """Height and width of a tile, in pixels. A tile is larger than the scene where the scene is smaller than a tile."""
    overlap: tuple[int, int]
    """Rows and columns that neighbours share, at least."""
    blend: Blend = "linear"
    """`"linear"` weights rise from a tile's edge inwards over the overlap, `"hann"` do so along half a cosine wave,
    `"gaussian"` fall from the tile's centre in all of it, and `"none"` are all alike."""

    def __post_init__(self) -> None:
        if not all(0 <= overlap < size for overlap, size in zip(self.overlap, self.size, strict=True)):
            msg = f"Cannot tile with overlap={self.overlap} and size={self.size}: pass 0 to size - 1 pixels of overlap."
            raise InputError(msg)
        if self.blend not in get_args(Blend):
            msg = f"Cannot blend tiles by blend={self.blend!r}: pass one of {', '.join(get_args(Blend))}."
            raise InputError(msg)

    def touching(self, window: Window) -> Iterator[Window]:
        """Yield the tiles that share a pixel with a window of the scene, row by row."""
        cols = list(self._starts(1, window.col, window.stop[1]))
        for row in self._starts(0, window.row, window.stop[0]):
            for col in cols:
                yield Window(row, col, *self.size)

    def _starts(self, axis: int, start: int, stop: int) -> Iterator[int]:
        size, step = self.size[axis], self.size[axis] - self.overlap[axis]
        last = max(self.shape[axis] - size, 0)
        for index in range(-(-last // step) + 1):
            place = min(index * step, last)
            if place < stop and start < place + size:
                yield place

    def weights(self) -> Floats:
        """Return the weight of each pixel of a tile, float64 (height, width), all above zero.

        Linear and Hann weights of two neighbours sum to one where they overlap.

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
        """Rows and columns from a tile to the next."""
        return self.size[0] - self.overlap[0], self.size[1] - self.overlap[1]


def _linear(size: int, overlap: int) -> Floats:
    edge = np.minimum(np.arange(1, size + 1), np.arange(size, 0, -1))
    return np.minimum(edge / (overlap + 1), 1.0)


def _hann(size: int, overlap: int) -> Floats:
    return np.sin(np.pi / 2 * _linear(size, overlap)) ** 2


def _gaussian(size: int, overlap: int) -> Floats:
    del overlap
    places = (np.arange(size) + 0.5) / size - 0.5
    return np.exp(-0.5 * (_SHARPNESS * places) ** 2)


def _alike(size: int, overlap: int) -> Floats:
    del overlap
    return np.ones(size)


_RAMPS: Mapping[Blend, Callable[[int, int], Floats]] = {
    "linear": _linear,
    "gaussian": _gaussian,
    "hann": _hann,
    "none": _alike,
}

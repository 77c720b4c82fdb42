"""Weighted sums over one row of tiles, finished row by row into a map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from geoxt.inference.tile_cache import Piece
from geoxt.types import Array, Floats
from geoxt.windows import Window


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Finish:
    """What blended values become."""

    channels: int
    """Number of channels of the model's output."""
    codes: Array | None
    """Code of each channel, to pick the best one by; `None` keeps all channels."""
    dtype: np.dtype[Any]
    """Data type of the map."""
    nodata: float
    """Value where the scene is not valid."""

    @property
    def front(self) -> tuple[int, ...]:
        """Dimensions before rows and columns."""
        return (self.channels,) if self.codes is None else ()

    @property
    def token(self) -> Any:
        """All that decides the values."""
        codes = None if self.codes is None else self.codes.tolist()
        return self.channels, codes, str(self.dtype), str(self.nodata)

    def __call__(self, means: Floats) -> Array:
        """Return values of the map for blended values (channel, ...)."""
        return means if self.codes is None else self.codes[means.argmax(axis=0)]


class Strip:
    """The sums of the tiles of a window.

    Sums are float64, so that equal values of overlapping tiles come out as they went in.

    Parameters
    ----------
    window
        The part of the output's grid that is wanted.
    height
        Rows of a tile.
    finish
        What the blended values become.
    """

    def __init__(self, *, window: Window, height: int, finish: Finish) -> None:
        self.window = window
        self.finish = finish
        self._out = np.full((*finish.front, *window.shape), finish.nodata, finish.dtype)
        self._top: int | None = None
        self._total = np.zeros((finish.channels, height, window.width))
        self._share = np.zeros((height, window.width))
        self._valid = np.zeros((height, window.width), bool)

    def start(self, row: int) -> None:
        """Begin with the tiles that start at a row: what lies above it is finished."""
        if row == self._top:
            return
        if self._top is not None:
            self._flush(min(row - self._top, len(self._share)))
        self._top = row

    def add(self, part: Window, piece: Piece, weight: Floats) -> None:
        """Add a part of a tile's output."""
        if piece.values is None:
            return
        assert self._top is not None
        there = part.within(Window(self._top, self.window.col, *self._share.shape))
        here = part.within(piece.window)
        self._total[:, *there] += piece.values[:, *here] * weight
        self._share[there] += weight
        self._valid[there] |= piece.valid[here]

    def result(self) -> Array:
        """Finish what is left and return the map, ([channel,] height, width)."""
        if self._top is not None:
            self._flush(len(self._share))
        return self._out

    def _flush(self, rows: int) -> None:
        """Write the first rows into the map, and move the others to their place."""
        assert self._top is not None
        done = Window(self._top, self.window.col, rows, self.window.width).intersect(self.window)
        if done is not None:
            self._write(done.within(Window(self._top, 0, *self._share.shape))[0], done.within(self.window)[0])
        for sums in (self._total, self._share, self._valid):
            sums[..., :-rows, :] = sums[..., rows:, :]
            sums[..., -rows:, :] = 0

    def _write(self, here: slice, there: slice) -> None:
        valid, share = self._valid[here], self._share[here]
        if not valid.any():
            return
        means = np.divide(self._total[:, here], share, out=self._total[:, here], where=share > 0)
        np.copyto(self._out[..., there, :], self.finish(means), where=valid, casting="same_kind")

"""What tiles reach over a region's lower and right edge: kept for the next regions, so that no tile runs twice."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from geoxt.types import Array, Mask
from geoxt.windows import Window

LIMIT = 256 * 2**20
"""Bytes kept of one map; what was not used for longest goes first, and is worked out again where it is needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of a tile's output."""

    window: Window
    """The part, on the output's grid."""
    values: Array | None
    """float32 (channel, height, width); `None` where nothing is valid."""
    valid: Mask
    """(height, width)."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.valid.nbytes + (0 if self.values is None else self.values.nbytes)

    def cut(self, window: Window) -> Piece:
        """Return a copy of a part of it."""
        rows, cols = window.within(self.window)
        values = None if self.values is None else self.values[:, rows, cols].copy()
        return Piece(window=window, values=values, valid=self.valid[rows, cols].copy())


class Pieces:
    """The parts of tiles that regions yet to come will ask for."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.nbytes = 0
        self._found: OrderedDict[tuple[int, Window], Piece] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, step: int, tile: Window, need: Window) -> Piece | None:
        """Return what is kept of a tile, where that holds all that is needed."""
        with self._lock:
            found = self._found.get((step, tile))
            if found is None or not found.window.contains(need):
                return None
            self._found.move_to_end((step, tile))
            return found

    def keep(self, step: int, tile: Window, piece: Piece, region: Window, scene: tuple[int, int]) -> None:
        """Keep what of a tile lies below or to the right of a region, within the scene."""
        bottom, right = min(tile.stop[0], scene[0]), min(tile.stop[1], scene[1])
        below, beside = bottom > region.stop[0], right > region.stop[1]
        if not (below or beside):
            return
        row = region.stop[0] if below and not beside else tile.row
        col = region.stop[1] if beside and not below else tile.col
        kept = piece.cut(Window(row, col, bottom - row, right - col))
        if kept.nbytes > self.limit:
            return
        with self._lock:
            before = self._found.pop((step, tile), None)
            self.nbytes += kept.nbytes - (before.nbytes if before else 0)
            self._found[step, tile] = kept
            while self.nbytes > self.limit:
                self.nbytes -= self._found.popitem(last=False)[1].nbytes

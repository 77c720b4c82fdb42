"""Cache of tile parts outside of a block, so that the model runs once on tiles of several blocks."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from geoxt.windows import Window

MAX_BYTES = 256 * 2**20
"""Bytes cached per map; the least recently used parts are evicted, and computed again if they are needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileOutput:
    """Model output of a tile, or of a part of it: numpy arrays, or tensors on a device."""

    window: Window
    """The part, on the grid of the output."""
    values: Any
    """float32 (channel, height, width); `None` if no pixel is valid."""
    valid: Any
    """(height, width)."""
    finite: Any = None
    """Pixels whose values are finite, (height, width); `None` if all are. The values of the others are 0."""

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        arrays = (self.valid, self.values, self.finite)
        return sum(int(array.nbytes) for array in arrays if array is not None)

    def crop(self, window: Window) -> TileOutput:
        """Return a copy of the part in a window."""
        rows, cols = window.within(self.window)
        values = None if self.values is None else _copy(self.values[:, rows, cols])
        finite = None if self.finite is None else _copy(self.finite[rows, cols])
        return TileOutput(window=window, values=values, valid=_copy(self.valid[rows, cols]), finite=finite)

    def on_host(self) -> TileOutput:
        """Return the output as numpy arrays."""
        arrays = (a.cpu().numpy() if isinstance(a, Tensor) else a for a in (self.values, self.valid, self.finite))
        values, valid, finite = arrays
        return TileOutput(window=self.window, values=values, valid=valid, finite=finite)


class TileCache:
    """Parts of tile outputs, by time step and tile. Thread-safe.

    Parameters
    ----------
    max_bytes
        Bytes of all parts together.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._outputs: OrderedDict[tuple[int, Window], TileOutput] = OrderedDict()
        self._claims: dict[tuple[int, Window], Future[None]] = {}
        """Tiles that a block computes, each with a future that is done once it has, or has failed."""
        self._lock = threading.Lock()

    def get(self, step: int, tile: Window, window: Window) -> TileOutput | None:
        """Return the cached part of a tile if it contains a window, else `None`."""
        with self._lock:
            return self._cached(step, tile, window)

    def _cached(self, step: int, tile: Window, window: Window) -> TileOutput | None:
        output = self._outputs.get((step, tile))
        if output is None or not output.window.contains(window):
            return None
        self._outputs.move_to_end((step, tile))
        return output

    def claim(self, step: int, tile: Window, window: Window) -> TileOutput | Future[None] | None:
        """Return the cached part of a tile, or the future of the block that computes it; if `None`, the caller does.

        All blocks compute their tiles row by row, so that none waits for a block that waits for it.
        """
        with self._lock:
            output = self._cached(step, tile, window) or self._claims.get((step, tile))
            if output is None:
                self._claims[step, tile] = Future()
            return output

    def release(self, step: int, tile: Window) -> None:
        """End the claim of a tile, which may have none."""
        with self._lock:
            future = self._claims.pop((step, tile), None)
        if future is not None:
            future.set_result(None)

    def put(self, step: int, tile: Window, output: TileOutput, block: Window, shape: tuple[int, int]) -> None:
        """Cache the part of a tile outside of a block, cut to the shape of the scene.

        On any side: writers compute blocks row by row, and dask's schedulers from the last one to the first.
        """
        (top, left), (bottom, right) = (max(tile.row, 0), max(tile.col, 0)), tile.stop
        bottom, right = min(bottom, shape[0]), min(right, shape[1])
        beyond = [
            (top, left, block.row, right),
            (block.stop[0], left, bottom, right),
            (top, left, bottom, block.col),
            (top, block.stop[1], bottom, right),
        ]
        beyond = [side for side in beyond if side[0] < side[2] and side[1] < side[3]]
        if not beyond:
            return
        # Around a corner of the block, the parts in its neighbours make no rectangle: all of the tile is cached.
        top, left, bottom, right = beyond[0] if len(beyond) == 1 else (top, left, bottom, right)
        part = output.crop(Window(top, left, bottom - top, right - left))
        if part.nbytes > self.max_bytes:
            return
        with self._lock:
            previous = self._outputs.pop((step, tile), None)
            self.nbytes += part.nbytes - (previous.nbytes if previous else 0)
            self._outputs[step, tile] = part
            while self.nbytes > self.max_bytes:
                self.nbytes -= self._outputs.popitem(last=False)[1].nbytes


def _copy(array: Any) -> Any:
    return array.clone() if isinstance(array, Tensor) else array.copy()

"""Blend overlapping tiles: weighted sums over one row of tiles, divided by the sum of weights row by row.

A pixel of the map is sum(w_i v_i) / sum(w_i) over the tiles i that contain it. Tiles come row by row; a row of pixels
is finished as soon as all further tiles start below it, so that sums are held for the height of one tile only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from geoxt.inference.tile_cache import TileOutput
from geoxt.inference.uncertainty import Measures
from geoxt.types import Array, Floats
from geoxt.windows import Window


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MapEncoding:
    """Storage of blended model outputs as pixels of a map."""

    channels: int
    """Number of channels of the model's output."""
    codes: Array | None
    """Class code of each channel; the map holds the code of the largest channel. `None` keeps all channels."""
    dtype: np.dtype[Any]
    """Dtype of the map."""
    nodata: float
    """Value of pixels that are not valid."""
    all_finite: bool = False
    """Whether all channels of a valid pixel must be finite, as for classes; otherwise one suffices."""
    measures: Measures | None = None
    """Measures of uncertainty that are the bands of the map; `None` for the channels."""

    @property
    def leading_shape(self) -> tuple[int, ...]:
        """Sizes of the dimensions before rows and columns."""
        if self.measures is not None:
            return (len(self.measures.names),)
        return (self.channels,) if self.codes is None else ()

    @property
    def token(self) -> Any:
        """All fields, for dask's tokens."""
        codes = None if self.codes is None else self.codes.tolist()
        measures = () if self.measures is None else (self.measures.names, self.measures.classes)
        return self.channels, codes, str(self.dtype), str(self.nodata), self.all_finite, *measures

    def encode(self, means: Floats) -> Array:
        """Return pixels of the map for blended values (channel, …)."""
        if self.measures is not None:
            return self.measures(means)
        return means if self.codes is None else self.codes[means.argmax(axis=0)]


class RowAccumulator:
    """Blends the tiles of a window, row of tiles by row of tiles.

    Sums are float64, so that blending equal float32 values returns exactly these values.

    Parameters
    ----------
    window
        Window to compute, on the grid of the output.
    height
        Rows of a tile.
    encoding
        Storage of the blended values.
    """

    def __init__(self, *, window: Window, height: int, encoding: MapEncoding) -> None:
        self.window = window
        self.encoding = encoding
        self._top: int | None = None
        self._map: Any = np.full((*encoding.leading_shape, *window.shape), encoding.nodata, encoding.dtype)
        self._sums: Any = np.zeros((encoding.channels, height, window.width))
        self._weights: Any = np.zeros((height, window.width))
        self._valid: Any = np.zeros((height, window.width), bool)

    def start_row(self, row: int) -> None:
        """Begin the tiles that start at a row, which finishes the pixels above it."""
        if row == self._top:
            return
        if self._top is not None:
            self._flush(min(row - self._top, len(self._weights)))
        self._top = row

    def add(self, part: Window, output: TileOutput, weights: Any) -> None:
        """Add the part of a tile's output in a window, with the weights of its pixels."""
        if output.values is None:
            return
        assert self._top is not None
        target = part.within(Window(self._top, self.window.col, *self._weights.shape))
        source = part.within(output.window)
        if output.finite is not None:
            weights = weights * output.finite[source]
        self._sums[:, *target] += output.values[:, *source] * weights
        self._weights[target] += weights
        self._valid[target] |= output.valid[source]

    def result(self) -> Array:
        """Finish the last row of tiles and return the map, ([channel,] height, width)."""
        self._finish()
        finished: Array = self._map
        return finished

    def _finish(self) -> None:
        if self._top is not None:
            self._flush(len(self._weights))

    def _flush(self, rows: int) -> None:
        """Write the first rows of the sums to the map, and move the others up."""
        assert self._top is not None
        finished = Window(self._top, self.window.col, rows, self.window.width).intersect(self.window)
        if finished is not None:
            source = finished.within(Window(self._top, 0, *self._weights.shape))[0]
            self._write(source, finished.within(self.window)[0])
        self._shift(rows)

    def _shift(self, rows: int) -> None:
        """Move the sums up by rows."""
        for sums in (self._sums, self._weights, self._valid):
            sums[..., :-rows, :] = sums[..., rows:, :]
            sums[..., -rows:, :] = 0

    def _write(self, source: slice, target: slice) -> None:
        valid, weights = self._valid[source], self._weights[source]
        if not valid.any():
            return
        # In place: the sums of these rows are not needed any more. Weights are 0 only where no tile
        # is valid, or no output is finite.
        means = np.divide(self._sums[:, source], weights, out=self._sums[:, source], where=weights > 0)
        np.copyto(self._map[..., target, :], self.encoding.encode(means), where=valid, casting="same_kind")

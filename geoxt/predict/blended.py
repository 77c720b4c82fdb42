"""A map as an array: any rectangle of it is worked out from the tiles that touch it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.base import normalize_token

from geoxt.predict.runner import Runner
from geoxt.predict.tiles import Lattice
from geoxt.source import View
from geoxt.types import Array, Floats, Mask
from geoxt.windows import Window

_ONE_AT_A_TIME = threading.RLock()
"""torch spreads one batch over all cores: two chunks at once would share them, and take twice the memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Blended:
    """A model's output over a scene: (channel, y, x), or (y, x) where the best channel is picked."""

    view: View
    """Reads windows of the scene."""
    runner: Runner
    """The model."""
    lattice: Lattice
    """Where the tiles lie, and how they are weighted where they overlap."""
    channels: int
    """Number of channels of the output."""
    codes: Array | None
    """Code of each channel, to pick the best one by; `None` keeps all channels."""
    dtype: np.dtype[Any]
    """Data type of the result."""
    nodata: float
    """Value where the scene is not valid in every band."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels (unless one is picked), rows, columns."""
        rows, cols = self.lattice.shape
        return (rows, cols) if self.codes is not None else (self.channels, rows, cols)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __dask_tokenize__(self) -> Any:
        """Return all that decides the values; dask itself does not look into what stands in here."""
        view = (self.view.source, self.view.window, self.view.times, self.view.bands)
        codes = None if self.codes is None else self.codes.tolist()
        kind = (self.channels, codes, str(self.dtype), self.nodata)
        return normalize_token(("Blended", view, self.runner, self.lattice, kind))

    def __getitem__(self, key: Any) -> Array:
        """Work out the rectangle that holds the key, then take the key out of it."""
        keys = key if isinstance(key, tuple) else (key,)
        keys = keys + (slice(None),) * (self.ndim - len(keys))
        places = [np.atleast_1d(np.arange(length)[one]) for length, one in zip(self.shape, keys, strict=True)]
        shape = tuple(len(place) for place in places)
        dropped = tuple(axis for axis, one in enumerate(keys) if isinstance(one, (int, np.integer)))
        if 0 in shape:
            return np.empty(shape, self.dtype).squeeze(dropped)
        rows, cols = places[-2:]
        window = Window(int(rows.min()), int(cols.min()), int(np.ptp(rows)) + 1, int(np.ptp(cols)) + 1)
        values = self.read(window)
        places = [*places[:-2], rows - window.row, cols - window.col]
        return np.asarray(values[np.ix_(*places)].squeeze(dropped))

    def read(self, window: Window) -> Array:
        """Return the result in a window of the scene."""
        with _ONE_AT_A_TIME:
            values, valid = self._blend(window)
        if self.codes is None:
            return np.where(valid, values, self.nodata).astype(self.dtype)
        return np.where(valid, self.codes[values.argmax(axis=0)], self.nodata).astype(self.dtype)

    def _blend(self, window: Window) -> tuple[Floats, Mask]:
        """Return the weighted mean of the tiles, float64 (channel, h, w), and validity (h, w).

        Sums are float64, so that equal values of overlapping tiles come out as they went in.
        """
        weight = self.lattice.weights()
        total, share = np.zeros((self.channels, *window.shape)), np.zeros(window.shape)
        valid = np.zeros(window.shape, bool)
        for tile, output, good in self._outputs(window):
            part = tile.intersect(window)
            assert part is not None
            there, here = part.within(window), part.within(tile)
            total[:, *there] += output[:, *here] * weight[here]
            share[there] += weight[here]
            valid[there] |= good[here]
        return np.divide(total, share, out=total, where=share > 0), valid

    def _outputs(self, window: Window) -> Iterator[tuple[Window, Array, Mask]]:
        """Yield the tiles that touch a window and hold a valid pixel, with the model's output and validity."""
        batch: list[tuple[Window, Array, Mask]] = []
        for tile in self.lattice.touching(window):
            image, good = self._tile(tile)
            if good.any():
                batch.append((tile, image, good))
            if len(batch) == self.runner.batch_size:
                yield from self._run(batch)
                batch = []
        if batch:
            yield from self._run(batch)

    def _run(self, batch: list[tuple[Window, Array, Mask]]) -> Iterator[tuple[Window, Array, Mask]]:
        tiles, images, valid = zip(*batch, strict=True)
        yield from zip(tiles, self.runner(np.stack(images), np.stack(valid)), valid, strict=True)

    def _tile(self, tile: Window) -> tuple[Array, Mask]:
        """Return a tile of the scene, float32 (band, h, w), zero where not valid; and where every band is."""
        values, valid = self.view.read(tile)
        good = valid[0].all(axis=0)
        return np.where(good, values[0], 0).astype(np.float32), good

"""A map as an array: any rectangle of it is worked out from the tiles that touch it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from dask.base import normalize_token

from geoxt.inference.accumulator import Finish, Strip
from geoxt.inference.runner import Runner
from geoxt.inference.thread_pool import prefetch
from geoxt.inference.tile_cache import Piece, Pieces
from geoxt.inference.tile_reader import Feed, Held
from geoxt.inference.tiles import Lattice
from geoxt.types import Array
from geoxt.windows import Window

_ONE_AT_A_TIME = threading.RLock()
"""One region uses all cores: two at once would share them, and take twice the memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Blended:
    """A model's output over a scene: ([time,] channel, y, x), without channels where the best one is picked."""

    feed: Feed
    """Reads tiles of the scene."""
    runner: Runner
    """The model."""
    lattice: Lattice
    """Where the tiles lie on the output's grid, and how they are weighted where they overlap."""
    finish: Finish
    """What blended sums become."""
    steps: int | None
    """Number of time steps that are mapped one by one; `None` where the map has no time."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Time steps, channels (unless one is picked), rows, columns."""
        times = () if self.steps is None else (self.steps,)
        return (*times, *self.finish.front, *self.lattice.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the map."""
        return self.finish.dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the pieces that are kept."""
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}

    def __dask_tokenize__(self) -> Any:
        """Return all that decides the values."""
        return normalize_token(("Blended", self.feed, self.runner, self.lattice, self.finish.token, self.steps))

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
        inner = (*places[:-2], rows - window.row, cols - window.col)
        if self.steps is None:
            return _take(self.read(window), inner).squeeze(dropped)
        found = np.stack([_take(self.read(window, step), inner[1:]) for step in inner[0].tolist()])
        return found.squeeze(dropped)

    def read(self, window: Window, step: int = 0) -> Array:
        """Return the map in a window of the output's grid, of one time step.

        Tiles come row by row; as soon as none of those to come touches a row of pixels, that row is finished, so that
        sums are held for one row of tiles alone.
        """
        with _ONE_AT_A_TIME:
            strip = Strip(window=window, height=self.lattice.size[0], finish=self.finish)
            weight = self.lattice.weights()
            for tile, piece in self._pieces(window, step):
                strip.start(tile.row)
                part = tile.intersect(window)
                assert part is not None
                strip.add(part, piece, weight[part.within(tile)])
            return strip.result()

    @property
    def _kept(self) -> Pieces:
        found: Pieces = self.__dict__.setdefault("_pieces_kept", Pieces())
        return found

    def _pieces(self, window: Window, step: int) -> Iterator[tuple[Window, Piece]]:
        """Yield the tiles that touch a window, row by row, with what of their output is at hand or worked out."""
        scene = Window(0, 0, *self.lattice.shape)
        known: dict[Window, Piece | None] = {}
        for tile in self.lattice.touching(window):
            need = tile.intersect(window)
            assert need is not None
            known[tile] = self._kept.get(step, tile, need)
        fresh = [tile for tile, piece in known.items() if piece is None]
        held = self.feed.held(fresh, step)
        worked = chain.from_iterable(prefetch(lambda tiles: self._run(held, tiles), _batches(fresh, self.runner)))
        for tile, piece in known.items():
            if piece is not None:
                yield tile, piece
                continue
            found = next(worked)
            self._kept.keep(step, tile, found, window, scene.shape)
            yield tile, found

    def _run(self, held: Held, tiles: tuple[Window, ...]) -> list[Piece]:
        """Read a batch of tiles and run the model on it, unless nothing in it is valid."""
        images, known, valid = zip(*map(held.tile, tiles), strict=True)
        some = [bool(good.any()) for good in valid]
        output = self.runner(np.stack(images), np.stack(known)) if any(some) else None
        return [
            Piece(window=tile, values=output[place] if output is not None and some[place] else None, valid=valid[place])
            for place, tile in enumerate(tiles)
        ]


def _batches(tiles: list[Window], runner: Runner) -> Iterator[tuple[Window, ...]]:
    size = runner.batch_size
    return (tuple(tiles[start : start + size]) for start in range(0, len(tiles), size))


def _take(values: Array, places: tuple[Array, ...]) -> Array:
    """Return the outer product of places of an array; the array itself where these are all of it."""
    whole = all(len(place) == length for place, length in zip(places, values.shape, strict=True))
    if whole and all((np.diff(place) == 1).all() for place in places):
        return values
    return values[np.ix_(*places)]

"""Random windows: uniform over all places where a window fits."""

from __future__ import annotations

import numpy as np
import shapely
import xarray as xr

from geoxt.errors import InputError, OverlapError
from geoxt.samplers.plans import Plan, Table
from geoxt.samplers.regions import Region, footprint_of, region_of, shares
from geoxt.types import SomeSize
from geoxt.windows import parse_size

TRIES = 200
"""Rounds of drawing before a sampler gives up on finding windows that are covered well enough."""


class RandomSampler(Plan):
    """Windows at random places, each place where one fits equally likely.

    Parameters
    ----------
    data
        A layer, or a Dataset of layers on one grid.
    size
        Pixels: one number, or (height, width).
    length
        Number of windows in an epoch.
    seed
        The same seed gives the same windows, on any machine and for any number of workers.
    region
        Where windows lie, wholly; the whole grid by default.
    min_covered
        Least share of a window that lies in the footprints of all layers, 0 to 1. At 0, any overlap will do.

    Raises
    ------
    InputError
        Where a window fits nowhere in the region.
    OverlapError
        Where no window is covered well enough.
    """

    def __init__(
        self,
        data: xr.DataArray | xr.Dataset,
        *,
        size: SomeSize,
        length: int,
        seed: int = 0,
        region: Region | None = None,
        min_covered: float = 0.5,
    ) -> None:
        self.size = parse_size(size)
        if length < 1:
            msg = f"Cannot draw {length} windows: pass length=1 or more."
            raise InputError(msg)
        if seed < 0:
            msg = f"Cannot draw with seed={seed}: pass 0 or more."
            raise InputError(msg)
        self.length, self.seed, self.epoch = length, seed, 0
        self.region = region_of(data, region)
        self.min_covered = min_covered
        self.footprint = footprint_of(data)
        super().__init__(self.region.grid, self._draw())

    def at(self, epoch: int) -> RandomSampler:
        """Return the plan of another epoch: other windows, and for the same epoch always the same."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.epoch = epoch
        Plan.__init__(other, self.grid, other._draw())
        return other

    def _draw(self) -> Table:
        rng = np.random.default_rng([self.seed, self.epoch])
        places = Places(self.region, self.size)
        found: list[Table] = []
        count = 0
        for _ in range(TRIES):
            table = places.draw(rng, self.length)
            table = table[covered(table, self.footprint, self.min_covered)]
            found.append(table)
            count += len(table)
            if count >= self.length:
                return np.concatenate(found)[: self.length]
        msg = (
            f"Cannot find {self.length} windows of {self.size[0]} x {self.size[1]} pixels covered to "
            f"{self.min_covered:g}: {count} found in {TRIES * self.length} places. Pass a smaller size or min_covered."
        )
        raise OverlapError(msg)


class RandomBatchSampler(RandomSampler):
    """Windows in batches: those of a batch lie in one block of the grid, so that their files are read together.

    Parameters
    ----------
    data, size, length, seed, region, min_covered
        As for `RandomSampler`.
    batch_size
        Windows in a batch; give the loader the same number.
    block
        Pixels: side of the block in which a batch lies. By default the root of `batch_size` times the size.
    """

    def __init__(
        self,
        data: xr.DataArray | xr.Dataset,
        *,
        size: SomeSize,
        length: int,
        batch_size: int,
        block: SomeSize | None = None,
        seed: int = 0,
        region: Region | None = None,
        min_covered: float = 0.5,
    ) -> None:
        height, width = parse_size(size)
        side = int(np.ceil(np.sqrt(batch_size)))
        self.block = (height * side, width * side) if block is None else parse_size(block, what="block")
        self.batch_size = batch_size
        super().__init__(data, size=size, length=length, seed=seed, region=region, min_covered=min_covered)

    def _draw(self) -> Table:
        rng = np.random.default_rng([self.seed, self.epoch])
        places = Places(self.region, self.size)
        batches: list[Table] = []
        missing = self.length
        for _ in range(TRIES * self.length):
            if missing <= 0:
                return np.concatenate(batches)[: self.length]
            first = places.draw(rng, 1)
            if not covered(first, self.footprint, self.min_covered)[0]:
                continue
            near = places.near(rng, first[0], self.block, 4 * self.batch_size)
            table = np.concatenate((first, near[covered(near, self.footprint, self.min_covered)]))[: self.batch_size]
            if len(table) == self.batch_size:
                batches.append(table)
                missing -= len(table)
        msg = f"Cannot find batches of {self.batch_size} windows covered to {self.min_covered:g}. Pass a smaller one."
        raise OverlapError(msg)


class Places:
    """All places at which a window fits wholly into a region; drawing takes each with the same probability.

    Parameters
    ----------
    region
        Rectangles that share no pixel.
    size
        Height and width of the window.
    """

    def __init__(self, region: Region, size: tuple[int, int]) -> None:
        self.size = size
        fitting = [w for w in region if w.height >= size[0] and w.width >= size[1]]
        if not fitting:
            largest = max(((w.height, w.width) for w in region), default=(0, 0))
            msg = (
                f"Cannot place a window of {size[0]} x {size[1]} pixels: the largest rectangle of the region is "
                f"{largest[0]} x {largest[1]}. Pass a smaller size, or split into larger blocks."
            )
            raise InputError(msg)
        self.corners = np.array([(w.row, w.col) for w in fitting])
        self.room = np.array([(w.height - size[0] + 1, w.width - size[1] + 1) for w in fitting])
        self.ends = np.cumsum(self.room.prod(1))

    def __len__(self) -> int:
        return int(self.ends[-1])

    def draw(self, rng: np.random.Generator, count: int) -> Table:
        """Return (count, 4): row, column, height, width."""
        place = rng.integers(0, self.ends[-1], count)
        which = np.searchsorted(self.ends, place, side="right")
        within = place - np.where(which > 0, self.ends[which - 1], 0)
        row, col = np.divmod(within, self.room[which, 1])
        return self._table(self.corners[which] + np.c_[row, col])

    def near(self, rng: np.random.Generator, window: Table, block: tuple[int, int], count: int) -> Table:
        """Return windows in the rectangle that holds a window, within a block around it."""
        row, col = int(window[0]), int(window[1])
        inside = (self.corners <= (row, col)) & ((row, col) < self.corners + self.room)
        which = int(np.flatnonzero(inside.all(1))[0])
        reach = np.maximum(np.array(block) - self.size, 0)
        low = np.maximum(self.corners[which], np.array((row, col)) - reach // 2)
        high = np.minimum(self.corners[which] + self.room[which], np.array((row, col)) - reach // 2 + reach + 1)
        return self._table(rng.integers(low, high, (count, 2)))

    def _table(self, corners: Table) -> Table:
        sizes = np.broadcast_to(self.size, corners.shape)
        return np.concatenate((corners, sizes), axis=1).astype("int64")


def covered(table: Table, footprint: shapely.Geometry, least: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return which windows lie in a footprint to at least some share."""
    share = shares(table.astype("float64"), footprint)
    return np.asarray(share > 0 if least <= 0 else share >= least - 1e-9)

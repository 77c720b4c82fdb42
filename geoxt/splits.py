"""Splits: train, validation and test regions of a layer that share no pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError
from geoxt.grid import grid_of
from geoxt.samplers.regions import Region, footprint_of
from geoxt.samplers.regions import shares as covered
from geoxt.types import SomeSize
from geoxt.windows import Window, parse_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Three regions of one grid."""

    train: Region
    """Where to learn."""
    val: Region
    """Where to choose."""
    test: Region
    """Where to measure, once."""

    @property
    def grid(self) -> GeoBox:
        """The grid that the regions refer to."""
        return self.train.grid


def blocks(
    data: xr.DataArray | xr.Dataset,
    *,
    size: SomeSize,
    shares: Sequence[float] = (0.6, 0.2, 0.2),
    buffer: int = 0,
    seed: int = 0,
) -> Split:
    """Split a grid into square blocks, dealt at random to train, validation and test.

    Parameters
    ----------
    data
        A layer, or a Dataset of layers on one grid.
    size
        Pixels: side of the blocks; those at the right and lower edge may be smaller.
    shares
        Of the blocks: train, validation, test.
    buffer
        Pixels taken off every block on each side, so that blocks of two parts lie at least twice as far apart.
    seed
        The same seed gives the same split.

    Returns
    -------
    Split
        Regions that share no pixel.

    Raises
    ------
    InputError
        Where shares do not add up to one, or a part would get no block.
    """
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        msg = f"Cannot split into shares={tuple(shares)}: pass three shares that add up to 1."
        raise InputError(msg)
    grid = grid_of(data)
    if buffer < 0:
        msg = f"Cannot keep blocks apart by buffer={buffer}: pass pixels, 0 or more."
        raise InputError(msg)
    found = _lattice(grid, parse_size(size), buffer)
    found = _touching(found, data)
    order = np.random.default_rng([seed, 7]).permutation(len(found))
    counts = _deal(len(found), shares)
    if sum(counts) != len(found):
        msg = f"Cannot deal {len(found)} blocks of {size} pixels into shares={tuple(shares)}: a part gets none. "
        raise InputError(msg + "Pass a smaller size.")
    ends = np.cumsum(counts)
    parts = [order[: ends[0]], order[ends[0] : ends[1]], order[ends[1] :]]
    train, val, test = (Region(grid, tuple(found[i] for i in sorted(part))) for part in parts)
    return Split(train=train, val=val, test=test)


def check(split: Split) -> None:
    """Prove that no two parts of a split share a pixel.

    Raises
    ------
    InputError
        Where two do; the message names them and how many pixels they share.
    """
    parts = {"train": split.train, "val": split.val, "test": split.test}
    for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
        shared = shapely.area(shapely.intersection(parts[a].geometry, parts[b].on(split.grid).geometry))
        if shared > 0:
            msg = f"Cannot use the split: {a} and {b} share {shared:.0f} pixels. Make their regions apart."
            raise InputError(msg)


def _lattice(grid: GeoBox, size: tuple[int, int], buffer: int) -> list[Window]:
    """Return the blocks of a grid, each smaller by the buffer on every side; a thin rest is left out."""
    rows, cols = grid.shape
    out = []
    for row in range(0, rows, size[0]):
        for col in range(0, cols, size[1]):
            height, width = min(size[0], rows - row) - 2 * buffer, min(size[1], cols - col) - 2 * buffer
            if min(height, width) >= max(1, min(size) // 4):
                out.append(Window(row + buffer, col + buffer, height, width))
    return out


def _touching(found: list[Window], data: xr.DataArray | xr.Dataset) -> list[Window]:
    """Return the blocks that lie in the footprints of all layers, at least to a twentieth."""
    if not found:
        return []
    share = covered(found, footprint_of(data))
    return [w for w, s in zip(found, share, strict=True) if s > 0.05]


def _deal(count: int, shares: Sequence[float]) -> list[int]:
    """Return whole numbers that add up to a count, in proportion; every part with a share gets one where it can."""
    ideal = np.array(shares) * count
    dealt = np.floor(ideal).astype(int)
    dealt += (dealt == 0) & (np.array(shares) > 0)
    while dealt.sum() < count:
        dealt[np.argmax(ideal - dealt)] += 1
    while dealt.sum() > count and dealt.max() > 1:
        dealt[np.argmax(dealt - ideal)] -= 1
    return [int(d) for d in dealt]

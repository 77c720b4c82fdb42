"""Splits by blocks on a grid, dealt at random or so that each part has its share of every class; and folds of these."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError
from geoxt.grid import grid_of
from geoxt.samplers.footprints import footprint_of
from geoxt.samplers.regions import Region
from geoxt.samplers.regions import shares as covered
from geoxt.splits.balance import balanced, class_counts, deal
from geoxt.splits.checks import check
from geoxt.splits.values import Split
from geoxt.types import SomeSize
from geoxt.windows import Window, parse_size


def blocks(
    data: xr.DataArray | xr.Dataset,
    *,
    size: SomeSize,
    shares: Sequence[float] = (0.6, 0.2, 0.2),
    buffer: int = 0,
    labels: xr.DataArray | None = None,
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
    labels
        A layer of class codes on the same grid: the blocks are then dealt so that each part has about its share of the
        pixels of every class. It is read once, block by block.
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

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from geoxt.grid import coordinates
    >>> from geoxt.testing import make_grid
    >>> layer = xr.DataArray(np.zeros((100, 100)), dims=("y", "x"), coords=coordinates(make_grid((100, 100))))
    >>> split = blocks(layer, size=20, buffer=2)
    >>> [len(region) for region in split.parts.values()]
    [15, 5, 5]
    """
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        msg = f"Cannot split into shares={tuple(shares)}: pass three shares that add up to 1."
        raise InputError(msg)
    grid, found = _blocks(data, size, buffer)
    counts = deal(len(found), shares)
    if sum(counts) != len(found) or not len(found):
        msg = f"Cannot deal {len(found)} blocks of {size} pixels into shares={tuple(shares)}: a part gets none. "
        raise InputError(msg + "Pass a smaller size.")
    part = _dealt(found, counts, shares, labels, grid, seed)
    train, val, test = (_region(grid, found, part == p, buffer) for p in range(3))
    split = Split(train=train, val=val, test=test)
    check(split)
    return split


def folds(
    data: xr.DataArray | xr.Dataset,
    *,
    size: SomeSize,
    count: int = 5,
    buffer: int = 0,
    labels: xr.DataArray | None = None,
    seed: int = 0,
) -> tuple[Split, ...]:
    """Split a grid into blocks several times, so that each block is in test once: cross-validation.

    Parameters
    ----------
    data, size, buffer, labels, seed
        As for `blocks`.
    count
        Number of folds, 3 or more. Fold i is the test part of the i-th split and the validation part of the one before.

    Returns
    -------
    tuple of Split
        One a fold.

    Raises
    ------
    InputError
        Where there are fewer blocks than folds.
    """
    grid, found = _blocks(data, size, buffer)
    if not 3 <= count <= len(found):
        msg = (
            f"Cannot make {count} folds of {len(found)} blocks of {size} pixels: pass a count of 3 or more, and a size "
        )
        raise InputError(msg + "that gives as many blocks.")
    shares = [1 / count] * count
    part = _dealt(found, deal(len(found), shares), shares, labels, grid, seed)
    splits = []
    for fold in range(count):
        test, val = part == fold, part == (fold + 1) % count
        regions = [_region(grid, found, chosen, buffer) for chosen in (~test & ~val, val, test)]
        splits.append(Split(train=regions[0], val=regions[1], test=regions[2]))
        check(splits[-1])
    return tuple(splits)


def _blocks(data: xr.DataArray | xr.Dataset, size: SomeSize, buffer: int) -> tuple[GeoBox, list[Window]]:
    """Return the grid and its blocks."""
    grid = grid_of(data)
    if buffer < 0:
        msg = f"Cannot keep blocks apart by buffer={buffer}: pass pixels, 0 or more."
        raise InputError(msg)
    return grid, _touching(_lattice(grid, parse_size(size), buffer), data)


def _dealt(
    found: list[Window],
    counts: Sequence[int],
    shares: Sequence[float],
    labels: xr.DataArray | None,
    grid: GeoBox,
    seed: int,
) -> npt.NDArray[np.int64]:
    """Return the number of the part to which each block goes."""
    rng = np.random.default_rng([seed, 7])
    part = np.empty(len(found), "int64")
    part[rng.permutation(len(found))] = np.repeat(np.arange(len(counts)), counts)
    return part if labels is None else balanced(class_counts(labels, grid, found), part, shares, rng)


def _region(grid: GeoBox, found: list[Window], chosen: npt.NDArray[np.bool_], buffer: int) -> Region:
    return Region(grid, tuple(found[i] for i in np.flatnonzero(chosen)), margin=buffer)


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

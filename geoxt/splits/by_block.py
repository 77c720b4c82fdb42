"""Splits by blocks on a grid, dealt at random or so that each part has its share of every class; and folds of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError
from geoxt.grid import grid_of
from geoxt.regions.geodesic_area import pixel_area
from geoxt.regions.region import Region
from geoxt.regions.region import shares as covered
from geoxt.regions.valid_footprint import footprint_of
from geoxt.samplers.node_samplers import layer_in
from geoxt.splits.balance import balanced, class_counts, class_rows, deal, table_of
from geoxt.splits.block_lattice import Ground, ground_of
from geoxt.splits.checks import check
from geoxt.splits.split import Split
from geoxt.splits.tree_split import TreeSplit
from geoxt.types import Floats, SomeSize
from geoxt.windows import Window, parse_size


@overload
def blocks(data: xr.DataArray | xr.Dataset, *, size: SomeSize, **options: Any) -> Split: ...
@overload
def blocks(data: xr.DataTree, *, size: SomeSize, **options: Any) -> TreeSplit: ...
def blocks(  # type: ignore[misc]  # options of the two above are its own
    data: xr.DataArray | xr.Dataset | xr.DataTree,
    *,
    size: SomeSize,
    shares: Sequence[float] = (0.6, 0.2, 0.2),
    buffer: int = 0,
    labels: xr.DataArray | xr.DataTree | None = None,
    seed: int = 0,
) -> Split | TreeSplit:
    """Split a grid into square blocks, dealt at random to train, validation and test.

    Parameters
    ----------
    data
        A layer, a Dataset of layers on one grid, or a tree of these. The blocks of a tree lie on the grid of its first
        child and go on beyond it: a pixel of any child belongs to the block that holds all of it, so that no ground is
        shared where children overlap.
    size
        Pixels: side of the blocks; those at the right and lower edge may be smaller. Of a tree, the first child's.
    shares
        Of the blocks: train, validation, test.
    buffer
        Pixels taken off every block on each side, so that blocks of two parts lie at least twice as far apart.
    labels
        A layer of class codes on the same grid (of a tree, a tree of these): the blocks are then dealt so that each
        part has about its share of the pixels of every class. It is read once, block by block.
    seed
        The same seed gives the same split.

    Returns
    -------
    Split
        Regions that share no pixel.
    TreeSplit
        Of a tree: regions of each child that share no ground with those of others.

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
    found = _blocks(data, size, buffer)
    counts = deal(len(found), shares)
    if sum(counts) != len(found) or not len(found):
        msg = f"Cannot deal {len(found)} blocks of {size} pixels into shares={tuple(shares)}: a part gets none. "
        raise InputError(msg + "Pass a smaller size.")
    part = _dealt(found, counts, shares, labels, seed)
    split = found.split(*(part == p for p in range(3)))
    check(split)
    return split


@overload
def folds(data: xr.DataArray | xr.Dataset, *, size: SomeSize, **options: Any) -> tuple[Split, ...]: ...
@overload
def folds(data: xr.DataTree, *, size: SomeSize, **options: Any) -> tuple[TreeSplit, ...]: ...
def folds(  # type: ignore[misc]  # options of the two above are its own
    data: xr.DataArray | xr.Dataset | xr.DataTree,
    *,
    size: SomeSize,
    count: int = 5,
    buffer: int = 0,
    labels: xr.DataArray | xr.DataTree | None = None,
    seed: int = 0,
) -> tuple[Split, ...] | tuple[TreeSplit, ...]:
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
    found = _blocks(data, size, buffer)
    if not 3 <= count <= len(found):
        msg = (
            f"Cannot make {count} folds of {len(found)} blocks of {size} pixels: pass a count of 3 or more, and a size "
        )
        raise InputError(msg + "that gives as many blocks.")
    shares = [1 / count] * count
    part = _dealt(found, deal(len(found), shares), shares, labels, seed)
    splits: list[Any] = []
    for fold in range(count):
        test, val = part == fold, part == (fold + 1) % count
        splits.append(found.split(~test & ~val, val, test))
        check(splits[-1])
    return tuple(splits)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Blocks:
    """Blocks of one grid."""

    grid: GeoBox
    """The grid."""
    blocks: tuple[Window, ...]
    """Its blocks, the buffer taken off."""
    buffer: int
    """Pixels."""

    def __len__(self) -> int:
        return len(self.blocks)

    def split(self, *chosen: npt.NDArray[np.bool_]) -> Split:
        """Return the split whose parts have some of the blocks each."""
        regions = [
            Region(self.grid, tuple(self.blocks[i] for i in np.flatnonzero(own)), margin=self.buffer) for own in chosen
        ]
        return Split(train=regions[0], val=regions[1], test=regions[2])

    def counts(self, labels: xr.DataArray | xr.DataTree) -> Floats:
        """Return (block, class): the valid pixels of each class in each block."""
        if isinstance(labels, xr.DataTree):
            msg = f"Cannot split one grid by the labels of {len(labels.children)}: pass labels= a layer on its grid."
            raise InputError(msg)
        return class_counts(labels, self.grid, self.blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class _TreeBlocks:
    """Blocks of the ground under the children of a tree."""

    ground: Ground
    """The blocks, and the grids over them."""

    def __len__(self) -> int:
        return len(self.ground.blocks)

    def split(self, *chosen: npt.NDArray[np.bool_]) -> TreeSplit:
        """Return the split whose parts have some of the blocks each."""
        found = {}
        for node in self.ground.grids:
            train, val, test = (self.ground.region(node, own) for own in chosen)
            found[node] = Split(train=train, val=val, test=test)
        return TreeSplit(children=found)

    def counts(self, labels: xr.DataArray | xr.DataTree) -> Floats:
        """Return (block, class): the pixels of each class in each block, of all children, by their area."""
        ground = self.ground
        rows: list[dict[int, float]] = [{} for _ in ground.blocks]
        for node, grid in ground.grids.items():
            layer, area = layer_in(labels, node, "labels"), pixel_area(grid)
            assert isinstance(layer, xr.DataArray)
            found = class_rows(layer, grid, [ground.rectangles(node, block) for block in range(len(self))])
            for total, row in zip(rows, found, strict=True):
                for code, count in row.items():
                    total[code] = total.get(code, 0) + count * area
        return table_of(rows, "the tree")


def _blocks(data: xr.DataArray | xr.Dataset | xr.DataTree, size: SomeSize, buffer: int) -> _Blocks | _TreeBlocks:
    """Return the blocks of a grid, or of a tree."""
    if buffer < 0:
        msg = f"Cannot keep blocks apart by buffer={buffer}: pass pixels, 0 or more."
        raise InputError(msg)
    if isinstance(data, xr.DataTree):
        return _TreeBlocks(ground=ground_of(data, parse_size(size), buffer))
    grid = grid_of(data)
    return _Blocks(grid=grid, blocks=tuple(_touching(_lattice(grid, parse_size(size), buffer), data)), buffer=buffer)


def _dealt(
    found: _Blocks | _TreeBlocks,
    counts: Sequence[int],
    shares: Sequence[float],
    labels: xr.DataArray | xr.DataTree | None,
    seed: int,
) -> npt.NDArray[np.int64]:
    """Return the number of the part to which each block goes."""
    rng = np.random.default_rng([seed, 7])
    part = np.empty(len(found), "int64")
    part[rng.permutation(len(found))] = np.repeat(np.arange(len(counts)), counts)
    return part if labels is None else balanced(found.counts(labels), part, shares, rng)


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

"""Splits by blocks, assigned at random or so that each part has its fraction of every class; cross-validation folds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from geoxt.errors import InputError
from geoxt.samplers.node_samplers import layer_per_node
from geoxt.splits.balance import apportion, balance_classes, class_rows, class_table
from geoxt.splits.block_lattice import BlockLattice, block_lattice
from geoxt.splits.checks import check
from geoxt.splits.split import Split
from geoxt.trees import SomeData, nodes_of
from geoxt.types import Floats, SomeSize
from geoxt.windows import is_whole, parse_size


def by_block(
    data: SomeData,
    *,
    size: SomeSize,
    fractions: Sequence[float] = (0.6, 0.2, 0.2),
    buffer: int = 0,
    labels: SomeData | None = None,
    seed: int = 0,
) -> Split:
    """Split data into square blocks, assigned at random to training, validation and test.

    Parameters
    ----------
    data
        A layer, a Dataset of layers on one grid, or a tree of these. The blocks of a tree lie on the grid of its first
        node and continue beyond it: a pixel of any node belongs to the block that contains all of it, so that parts
        do not overlap where nodes do.
    size
        Side of the blocks in pixels, of a tree in pixels of the first node; blocks at the right and lower edge of a
        grid may be smaller.
    fractions
        Fractions of the blocks for training, validation and test, with a sum of 1.
    buffer
        Pixels removed on each side of every block; blocks of two parts lie at least twice as far apart.
    labels
        A layer of class codes on the same grid (for a tree, a tree of these). Blocks are then assigned so that each
        part has about its fraction of the pixels of every class. It is read once, block by block.
    seed
        The same seed gives the same split.

    Returns
    -------
    Split
        Regions that share no pixel; in a tree, regions of several nodes do not overlap either.

    Raises
    ------
    InputError
        If the fractions do not add up to 1, or a part would get no block.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> layer = make_layer(np.zeros((100, 100)))
    >>> split = by_block(layer, size=20, buffer=2)
    >>> [len(region) for region in split.parts.values()]
    [15, 5, 5]
    """
    require_fractions(fractions)
    lattice = _lattice(data, size, buffer)
    counts = apportion(len(lattice), fractions)
    if sum(counts) != len(lattice) or not len(lattice):
        raise InputError(
            f"Cannot divide {len(lattice)} blocks of {size} pixels by fractions={tuple(fractions)}: a part gets none.",
            remedy="Pass a smaller {size}.",
            argument="size",
        )
    part = _assign(lattice, counts, fractions, labels, seed)
    train, val, test = (lattice.region(part == p) for p in range(3))
    split = Split(train=train, val=val, test=test)
    check(split)
    return split


def folds(
    data: SomeData,
    *,
    size: SomeSize,
    n_splits: int = 5,
    buffer: int = 0,
    labels: SomeData | None = None,
    seed: int = 0,
) -> tuple[Split, ...]:
    """Split data into blocks several times for cross-validation, so that each block is in test once.

    Parameters
    ----------
    data, size, buffer, labels, seed
        As for `by_block`.
    n_splits
        Number of folds, 3 or more. Fold i is the test part of split i and the validation part of split i - 1.

    Returns
    -------
    tuple of Split
        One per fold.

    Raises
    ------
    InputError
        If there are fewer blocks than folds.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> layer = make_layer(np.zeros((100, 100)))
    >>> [len(split.test) for split in folds(layer, size=20, n_splits=5)]
    [5, 5, 5, 5, 5]
    """
    lattice = _lattice(data, size, buffer)
    if not 3 <= n_splits <= len(lattice):
        raise InputError(
            f"Cannot make {n_splits} folds of {len(lattice)} blocks of {size} pixels with a buffer of {buffer}.",
            remedy="Pass {n_splits:3} or more, and {size} and {buffer} that give as many blocks.",
            argument="n_splits",
        )
    fractions = [1 / n_splits] * n_splits
    part = _assign(lattice, apportion(len(lattice), fractions), fractions, labels, seed)
    splits = []
    for fold in range(n_splits):
        test, val = part == fold, part == (fold + 1) % n_splits
        split = Split(train=lattice.region(~test & ~val), val=lattice.region(val), test=lattice.region(test))
        check(split)
        splits.append(split)
    return tuple(splits)


def require_fractions(fractions: Sequence[float]) -> None:
    """Raise unless there are three fractions of 0 or more with a sum of 1."""
    if len(fractions) != 3 or min(fractions) < 0 or not abs(sum(fractions) - 1) <= 1e-6:  # NaN raises too
        raise InputError(
            f"Cannot split by fractions={tuple(fractions)}.",
            remedy="Pass {fractions} three numbers that add up to 1.",
            argument="fractions",
        )


def _lattice(data: SomeData, size: SomeSize, buffer: int) -> BlockLattice:
    """Return the blocks over the footprints of data."""
    return block_lattice(nodes_of(data), parse_size(size), parse_buffer(buffer, "blocks"))


def parse_buffer(buffer: int, parts: str) -> int:
    """Return the whole pixels of a buffer between blocks or regions.

    Raises
    ------
    InputError
        If the buffer is negative, infinite, NaN or a fraction.
    """
    if not is_whole(buffer, minimum=0):
        raise InputError(
            f"Cannot separate {parts} by buffer={buffer}.",
            remedy="Pass {buffer:0} or more whole pixels.",
            value=buffer,
            argument="buffer",
        )
    return int(buffer)


def _assign(
    lattice: BlockLattice, counts: Sequence[int], fractions: Sequence[float], labels: SomeData | None, seed: int
) -> npt.NDArray[np.int64]:
    """Return the number of the part to which each block belongs."""
    rng = np.random.default_rng([seed, 7])
    part = np.empty(len(lattice), "int64")
    part[rng.permutation(len(lattice))] = np.repeat(np.arange(len(counts)), counts)
    return part if labels is None else balance_classes(_class_table(lattice, labels), part, fractions, rng)


def _class_table(lattice: BlockLattice, labels: SomeData) -> Floats:
    """Return (block, class): the pixels of each class in each block; of several grids, their area."""
    layers, pixel_areas = layer_per_node(labels, lattice.grids, "labels"), lattice.pixel_areas
    totals: list[dict[int, float]] = [{} for _ in lattice.blocks]
    for node, grid in lattice.grids.items():
        block_windows = [lattice.rectangles(node, block) for block in range(len(lattice))]
        rows = class_rows(layers[node], grid, block_windows)
        for total, row in zip(totals, rows, strict=True):
            for code, count in row.items():
                total[code] = total.get(code, 0) + count * pixel_areas[node]
    return class_table(totals, ", ".join(sorted({repr(layer.name) for layer in layers.values()})))

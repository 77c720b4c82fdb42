"""Orders of windows that read neighbouring windows close together, and mix them by a shuffle buffer."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Index = npt.NDArray[np.int64]


def local_order(groups: Index, rng: np.random.Generator, *, buffer: int) -> Index:
    """Return a random permutation in which members of a group are near each other.

    Groups are visited in random order, their members in random order, through a shuffle buffer: each position takes a
    random element of the buffer, which the next member replaces.

    Parameters
    ----------
    groups
        (n,): number of each element's group.
    rng
        Random generator.
    buffer
        Elements in the buffer. 1 keeps groups together; n or more gives a uniformly random permutation.

    Returns
    -------
    (n,) of int64
        Each index once.

    Examples
    --------
    >>> order = local_order(np.array([0, 1, 0, 1, 0, 1]), np.random.default_rng(0), buffer=1)
    >>> (order % 2).tolist() in ([0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0]), sorted(order.tolist())
    (True, [0, 1, 2, 3, 4, 5])
    """
    count = len(groups)
    shuffled = rng.permutation(count)
    rank = rng.permutation(int(groups.max(initial=-1)) + 1)
    grouped = shuffled[np.argsort(rank[groups[shuffled]], kind="stable")]
    buffered = grouped[: min(buffer, count)].copy()
    order = np.empty(count, "int64")
    slots = rng.integers(0, len(buffered), max(count - len(buffered), 0)) if count else grouped
    for position, (slot, following) in enumerate(zip(slots.tolist(), grouped[len(buffered) :].tolist(), strict=True)):
        order[position] = buffered[slot]
        buffered[slot] = following
    order[count - len(buffered) :] = rng.permutation(buffered)
    return order


def block_groups(table: Index, steps: Index | None, node_index: Index, block: tuple[int, int]) -> Index:
    """Return the number of the group of each window: the block that holds its centre, its node and its time steps."""
    centre = (table[:, :2] + table[:, 2:] // 2) // np.array(block)
    keys = np.c_[node_index, centre] if steps is None else np.c_[node_index, centre, steps]
    _, group = np.unique(keys, axis=0, return_inverse=True)
    return group.ravel().astype("int64")

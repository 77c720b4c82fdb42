"""From a source to a dask array and back: what a dask graph says of where its pixels come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import dask.array
import numpy as np
from dask._task_spec import Alias, DataNode, Task
from dask.base import normalize_token, tokenize
from dask.highlevelgraph import HighLevelGraph

from geoxt.source.protocol import Source
from geoxt.types import Array
from geoxt.windows import Window

PREFIX = "geoxt-"


class SourceArray:
    """A source as an array that dask slices: (time, band, y, x), or fewer dimensions where one is dropped.

    Parameters
    ----------
    source
        Where the pixels come from.
    axes
        Which of its four dimensions the array has; each of the others has length one.
    """

    def __init__(self, source: Source, axes: tuple[int, ...]) -> None:
        self.source = source
        self.axes = axes
        self.shape = tuple(source.shape[a] for a in axes)
        self.ndim = len(axes)
        self.dtype = source.dtype

    def __dask_tokenize__(self) -> Any:
        """Return what decides the pixels."""
        return normalize_token(("SourceArray", self.source, self.axes))

    def __getitem__(self, key: Any) -> Array:
        """Read the rectangle that holds the key, then take the key out of it."""
        keys = key if isinstance(key, tuple) else (key,)
        wanted = [np.atleast_1d(np.arange(n)[k]) for n, k in zip(self.shape, keys, strict=True)]
        full = dict(zip(self.axes, wanted, strict=True))
        times, bands, rows, cols = (full.get(a, np.zeros(1, int)) for a in range(4))
        if 0 in (times.size, bands.size, rows.size, cols.size):
            values = np.empty((times.size, bands.size, rows.size, cols.size), self.dtype)
        else:
            top, left = int(rows.min()), int(cols.min())
            window = Window(top, left, int(rows.max()) - top + 1, int(cols.max()) - left + 1)
            values, _ = self.source.read(window, times=times.tolist(), bands=bands.tolist())
            values = _take(_take(values, rows - top, 2), cols - left, 3)
        drop = {a for a, k in zip(self.axes, keys, strict=True) if isinstance(k, (int, np.integer))}
        gone = tuple(a for a in range(4) if a not in self.axes or a in drop)
        return cast("Array", values.squeeze(gone))


def _take(values: Array, index: Array, axis: int) -> Array:
    if len(index) == values.shape[axis] and (np.diff(index) == 1).all():
        return values
    return values.take(index, axis=axis)


def to_dask(source: Source, *, axes: tuple[int, ...], chunks: tuple[Any, ...]) -> dask.array.Array:
    """Return a lazy dask array over a source; its name depends on the content alone."""
    array = SourceArray(source, axes)
    return dask.array.from_array(
        array,
        chunks=dask.array.core.normalize_chunks(chunks, array.shape, dtype=array.dtype),
        name=PREFIX + tokenize(array, chunks),
        asarray=False,
        lock=False,
        meta=np.empty((0,) * array.ndim, array.dtype),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSelection:
    """What an untouched dask array shows: a rectangle, some steps and some bands of a source."""

    source: Source
    """Where the pixels come from."""
    window: Window
    """The rectangle of the source's grid."""
    times: tuple[int, ...]
    """Positions of its time steps."""
    bands: tuple[int, ...]
    """Positions of its bands."""
    axes: tuple[int, ...]
    """Which of (time, band, y, x) each of its dimensions is."""


def find_selection(array: Any) -> SourceSelection | None:
    """Return where a dask array's pixels come from, or `None` where anything but choosing was done to them.

    The graph decides: a source array, and nothing but `getitem` behind it. Names, attributes and coordinates do not
    count. What is returned gives, read, the same values as computing the array.
    """
    if not isinstance(array, dask.array.Array):
        return None
    chain = _chain(array)
    if chain is None:
        return None
    base, layers = chain
    index = _indices(array, base, layers)
    if index is None:
        return None
    picks, dropped = index
    full: dict[int, Array] = dict(zip(base.axes, picks, strict=True))
    times, bands, rows, cols = (full.get(a, np.zeros(1, int)) for a in range(4))
    contiguous = all(len(i) > 0 and (np.diff(i) == 1).all() for i in (rows, cols))
    axes = tuple(a for a in base.axes if a not in dropped)
    if not contiguous or axes[-2:] != (2, 3) or min(len(times), len(bands)) == 0:
        return None
    window = Window(int(rows[0]), int(cols[0]), len(rows), len(cols))
    return SourceSelection(
        source=base.source, window=window, times=tuple(times.tolist()), bands=tuple(bands.tolist()), axes=axes
    )


def _chain(array: dask.array.Array) -> tuple[SourceArray, list[str]] | None:
    """Return the source array at the root, and the names of the layers from the array down to it."""
    graph = array.dask
    if not isinstance(graph, HighLevelGraph):
        return None
    names, name = [], array.name
    while name.startswith("getitem-"):
        names.append(name)
        below = graph.dependencies.get(name, set())
        if len(below) != 1:
            return None
        (name,) = below
    if not name.startswith(PREFIX):
        return None
    root = graph.layers.get(f"original-{name}")
    if root is None:
        return None
    base = dict(root)[f"original-{name}"]
    base = getattr(base, "value", base)
    return (base, [*names, name]) if isinstance(base, SourceArray) else None


def _indices(array: dask.array.Array, base: SourceArray, names: list[str]) -> tuple[list[Array], set[int]] | None:
    """Return the positions taken along each axis of the source array, and the axes that were dropped."""
    graph = array.dask
    nodes = {key: node for name in names[:-1] for key, node in dict(graph.layers[name]).items()}
    root = dict(graph.layers[names[-1]])
    found: list[list[Array]] = [[] for _ in base.axes]
    dropped: set[int] = set()
    for axis in range(array.ndim):
        for block in range(array.numblocks[axis]):
            place = [0] * array.ndim
            place[axis] = block
            picked = _follow((array.name, *place), nodes, root, base)
            if not isinstance(picked, _Picked):
                return None
            dropped = set(range(len(base.axes))) - set(picked.axes)
            for a in {picked.axes[axis], *dropped}:
                found[a] = [*found[a], picked.index[a]] if a not in dropped else [picked.index[a]]
    return [np.concatenate(f) if f else np.zeros(0, int) for f in found], {base.axes[a] for a in dropped}


def _follow(key: Any, nodes: dict[Any, Any], root: dict[Any, Any], base: SourceArray) -> Any:
    """Run the tasks behind a block on positions in place of pixels; `None` where they do more than choose."""
    if key in root:
        rectangle = root[key].args[1]
        rectangle = getattr(rectangle, "value", rectangle)
        picks = [np.arange(n)[k] for n, k in zip(base.shape, rectangle, strict=True)]
        return _Picked(picks, list(range(len(picks))))
    node = nodes.get(key)
    if isinstance(node, Alias):
        return _follow(node.target, nodes, root, base)
    if isinstance(node, DataNode):
        return node.value
    if not isinstance(node, Task) or node.func.__name__ not in {"getitem", "_getitem"}:
        return None
    below = {k: _follow(k, nodes, root, base) for k in node.dependencies}
    return None if any(b is None for b in below.values()) else node(below)


class _Picked:
    """Stands for a block in its tasks: the positions taken along each axis of the source array."""

    def __init__(self, index: list[Array], axes: list[int]) -> None:
        self.index = index
        self.axes = axes

    def __getitem__(self, key: Any) -> _Picked | None:
        keys = key if isinstance(key, tuple) else (key,)
        if len(keys) != len(self.axes) or any(k is None or k is Ellipsis for k in keys):
            return None
        index, axes = list(self.index), list(self.axes)
        for axis, k in zip(self.axes, keys, strict=True):
            index[axis] = np.atleast_1d(index[axis][k])
            if isinstance(k, (int, np.integer)):
                axes.remove(axis)
        return _Picked(index, axes)

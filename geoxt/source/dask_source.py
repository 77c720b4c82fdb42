"""Dask arrays over sources, and the reverse: the source and selection behind a dask array.

The bridge reads a layer's windows straight from files only if its dask graph shows that the layer is a selection of a
source. Attributes do not show it, as xarray keeps them through arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import dask.array
import numpy as np
from dask._task_spec import Alias, DataNode, Task
from dask.base import normalize_token, tokenize
from dask.highlevelgraph import HighLevelGraph

from geoxt.source.fill import require_fill
from geoxt.source.protocol import Source
from geoxt.types import Array
from geoxt.windows import Window

PREFIX = "geoxt-"


class SourceArray:
    """A source as an array that dask can slice: (time, band, y, x), or fewer dimensions.

    Parameters
    ----------
    source
        Source of the pixels.
    axes
        Dimensions of the array, as positions among (time, band, y, x); the others have length one.
    labels
        Coordinates along time and band, by axis; not part of the dask token.
    """

    def __init__(self, source: Source, axes: tuple[int, ...], labels: Mapping[int, Array] | None = None) -> None:
        self.source = source
        self.axes = axes
        self.labels = dict(labels or {})
        self.chunks: tuple[tuple[int, ...], ...] | None = None
        self.shape = tuple(source.shape[a] for a in axes)
        self.ndim = len(axes)
        self.dtype = source.dtype

    def __dask_tokenize__(self) -> Any:
        """Return the fields that determine the pixels."""
        return normalize_token(("SourceArray", self.source, self.axes))

    def __getitem__(self, key: Any) -> Array:
        """Read the bounding window of the key, and index it."""
        keys = key if isinstance(key, tuple) else (key,)
        positions = [np.atleast_1d(np.arange(n)[k]) for n, k in zip(self.shape, keys, strict=True)]
        full = dict(zip(self.axes, positions, strict=True))
        times, bands, rows, cols = (full.get(a, np.zeros(1, int)) for a in range(4))
        if 0 in (times.size, bands.size, rows.size, cols.size):
            values = np.empty((times.size, bands.size, rows.size, cols.size), self.dtype)
        else:
            top, left = int(rows.min()), int(cols.min())
            window = Window(top, left, int(rows.max()) - top + 1, int(cols.max()) - left + 1)
            values, valid = self.source.read(window, times=times.tolist(), bands=bands.tolist())
            require_fill(self.source, valid)
            values = _take(_take(values, rows - top, 2), cols - left, 3)
        integers = {a for a, k in zip(self.axes, keys, strict=True) if isinstance(k, (int, np.integer))}
        dropped = tuple(a for a in range(4) if a not in self.axes or a in integers)
        return cast("Array", values.squeeze(dropped))


def _take(values: Array, index: Array, axis: int) -> Array:
    if len(index) == values.shape[axis] and (np.diff(index) == 1).all():
        return values
    return values.take(index, axis=axis)


def to_dask(
    source: Source, *, axes: tuple[int, ...], chunks: tuple[Any, ...], labels: Mapping[int, Array] | None = None
) -> dask.array.Array:
    """Return a lazy dask array over a source; its name is a deterministic token of the source."""
    array = SourceArray(source, axes, labels)
    array.chunks = dask.array.core.normalize_chunks(chunks, array.shape, dtype=array.dtype)
    return dask.array.from_array(
        array,
        chunks=array.chunks,
        name=PREFIX + tokenize(array, chunks),
        asarray=False,
        lock=False,
        meta=np.empty((0,) * array.ndim, array.dtype),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSelection:
    """The window, time steps and bands of a source that a dask array holds."""

    source: Source
    """Source of the pixels."""
    window: Window
    """Window of the source's grid."""
    times: tuple[int, ...]
    """Indices of time steps in the source."""
    bands: tuple[int, ...]
    """Indices of bands in the source."""
    axes: tuple[int, ...]
    """Dimensions of the array, as positions among (time, band, y, x)."""


def find_selection(array: Any) -> SourceSelection | None:
    """Return the selection of a source behind a dask array, or `None` if its graph has other operations.

    The graph must hold a source array and only `getitem` layers after it. Reading the selection then gives the same
    values as computing the array.
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
    positions, dropped = index
    full: dict[int, Array] = dict(zip(base.axes, positions, strict=True))
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
    """Return the source array at the root of the graph, and the names of the layers from the array down to it."""
    graph = array.dask
    if not isinstance(graph, HighLevelGraph):
        return None
    names, name = [], array.name
    while name.startswith("getitem-"):
        names.append(name)
        dependencies = graph.dependencies.get(name, set())
        if len(dependencies) != 1:
            return None
        (name,) = dependencies
    if not name.startswith(PREFIX):
        return None
    root = graph.layers.get(f"original-{name}")
    if root is None:
        return None
    base = dict(root)[f"original-{name}"]
    base = getattr(base, "value", base)  # a DataNode of dask's task specification, or the array itself
    return (base, [*names, name]) if isinstance(base, SourceArray) else None


def _indices(array: dask.array.Array, base: SourceArray, names: list[str]) -> tuple[list[Array], set[int]] | None:
    """Return the positions selected along each axis of the source array, and the dropped axes.

    Blocks along each axis through the origin suffice: indexing with one key per axis is separable.
    """
    graph = array.dask
    nodes = {key: node for name in names[:-1] for key, node in dict(graph.layers[name]).items()}
    root = dict(graph.layers[names[-1]])
    positions: list[list[Array]] = [[] for _ in base.axes]
    dropped: set[int] = set()
    for axis in range(array.ndim):
        for block in range(array.numblocks[axis]):
            block_index = [0] * array.ndim
            block_index[axis] = block
            selected = follow((array.name, *block_index), nodes, root, base)
            if not isinstance(selected, Selection):
                return None
            dropped = set(range(len(base.axes))) - set(selected.axes)
            for a in {selected.axes[axis], *dropped}:
                positions[a] = [*positions[a], selected.index[a]] if a not in dropped else [selected.index[a]]
    return [np.concatenate(p) if p else np.zeros(0, int) for p in positions], {base.axes[a] for a in dropped}


def follow(key: Any, nodes: dict[Any, Any], root: dict[Any, Any], base: SourceArray) -> Any:
    """Return the result of a block's tasks on positions instead of pixels; `None` if a task does more than index."""
    if key in root:
        slices = root[key].args[1]
        slices = getattr(slices, "value", slices)
        positions = [np.arange(n)[k] for n, k in zip(base.shape, slices, strict=True)]
        return Selection(positions, list(range(len(positions))))
    node = nodes.get(key)
    if isinstance(node, Alias):
        return follow(node.target, nodes, root, base)
    if isinstance(node, DataNode):
        return node.value
    if not isinstance(node, Task) or node.func.__name__ not in {"getitem", "_getitem"}:
        return None
    inputs = {k: follow(k, nodes, root, base) for k in node.dependencies}
    return None if any(value is None for value in inputs.values()) else node(inputs)


class Selection:
    """Stand-in for a block in its tasks: the positions selected along each axis of the source array."""

    def __init__(self, index: list[Array], axes: list[int]) -> None:
        self.index = index
        self.axes = axes

    def __getitem__(self, key: Any) -> Selection | None:
        keys = key if isinstance(key, tuple) else (key,)
        if len(keys) != len(self.axes) or any(k is None or k is Ellipsis for k in keys):
            return None
        index, axes = list(self.index), list(self.axes)
        for axis, k in zip(self.axes, keys, strict=True):
            index[axis] = np.atleast_1d(index[axis][k])
            if isinstance(k, (int, np.integer)):
                axes.remove(axis)
        return Selection(index, axes)

"""Valid masks of calculated arrays, as a dask graph beside that of their numbers.

Every layer of the graph of numbers has a counterpart of masks: selections and concatenations move the masks of their
inputs as they move numbers, and element-wise calculations are valid where all their inputs are.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Hashable, Mapping
from functools import reduce
from typing import Any

import dask.array
import numpy as np
from dask._task_spec import GraphNode, Task, TaskRef, convert_legacy_graph
from dask.blockwise import Blockwise
from dask.highlevelgraph import HighLevelGraph

from geoxt.types import Mask

_MOVES = ("getitem-", "rechunk-", "shuffle-", "concatenate-", "stack-", "broadcast_to-")
"""Names of graph layers that move numbers and leave them unchanged, and so can move masks."""


_PREFIX = "valid-"
"""Prefix of the names of layers of masks."""


class _UnknownLayerError(Exception):
    """A layer of a graph whose masks are unknown."""


def valid_mask(array: dask.array.Array, sources: Mapping[str, dask.array.Array | None]) -> dask.array.Array | None:
    """Return the valid mask of an array that is calculated pixel by pixel from sources; `None` if it is unknown.

    Parameters
    ----------
    array
        The calculated array.
    sources
        Valid mask, in the chunks of the source, of each layer of the graph that reads a source; `None` if all its
        pixels are valid.
    """
    if not isinstance(array.dask, HighLevelGraph):
        return None
    masks = _MaskGraph(array.dask, sources)
    try:
        name = masks.mask_of(array.name)
    except _UnknownLayerError:
        return None
    if name is None:
        return dask.array.ones(array.shape, chunks=array.chunks, dtype=bool)
    graph = HighLevelGraph.merge(
        array.dask,
        *(mask.dask for mask in sources.values() if mask is not None),
        HighLevelGraph(masks.layers, masks.dependencies),
    )
    return dask.array.Array(graph, name, array.chunks, dtype=bool)


class _MaskGraph:
    """Layers of masks beside the layers of a graph."""

    def __init__(self, graph: HighLevelGraph, sources: Mapping[str, dask.array.Array | None]) -> None:
        self.graph, self.sources = graph, sources
        self.layers: dict[str, Any] = {}
        self.dependencies: dict[str, set[str]] = {}
        self._names: dict[str, str | None] = {}

    def mask_of(self, name: str) -> str | None:
        """Return the name of the layer of masks of a layer of numbers; `None` if all its pixels are valid."""
        if name not in self._names:
            self._names[name] = self._add(name)
        return self._names[name]

    def _add(self, name: str) -> str | None:
        if name in self.sources:
            mask = self.sources[name]
            return None if mask is None else mask.name
        masks = {dependency: self.mask_of(dependency) for dependency in self.graph.dependencies[name]}
        if not any(masks.values()):
            return None
        layer, added = self.graph.layers[name], f"{_PREFIX}{name}"
        if isinstance(layer, Blockwise):
            tasks = _combined(layer, added, masks)
        elif name.startswith(_MOVES):
            moved = {number: mask or self._all_valid(number) for number, mask in masks.items()}
            masks = dict(moved)
            tasks = _moved(dict(layer), {number: dict(self.graph.layers[number]) for number in moved}, moved)
        else:
            raise _UnknownLayerError(name)
        self.layers[added] = tasks
        self.dependencies[added] = {mask for mask in masks.values() if mask is not None}
        return added

    def _all_valid(self, name: str) -> str:
        """Return the name of a layer of masks that are true everywhere, for numbers of no source."""
        added = f"{_PREFIX}{name}"
        tasks: dict[Hashable, GraphNode] = {}
        keys: list[Any] = list(self.graph.layers[name])
        for key in keys:
            at = (added, *key[1:])
            tasks[at] = Task(at, np.ones_like, TaskRef(key), dtype=bool)
        self.layers[added], self.dependencies[added] = tasks, {name}
        return added


def _moved(
    tasks: Mapping[Any, Any], inputs: Mapping[str, Mapping[Any, Any]], masks: Mapping[str, str]
) -> dict[Hashable, GraphNode]:
    """Return the tasks of a layer that moves numbers, with masks instead of the numbers of its inputs."""
    keys: dict[Any, Any] = {key: (f"{_PREFIX}{key[0]}", *key[1:]) for key in tasks}
    renamed = keys | {key: (masks[name], *key[1:]) for name, layer in inputs.items() for key in layer}
    moved: dict[Hashable, GraphNode] = {}
    for key, node in convert_legacy_graph(dict(tasks), all_keys=set(renamed)).items():
        if not node.dependencies <= renamed.keys():
            raise _UnknownLayerError(key)
        moved[keys[key]] = node.substitute({k: renamed[k] for k in node.dependencies}, key=keys[key])
    return moved


def _combined(layer: Blockwise, added: str, masks: Mapping[str, str | None]) -> dict[Hashable, GraphNode]:
    """Return tasks that combine the masks of the inputs of an element-wise calculation."""
    symbols = tuple(layer.output_indices)
    inputs = [(str(name), tuple(indices)) for name, indices in layer.indices if indices is not None]
    if layer.new_axes or any(not set(indices) <= set(symbols) for _, indices in inputs):
        raise _UnknownLayerError(layer.output)
    counts = dict.fromkeys(symbols, 1)
    for name, indices in inputs:
        for symbol, count in zip(indices, layer.numblocks[name], strict=True):
            counts[symbol] = max(counts[symbol], count)
    masked = [(name, indices) for name, indices in dict.fromkeys(inputs) if masks.get(name)]
    axes = tuple(tuple(symbols.index(symbol) for symbol in indices) for _, indices in masked)
    tasks: dict[Hashable, GraphNode] = {}
    for block in itertools.product(*(range(counts[symbol]) for symbol in symbols)):
        at = dict(zip(symbols, block, strict=True))
        keys: list[Any] = [
            (masks[name], *(at[s] if n > 1 else 0 for s, n in zip(indices, layer.numblocks[name], strict=True)))
            for name, indices in masked
        ]
        key = (added, *block)
        tasks[key] = Task(key, _all, *[TaskRef(k) for k in keys], axes=axes, ndim=len(symbols))
    return tasks


def _all(*masks: Mask, axes: tuple[tuple[int, ...], ...], ndim: int) -> Mask:
    """Return where all masks are valid; `axes` are the positions of the dimensions of each in the result."""
    return reduce(operator.and_, [_placed(mask, at, ndim) for mask, at in zip(masks, axes, strict=True)])


def _placed(mask: Mask, axes: tuple[int, ...], ndim: int) -> Mask:
    """Return a mask with its dimensions at positions among `ndim`; the others have length 1."""
    ordered = np.transpose(mask, np.argsort(axes))
    shape = [1] * ndim
    for axis, length in zip(sorted(axes), ordered.shape, strict=True):
        shape[axis] = length
    return ordered.reshape(shape)

"""Sources in the dask graph of an array, with the bands and time steps of each that it is calculated from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import dask.array
import numpy as np
from dask._task_spec import Alias
from dask.blockwise import Blockwise
from dask.highlevelgraph import HighLevelGraph

from geoxt.source.dask_source import PREFIX, Selection, SourceArray, follow

_COPIES = ("getitem-", "rechunk-", "concatenate-", "stack-", "transpose-", "broadcast_to-", "full-", "full_like-")
"""Names of graph layers that move numbers and leave them unchanged."""

_NAN_TESTS = ("isnan-", "isnull-", "notnull-", "invert-")
"""Names of graph layers that test for NaN."""


@dataclass(frozen=True, kw_only=True)
class SourceUse:
    """Part of a source that an array is calculated from."""

    base: SourceArray
    """The source as an array."""
    array: dask.array.Array
    """The source as a dask array, of the same keys as in the graph: it is read once."""
    selected: dict[int, tuple[int, ...]]
    """Positions by axis: time steps and bands, and first and last row and column."""
    masked: bool = False
    """Whether it is used in a `where` only, which can set missing numbers to NaN before further calculations."""
    reductions: frozenset[int] = frozenset()
    """Number of reductions on each path from the source to the array, except paths through a `where`."""


@dataclass(frozen=True, kw_only=True)
class SourceUses:
    """All parts of sources that an array is calculated from, and the type of the calculation."""

    uses: tuple[SourceUse, ...]
    """Parts of sources."""
    copied: bool
    """Whether numbers were only selected, rearranged or cast to a type that holds them."""
    pointwise: bool
    """Whether each pixel is calculated from the pixels of its position, as far as the graph shows."""
    moved: bool
    """Whether numbers were selected, concatenated or rearranged after a calculation, or of several sources."""
    reduced: bool
    """Whether the graph has a reduction, such as a mean over time."""


def find_uses(array: dask.array.Array) -> SourceUses:
    """Return the parts of sources that a dask array is calculated from; none if its graph has no source."""
    graph = array.dask
    uses: dict[str, SourceUse] = {}
    flags = {"copied": True, "pointwise": True, "reduced": False, "moved": False}
    if isinstance(graph, HighLevelGraph):
        stack = [(array.name, False, 0)]
        visited = {*stack}
        while stack:
            name, masked, reductions = stack.pop()
            use = _use(graph, name)
            if use is not None:
                known = uses.get(name, use)
                counts = known.reductions if masked else known.reductions | {reductions}
                uses[name] = replace(use, masked=masked and (known is use or known.masked), reductions=counts)
                continue
            pointwise = _classify(graph, name, flags)
            # Below a calculation from other pixels, missing numbers have already been used.
            masked = pointwise and (masked or (name.startswith("where-") and not _keeps_numbers(graph, name)))
            reductions += "aggregate" in name
            dependencies = {(d, masked, reductions) for d in graph.dependencies.get(name, ())} - visited
            visited |= dependencies
            stack += sorted(dependencies)
    if flags["copied"] and not all(np.can_cast(use.base.dtype, array.dtype) for use in uses.values()):
        flags["copied"] = False
    return SourceUses(uses=tuple(uses.values()), **flags)


def _classify(graph: HighLevelGraph, name: str, flags: dict[str, bool]) -> bool:
    """Update the flags by the operation of a graph layer, and return whether it is pointwise."""
    layer = graph.layers[name]
    reduced = "aggregate" in name or "partial" in name
    flags["reduced"] |= reduced
    flags["moved"] |= name.startswith(_COPIES)
    if not name.startswith((*_COPIES, "astype-")):
        flags["copied"] = False
    if name.startswith(("concatenate-", "stack-")):
        pointwise = _beside_space(dict(layer))
    elif isinstance(layer, Blockwise):
        inputs = [set(indices) for _, indices in layer.indices if indices is not None]
        pointwise = all(i <= set(layer.output_indices) for i in inputs)
    else:
        pointwise = reduced or name.startswith(_COPIES) or not graph.dependencies.get(name)
    flags["pointwise"] &= pointwise
    return pointwise and not reduced


def _keeps_numbers(graph: HighLevelGraph, name: str) -> bool:
    """Return whether a `where` tests for NaN alone, as xarray does before reductions: nodata numbers stay.

    Of integers, which are never NaN, the test is a constant.
    """
    layer = graph.layers[name]
    if not isinstance(layer, Blockwise) or not layer.indices or layer.indices[0][1] is None:
        return False
    test = layer.indices[0][0]
    while isinstance(test, str) and test.startswith((*_COPIES, *_NAN_TESTS)):
        if test.startswith(("isnan-", "isnull-", "notnull-")):
            return True
        dependencies = graph.dependencies.get(test, set())
        if len(dependencies) != 1:
            return not dependencies
        test = next(iter(dependencies))
    return isinstance(test, str) and not graph.dependencies.get(test)


def _beside_space(tasks: dict[Any, Any]) -> bool:
    """Return whether arrays are joined along other dimensions than the last two."""
    for key, task in tasks.items():
        target = task.target if isinstance(task, Alias) else task  # dask writes an alias as such, or as its key
        if not isinstance(target, tuple) or target[-2:] != key[-2:]:
            return False
    return True


def _use(graph: HighLevelGraph, name: str) -> SourceUse | None:
    """Return the part of a source that a graph layer selects; `None` for any other layer."""
    names = [name]
    while names[-1].startswith("getitem-"):
        dependencies = graph.dependencies.get(names[-1], set())
        if len(dependencies) != 1:
            return None
        names.extend(dependencies)
    root = graph.layers.get(f"original-{names[-1]}") if names[-1].startswith(PREFIX) else None
    if root is None:
        return None
    base = dict(root)[f"original-{names[-1]}"]
    base = getattr(base, "value", base)
    if not isinstance(base, SourceArray) or base.chunks is None:
        return None
    layers = {f"original-{names[-1]}": root, names[-1]: graph.layers[names[-1]]}
    root_graph = HighLevelGraph(layers, {f"original-{names[-1]}": set(), names[-1]: {f"original-{names[-1]}"}})
    array = dask.array.Array(root_graph, names[-1], base.chunks, dtype=base.dtype)
    return SourceUse(base=base, array=array, selected=_selected(graph, names, base))


def _selected(graph: HighLevelGraph, names: list[str], base: SourceArray) -> dict[int, tuple[int, ...]]:
    """Return the time steps and bands that a chain of selections leaves, and the first and last row and column."""
    full = {a: tuple(range(n)) if a < 2 else (0, n - 1) for a, n in zip(base.axes, base.shape, strict=True)}
    if len(names) == 1:
        return full
    root = dict(graph.layers[names[-1]])
    nodes: dict[Any, Any] = {key: node for name in names[:-1] for key, node in dict(graph.layers[name]).items()}
    keys = [key for key in nodes if key[0] == names[0]]
    last = np.array([key[1:] for key in keys]).max(0)
    positions_of_axis: dict[int, set[int]] = {}
    for key in keys:
        # The blocks along each axis through the first one, as indexing with one key per axis is separable.
        at_start = [n == 0 for n in key[1:]]
        if sum(at_start) < len(at_start) - 1 and not (np.array(key[1:]) == last).all():
            continue
        selection = follow(key, nodes, root, base)
        if not isinstance(selection, Selection):
            return full
        for axis, positions in zip(base.axes, selection.index, strict=True):
            positions_of_axis.setdefault(axis, set()).update(np.atleast_1d(positions).tolist())
    return {a: tuple(sorted(p)) if a < 2 else (min(p), max(p)) for a, p in positions_of_axis.items()}


def wrapping(array: dask.array.Array, uses: SourceUses) -> str | None:
    """Return the type of unsigned pixels that are subtracted from each other, where results below zero wrap around.

    Detected if the graph subtracts selections of sources, such as two bands of stored `uint16`, else `None`.
    """
    graph = array.dask
    if uses.copied or not isinstance(graph, HighLevelGraph):
        return None
    for name, layer in graph.layers.items():
        if not name.startswith(("sub-", "subtract-")) or not isinstance(layer, Blockwise):
            continue
        inputs = [str(term) for term, indices in layer.indices if indices is not None]
        dtypes = {dtype for term in inputs if (dtype := _stored_dtype(graph, term)) is not None}
        if len(inputs) == 2 and len(dtypes) == 1 and all(_stored_dtype(graph, term) is not None for term in inputs):
            dtype = dtypes.pop()
            if dtype.kind == "u":
                return dtype.name
    return None


def _stored_dtype(graph: HighLevelGraph, name: str) -> np.dtype[Any] | None:
    """Return the data type of a layer that only moves numbers of sources; `None` for any other."""
    while True:
        use = _use(graph, name)
        if use is not None:
            return use.base.dtype
        dependencies = graph.dependencies.get(name, set())
        if not name.startswith(_COPIES) or not dependencies:
            return None
        name = min(dependencies)

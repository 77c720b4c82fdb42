"""Read windows into a batch of tensors, with their valid masks, dates and geometry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from odc.geo.geobox import GeoBox

from geoxt.bridge.buffer_pool import BufferPool
from geoxt.bridge.coalesce import MAX_WINDOWS, CoalescedRead, coalesce
from geoxt.bridge.layer_reader import LayerReader, NodeReader
from geoxt.bridge.shared_memory import ALIGN, Slot
from geoxt.crs import crs_text
from geoxt.errors import GridError, ReadError
from geoxt.grid import pix2wld
from geoxt.pixels.file_version import BatchVersions
from geoxt.types import Array, Floats
from geoxt.windows import Window

Sample = dict[str, Any]
"""Tensors and geometry of one window, or of a batch of windows."""
MapWindows = Callable[[Callable[[CoalescedRead], None], Iterable[CoalescedRead]], Iterable[None]]
"""Maps a function over reads: the built-in `map`, or that of a thread pool."""
ATTEMPTS = 3
"""Maximum number of attempts to read a batch whose files change."""
NO_DATE = np.iinfo("int64").min
"""Nanoseconds of a time step without a date: NaT of numpy."""


def read_batch(
    nodes: Mapping[str, NodeReader],
    windows: Sequence[Window],
    *,
    map_reads: MapWindows = map,
    buffers: BufferPool | Slot | None = None,
    max_windows: int = MAX_WINDOWS,
) -> Sample:
    """Read windows of equal size into one batch.

    Parameters
    ----------
    nodes
        Readers of the layers by node name, as `readers_of` returns them.
    windows
        One or more windows of equal height and width. If they have different numbers of time steps, shorter series are
        padded.
    map_reads
        Maps a function over the reads, such as the `map` of a thread pool.
    buffers
        Allocates the memory of the tensors. By default new arrays.
    max_windows
        Neighbouring windows that are read as one rectangle, at most.

    Returns
    -------
    dict
        For each layer, `<name>` (batch, time, band, height, width) without the dimensions that it lacks, and
        `<name>_valid` (batch, time, height, width), true where all bands are valid; `bounds` (batch, 4) float64: left,
        bottom, right, top; `transform` (batch, 6) float64: the affine's a to f; `crs`, a list of names. For each time
        dimension of the layers, e.g. `time` (batch, time) int64: nanoseconds since 1970 (the smallest int64 without a
        date), and `time_valid` (batch, time), false for padded steps.

    Raises
    ------
    GridError
        If windows have several sizes, or nodes have layers of different shapes.
    ReadError
        If files cannot be read, or change each time that the batch is read.
    """
    buffers = buffers or BufferPool()
    layouts = _batch_layouts(nodes, windows)
    values = {name: buffers.array(layout.shape, layout.dtype) for name, layout in layouts.items()}
    valid = {name: buffers.array(layout.valid_shape, np.dtype(bool)) for name, layout in layouts.items()}

    # A scene that cannot be read turns a whole coalesced read into nodata if errors="nodata": read windows one by one.
    strict = all(getattr(layer.view.source, "errors", "raise") == "raise" for layer in _all_layers(nodes))
    reads = coalesce(windows, max_windows=max_windows if strict else 1)
    _read_unchanged(nodes, reads, values, valid, map_reads)
    batch: Sample = {}
    for name in layouts:
        batch[name] = torch.from_numpy(values[name])
        batch[f"{name}_valid"] = torch.from_numpy(valid[name])
    return batch | times(nodes, windows) | geometry({node: reader.grid for node, reader in nodes.items()}, windows)


def _read_unchanged(
    nodes: Mapping[str, NodeReader],
    reads: Sequence[CoalescedRead],
    values: Mapping[str, Array],
    valid: Mapping[str, Array],
    map_reads: MapWindows,
) -> None:
    """Read into the arrays of a batch; again if local files changed meanwhile, so that it has one version of each."""
    changed: list[str] = []
    for _ in range(ATTEMPTS):
        versions = BatchVersions()

        def read(coalesced: CoalescedRead, versions: BatchVersions = versions) -> None:
            with versions:
                for name, layer in nodes[coalesced.window.node].layers.items():
                    layer.read(coalesced, values[name], valid[name])

        for _ in map_reads(read, reads):
            pass
        changed = versions.changed()
        if not changed:
            return
    problem = f"Cannot read a batch of windows: {changed[0]} changed {ATTEMPTS} times meanwhile."
    raise ReadError(problem, remedy="Read the file when it is complete.")


def _all_layers(nodes: Mapping[str, NodeReader]) -> Iterator[LayerReader]:
    return (layer for reader in nodes.values() for layer in reader.layers.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Memory of one layer of a batch."""

    shape: tuple[int, ...]
    valid_shape: tuple[int, ...]
    dtype: np.dtype[Any]


def _batch_layouts(nodes: Mapping[str, NodeReader], windows: Sequence[Window]) -> dict[str, _Layout]:
    """Return the layout of each layer, with as many time steps as the longest series has."""
    sizes = sorted({window.shape for window in windows})
    if len(sizes) > 1:
        raise GridError(
            f"Cannot stack windows of several sizes {sizes} into one batch.",
            remedy="Pass {batch_size:1}, or windows of one size.",
        )
    distinct = {(w.node, None if w.time is None else len(w.time)): w for w in windows}.values()
    layouts = {}
    for name in nodes[windows[0].node].layers:
        layers = [(nodes[w.node].layers[name], w) for w in distinct]
        if len({(layer.shape(w)[bool(layer.time_dim) :], layer.dtype) for layer, w in layers}) > 1:
            raise GridError(
                f"Cannot stack windows of the nodes {sorted({w.node for w in windows})} into one batch: {name!r} is "
                f"{' and '.join(sorted({f'{layer.dtype} {layer.shape(w)}' for layer, w in layers}))}.",
                remedy="Pass {batch_size:1}, or let loader() group them.",
            )
        layer, longest = max(layers, key=lambda pair: len(pair[0].steps(pair[1])))
        layouts[name] = _Layout(
            shape=(len(windows), *layer.shape(longest)),
            valid_shape=(len(windows), *layer.valid_shape(longest)),
            dtype=layer.dtype,
        )
    return layouts


def times(nodes: Mapping[str, NodeReader], windows: Sequence[Window]) -> Sample:
    """Return the dates of windows as entries of a batch, for each time dimension of the layers."""
    entries: Sample = {}
    by_dim = {
        node: {layer.time_dim: layer for layer in reader.layers.values() if layer.time_dim}
        for node, reader in nodes.items()
    }
    for dim in next(iter(by_dim.values())):
        layers = [by_dim[window.node][dim] for window in windows]
        steps = [layer.steps(window) for layer, window in zip(layers, windows, strict=True)]
        dates = np.full((len(windows), max(map(len, steps))), NO_DATE)
        is_read = np.zeros(dates.shape, bool)
        for row, (layer, series) in enumerate(zip(layers, steps, strict=True)):
            is_read[row, : len(series)] = True
            if layer.dates is not None:
                dates[row, : len(series)] = layer.dates[list(series)].astype("int64")
        entries |= {dim: torch.from_numpy(dates), f"{dim}_valid": torch.from_numpy(is_read)}
    return entries


def batch_bytes(nodes: Mapping[str, NodeReader], window: Window, count: int) -> int:
    """Return the bytes of values and valid masks of a batch, each array rounded up to whole cache lines."""
    layers = nodes[window.node].layers.values()
    sizes = [count * prod(layer.shape(window)) * layer.dtype.itemsize for layer in layers]
    sizes += [count * prod(layer.valid_shape(window)) for layer in layers]
    return sum(-(-size // ALIGN) * ALIGN for size in sizes)


def geometry(grids: Mapping[str, GeoBox], windows: Sequence[Window]) -> Sample:
    """Return bounds, transforms and CRS names of windows as entries of a batch, given the grid of each node."""
    bounds, transform = np.empty((len(windows), 4)), np.empty((len(windows), 6))
    nodes = [window.node for window in windows]
    for node in dict.fromkeys(nodes):
        rows = [row for row, name in enumerate(nodes) if name == node]
        bounds[rows], transform[rows] = _bounds_and_transforms(grids[node], [windows[row] for row in rows])
    names = {node: crs_text(grids[node].crs) for node in set(nodes)}
    return {
        "bounds": torch.from_numpy(bounds),
        "transform": torch.from_numpy(transform),
        "crs": [names[node] for node in nodes],
    }


def _bounds_and_transforms(grid: GeoBox, windows: Sequence[Window]) -> tuple[Floats, Floats]:
    """Return bounds (n, 4) and affine coefficients (n, 6) of windows."""
    a = grid.affine
    cols = np.array([(w.col, w.col + w.width) for w in windows], "float64")
    rows = np.array([(w.row, w.row + w.height) for w in windows], "float64")
    # All four corners, since a rotated grid (b, d != 0) has its extremes at any of them.
    cols, rows = cols[:, [0, 1, 0, 1]], rows[:, [0, 1, 1, 0]]
    x, y = pix2wld(grid, cols, rows)
    bounds = np.c_[x.min(1), y.min(1), x.max(1), y.max(1)]
    transform = np.tile(np.array([a.a, a.b, 0, a.d, a.e, 0], "float64"), (len(windows), 1))
    transform[:, 2], transform[:, 5] = x[:, 0], y[:, 0]
    return bounds, transform


def sample_at(batch: Sample, index: int) -> Sample:
    """Return one sample of a batch; torch's default_collate stacks such samples again."""
    return {key: value[index] for key, value in batch.items()}

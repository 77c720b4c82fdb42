"""A map-style torch dataset of windows of layers."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from dask.system import CPU_COUNT
from torch.utils.data import Dataset

from geoxt.bridge.buffer_pool import BufferPool
from geoxt.bridge.coalesce import coalesce, windows_per_read
from geoxt.bridge.layer_reader import NodeReader, TensorDtype, readers_of
from geoxt.bridge.read_batch import MapWindows, Sample, batch_bytes, read_batch, sample_at
from geoxt.bridge.shared_memory import Slot
from geoxt.bridge.shared_parts import SharedParts
from geoxt.crs import crs_name
from geoxt.errors import GridError
from geoxt.pixels.remote import WINDOWS
from geoxt.reprs import html_table
from geoxt.samplers import WindowSequence
from geoxt.trees import SomeData
from geoxt.windows import Window

Transform = Callable[[Sample], Sample]
LIMIT = 256 * 2**20
"""Bytes of the pixels that worker processes share."""


class WindowDataset(Dataset[Sample]):
    """A map-style torch dataset: one sample per window.

    Parameters
    ----------
    data
        A layer, a Dataset of layers on one grid, or a tree of such Datasets.
    windows
        A sampler, or windows of the grid; windows of a tree name their node.
    transform
        Applied to every sample (by `loader`: to every batch).
    dtype
        "float32": continuous layers become float32. "stored": they keep their dtype if torch supports it.
    threads
        Windows of a batch that are read concurrently. Default: the number of cores, 1 in worker processes, 32 for
        remote files.

    Raises
    ------
    GridError
        If the sampler was made from layers on other grids.

    Notes
    -----
    It pickles without file handles, so that workers can be forked or spawned. It is indexed by number or by window.
    """

    def __init__(
        self,
        data: SomeData,
        windows: WindowSequence | Sequence[Window],
        *,
        transform: Transform | None = None,
        dtype: TensorDtype = "float32",
        threads: int | None = None,
    ) -> None:
        self.nodes = readers_of(data, dtype=dtype)
        if isinstance(windows, WindowSequence):
            _require_grids(self.nodes, windows)
        self.windows = windows
        self.transform = transform
        self.threads = threads
        self._pool: tuple[int, ThreadPoolExecutor] | None = None
        self._buffers = BufferPool()

    def __len__(self) -> int:
        return len(self.windows)

    def __repr__(self) -> str:
        entries = ", ".join(f"{key} {kind}" for key, kind in self.entries().items())
        return f"<{type(self).__name__}: {len(self):,} windows of {entries or 'no layers'}>"

    def _repr_html_(self) -> str:
        """Return the number of windows, and shape and dtype of each sample key."""
        return html_table(type(self).__name__, {"windows": f"{len(self):,}", **self.entries()})

    def entries(self) -> dict[str, str]:
        """Return dtype and shape of each entry of the first sample as text, without reading pixels."""
        if not len(self):
            return {}
        window = self.windows[0]
        layers = self.nodes[window.node].layers
        return {name: f"{layer.dtype} {layer.shape(window)}" for name, layer in layers.items()}

    def __getitem__(self, index: int | Window) -> Sample:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int | Window]) -> list[Sample]:
        """Return several samples; those whose tensors have one shape are read together."""
        windows = [self._window(index) for index in indices]
        rows_by_key: dict[Hashable, list[int]] = {}
        for row, window in enumerate(windows):
            rows_by_key.setdefault(self.batch_key(window), []).append(row)
        samples: list[Sample] = [{}] * len(windows)
        for rows in rows_by_key.values():
            batch = self.read([windows[row] for row in rows])
            for index, row in enumerate(rows):
                samples[row] = sample_at(batch, index)
        return samples if self.transform is None else [self.transform(sample) for sample in samples]

    def read(self, indices: Sequence[int | Window], buffers: BufferPool | Slot | None = None) -> Sample:
        """Return one batch before any transform, in memory of `buffers` (by default, memory of this dataset)."""
        windows = [self._window(index) for index in indices]
        for window in windows:
            self._require_node(window)
        threads = self._thread_count()
        return read_batch(
            self.nodes,
            windows,
            map_reads=self._map_reads(threads),
            buffers=buffers or self._buffers,
            max_windows=windows_per_read(len(windows), threads),
        )

    def batch_bytes(self, window: Window, count: int) -> int:
        """Return the bytes of a batch of windows of equal shape, each array rounded up to whole cache lines."""
        return batch_bytes(self.nodes, window, count)

    def keep_stored(self, stored: Collection[str], buffers: BufferPool) -> dict[str, torch.dtype]:
        """Read layers in their stored dtype if it is one of `stored`, into given memory; return their former dtypes."""
        self._buffers = buffers
        former: dict[str, torch.dtype] = {}
        names = {name for reader in self.nodes.values() for name in reader.layers}
        for name in names:
            layers = [reader.layers[name] for reader in self.nodes.values()]
            if len({layer.view.dtype for layer in layers}) == 1 and layers[0].view.dtype.name in stored:
                former[name] = torch.from_numpy(np.empty(0, layers[0].dtype)).dtype
        self.nodes = {
            node: replace(
                reader,
                layers={n: replace(x, dtype=x.view.dtype) if n in former else x for n, x in reader.layers.items()},
            )
            for node, reader in self.nodes.items()
        }
        return former

    def share_parts(self, lock: Any) -> None:
        """Let several worker processes share the pixels of rows of windows that overlap.

        Parameters
        ----------
        lock
            Lock of the workers' multiprocessing context.

        Raises
        ------
        OSError
            If there is not enough memory.
        """
        layers = [layer for reader in self.nodes.values() for layer in reader.layers.values() if layer.recent]
        first = [self.windows[index] for index in range(min(len(self.windows), 2))]
        if not layers or len(first) < 2 or len(coalesce(first)) > 1:
            return  # windows are not read together with their neighbours
        parts = SharedParts(min(sum(layer.row_bytes(first[0]) for layer in layers), LIMIT), lock)
        for number, layer in enumerate(layers):
            if layer.recent is not None:
                layer.recent.share(parts, number)

    def batch_key(self, window: Window) -> Hashable:
        """Return name, shape and dtype of each layer, which are equal for windows that can share a batch.

        The number of time steps is left out if shorter series are padded: if the window names its steps, or all nodes
        have the same number.
        """
        self._require_node(window)
        keys = []
        for name, layer in self.nodes[window.node].layers.items():
            shape = layer.shape(window)
            padded = layer.time_dim and (window.time is not None or self._equally_long(name))
            keys.append((name, shape[1:] if padded else shape, str(layer.dtype)))
        return tuple(keys)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without threads."""
        return self.__dict__ | {"_pool": None}

    def _window(self, index: int | Window) -> Window:
        return index if isinstance(index, Window) else self.windows[index]

    def _require_node(self, window: Window) -> None:
        if window.node not in self.nodes:
            node = f"is of node {window.node!r}" if window.node else "names no node"
            raise GridError(
                f"Cannot read {window}: it {node}, and the nodes of the data are {list(self.nodes)}.",
                remedy="Pass windows of a sampler over the same data. Or pass Window(…, node=…).",
            )

    def _equally_long(self, name: str) -> bool:
        return len({reader.layers[name].view.shape[0] for reader in self.nodes.values()}) == 1

    def _thread_count(self) -> int:
        """Return the number of threads that read."""
        if self.threads is not None:
            return max(self.threads, 1)
        if any(layer.view.remote for reader in self.nodes.values() for layer in reader.layers.values()):
            return WINDOWS  # these threads wait for servers, not for cores
        return 1 if torch.utils.data.get_worker_info() is not None else CPU_COUNT

    def _map_reads(self, threads: int) -> MapWindows:
        """Return the `map` of this process's thread pool, or the built-in."""
        if threads == 1:
            return map
        if self._pool is None or self._pool[0] != os.getpid():  # threads do not survive a fork
            self._pool = os.getpid(), ThreadPoolExecutor(threads, "geoxt-read")
        return self._pool[1].map


def _require_grids(nodes: Mapping[str, NodeReader], windows: WindowSequence) -> None:
    """Raise if a sampler has a node that the data lack, or has it on another grid."""
    for node, grid in windows.grids.items():
        reader = nodes.get(node)
        if reader is None:
            of, among = (f"node {n!r}" if n else "data on one grid" for n in (node, next(iter(nodes))))
            raise GridError(
                f"Cannot read windows of {of} from {among if '' in nodes else f'a tree of the nodes {list(nodes)}'}.",
                remedy="Make the sampler from the same data. Or take the windows of one node by sampler.of(node).",
            )
        if reader.grid != grid:
            sides = [f"{g.shape[0]} x {g.shape[1]} in {crs_name(g.crs)}" for g in (grid, reader.grid)]
            raise GridError(
                f"Cannot read windows of one grid ({sides[0]}) from layers on another ({sides[1]})"
                f"{f' at node {node!r}' if node else ''}.",
                remedy="Make the sampler from the same layers.",
            )

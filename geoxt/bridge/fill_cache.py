"""Filling of the block cache ahead of training."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from dask.system import CPU_COUNT

from geoxt.bridge.layer_reader import NodeReader, readers_of
from geoxt.errors import InputError
from geoxt.progress import default_client, progress_bar
from geoxt.samplers import WindowSequence
from geoxt.trees import SomeData
from geoxt.windows import Window

SIDE = 1024
"""Height and width of the windows that are read if none are given, in pixels."""
BATCH = 16
"""Windows of a task on a dask cluster."""


def warm_cache(
    data: SomeData,
    windows: WindowSequence | Sequence[Window] | None = None,
    *,
    threads: int | None = None,
    progress: bool | None = None,
) -> None:
    """Fill the block cache with the decoded blocks that windows need.

    The pixels are read and discarded. On a dask cluster that is the default scheduler, its workers read them; they must
    see the folder of the cache.

    Parameters
    ----------
    data
        A layer, a Dataset of layers on one grid, or a tree of such Datasets, opened with `cache=`.
    windows
        A sampler, the windows of a split's region, or any windows of the grid; by default the whole grid.
    threads
        Number of windows read concurrently without a cluster; by default the number of cores.
    progress
        Whether to show a progress bar; by default if standard error is a terminal.

    Raises
    ------
    InputError
        If no layer has a block cache.
    ReadError
        If a file cannot be read.

    Examples
    --------
    >>> import geoxt
    >>> scene = geoxt.open_cogs("scene.tif", cache="/data/blocks:100GB")  # doctest: +SKIP
    >>> geoxt.warm_cache(scene)  # doctest: +SKIP
    """
    readers = readers_of(data)
    cached = {node: _cached_layers(reader) for node, reader in readers.items()}
    if not any(reader.layers for reader in cached.values()):
        problem = f"Cannot fill a block cache: none of the layers {list(next(iter(readers.values())).layers)} has one."
        raise InputError(problem, remedy="Open them with cache=, or set GEOXT_BLOCK_CACHE before opening.")
    selected = _windows_of(cached) if windows is None else list(windows)
    if len(selected) == 0:
        return
    chunks = [selected[n : n + BATCH] for n in range(0, len(selected), BATCH)]
    client = default_client()
    with progress_bar(len(selected), "block cache", unit="window", progress=progress) as bar:
        if client is not None:
            for size in _read_on(client, cached, chunks):
                bar.update(size)
            return
        with ThreadPoolExecutor(threads or CPU_COUNT, "geoxt-warm") as pool:
            for _ in pool.map(partial(_read, cached), selected):
                bar.update()


def _cached_layers(reader: NodeReader) -> NodeReader:
    return NodeReader(grid=reader.grid, layers={n: layer for n, layer in reader.layers.items() if layer.view.cached})


def _windows_of(readers: Mapping[str, NodeReader]) -> list[Window]:
    """Return windows that cover the grids."""
    return [
        Window(row, column, min(SIDE, rows - row), min(SIDE, columns - column), node=node)
        for node, reader in readers.items()
        for rows, columns in [reader.grid.shape]
        for row, column in itertools.product(range(0, rows, SIDE), range(0, columns, SIDE))
    ]


def _read(readers: Mapping[str, NodeReader], window: Window) -> None:
    for layer in readers[window.node].layers.values():
        layer.view.read(window)


def _read_all(readers: Mapping[str, NodeReader], windows: Sequence[Window]) -> int:
    for window in windows:
        _read(readers, window)
    return len(windows)


def _read_on(client: Any, readers: Mapping[str, NodeReader], chunks: Sequence[Sequence[Window]]) -> Any:
    """Yield the number of windows of each chunk that a worker has read."""
    from distributed import as_completed

    futures = client.map(_read_all, [client.scatter(readers, broadcast=True)] * len(chunks), chunks, pure=False)
    try:
        for future in as_completed(futures):
            yield future.result()
    finally:
        client.cancel(futures)

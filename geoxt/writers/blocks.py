"""Blocks of a layer, computed and written one by one: in this process, or by the workers of a dask cluster."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from dask.delayed import delayed

from geoxt.progress import default_client, progress_bar
from geoxt.types import Array
from geoxt.writers.staging import finished_blocks

CONCURRENT = "geoxt_concurrent_blocks"
"""Annotation of dask layers: number of blocks to compute at once, such as of maps that several devices compute."""
_IN_THIS_PROCESS: ContextVar[bool] = ContextVar("in_this_process", default=False)
"""Whether blocks are computed here although there is a dask cluster, as within a task of the cluster."""
_INTERRUPTS: list[Callable[[], None]] = []
Save = Callable[[Array, int], int]
"""Writes the values of a block, given its number, and returns that number. It pickles."""


def on_interrupt(stop: Callable[[], None]) -> None:
    """Register a function that is called if writing ends early, by an error or by Ctrl-C.

    A lazy layer may compute its blocks in threads outside dask, which would continue to the end of the block. A writer
    has only the layer, so that no argument can name the function.
    """
    _INTERRUPTS.append(stop)


@contextmanager
def in_this_process() -> Iterator[None]:
    """Compute the blocks of all outputs that are written in the `with` block without a dask cluster.

    A task of a cluster would submit further tasks, and hold its worker while it waits for them.
    """
    token = _IN_THIS_PROCESS.set(True)
    try:
        yield
    finally:
        _IN_THIS_PROCESS.reset(token)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """A layer and its division into blocks, one per dask chunk."""

    layer: xr.DataArray
    """Chunked with dask, all bands in one chunk."""
    slices: tuple[tuple[slice, ...], ...]
    """Of each block, its slice along each dimension."""

    def __len__(self) -> int:
        """Return the number of blocks."""
        return len(self.slices)


def blocks_of(layer: xr.DataArray, *, side: int) -> Blocks:
    """Divide a layer at its chunks, or into squares of `side` pixels if it has none."""
    if layer.chunks is None:
        chunks: dict[Any, int] = {dim: 1 if dim == "time" else side if dim in {"y", "x"} else -1 for dim in layer.dims}
        layer = layer.chunk(chunks)
    elif "band" in layer.dims:
        layer = layer.chunk(band=-1)
    assert layer.chunks is not None
    edges = [np.cumsum((0, *sizes)).tolist() for sizes in layer.chunks]
    spans = [[slice(start, stop) for start, stop in itertools.pairwise(edge)] for edge in edges]
    return Blocks(layer=layer, slices=tuple(itertools.product(*spans)))


def write_blocks(blocks: Blocks, save: Save, folder: Path, *, progress: bool | None, label: str) -> None:
    """Compute the unfinished blocks, and save each after computing it.

    If a dask cluster is the default scheduler and its workers see the folder, they save what they compute; else this
    process computes one block after the other, or as many at once as the layer is annotated with, and saves each.
    """
    finished = finished_blocks(folder)
    remaining = [index for index in range(len(blocks)) if index not in finished]
    client = _client(folder)
    with progress_bar(len(blocks), label, unit="block", progress=progress, initial=len(finished)) as bar:
        saved = _save_here(blocks, save, remaining) if client is None else _save_there(blocks, save, remaining, client)
        for _ in saved:
            bar.update()


def _save_here(blocks: Blocks, save: Save, remaining: Sequence[int]) -> Iterator[int]:
    try:
        for index, values in _compute_blocks(blocks, remaining):
            yield save(values, index)
    except BaseException:
        for stop in _INTERRUPTS:
            stop()
        raise


def _compute_blocks(blocks: Blocks, remaining: Sequence[int]) -> Iterator[tuple[int, Array]]:
    """Yield number and values of blocks in order."""
    count = max((annotation.get(CONCURRENT, 0) for annotation in _annotations(blocks.layer)), default=0)
    options = {"scheduler": "threads"} if _IN_THIS_PROCESS.get() else {}

    def compute(index: int) -> Array:
        values: Array = blocks.layer.data[blocks.slices[index]].compute(**options)
        return values

    if not count:
        yield from ((index, compute(index)) for index in remaining)
        return
    waiting, in_progress = deque(remaining), deque[tuple[int, Future[Array]]]()
    with ThreadPoolExecutor(count, "geoxt-blocks") as threads:
        try:
            while waiting or in_progress:
                while waiting and len(in_progress) < count:
                    index = waiting.popleft()
                    in_progress.append((index, threads.submit(compute, index)))
                index, future = in_progress.popleft()
                yield index, future.result()
        except BaseException:
            for stop in _INTERRUPTS:
                stop()
            for _, future in in_progress:
                future.cancel()
            raise


def _annotations(layer: xr.DataArray) -> Iterator[Mapping[str, Any]]:
    """Yield the annotations of a layer's dask graph."""
    graph = layer.data.__dask_graph__()
    yield from (part.annotations or {} for part in getattr(graph, "layers", {}).values())


def _save_there(blocks: Blocks, save: Save, remaining: Sequence[int], client: Any) -> Iterator[int]:
    from distributed import as_completed

    delayed_blocks = blocks.layer.data.to_delayed().ravel()
    tasks = [delayed(save, pure=False)(delayed_blocks[index], index) for index in remaining]
    # Delayed blocks have lost the annotations of their layer.
    resources: dict[str, float] = {}
    for annotation in _annotations(blocks.layer):
        resources |= annotation.get("resources", {})
    futures = client.compute(tasks, resources=resources or None)
    try:
        for future in as_completed(futures):
            yield future.result()
    finally:
        client.cancel(futures, force=True)


def _client(folder: Path) -> Any:
    """Return the client of the cluster that computes, if all its workers see the folder; else `None`."""
    client = default_client()
    if client is None or _IN_THIS_PROCESS.get():
        return None
    exists = client.run(Path.exists, folder)
    return client if exists and all(exists.values()) else None

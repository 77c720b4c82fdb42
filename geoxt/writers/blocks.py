"""The regions of a layer that are computed and written one by one, here or by the workers of a cluster."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr
from dask.delayed import delayed

from geoxt.types import Array
from geoxt.writers.progress import Bar
from geoxt.writers.staging import done

_INTERRUPTS: list[Callable[[], None]] = []
"""Called where writing ends early: they stop the threads that still compute blocks."""
Save = Callable[[Array, int], int]
"""Writes the values of a region, given its number, and returns that number. It pickles."""


def on_interrupt(stop: Callable[[], None]) -> None:
    """Register a function that stops computing where writing ends early, by an error or by Ctrl-C."""
    _INTERRUPTS.append(stop)


@dataclass(frozen=True, slots=True, kw_only=True)
class Regions:
    """A layer and how it is cut: every region is one chunk."""

    layer: xr.DataArray
    """Chunked with dask, all bands in one chunk."""
    places: tuple[tuple[slice, ...], ...]
    """For each region, its slice along each dimension."""

    def __len__(self) -> int:
        """Return the number of regions."""
        return len(self.places)


def regions_of(layer: xr.DataArray, *, side: int) -> Regions:
    """Cut a layer at its chunks, or into squares of a side in pixels where it has none."""
    if layer.chunks is None:
        chunks: dict[Any, int] = {dim: 1 if dim == "time" else side if dim in {"y", "x"} else -1 for dim in layer.dims}
        layer = layer.chunk(chunks)
    elif "band" in layer.dims:
        layer = layer.chunk(band=-1)
    assert layer.chunks is not None
    edges = [np.cumsum((0, *sizes)).tolist() for sizes in layer.chunks]
    spans = [[slice(start, stop) for start, stop in itertools.pairwise(edge)] for edge in edges]
    return Regions(layer=layer, places=tuple(itertools.product(*spans)))


def write(regions: Regions, save: Save, folder: Path, *, progress: bool | None, label: str) -> None:
    """Compute the regions that are not done yet, and save each as soon as it is there.

    Where a dask cluster is in charge, and its workers see the folder, they write what they compute; else one region
    after the other is computed and written here.
    """
    before = done(folder)
    todo = [index for index in range(len(regions)) if index not in before]
    with Bar(len(regions), label, show=progress, done=len(before)) as bar:
        client = _client(folder)
        found = _here(regions, save, todo) if client is None else _there(regions, save, todo, client)
        for _ in found:
            bar.step()


def _here(regions: Regions, save: Save, todo: Sequence[int]) -> Iterator[int]:
    try:
        for index in todo:
            values = regions.layer.data[regions.places[index]].compute()
            yield save(values, index)
    except BaseException:
        for stop in _INTERRUPTS:  # the threads of dask would compute the block to its end
            stop()
        raise


def _there(regions: Regions, save: Save, todo: Sequence[int], client: Any) -> Iterator[int]:
    from distributed import as_completed

    blocks = regions.layer.data.to_delayed().ravel()
    tasks = [delayed(save, pure=False)(blocks[index], index) for index in todo]
    futures = client.compute(tasks)
    try:
        for future in as_completed(futures):
            yield future.result()
    finally:
        client.cancel(futures, force=True)


def _client(folder: Path) -> Any:
    """Return the client of the cluster that computes, where all its workers see a folder; else `None`."""
    distributed: Any = sys.modules.get("distributed")
    if distributed is None or dask.config.get("scheduler", None) not in {None, "dask.distributed", "distributed"}:
        return None
    try:
        client = distributed.default_client()
    except ValueError:
        return None
    seen = client.run(Path.exists, folder)
    return client if seen and all(seen.values()) else None

"""Overviews of a Zarr store: computed from its stored arrays, one shard after the other, so that a write resumes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from geoxt.grid import coordinates
from geoxt.progress import progress_bar
from geoxt.types import Array
from geoxt.writers.geozarr import Level, position_attrs
from geoxt.writers.overview_pixels import reduce_average, reduce_mode
from geoxt.writers.staging import block_file, finished_blocks

CHUNK = 512
"""Pixels: side of the chunks of overviews."""
SHARD = 1024
"""Pixels: side of the shards of overviews, which are computed one by one."""
_MEMORY = 64e6
"""Bytes of stored pixels that are read at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overviews:
    """Overviews of an array of a store."""

    levels: tuple[Level, ...]
    """From fine to coarse."""
    dims: tuple[str, ...]
    """Dimensions of the array."""
    mode: bool
    """Whether pixels are class codes."""
    nodata: float | None
    """Value of missing pixels."""

    @property
    def axes(self) -> tuple[int, int]:
        """Positions of y and x."""
        return self.dims.index("y"), self.dims.index("x")


def create_overviews(root: Any, name: str, overviews: Overviews, coords: xr.Dataset) -> None:
    """Write the metadata and coordinates of overviews.

    Parameters
    ----------
    root
        Group of the array, open for writing.
    name
        Name of the array.
    overviews
        Its overviews.
    coords
        Coordinates along other dimensions than y and x.
    """
    base = root[name]
    for level in overviews.levels:
        located = {key: coord for key, coord in coordinates(level.grid).items() if coord.ndim < 2}
        ds = coords.assign_coords(located).drop_encoding().assign_attrs(position_attrs(level.grid))
        encoding = {str(key): {"_FillValue": None} for key, coord in ds.coords.items() if coord.dtype.kind == "f"}
        group = level.path.rpartition("/")[0]
        ds.to_zarr(root.store, group=group, zarr_format=3, consolidated=False, encoding=encoding)
        shape, chunks, shards = list(base.shape), list(base.chunks), list(base.shards or base.chunks)
        for axis, size in zip(overviews.axes, level.grid.shape, strict=True):
            shape[axis], chunks[axis] = size, min(CHUNK, size)
            shards[axis] = min(SHARD // CHUNK, -(-size // CHUNK)) * chunks[axis]
        root.create_array(
            level.path, shape=shape, chunks=chunks, shards=shards if shards != chunks else None, dtype=base.dtype,
            fill_value=base.fill_value, attributes=dict(base.attrs), dimension_names=overviews.dims,
        )  # fmt: skip


def write_overviews(
    store: Path, overviews: Overviews, folder: Path, *, first: int, progress: bool | None, label: str
) -> None:
    """Compute and write the unfinished shards of overviews, from fine to coarse.

    Parameters
    ----------
    store
        Folder of the store, whose full resolution is complete.
    overviews
        Overviews of an array.
    folder
        Folder of the files that mark finished blocks.
    first
        Number of the first shard among the blocks of the store.
    progress
        Whether to show a progress bar; by default if standard error is a terminal.
    label
        Text of the progress bar.
    """
    import zarr

    root: Any = zarr.open_group(str(store), mode="r+", use_consolidated=False)
    tasks = [(level, bounds) for level in overviews.levels for bounds in _shards(root[level.path])]
    finished = finished_blocks(folder)
    with progress_bar(len(tasks), f"{label}, overviews", unit="block", progress=progress) as bar:
        for index, (level, bounds) in enumerate(tasks, first):
            if index not in finished:
                root[level.path][bounds] = _reduce(root[level.source], level, bounds, overviews)
                block_file(folder, index).touch()
            bar.update()


def _shards(array: Any) -> Iterator[tuple[slice, ...]]:
    """Yield the bounds of the shards of an array."""
    sides = array.shards or array.chunks
    spans = [
        [slice(start, min(start + side, size)) for start in range(0, size, side)]
        for size, side in zip(array.shape, sides, strict=True)
    ]
    yield from itertools.product(*spans)


def _reduce(source: Any, level: Level, bounds: Sequence[slice], overviews: Overviews) -> Array:
    """Return part of an overview, read from its source in pieces."""
    factor, (y, x) = level.factor // level.source_factor, overviews.axes
    out = np.empty([b.stop - b.start for b in bounds], source.dtype)
    planes = out.size // (out.shape[y] * out.shape[x])
    side = max(int((_MEMORY / (planes * out.itemsize)) ** 0.5) // factor // CHUNK * CHUNK, CHUNK // factor, 1)
    reduce = reduce_mode if overviews.mode else reduce_average
    for row, col in itertools.product(range(0, out.shape[y], side), range(0, out.shape[x], side)):
        read, target = list(bounds), [slice(None)] * out.ndim
        for axis, start in ((y, row), (x, col)):
            stop, origin = min(start + side, out.shape[axis]), bounds[axis].start
            target[axis] = slice(start, stop)
            read[axis] = slice((origin + start) * factor, min((origin + stop) * factor, source.shape[axis]))
        pixels = np.moveaxis(np.asarray(source[tuple(read)]), (y, x), (-2, -1))
        out[tuple(target)] = np.moveaxis(reduce(pixels, factor, overviews.nodata), (-2, -1), (y, x))
    return out

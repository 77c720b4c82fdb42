"""Torch datasets and loaders over windows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
import xarray as xr
from torch.utils.data import DataLoader, Dataset, Sampler

from geoxt.bridge.reading import Kind, Sample, batch_bytes, channels_of, read_batch, single
from geoxt.bridge.room import Room
from geoxt.bridge.shared import Filled, Ring, Slot
from geoxt.errors import GridError, InputError
from geoxt.grid import label
from geoxt.samplers import Plan
from geoxt.windows import Window

Transform = Callable[[Sample], Sample]
HELD = 2
"""Batches that a training loop holds at once: the one it works on, and the next while it is handed over."""


class WindowDataset(Dataset[Sample]):
    """A map-style torch dataset: one sample a window.

    Parameters
    ----------
    data
        A layer, or a Dataset of layers on one grid.
    windows
        A sampler, or windows of the grid.
    transform
        Applied to every sample, or to every batch by `loader`.
    dtype
        "float32": continuous layers become float32. "stored": they keep their type where torch has it.
    threads
        Windows of a batch that are read at once. By default the number of cores, and 1 in workers.

    Notes
    -----
    It pickles without handles, so it goes to workers by fork or spawn. Indexing takes numbers and windows.
    """

    def __init__(
        self,
        data: xr.DataArray | xr.Dataset,
        windows: Plan | Sequence[Window],
        *,
        transform: Transform | None = None,
        dtype: Kind = "float32",
        threads: int | None = None,
    ) -> None:
        self.grid, self.channels = channels_of(data, dtype=dtype)
        if isinstance(windows, Plan) and windows.grid != self.grid:
            sides = [f"{g.shape[0]} x {g.shape[1]} in {label(g.crs)}" for g in (windows.grid, self.grid)]
            msg = f"Cannot read windows of one grid ({sides[0]}) from layers on another ({sides[1]})."
            raise GridError(msg + " Make the sampler from the same layers.")
        self.windows = windows
        self.transform = transform
        self.threads = threads
        self._pool: tuple[int, ThreadPoolExecutor] | None = None
        self._room = Room()

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int | Window) -> Sample:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int | Window]) -> list[Sample]:
        """Return samples that are read together."""
        batch = self.read(indices)
        samples = [single(batch, place) for place in range(len(indices))]
        return samples if self.transform is None else [self.transform(s) for s in samples]

    def read(self, indices: Sequence[int | Window], room: Room | Slot | None = None) -> Sample:
        """Return one batch of windows, before any transform; its tensors lie in a room, this dataset's by default."""
        windows = [i if isinstance(i, Window) else self.windows[i] for i in indices]
        return read_batch(self.grid, self.channels, windows, self._map(), room or self._room)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the threads behind."""
        return self.__dict__ | {"_pool": None}

    def _map(self) -> Any:
        """Return what maps over windows: threads of this process, or the built-in."""
        count = self.threads
        if count is None:
            count = 1 if torch.utils.data.get_worker_info() is not None else len(os.sched_getaffinity(0))
        if count <= 1:
            return map
        if self._pool is None or self._pool[0] != os.getpid():
            self._pool = os.getpid(), ThreadPoolExecutor(count, "geoxt-read")
        return self._pool[1].map


class _Batches(Dataset[Any]):
    """The same windows, a whole batch an item."""

    def __init__(self, samples: WindowDataset) -> None:
        self.samples = samples
        self.ring: Ring | None = None
        """Where workers put batches."""

    def __getitem__(self, order: tuple[int | None, Sequence[Window]]) -> Sample | Filled:
        slot, windows = order
        if slot is None or self.ring is None:
            return self._batch(windows)
        return self.ring.fill(slot, partial(self._batch, windows))

    def largest(self, plan: Any) -> int:
        """Return the bytes of a batch of a plan, all as large as its first window."""
        windows = plan.windows
        return batch_bytes(self.samples.channels, windows[0], plan.batch_size) if len(windows) else 1

    def _batch(self, windows: Sequence[Window], room: Room | Slot | None = None) -> Sample:
        batch = self.samples.read(windows, room)
        return batch if self.samples.transform is None else self.samples.transform(batch)


class Loader(DataLoader[Any]):
    """A torch DataLoader of whole batches. Its workers read into memory that they share with it.

    Without workers a thread reads the next batch while the last is worked on.
    """

    dataset: _Batches
    ring: Ring | None = None
    """Memory for the workers' batches, while no iterator uses it."""

    @property
    def _index_sampler(self) -> Any:
        """What workers are asked for: a slot of the ring, and windows."""
        return _Orders(self.sampler, self.dataset.ring)

    def __iter__(self) -> Iterator[Sample]:  # type: ignore[override]
        """Return an iterator over the batches of an epoch."""
        if not self.num_workers:
            return ahead(super().__iter__())
        kept = self.dataset.ring if self.persistent_workers else self.ring
        slots = self.num_workers * (self.prefetch_factor or 2) + HELD
        ring = self.dataset.ring = kept or Ring(slots, self.dataset.largest(self.sampler))
        self.ring = None
        return self._received(super().__iter__(), ring)

    def _received(self, batches: Iterator[Any], ring: Ring) -> Iterator[Sample]:
        for batch in batches:
            yield ring.batch(batch) if isinstance(batch, Filled) else batch
        self.ring = ring


class _Orders(Sized, Iterable[Any]):
    """Batches of windows, each with the slot of a ring where it goes, if there is a ring with a free one."""

    def __init__(self, batches: Any, ring: Ring | None) -> None:
        self.batches, self.ring = batches, ring

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[int | None, Any]]:
        return self.ring.orders(self.batches) if self.ring else ((None, batch) for batch in self.batches)


def ahead(batches: Iterator[Sample]) -> Iterator[Sample]:
    """Yield batches, each read by a thread while the one before it is worked on."""
    with ThreadPoolExecutor(1, "geoxt-ahead") as reading:
        coming = reading.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reading.submit(next, batches, None)
            yield batch
            del batch


class BatchPlan(Sampler[list[Window]]):
    """Batches of a sampler's windows in their order; `set_epoch` takes the plan of another epoch.

    Parameters
    ----------
    windows
        A sampler, or windows.
    batch_size
        Windows in a batch.
    drop_last
        Leave out a last batch that is not full.
    """

    def __init__(self, windows: Plan | Sequence[Window], batch_size: int, *, drop_last: bool = False) -> None:
        self.windows, self.batch_size, self.drop_last = windows, batch_size, drop_last
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Take the windows of another epoch; Lightning calls this before each."""
        self.epoch = epoch

    def __len__(self) -> int:
        whole, rest = divmod(len(self.windows), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[list[Window]]:
        windows = self.windows.at(self.epoch) if isinstance(self.windows, Plan) else self.windows
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield [windows[i] for i in range(start, min(start + self.batch_size, len(windows)))]


def to_torch(
    data: xr.DataArray | xr.Dataset,
    windows: Plan | Iterable[Window],
    *,
    transform: Transform | None = None,
    dtype: Kind = "float32",
    threads: int | None = None,
) -> WindowDataset:
    """Return a map-style torch dataset of windows.

    Parameters
    ----------
    data
        A layer, or a Dataset of layers on one grid.
    windows
        A sampler, or windows of that grid.
    transform
        Applied to every sample.
    dtype
        "float32": continuous layers become float32. "stored": they keep their type where torch has it.
    threads
        Windows of a batch that are read at once. By default the number of cores, and 1 in workers.

    Returns
    -------
    WindowDataset
        Samples as `read_batch` describes them, without the batch dimension.
    """
    chosen = windows if isinstance(windows, Plan) else list(windows)
    return WindowDataset(data, chosen, transform=transform, dtype=dtype, threads=threads)


def loader(
    data: xr.DataArray | xr.Dataset,
    windows: Plan | Iterable[Window],
    *,
    batch_size: int = 1,
    workers: int = 0,
    threads: int | None = None,
    transform: Transform | None = None,
    dtype: Kind = "float32",
    drop_last: bool = False,
    **options: Any,
) -> DataLoader[Sample]:
    """Return a torch DataLoader of batches of windows, read whole batches at a time.

    Parameters
    ----------
    data
        A layer, or a Dataset of layers on one grid.
    windows
        A sampler, or windows of that grid. Batches keep their order, so the order does not depend on workers.
    batch_size
        Windows in a batch.
    workers
        Processes that read; 0 reads in this one, with threads.
    threads
        Windows of a batch that one process reads at once. By default the number of cores, and 1 in workers.
    transform
        Applied to every batch.
    dtype
        "float32": continuous layers become float32. "stored": they keep their type where torch has it.
    drop_last
        Leave out a last batch that is not full.
    **options
        Passed on to `torch.utils.data.DataLoader`: `pin_memory`, `prefetch_factor`, `multiprocessing_context`, …

    Returns
    -------
    torch.utils.data.DataLoader
        Yields dicts; see `geoxt.bridge.read_batch` for their keys and shapes.
    """
    if batch_size < 1:
        msg = f"Cannot make batches of {batch_size} windows: pass batch_size=1 or more."
        raise InputError(msg)
    samples = to_torch(data, windows, transform=transform, dtype=dtype, threads=threads)
    plan = BatchPlan(samples.windows, batch_size, drop_last=drop_last)
    return Loader(_Batches(samples), sampler=plan, batch_size=None, num_workers=workers, **options)

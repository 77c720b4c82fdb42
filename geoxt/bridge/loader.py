"""Loaders: whole batches of windows, read by threads or by workers that share memory with their parent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import xarray as xr
from torch.utils.data import DataLoader, Dataset, Sampler, default_convert, get_worker_info

from geoxt.bridge.buffer_pool import Room
from geoxt.bridge.epochs import Epochs
from geoxt.bridge.reading import Kind, Sample, batch_bytes
from geoxt.bridge.shared_memory import Filled, Ring, Slot
from geoxt.bridge.to_torch import to_torch
from geoxt.bridge.tree_dataset import TreeBatchPlan, TreeDataset
from geoxt.bridge.window_dataset import Transform, WindowDataset
from geoxt.bridge.xbatcher import ComputedBatches, is_generator, windows_of
from geoxt.errors import InputError
from geoxt.samplers import WindowSequence
from geoxt.windows import Window

HELD = 2
"""Batches that a training loop holds at once: the one it works on, and the next while it is handed over."""


class _Batches(Dataset[Any]):
    """The same windows, a whole batch an item: as it is read, or in a worker as it is handed on."""

    def __init__(self, samples: WindowDataset | TreeDataset, collate: Callable[[Any], Any] | None) -> None:
        self.samples, self.collate = samples, collate or default_convert
        self.ring: Ring | None = None
        """Where workers put batches."""

    def __getitem__(self, order: tuple[int | None, Sequence[Window]]) -> Sample | Filled:
        slot, windows = order
        if get_worker_info() is None:
            return self.samples.read(windows)
        if slot is None or self.ring is None:
            return self._batch(windows)
        return self.ring.fill(slot, partial(self._batch, windows))

    def finished(self, batch: Sample) -> Any:
        """Return what is handed on of a batch as it is read."""
        found = batch if self.samples.transform is None else self.samples.transform(batch)
        return self.collate(found)

    def largest(self, plan: Any) -> int:
        """Return the bytes of a batch of a plan, all as large as its first window."""
        windows = plan.windows
        return batch_bytes(self.samples.channels, windows[0], plan.batch_size) if len(windows) else 1

    def _batch(self, windows: Sequence[Window], room: Room | Slot | None = None) -> Any:
        return self.finished(self.samples.read(windows, room))


class Loader(DataLoader[Any]):
    """A torch DataLoader of whole batches. Its workers read into memory that they share with it.

    Without workers a thread reads the next batch while the last is worked on; transforms run in the thread that asks
    for batches, so that what they draw from torch's global generator is in step with what the model draws.
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
            return self._finished(prefetch(super().__iter__()))
        kept = self.dataset.ring if self.persistent_workers else self.ring
        slots = self.num_workers * (self.prefetch_factor or 2) + HELD
        ring = self.dataset.ring = kept or Ring(slots, self.dataset.largest(self.sampler))
        self.ring = None
        return self._received(super().__iter__(), ring)

    def _finished(self, batches: Iterator[Sample]) -> Iterator[Any]:
        for batch in batches:
            found = self.dataset.finished(batch)
            del batch  # its memory is free for the next one as soon as the loop is done with it
            yield found
            del found

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


def prefetch(batches: Iterator[Sample]) -> Iterator[Sample]:
    """Yield batches, each read by a thread while the one before it is worked on."""
    with ThreadPoolExecutor(1, "geoxt-ahead") as reading:
        coming = reading.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reading.submit(next, batches, None)
            yield batch
            del batch


class BatchPlan(Epochs[list[Window]]):
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

    def __init__(self, windows: WindowSequence | Sequence[Window], batch_size: int, *, drop_last: bool = False) -> None:
        super().__init__()
        self.windows, self.batch_size, self.drop_last = windows, batch_size, drop_last

    def _count(self) -> int:
        whole, rest = divmod(len(self.windows), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def _batches(self, start: int) -> Iterator[list[Window]]:
        windows = self.windows.at(self.epoch) if isinstance(self.windows, WindowSequence) else self.windows
        for first in range(start * self.batch_size, self._count() * self.batch_size, self.batch_size):
            yield [windows[i] for i in range(first, min(first + self.batch_size, len(windows)))]


class FixedBatches(Sampler[list[Window]]):
    """Batches that are made already.

    Parameters
    ----------
    batches
        The windows of each.
    """

    def __init__(self, batches: Sequence[Sequence[Window]]) -> None:
        self.batches = [list(batch) for batch in batches]
        self.windows = [window for batch in self.batches for window in batch]
        self.batch_size = max(map(len, self.batches), default=1)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Window]]:
        return iter(self.batches)


def loader(
    data: xr.DataArray | xr.Dataset | xr.DataTree,
    windows: WindowSequence | Iterable[Window],
    *,
    batch_size: int | None = 1,
    num_workers: int = 0,
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
        A layer, a Dataset of layers on one grid, or a tree of these.
    windows
        A sampler, or windows of that grid; of a tree, windows with a node. Batches keep their order, so the order does
        not depend on workers. An `xbatcher.BatchGenerator` is taken as the windows that its selectors are; where they
        are none, its batches are computed, under the names of its variables only.
    batch_size
        Windows in a batch; `None` for the batches of an `xbatcher.BatchGenerator` as it makes them.
    num_workers
        Processes that read; 0 reads in this one, with threads.
    threads
        Windows of a batch that one process reads at once. By default the number of cores, and 1 in workers; 32 for
        remote files.
    transform
        Applied to every batch, in a worker if there are any. Let it keep no tensor of a batch: the next is read into
        the same memory.
    dtype
        "float32": continuous layers become float32. "stored": they keep their type where torch has it.
    drop_last
        Leave out a last batch that is not full.
    **options
        Passed on to `torch.utils.data.DataLoader`: `pin_memory`, `prefetch_factor`, `multiprocessing_context`, …
        `collate_fn` gets each batch as the transform leaves it.

    Returns
    -------
    torch.utils.data.DataLoader
        Yields dicts; see `geoxt.bridge.read_batch` for their keys and shapes. Of a tree, a batch may hold windows of
        several children (`crs` tells them apart) as long as their tensors have one shape; others are grouped.

    Notes
    -----
    `loader.sampler.set_epoch(epoch)` takes a sampler's windows of another epoch. `loader.sampler.begin(epoch, done)`
    goes on in an epoch of which some batches are done: what comes is what would have come, `len(loader)` says how many
    are left, and the epochs after it are whole. For several ranks, pass `sampler.shard(rank, world_size)`.
    """
    if batch_size is not None and batch_size < 1:
        msg = f"Cannot make batches of {batch_size} windows: pass batch_size=1 or more."
        raise InputError(msg)
    if isinstance(windows, WindowSequence) and batch_size and batch_size % windows.unit and windows.unit % batch_size:
        msg = f"Cannot make batches of {batch_size} windows: {type(windows).__name__} draws {windows.unit} that belong"
        raise InputError(msg + f" together. Pass batch_size={windows.unit}, or a multiple of it.")
    own = windows_of(windows, data) if is_generator(windows) else None
    if is_generator(windows) and own is None:
        return DataLoader(ComputedBatches(windows, dtype=dtype), batch_size=None, num_workers=num_workers, **options)
    if own is not None:
        windows = [window for batch in own for window in batch]
    elif batch_size is None:
        msg = "Cannot tell how many windows make a batch: only generators of xbatcher make their own. Pass batch_size=…"
        raise InputError(msg)
    samples = to_torch(data, windows, transform=transform, dtype=dtype, threads=threads)
    plan: Sampler[list[Window]]
    if batch_size is None:
        plan = FixedBatches(own or [])
    elif isinstance(samples, TreeDataset):
        plan = TreeBatchPlan(samples.windows, batch_size, kind=samples.kind, drop_last=drop_last)
    else:
        plan = BatchPlan(samples.windows, batch_size, drop_last=drop_last)
    batches = _Batches(samples, options.pop("collate_fn", None))
    return Loader(batches, sampler=plan, batch_size=None, num_workers=num_workers, **options)

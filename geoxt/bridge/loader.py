"""Torch loaders of batches of windows, read by threads or by worker processes that share memory with their parent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypedDict, TypeVar, Unpack

import torch
from torch import multiprocessing
from torch.utils.data import DataLoader, Dataset, Sampler, default_convert, get_worker_info

from geoxt.bridge.batch_sampler import FixedBatchSampler, WindowBatchSampler
from geoxt.bridge.buffer_pool import BufferPool
from geoxt.bridge.device_batches import STORED, DeviceBatches
from geoxt.bridge.layer_reader import TensorDtype
from geoxt.bridge.malloc import keep_freed_memory
from geoxt.bridge.pack_dataset import PackDataset, is_pack
from geoxt.bridge.read_batch import Sample
from geoxt.bridge.shared_memory import FilledSlot, InlineBatch, Ring, Slot, queued
from geoxt.bridge.window_dataset import Transform, WindowDataset
from geoxt.bridge.xbatcher import ComputedBatches, is_generator, windows_of
from geoxt.errors import InputError, ResourceError
from geoxt.reprs import html_table
from geoxt.samplers import WindowSequence
from geoxt.torch_devices import Device, open_device, parse_name, resolve
from geoxt.trees import SomeData
from geoxt.windows import Window

T = TypeVar("T")
HELD = 2
"""Batches that a training loop holds at once: the current one, and the next while it is handed over."""


class DataLoaderOptions(TypedDict, total=False):
    """Keyword arguments passed on to `torch.utils.data.DataLoader`."""

    collate_fn: Callable[[Any], Any] | None
    """Called with each batch as the transform returns it."""
    pin_memory: bool
    pin_memory_device: str
    timeout: float
    worker_init_fn: Callable[[int], None] | None
    multiprocessing_context: Any
    generator: torch.Generator | None
    prefetch_factor: int | None
    persistent_workers: bool
    in_order: bool


class _BatchDataset(Dataset[Any]):
    """A dataset whose items are whole batches: as read, or in a worker transformed and collated."""

    def __init__(self, samples: WindowDataset, collate: Callable[[Any], Any] | None) -> None:
        self.samples, self.collate = samples, collate or default_convert
        self.ring: Ring | None = None
        """Shared memory into which workers read batches."""

    def __getitem__(self, order: tuple[int | None, Sequence[Window]]) -> Sample | FilledSlot | InlineBatch:
        slot, windows = order
        if get_worker_info() is None:
            return self.samples.read(windows)
        if slot is None or self.ring is None:
            return queued(self._finished_batch(windows))
        return self.ring.fill(slot, partial(self._finished_batch, windows))

    def finish(self, batch: Sample) -> Any:
        """Return a batch transformed and collated."""
        return self.collate(batch if self.samples.transform is None else self.samples.transform(batch))

    def slot_bytes(self, sampler: Any) -> int:
        """Return the bytes of the largest batch, if all windows are as large as the first."""
        windows, size = sampler.windows, sampler.batch_size
        return self.samples.batch_bytes(windows[0], size) if len(windows) else 1

    def _finished_batch(self, windows: Sequence[Window], buffers: BufferPool | Slot | None = None) -> Any:
        return self.finish(self.samples.read(windows, buffers))


class Loader(DataLoader[Any]):
    """A torch DataLoader of whole batches, which its workers read into memory shared with their parent.

    Without workers a thread reads the next batch while the loop uses the current one. Transforms run in the thread of
    the loop then, so that they draw from torch's global generator in step with the model.
    """

    dataset: _BatchDataset
    ring: Ring | None = None
    """Shared memory of the workers while no iterator uses it."""
    shares_parts: bool = False
    """Whether the workers share pixels of rows that overlap, or there was not enough memory."""
    to_device: DeviceBatches | None = None
    """Copies batches to a device."""

    def __repr__(self) -> str:
        rows = self._rows()
        return f"<Loader: {rows.pop('batches')}; {', '.join(f'{name} {text}' for name, text in rows.items())}>"

    def _repr_html_(self) -> str:
        """Return numbers of batches and workers, and shape and dtype of a window's layers."""
        return html_table("Loader", self._rows())

    def _rows(self) -> dict[str, str]:
        """Return batches, layers before transforms, and workers as text."""
        count, size, samples = len(self), getattr(self.sampler, "batch_size", None), self.dataset.samples
        windows = f"{len(samples):,} windows" if size is None else f"up to {size} of {len(samples):,} windows"
        workers = f"{self.num_workers}" if self.num_workers else "0, a thread reads ahead"
        return {"batches": f"{count:,} batches of {windows}", **samples.entries(), "workers": workers}

    @property
    def _index_sampler(self) -> Any:
        # torch sends the items of this iterable to the workers: a slot of the ring beside the windows.
        return _Orders(self.sampler, self.dataset.ring)

    def __iter__(self) -> Iterator[Sample]:  # type: ignore[override]
        """Return an iterator over the batches of an epoch."""
        batches = self._host_batches()
        return batches if self.to_device is None else self.to_device(batches)

    def _host_batches(self) -> Iterator[Sample]:
        if not self.num_workers:
            return self._finish(prefetch(super().__iter__()))
        ring = self.dataset.ring if self.persistent_workers else self.ring
        # A batch per request in flight, and those that the loop holds.
        slots = self.num_workers * (self.prefetch_factor or 2) + HELD
        if ring is None:
            with suppress(OSError):  # not enough memory: batches go through the queue
                ring = Ring(slots, self.dataset.slot_bytes(self.sampler))
        self.dataset.ring = ring
        self.ring = None  # a second iterator at the same time gets memory of its own
        if self.num_workers > 1 and not self.shares_parts:
            self.shares_parts = True
            with suppress(OSError):  # not enough memory: each worker reads all rows
                self.dataset.samples.share_parts((self.multiprocessing_context or multiprocessing).Lock())
        return self._receive(start_workers(super().__iter__, self.num_workers), ring)

    def _finish(self, batches: Iterator[Sample]) -> Iterator[Any]:
        for batch in batches:
            finished = self.dataset.finish(batch)
            del batch  # its memory is free for the next batch as soon as the loop drops it
            yield finished
            del finished

    def _receive(self, batches: Iterator[Any], ring: Ring | None) -> Iterator[Sample]:
        for batch in batches:
            if isinstance(batch, FilledSlot) and ring is not None:
                yield ring.batch(batch)
            else:
                yield batch.batch() if isinstance(batch, InlineBatch) else batch
        self.ring = ring


class _Orders(Sized, Iterable[Any]):
    """Batches of windows, each with the number of a free slot, or `None`."""

    def __init__(self, batches: Any, ring: Ring | None) -> None:
        self.batches, self.ring = batches, ring

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[int | None, Any]]:
        return self.ring.orders(self.batches) if self.ring else ((None, batch) for batch in self.batches)


def start_workers(start: Callable[[], T], num_workers: int) -> T:
    """Return the iterator of a DataLoader, which starts its worker processes.

    Raises
    ------
    ResourceError
        If the system has no process, file descriptor or semaphore left, or `/dev/shm`, where Linux keeps semaphores, is
        full or read-only.
    """
    try:
        return start()
    except OSError as error:
        if not num_workers:
            raise
        problem = f"Cannot start {num_workers} worker processes: {str(error).rstrip('.')}."
        remedy = "Pass {num_workers:0}. Or allow more processes (ulimit -u), and a larger, writable /dev/shm."
        raise ResourceError(problem, remedy=remedy, value=num_workers, argument="num_workers") from error


def prefetch(batches: Iterator[Sample]) -> Iterator[Sample]:
    """Yield batches; a thread reads the next one meanwhile."""
    with ThreadPoolExecutor(1, "geoxt-prefetch") as thread:
        pending = thread.submit(next, batches, None)
        while (batch := pending.result()) is not None:
            pending = thread.submit(next, batches, None)
            yield batch
            del batch


def loader(
    data: SomeData,
    windows: WindowSequence | Iterable[Window],
    *,
    batch_size: int | None = 1,
    num_workers: int = 0,
    threads: int | None = None,
    transform: Transform | None = None,
    dtype: TensorDtype = "float32",
    drop_last: bool = False,
    device: str | torch.device | None = None,
    **options: Unpack[DataLoaderOptions],
) -> DataLoader[Sample]:
    """Return a torch DataLoader of batches of windows, each read as a whole.

    Parameters
    ----------
    data
        A layer, a Dataset of layers on one grid, a tree of such Datasets, or a pack (`open_pack`). Every variable with
        y and x is an entry of the batch.
    windows
        A sampler, or windows of the grid; windows of a tree name their node. For a pack, a `PackSampler`. Batches keep
        their order for any number of workers. The selectors of an `xbatcher.BatchGenerator` are read as windows; if
        they are none, its batches are computed, with the names of its variables as their only entries.
    batch_size
        Windows in a batch; `None` for the batches of an `xbatcher.BatchGenerator` as it makes them.
    num_workers
        Processes that read; 0 reads in this process, with threads.
    threads
        Windows of a batch that one process reads concurrently. Default: the number of cores, 1 in worker processes, 32
        for remote files.
    transform
        Applied to every batch, in worker processes if there are any. It must not keep tensors of a batch: their memory
        is reused.
    dtype
        "float32": continuous layers become float32. "stored": they keep their dtype if torch supports it.
    drop_last
        Whether to leave out batches that are not full.
    device
        Device of the tensors by torch's name ("cuda", "cuda:1", "mps", "auto"); default: the CPU. While the loop uses a
        batch, the next is copied from page-locked memory on another stream. Layers of uint8, int8, int16 and uint16 are
        copied in that type and widened on the device, where `transform` and `collate_fn` are then applied.
    **options
        Passed on to `torch.utils.data.DataLoader`: `pin_memory`, `prefetch_factor`, `multiprocessing_context`, …
        `collate_fn` is called with each batch as the transform returns it.

    Returns
    -------
    torch.utils.data.DataLoader
        Yields dicts; see `geoxt.bridge.read_batch` for keys and shapes. A batch of a tree may hold windows of several
        nodes (see its `crs`) if their tensors have one shape. Windows of several shapes are grouped by shape.

    Raises
    ------
    InputError
        If the batch size is below 1, or splits windows that a sampler draws together; or there is no such device.
    GridError
        If the sampler was made from layers on other grids.
    ResourceError
        If worker processes cannot be started; raised when the loader is iterated over.

    Notes
    -----
    Invalid pixels hold the layer's nodata value, or NaN. Fill them before a model gets them, as
    `transforms.Normalize` does.

    `loader.sampler.set_epoch(epoch)` draws a sampler's windows of another epoch. `loader.sampler.resume(epoch, done)`
    continues an epoch after some batches: exactly the remaining batches follow, `len(loader)` is their number, and
    later epochs are complete. For distributed training pass `sampler.shard(rank, world_size)`.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.samplers import RandomSampler
    >>> from geoxt.testing import make_layer
    >>> image = make_layer(np.zeros((60, 80)), name="image")
    >>> sampler = RandomSampler(image, size=16, length=8, seed=0)
    >>> [tuple(batch["image"].shape) for batch in loader(image, sampler, batch_size=4)]
    [(4, 16, 16), (4, 16, 16)]
    """
    keep_freed_memory()
    if batch_size is not None and batch_size < 1:
        raise InputError(f"Cannot make batches of {batch_size} windows.", remedy="Pass {batch_size:1} or more.")
    if isinstance(windows, WindowSequence) and batch_size and batch_size % windows.unit and windows.unit % batch_size:
        raise InputError(
            f"Cannot make batches of {batch_size} windows: {type(windows).__name__} draws {windows.unit} that belong"
            " together.",
            remedy=f"Pass {{batch_size:{windows.unit}}}, or a multiple of it.",
        )
    target = _open_device(device)
    generated = windows_of(windows, data) if is_generator(windows) else None
    if is_generator(windows) and generated is None and target is not None:
        msg = f"Cannot load batches on {target.name!r}: a generator of xbatcher computes them."
        raise InputError(msg, remedy="Leave out {device}, and move the tensors of each batch.", argument="device")
    if is_generator(windows) and generated is None:
        return DataLoader(ComputedBatches(windows, dtype=dtype), batch_size=None, num_workers=num_workers, **options)
    if generated is None and batch_size is None:
        raise InputError(
            "Cannot tell how many windows make a batch: only generators of xbatcher make batches themselves.",
            remedy="Pass {batch_size}.",
        )
    if generated is not None:
        windows = [window for batch in generated for window in batch]
    sequence = windows if isinstance(windows, WindowSequence) else list(windows)
    samples: WindowDataset
    in_worker = transform if target is None else None
    if is_pack(data):
        samples = PackDataset(data, sequence, transform=in_worker, dtype=dtype)
    else:
        samples = WindowDataset(data, sequence, transform=in_worker, dtype=dtype, threads=threads)
    sampler: Sampler[list[Window]]
    if batch_size is None:
        sampler = FixedBatchSampler(generated or [])
    else:
        sampler = WindowBatchSampler(samples.windows, batch_size, key=samples.batch_key, drop_last=drop_last)
    collate = options.pop("collate_fn", None)
    batches = _BatchDataset(samples, collate if target is None else None)
    result = Loader(batches, sampler=sampler, batch_size=None, num_workers=num_workers, **options)
    if target is not None:
        result.to_device = _device_batches(target, samples, transform, collate, staged=num_workers > 0)
    return result


def _open_device(name: str | torch.device | None) -> Device | None:
    """Return a device; `None` for the CPU."""
    resolved = "cpu" if name is None else resolve(parse_name(name, "load batches"), "load batches")
    return None if resolved == "cpu" else open_device(resolved)


def _device_batches(
    device: Device,
    samples: WindowDataset,
    transform: Transform | None,
    collate: Callable[[Any], Any] | None,
    *,
    staged: bool,
) -> DeviceBatches:
    def finish(batch: Sample) -> Any:
        transformed = batch if transform is None else transform(batch)
        return transformed if collate is None else collate(transformed)

    copies = DeviceBatches(device=device, finish=finish, staged=staged)
    copies.widened = samples.keep_stored(STORED, BufferPool() if staged else copies.pool)
    return copies

"""Shared memory of worker processes and their parent: batches are read into it and come back without a copy.

torch sends a batch of a worker through a queue by copying it into new shared memory, page by page, which takes longer
than reading it. Here the memory is allocated once, as a ring of slots, each as large as a batch:

1. The parent names a free slot with the windows it requests (`Ring.orders`).
2. A worker reads into that slot and sends back where the tensors lie (`Ring.fill`).
3. The parent makes tensors over the slot (`Ring.batch`). The slot is free again once none of them is referenced.

Batches go through the queue if no slot is free, because the loop keeps batches, or memory has no space for slots.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import prod
from multiprocessing.context import get_spawning_popen
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_convert

from geoxt.bridge.shared_buffer import SharedBuffer
from geoxt.types import Array

ALIGN = 64
"""Bytes: arrays of a slot start at multiples of a CPU cache line."""
FAULT_AROUND = 1 << 16
"""Bytes: Linux maps a page on a read fault together with its neighbours in a block of this size
(`fault_around_bytes`)."""
INLINE = 1 << 16
"""Bytes: smaller tensors are sent in the message itself."""

_rings: weakref.WeakValueDictionary[int, Ring] = weakref.WeakValueDictionary()
_ring_numbers = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpan:
    """A tensor in a slot."""

    start: int
    """Bytes from the start of the slot."""
    shape: tuple[int, ...]
    """Sizes of its dimensions."""
    dtype: str
    """Name of its numpy dtype."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilledSlot:
    """A batch as a worker sends it."""

    ring: int
    """Number of the ring in the parent."""
    slot: int
    """Number of the slot."""
    values: dict[str, Any]
    """By key: a `TensorSpan`, a small array, or the value itself."""

    def pin_memory(self) -> dict[str, Any]:
        """Return the batch in pinned memory, which frees the slot; torch's pinning thread calls this."""
        batch = _rings[self.ring].batch(self)
        return {k: v.pin_memory() if isinstance(v, torch.Tensor) else v for k, v in batch.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineBatch:
    """A batch that a worker sends through the queue itself, because shared memory has no space for its tensors."""

    values: dict[str, Any]
    """By key: an array in place of a tensor, or the value itself."""
    tensors: frozenset[str]
    """Keys of the tensors."""

    def batch(self) -> dict[str, Any]:
        """Return the batch with tensors."""
        return {key: torch.from_numpy(v) if key in self.tensors else v for key, v in self.values.items()}

    def pin_memory(self) -> dict[str, Any]:
        """Return the batch in pinned memory; torch's pinning thread calls this."""
        return {k: v.pin_memory() if isinstance(v, torch.Tensor) else v for k, v in self.batch().items()}


def queued(batch: Any) -> Any:
    """Return a batch in a form that a worker can send through torch's queue.

    torch moves tensors into `/dev/shm` in a thread of the worker; if that fails, the batch is lost and the parent waits
    forever. Here they are moved beforehand, and sent as arrays if there is no space.
    """
    if not isinstance(batch, dict):
        return batch
    try:
        for value in batch.values():
            if type(value) is torch.Tensor and value.device.type == "cpu":
                value.share_memory_()  # type: ignore[no-untyped-call]
    except RuntimeError:
        names = frozenset(k for k, v in batch.items() if type(v) is torch.Tensor and v.dtype is not torch.bfloat16)
        return InlineBatch(values={k: v.numpy() if k in names else v for k, v in batch.items()}, tensors=names)
    return batch


class Slot:
    """The memory of a slot while a worker fills it; allocates as `BufferPool` does, and new arrays when it is full."""

    def __init__(self, memory: Array) -> None:
        self._memory, self._end = memory, 0

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return an uninitialized array."""
        size = dtype.itemsize * prod(shape)
        start, self._end = self._end, self._end + -(-size // ALIGN) * ALIGN
        if start + size > len(self._memory):
            return np.empty(shape, dtype)
        return self._memory[start : start + size].view(dtype).reshape(shape)

    def pack(self, value: Any) -> Any:
        """Return the message for a value: its span if it is a tensor in the slot, else the value."""
        if type(value) is not torch.Tensor or value.device.type != "cpu" or value.requires_grad:
            return value
        try:
            array = value.numpy()
        except (TypeError, RuntimeError):  # bfloat16, sparse and conjugate tensors have no numpy counterpart
            return value
        start = array.ctypes.data - self._memory.ctypes.data
        # A transform may return views: contiguous ones are described by their address, others are sent whole.
        if 0 <= start < len(self._memory) and array.flags.c_contiguous:
            return TensorSpan(start=start, shape=array.shape, dtype=str(array.dtype))
        return array.copy() if array.nbytes <= INLINE else value


class Ring:
    """Slots of shared memory.

    Parameters
    ----------
    count
        Number of slots.
    size
        Bytes of a slot.

    Raises
    ------
    OSError
        If there is not enough memory.

    Notes
    -----
    It is inherited by forked and spawned workers; pickled otherwise it becomes `None`.
    """

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size = count, -(-size // ALIGN) * ALIGN
        self._memory = SharedBuffer(self.count * self.size)
        self._free = dict.fromkeys(range(count))
        self._requested: set[int] = set()
        self._mapped: set[int] = set()
        self._number = next(_ring_numbers)
        _rings[self._number] = self

    def __reduce__(self) -> tuple[Callable[..., Ring | None], tuple[Any, ...]]:
        # multiprocessing lets shared memory be pickled only while a process is spawned.
        if get_spawning_popen() is None:
            return _no_op, ()
        return _inherit_ring, (self.count, self.size, self._memory, self._number)

    def orders(self, batches: Iterable[Any]) -> Iterator[tuple[int | None, Any]]:
        """Yield batches of windows, each with a slot to fill; with `None` if none is free."""
        # Slots that an abandoned iterator requested and never received.
        self._free |= dict.fromkeys(self._requested)
        self._requested.clear()
        for batch in batches:
            try:
                # popitem is atomic, since finalizers free slots in other threads. It takes the slot freed last, which
                # may still be in the CPU cache.
                slot = self._free.popitem()[0]
                self._requested.add(slot)
            except KeyError:
                slot = None
            yield slot, batch

    def memory(self, slot: int) -> Array:
        """Return the bytes of a slot."""
        return np.frombuffer(self._memory.memory, "uint8", self.size, slot * self.size)

    def fill(self, slot: int, read: Callable[[Slot], Any]) -> Any:
        """Read a batch into a slot in a worker, and return the message to the parent.

        Parameters
        ----------
        slot
            Number of the slot.
        read
            Returns the batch, with memory of the slot; a value that is not a dict is sent unchanged.
        """
        memory = self.memory(slot)
        if slot not in self._mapped:
            self._mapped.add(slot)
            # Reading one byte per block maps its pages at once; a write fault would map them one by one.
            memory[::FAULT_AROUND].max()
        buffers = Slot(memory)
        batch = default_convert(read(buffers))  # type: ignore[no-untyped-call]  # torch does so for other batches
        if not isinstance(batch, dict):
            return batch
        return FilledSlot(ring=self._number, slot=slot, values={k: buffers.pack(v) for k, v in batch.items()})

    def batch(self, filled: FilledSlot) -> dict[str, Any]:
        """Return the batch with tensors over the slot, which is free once the last of them is deleted."""
        memory, batch = self.memory(filled.slot), {}
        self._requested.discard(filled.slot)
        lease = _Lease(self._free, filled.slot)
        for key, value in filled.values.items():
            if isinstance(value, TensorSpan):
                dtype = np.dtype(value.dtype)
                end = value.start + dtype.itemsize * prod(value.shape)
                lent = memory[value.start : end].view(dtype).reshape(value.shape)
                lease.hold(lent)
                batch[key] = torch.from_numpy(lent)
            else:
                inline = isinstance(value, np.ndarray) and value.dtype.kind not in "SUO"
                batch[key] = torch.from_numpy(value) if inline else value
        lease.drop()
        return batch


class _Lease:
    """Reference count of a slot."""

    __slots__ = ("_count", "_free", "_slot")

    def __init__(self, free: dict[int, None], slot: int) -> None:
        # Starts at 1, so that a tensor that is deleted at once does not free the slot before the others exist.
        self._free, self._slot, self._count = free, slot, 1

    def hold(self, array: Array) -> None:
        self._count += 1
        weakref.finalize(array, self.drop).atexit = False

    def drop(self) -> None:
        self._count -= 1
        if not self._count:
            self._free[self._slot] = None


def _no_op() -> None:
    return None


def _inherit_ring(count: int, size: int, memory: Any, number: int) -> Ring:
    """Return a ring in a worker, over the memory of its parent."""
    ring = Ring.__new__(Ring)
    ring.count, ring.size, ring._memory, ring._number, ring._mapped = count, size, memory, number, set()  # noqa: SLF001
    return ring

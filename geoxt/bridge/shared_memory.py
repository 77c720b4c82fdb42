"""Memory that worker processes share with their parent: batches are read into it, and come back without a copy.

A batch that goes through a queue of torch is copied into new shared memory, page by page, which takes longer than to
read it. Here the memory is made once: a ring of slots, each as large as a batch. The parent names a free slot with the
windows it asks for, a worker reads into it, and the tensors that the parent hands on lie over it. The slot is free
again once nothing holds them. Where no slot is free, because the batches are kept, the queue carries the next ones.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import prod
from multiprocessing.context import get_spawning_popen
from multiprocessing.sharedctypes import RawArray
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_convert

from geoxt.types import Array

ALIGN = 64
"""Bytes: arrays of a slot start at multiples of this, a line of the processor's cache."""
AROUND = 1 << 16
"""Bytes: a page that is read first is mapped with its neighbours in a block of this size (Linux)."""
INLINE = 1 << 16
"""Bytes: smaller tensors travel in the message itself."""

_rings: weakref.WeakValueDictionary[int, Ring] = weakref.WeakValueDictionary()
_names = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A tensor in a slot."""

    start: int
    """Bytes from the start of the slot."""
    shape: tuple[int, ...]
    """Sizes of its dimensions."""
    dtype: str
    """Its type, by numpy's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """A batch as it comes back from a worker."""

    ring: int
    """The ring, by its number in the parent."""
    slot: int
    """The slot that was filled."""
    values: dict[str, Any]
    """By name: a place in the slot, a small array, or the value itself."""

    def pin_memory(self) -> dict[str, Any]:
        """Return the batch in pinned memory, which frees the slot; torch's own thread calls this."""
        batch = _rings[self.ring].batch(self)
        return {k: v.pin_memory() if isinstance(v, torch.Tensor) else v for k, v in batch.items()}


class Slot:
    """A slot that a worker fills; it gives arrays as `Room` does, and new ones where it is full."""

    def __init__(self, memory: Array) -> None:
        self._memory, self._end = memory, 0

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return an array of any content."""
        size = dtype.itemsize * prod(shape)
        start, self._end = self._end, self._end + -(-size // ALIGN) * ALIGN
        if start + size > len(self._memory):
            return np.empty(shape, dtype)
        return self._memory[start : start + size].view(dtype).reshape(shape)

    def pack(self, value: Any) -> Any:
        """Return what is sent in place of a value: where it lies in the slot, or the value."""
        if type(value) is not torch.Tensor or value.device.type != "cpu" or value.requires_grad:
            return value
        try:
            array = value.numpy()
        except (TypeError, RuntimeError):  # bfloat16, sparse, conjugate: numpy has no such thing
            return value
        start = array.ctypes.data - self._memory.ctypes.data
        if 0 <= start < len(self._memory) and array.flags.c_contiguous:
            return Place(start=start, shape=array.shape, dtype=str(array.dtype))
        return array.copy() if array.nbytes <= INLINE else value


class Ring:
    """Slots of shared memory.

    Parameters
    ----------
    count
        Slots.
    size
        Bytes of each.

    Notes
    -----
    It goes to workers by fork and by spawn, and pickles as nothing elsewhere.
    """

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size = count, -(-size // ALIGN) * ALIGN
        self._raw: Any = RawArray("B", self.count * self.size)
        self._free = dict.fromkeys(range(count))
        self._sent: set[int] = set()
        self._mapped: set[int] = set()
        self._name = next(_names)
        _rings[self._name] = self

    def __reduce__(self) -> tuple[Callable[..., Ring | None], tuple[Any, ...]]:
        if get_spawning_popen() is None:
            return _nothing, ()
        return _inherited, (self.count, self.size, self._raw, self._name)

    def orders(self, batches: Iterable[Any]) -> Iterator[tuple[int | None, Any]]:
        """Yield batches of windows, each with a slot to fill; `None` where all are held."""
        self._free |= dict.fromkeys(self._sent)  # asked for by an earlier iterator, and never received
        self._sent.clear()
        for batch in batches:
            try:
                slot = self._free.popitem()[0]  # at once: other threads free slots; the last may still be in the cache
                self._sent.add(slot)
            except KeyError:
                slot = None
            yield slot, batch

    def memory(self, slot: int) -> Array:
        """Return the bytes of a slot."""
        return np.frombuffer(self._raw, "uint8", self.size, slot * self.size)

    def fill(self, slot: int, read: Callable[[Slot], Any]) -> Any:
        """Let a batch be read into a slot, and return what is sent to the parent; what is no dict goes as it is."""
        memory = self.memory(slot)
        if slot not in self._mapped:
            self._mapped.add(slot)
            memory[::AROUND].max()  # to read is to map the pages around too; to write maps them one by one
        room = Slot(memory)
        found = default_convert(read(room))  # type: ignore[no-untyped-call]  # as torch does past the ring
        if not isinstance(found, dict):
            return found
        return Filled(ring=self._name, slot=slot, values={k: room.pack(v) for k, v in found.items()})

    def batch(self, filled: Filled) -> dict[str, Any]:
        """Return the tensors of a batch; its slot is free when the last of them is gone."""
        memory, out = self.memory(filled.slot), {}
        self._sent.discard(filled.slot)
        lease = _Lease(self._free, filled.slot)
        for name, value in filled.values.items():
            if isinstance(value, Place):
                dtype = np.dtype(value.dtype)
                end = value.start + dtype.itemsize * prod(value.shape)
                lent = memory[value.start : end].view(dtype).reshape(value.shape)
                lease.hold(lent)
                out[name] = torch.from_numpy(lent)
            else:
                inline = isinstance(value, np.ndarray) and value.dtype.kind not in "SUO"
                out[name] = torch.from_numpy(value) if inline else value
        lease.drop()
        return out


class _Lease:
    """Counts what holds a slot."""

    __slots__ = ("_count", "_free", "_slot")

    def __init__(self, free: dict[int, None], slot: int) -> None:
        self._free, self._slot, self._count = free, slot, 1

    def hold(self, array: Array) -> None:
        self._count += 1
        weakref.finalize(array, self.drop).atexit = False

    def drop(self) -> None:
        self._count -= 1
        if not self._count:
            self._free[self._slot] = None


def _nothing() -> None:
    return None


def _inherited(count: int, size: int, raw: Any, name: int) -> Ring:
    """Return a ring in a worker, over the memory of its parent."""
    ring = Ring.__new__(Ring)
    ring.count, ring.size, ring._raw, ring._name, ring._mapped = count, size, raw, name, set()  # noqa: SLF001
    return ring

"""Pixels of recent reads in memory that worker processes share: rows of a grid of windows go to different workers.

Parts lie in a ring of bytes, in which the newest overwrites the oldest. A worker holds the lock from the moment that it
moves the end of the ring until its part is complete. Pixels are copied from the ring without the lock; then the end
shows whether they were overwritten meanwhile (`SharedParts.holds`), and they are read from their files if so.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.context import get_spawning_popen
from typing import Any

import numpy as np

from geoxt.bridge.shared_buffer import SharedBuffer
from geoxt.pixels.file_version import BatchVersions, FileVersion
from geoxt.types import Array, Mask
from geoxt.windows import Window

ENTRIES = 512
"""Parts of all layers."""
ALIGN = 64
"""Bytes: parts start at multiples of a CPU cache line."""
TIMEOUT = 1.0
"""Seconds after which a worker goes on without shared parts: another may have been killed while it held the lock."""
MAX_INFOS = 256
"""Decoded descriptions of parts that a process keeps."""
_COLUMNS = 8
_TABLE = 8 * (ENTRIES + 1) * _COLUMNS
"""Bytes of the table of parts."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Pixels of a window."""

    window: Window
    values: Array
    """(time, band, height, width)"""
    valid: Mask
    """Valid mask of the same shape."""
    versions: tuple[FileVersion, ...] = ()
    """Versions of the files."""
    start: int | None = None
    """Number of bytes written to shared memory before it; `None`: memory of this process."""

    def crop(self, window: Window) -> Part:
        """Return the pixels of a window inside this one, without a copy."""
        rows, cols = window.within(self.window)
        return Part(window, self.values[..., rows, cols], self.valid[..., rows, cols], self.versions, self.start)

    def valid_over_bands(self) -> Mask | None:
        """Return where all bands are valid (time, height, width), or `None` if all pixels are."""
        valid = self.valid
        if not any(valid.strides):  # a single value, as View.read returns it if all pixels are valid
            return None if valid.flat[0] else np.zeros((len(valid), *valid.shape[2:]), bool)
        mask = np.asarray(valid.all(axis=1) if valid.strides[1] else valid[:, 0])
        return None if mask.all() else mask

    def is_current(self, batch: BatchVersions) -> bool:
        """Return whether no file changed before it was read for a batch."""
        return all(batch.is_current(version) for version in self.versions)


@dataclass(frozen=True, slots=True)
class _PartInfo:
    """Properties of a part besides its rows and columns."""

    time: tuple[int, ...] | None
    node: str
    dtype: str
    shape: tuple[int, int]
    """Time steps and bands."""
    versions: tuple[FileVersion, ...]


class SharedParts:
    """Recent parts of the layers of a loader, the oldest removed first.

    Parameters
    ----------
    size
        Bytes of all parts.
    lock
        Lock of the workers' multiprocessing context.

    Raises
    ------
    OSError
        If there is not enough memory.

    Notes
    -----
    It is inherited by forked and spawned workers; pickled otherwise it becomes `None`.
    """

    def __init__(self, size: int, lock: Any) -> None:
        self._map(SharedBuffer(_TABLE + _aligned(size)), lock)

    def _map(self, buffer: SharedBuffer, lock: Any) -> None:
        self._buffer, self._lock = buffer, lock
        memory = np.frombuffer(buffer.memory, "uint8")
        self._table: Array = memory[:_TABLE].view("int64").reshape(ENTRIES + 1, _COLUMNS)
        """Row 0: bytes and parts written so far. Others: layer, first and last row and column, start, info, masked."""
        self._bytes: Array = memory[_TABLE:]
        self._infos: dict[bytes, _PartInfo] = {}
        self._versions: dict[FileVersion, FileVersion] = {}

    def __reduce__(self) -> tuple[Callable[..., SharedParts | None], tuple[Any, ...]]:
        # multiprocessing lets shared memory be pickled only while a process is spawned.
        if get_spawning_popen() is None:
            return _no_op, ()
        return _inherit, (self._buffer, self._lock)

    def find(self, layer: int, window: Window) -> list[Part]:
        """Return the parts of a layer that overlap a window, the newest first; check `holds` once they are copied."""
        with self._locked() as locked:
            table = self._table.copy() if locked else self._table[:1] * 0
        _, row, col, bottom, right, start, *_ = table[1:].T
        stop_row, stop_col = window.stop
        overlaps = (row < stop_row) & (bottom > window.row) & (col < stop_col) & (right > window.col)
        overlaps &= (table[1:, 0] == layer + 1) & (start >= table[0, 0] - len(self._bytes))
        entries = table[1:][overlaps]
        parts = (self._part(entry.tolist()) for entry in entries[np.argsort(-entries[:, 5])])
        return [part for part in parts if part is not None and part.window.time == window.time]

    def _part(self, entry: list[int]) -> Part | None:
        """Return the part of an entry, or `None` if it is being overwritten."""
        _, row, col, bottom, right, start, info_bytes, masked = entry
        offset = start % len(self._bytes)
        text = self._bytes[offset : offset + info_bytes].tobytes()
        if not self._is_intact(start):
            return None
        info = self._infos.get(text)
        if info is None:
            if len(self._infos) >= MAX_INFOS:
                self._infos.clear()
                self._versions.clear()
            info = pickle.loads(text)  # noqa: S301 (written by a worker of this loader)
            versions = tuple(self._versions.setdefault(version, version) for version in info.versions)
            info = self._infos[text] = replace(info, versions=versions)  # one object per version
        shape = (*info.shape, bottom - row, right - col)
        dtype = np.dtype(info.dtype)
        first = offset + _aligned(info_bytes)
        last = first + int(np.prod(shape)) * dtype.itemsize
        values = self._bytes[first:last].view(dtype).reshape(shape)
        valid: Mask = np.broadcast_to(True, shape)
        if masked:
            mask = self._bytes[last : last + values[:, 0].size].view(bool).reshape(shape[0], 1, *shape[2:])
            valid = np.broadcast_to(mask, shape)
        window = Window(row, col, bottom - row, right - col, info.time, info.node)
        return Part(window, values, valid, info.versions, start)

    def add(self, layer: int, part: Part) -> None:
        """Copy a part to the ring, with one valid mask for all bands."""
        info = _PartInfo(
            part.window.time, part.window.node, part.values.dtype.str, part.values.shape[:2], part.versions
        )
        text = pickle.dumps(info)
        valid = part.valid_over_bands()
        arrays: list[tuple[int, Array]] = [(0, np.frombuffer(text, "uint8")), (_aligned(len(text)), part.values)]
        size = _aligned(len(text)) + part.values.nbytes
        if valid is not None:
            arrays += [(size, valid)]
            size += valid.nbytes
        (row, col), (bottom, right) = (part.window.row, part.window.col), part.window.stop
        capacity = len(self._bytes)
        if size > capacity:
            return
        with self._locked() as locked:
            if not locked:
                return
            written, count = self._table[0, :2].tolist()
            start = written if written % capacity + size <= capacity else -(-written // capacity) * capacity
            self._table[0, :2] = _aligned(start + size), count + 1  # before the bytes, so that `holds` notices
            for begin, array in arrays:
                first = start % capacity + begin
                self._bytes[first : first + array.nbytes].view(array.dtype).reshape(array.shape)[...] = array
            entry = layer + 1, row, col, bottom, right, start, len(text), valid is not None
            self._table[1 + count % ENTRIES] = entry

    def holds(self, parts: list[Part]) -> bool:
        """Return whether none of the parts was overwritten."""
        starts = [part.start for part in parts if part.start is not None]
        return not starts or self._is_intact(min(starts))

    def _is_intact(self, start: int) -> bool:
        with self._locked() as locked:
            return locked and start >= int(self._table[0, 0]) - len(self._bytes)

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        """Hold the lock if it is free in time; yield whether it was."""
        locked = self._lock is not None and self._lock.acquire(timeout=TIMEOUT)
        if not locked:
            self._lock = None  # not waited for again
        try:
            yield locked
        finally:
            if locked:
                self._lock.release()


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


def _no_op() -> None:
    return None


def _inherit(buffer: SharedBuffer, lock: Any) -> SharedParts:
    """Return the parts of the parent in a spawned worker."""
    parts = SharedParts.__new__(SharedParts)
    parts._map(buffer, lock)  # noqa: SLF001
    return parts

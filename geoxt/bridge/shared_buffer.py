"""Memory shared by worker processes and their parent, outside `/dev/shm`, which Docker limits to 64 MB by default.

multiprocessing's RawArray lies in a file in `/dev/shm` that is not allocated before it is written to: if the file
system is full by then, the process ends by SIGBUS. An anonymous file (`memfd_create`, Linux) is limited by memory
alone, and writing zeros to it reports that there is not enough.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Callable
from multiprocessing import reduction
from multiprocessing.sharedctypes import RawArray
from typing import Any

_ZEROS = bytes(1 << 20)


class SharedBuffer:
    """Zeroed bytes, inherited by forked and spawned processes.

    Parameters
    ----------
    size
        Number of bytes.

    Raises
    ------
    OSError
        If there is not enough memory.
    """

    def __init__(self, size: int) -> None:
        self.memory: Any
        """Object with the buffer protocol."""
        self._descriptor: int | None = None
        if not hasattr(os, "memfd_create"):
            self.memory = RawArray("B", size)
            return
        descriptor = os.memfd_create("geoxt")
        weakref.finalize(self, os.close, descriptor)
        _allocate(descriptor, size)
        self._map(descriptor, size)

    def _map(self, descriptor: int, size: int) -> None:
        self._descriptor, self.memory = descriptor, mmap.mmap(descriptor, size)

    def __reduce__(self) -> tuple[Callable[..., SharedBuffer], tuple[Any, ...]]:
        # multiprocessing passes on descriptors and RawArrays only while a process is spawned
        if self._descriptor is None:
            return _attach, (self.memory, 0)
        return _attach, (reduction.DupFd(self._descriptor), len(self.memory))


def _allocate(descriptor: int, size: int) -> None:
    """Write zeros to an empty file.

    `posix_fallocate` would leave the pages to be cleared and mapped one by one, at the first write of each process.
    """
    end = 0
    while end < size:
        end += os.pwrite(descriptor, _ZEROS[: size - end], end)


def _attach(source: Any, size: int) -> SharedBuffer:
    """Return the buffer of the parent in a spawned process."""
    buffer = SharedBuffer.__new__(SharedBuffer)
    buffer._descriptor = None  # noqa: SLF001
    if size:
        descriptor = source.detach()
        weakref.finalize(buffer, os.close, descriptor)
        buffer._map(descriptor, size)  # noqa: SLF001
    else:
        buffer.memory = source
    return buffer

"""Memory shared by worker processes and their parent, outside `/dev/shm`, which Docker limits to 64 MB by default.

multiprocessing's RawArray lies in a file in `/dev/shm` that is not allocated before it is written to: if the file
system is full by then, the process ends by SIGBUS. An anonymous file (`memfd_create`, Linux) is limited by memory
alone, and `posix_fallocate` reports that there is not enough.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Callable
from multiprocessing import reduction
from multiprocessing.sharedctypes import RawArray
from typing import Any


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
        self._open(os.memfd_create("geoxt"), size)

    def _open(self, descriptor: int, size: int) -> None:
        weakref.finalize(self, os.close, descriptor)
        os.posix_fallocate(descriptor, 0, size)
        self._descriptor, self.memory = descriptor, mmap.mmap(descriptor, size)

    def __reduce__(self) -> tuple[Callable[..., SharedBuffer], tuple[Any, ...]]:
        # multiprocessing passes on descriptors and RawArrays only while a process is spawned
        if self._descriptor is None:
            return _attach, (self.memory, 0)
        return _attach, (reduction.DupFd(self._descriptor), len(self.memory))


def _attach(source: Any, size: int) -> SharedBuffer:
    """Return the buffer of the parent in a spawned process."""
    buffer = SharedBuffer.__new__(SharedBuffer)
    buffer._descriptor = None  # noqa: SLF001
    if size:
        buffer._open(source.detach(), size)  # noqa: SLF001
    else:
        buffer.memory = source
    return buffer

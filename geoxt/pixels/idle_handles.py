"""Idle open files of a process: lent to one thread at a time, the least recently used closed first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """An open file."""

    @property
    def descriptors(self) -> int:
        """Number of file descriptors of the file."""

    def close(self) -> None:
        """Close the file."""


H = TypeVar("H", bound=Closable)


class IdleHandles(Generic[H]):
    """Idle open files by key; the first element of a key is the address of the file.

    Parameters
    ----------
    limits
        Returns the maximum number of idle files, and of descriptors that they take.
    """

    def __init__(self, limits: Callable[[], tuple[int, int]]) -> None:
        self._limits = limits
        self._guard = threading.Lock()
        self._idle: OrderedDict[tuple[Hashable, ...], list[tuple[H, int]]] = OrderedDict()  # with its descriptors
        self._count = self._descriptors = 0

    def __len__(self) -> int:
        return self._count

    def take(self, key: tuple[Hashable, ...]) -> H | None:
        """Return an idle file for exclusive use, or `None`."""
        with self._guard:
            handles = self._idle.get(key)
            if not handles:
                return None
            handle, descriptors = handles.pop()
            if not handles:
                del self._idle[key]
            self._count -= 1
            self._descriptors -= descriptors
            return handle

    def keep(self, key: tuple[Hashable, ...], handle: H) -> None:
        """Add a file that is idle again; close the least recently used files beyond the limits."""
        closed = []
        count, descriptors = self._limits()
        size = handle.descriptors
        with self._guard:
            handles = self._idle.get(key)
            if handles is None:
                self._idle[key] = [(handle, size)]
            else:
                handles.append((handle, size))
                self._idle.move_to_end(key)
            self._count += 1
            self._descriptors += size
            while self._idle and (self._count > count or self._descriptors > descriptors):
                oldest, handles = next(iter(self._idle.items()))
                closed.append(handles.pop(0))
                self._count -= 1
                self._descriptors -= closed[-1][1]
                if not handles:
                    del self._idle[oldest]
        for old, _ in closed:
            old.close()

    def drop(self, href: str) -> None:
        """Close the idle files of an address."""
        with self._guard:
            handles = [pair for key in [*self._idle] if key[0] == href for pair in self._idle.pop(key)]
            self._count -= len(handles)
            self._descriptors -= sum(descriptors for _, descriptors in handles)
        for handle, _ in handles:
            handle.close()

    def clear(self) -> None:
        """Close all idle files."""
        with self._guard:
            handles = [handle for group in self._idle.values() for handle, _ in group]
            self._idle.clear()
            self._count = self._descriptors = 0
        for handle in handles:
            handle.close()

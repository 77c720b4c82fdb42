"""Remote files: GDAL settings, a pool of threads that do all remote reads, and a pool of open handles.

GDAL keeps curl connections per thread. A process forked from a thread with open connections would write to the same
sockets; so remote reads run in threads of this module, which do not exist after a fork.
"""

from __future__ import annotations

import atexit
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeVar

from geoxt.pixels.idle_handles import Closable, IdleHandles

THREADS = int(os.environ.get("GEOXT_REMOTE_THREADS", "64"))
"""Threads of a process for remote reads; they mostly wait."""
HANDLES = int(os.environ.get("GEOXT_REMOTE_HANDLES", "512"))
"""Idle remote files kept open by a process."""
WINDOWS = 32
"""Windows of a batch that are read concurrently from a remote layer."""
SETTINGS = MappingProxyType(
    {
        "GDAL_HTTP_CONNECTTIMEOUT": "10",
        "GDAL_HTTP_TIMEOUT": "60",
        "GDAL_HTTP_LOW_SPEED_TIME": "20",
        "GDAL_HTTP_LOW_SPEED_LIMIT": "256",
        "GDAL_HTTP_TCP_KEEPALIVE": "YES",
        "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
        "GDAL_HTTP_MULTIPLEX": "YES",
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
        "CPL_VSIL_CURL_CACHE_SIZE": "134217728",
    }
)
"""Default GDAL options of remote files: bounded waiting, no directory listing, and headers fetched in one request.

https://gdal.org/en/stable/user/configoptions.html"""
CACHE_BYPASS = MappingProxyType(
    {
        "CPL_VSIL_CURL_NON_CACHED": ":".join(f"/vsi{k}/" for k in ("curl", "s3", "gs", "az", "adls", "oss", "swift")),
        "GDAL_HTTP_CONNECTTIMEOUT": "0.001",
        "GDAL_HTTP_TIMEOUT": "0.001",
    }
)
"""GDAL options under which opening and closing a file clears its cache: with 1 ms, no request reaches the server."""
_REMOTE = re.compile(
    r"(?:^|\+)(?:https?|ftp|s3|gs|gcs|az|abfss?|oss|swift)://|/vsi(?:curl|s3|gs|az|adls|oss|swift|webhdfs)"
)
T = TypeVar("T")
H = TypeVar("H", bound=Closable)


@lru_cache(maxsize=4096)  # called for every read
def is_remote(href: str) -> bool:
    """Return whether a path is a URL or GDAL virtual path of a remote file."""
    return _REMOTE.search(href) is not None


class _OpenLock:
    """Lets one thread at a time open an address; threads that waited share the error of the one that failed."""

    __slots__ = ("error", "lock", "tries")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.tries = 0
        self.error: Exception | None = None

    def open(self, make: Callable[[], T], tries_before: int) -> T:
        """Open while holding the lock; raise the error of an attempt that failed since `tries_before`."""
        if self.error is not None and self.tries != tries_before:
            raise self.error
        self.tries, self.error = self.tries + 1, None
        try:
            return make()
        except Exception as error:
            self.error = error
            raise


class _Pool:
    """Idle open files by key, and the threads that read them; one pool per process."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self.idle: IdleHandles[Any] = IdleHandles(lambda: (HANDLES, sys.maxsize))
        self._open_locks: dict[str, _OpenLock] = {}
        self._threads: ThreadPoolExecutor | None = None

    def submit(self, call: Callable[[], T]) -> Future[T]:
        with self._guard:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(THREADS, "geoxt-remote")
        return self._threads.submit(call)

    def open_lock(self, href: str) -> _OpenLock:
        with self._guard:
            return self._open_locks.setdefault(href, _OpenLock())


_pool = _Pool()
_inherited: list[_Pool] = []


def _reset_after_fork() -> None:
    """Give a child process an empty pool; inherited handles stay referenced, so that they are never closed."""
    global _pool  # noqa: PLW0603 (one per process)
    _inherited.append(_pool)
    _pool = _Pool()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_reset_after_fork)


def _close() -> None:
    _pool.idle.clear()


atexit.register(_close)  # before the interpreter unloads GDAL


def submit(call: Callable[[], T]) -> Future[T]:
    """Run a call in a remote thread. It must not wait for another call: the pool could run out of threads."""
    return _pool.submit(call)


@contextmanager
def borrow_handle(href: str, options: tuple[Any, ...], make: Callable[[], H]) -> Iterator[H]:
    """Lend an open file to one thread, and return it to the pool afterwards; if the block raises, it is closed.

    Parameters
    ----------
    href
        Unsigned address.
    options
        Open options; handles with equal options are interchangeable.
    make
        Opens the file. One thread at a time opens an address, so that others find its header in GDAL's cache.
    """
    key = (href, *options)
    handle = _pool.idle.take(key)
    if handle is None:
        open_lock = _pool.open_lock(href)
        tries_before = open_lock.tries
        with open_lock.lock:
            handle = _pool.idle.take(key)
            handle = open_lock.open(make, tries_before) if handle is None else handle
    try:
        yield handle
    except BaseException:
        handle.close()
        raise
    _pool.idle.keep(key, handle)


def use_idle(href: str, options: tuple[Any, ...], use: Callable[[Any], T]) -> T | None:
    """Return the result of a function of an idle open file, or `None` without one. It must make no request.

    It is called in this thread: handing a call to a remote thread takes longer than reading stored pixels.
    """
    key = (href, *options)
    handle = _pool.idle.take(key)
    if handle is None:
        return None
    try:
        return use(handle)
    finally:
        _pool.idle.keep(key, handle)


def close_handles(href: str) -> None:
    """Close the idle files of an address."""
    _pool.idle.drop(href)

"""Remote files: what GDAL is told of them, threads that alone talk to servers, handles that these threads share.

GDAL keeps the connections of a thread with that thread. Were they the caller's, a process that is forked from it would
write into the same sockets; so all remote reads run in threads of our own, which a fork does not take along.
"""

from __future__ import annotations

import atexit
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, TypeVar

THREADS = int(os.environ.get("GEOXT_REMOTE_THREADS", "64"))
"""Threads of a process that wait for servers."""
HANDLES = int(os.environ.get("GEOXT_REMOTE_HANDLES", "512"))
"""Remote files kept open by a process while nobody reads them."""
WINDOWS = 32
"""Windows of a batch that are read at once, where a layer is remote."""
SETTINGS = MappingProxyType(
    {
        "GDAL_HTTP_CONNECTTIMEOUT": "10",
        "GDAL_HTTP_TIMEOUT": "60",
        "GDAL_HTTP_LOW_SPEED_TIME": "20",
        "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
        "GDAL_HTTP_TCP_KEEPALIVE": "YES",
        "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
        "GDAL_HTTP_MULTIPLEX": "YES",
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
        "CPL_VSIL_CURL_CACHE_SIZE": "134217728",
    }
)
"""What GDAL is told of remote files where nobody says otherwise: to give up in bounded time, to look for no files
beside them, and to read a header at once and keep it."""
CACHE_BYPASS = MappingProxyType(
    {
        "CPL_VSIL_CURL_NON_CACHED": ":".join(f"/vsi{k}/" for k in ("curl", "s3", "gs", "az", "adls", "oss", "swift")),
        "GDAL_HTTP_CONNECTTIMEOUT": "0.001",
        "GDAL_HTTP_TIMEOUT": "0.001",
    }
)
"""What has GDAL forget a file that is opened and closed, without asking a server anything."""
_REMOTE = re.compile(
    r"(?:^|\+)(?:https?|ftp|s3|gs|gcs|az|abfss?|oss|swift)://|/vsi(?:curl|s3|gs|az|adls|oss|swift|webhdfs)"
)
T = TypeVar("T")


def is_remote(href: str) -> bool:
    """Tell whether an address is that of a file behind a network, as GDAL and rasterio name them."""
    return _REMOTE.search(href) is not None


class _Door:
    """Where threads wait their turn to open one address."""

    __slots__ = ("error", "lock", "tries")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.tries = 0
        self.error: Exception | None = None

    def open(self, make: Callable[[], T], seen: int) -> T:
        """Open, holding the lock; what failed while this thread waited has failed for it too."""
        if self.error is not None and self.tries != seen:
            raise self.error
        self.tries, self.error = self.tries + 1, None
        try:
            return make()
        except Exception as error:
            self.error = error
            raise


class _Shared:
    """Open files that no thread reads just now, by their key, and the threads that read; one a process."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._idle: OrderedDict[Hashable, list[Any]] = OrderedDict()
        self._count = 0
        self._doors: dict[str, _Door] = {}
        self._threads: ThreadPoolExecutor | None = None

    def submit(self, call: Callable[[], T]) -> Future[T]:
        with self._guard:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(THREADS, "geoxt-remote")
        return self._threads.submit(call)

    def take(self, key: Hashable) -> Any:
        with self._guard:
            some = self._idle.get(key)
            if not some:
                return None
            self._count -= 1
            return some.pop()

    def keep(self, key: Hashable, handle: Any) -> None:
        dropped = []
        with self._guard:
            self._idle.setdefault(key, []).append(handle)
            self._idle.move_to_end(key)
            self._count += 1
            while self._count > HANDLES:
                _, some = self._idle.popitem(last=False)
                dropped += some
                self._count -= len(some)
        for one in dropped:
            one.file.close()

    def drop(self, href: str) -> None:
        with self._guard:
            found = [self._idle.pop(key) for key in list(self._idle) if isinstance(key, tuple) and key[0] == href]
            self._count -= sum(map(len, found))
        for one in (handle for some in found for handle in some):
            one.file.close()

    def clear(self) -> None:
        with self._guard:
            found, self._count = [*self._idle.values()], 0
            self._idle.clear()
        for one in (handle for some in found for handle in some):
            one.file.close()

    def door(self, href: str) -> _Door:
        with self._guard:
            return self._doors.setdefault(href, _Door())


_shared = _Shared()
_inherited: list[_Shared] = []


def _forked() -> None:
    """Begin anew in a child process; what it inherited stays as it is, closed by nobody."""
    global _shared  # noqa: PLW0603 (there is one for each process)
    _inherited.append(_shared)
    _shared = _Shared()


if hasattr(os, "register_at_fork"):  # there is no fork on Windows
    os.register_at_fork(after_in_child=_forked)


def _close() -> None:
    _shared.clear()


atexit.register(_close)  # while Python still can close files


def submit(call: Callable[[], T]) -> Future[T]:
    """Run a call in a thread that talks to servers; it may not wait for another such call."""
    return _shared.submit(call)


@contextmanager
def borrow_handle(href: str, options: tuple[Any, ...], make: Callable[[], T]) -> Iterator[T]:
    """Give an open file to one thread; afterwards others may have it, but where reading failed it is closed.

    Parameters
    ----------
    href
        The unsigned address.
    options
        How it was opened: files opened in the same way stand for each other.
    make
        Opens it. One thread at a time does so for an address: what the first has read of the header, others find.
    """
    key = (href, *options)
    found = _shared.take(key)
    if found is None:
        door = _shared.door(href)
        seen = door.tries
        with door.lock:
            found = _shared.take(key)
            found = door.open(make, seen) if found is None else found
    try:
        yield found
    except BaseException:
        found.file.close()
        raise
    _shared.keep(key, found)


def close_handles(href: str) -> None:
    """Close the files of an address that nobody reads."""
    _shared.drop(href)

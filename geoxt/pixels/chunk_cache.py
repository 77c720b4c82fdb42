"""Decoded chunks of Zarr arrays in memory: a chunk is decoded once for all windows of a process that need it."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future

from geoxt.types import Array

MAX_BYTES = 512_000_000
"""Bound of the cache of a process, as of GDAL's (`gdal_cache`)."""

Decode = Callable[[list[Hashable]], Mapping[Hashable, Array]]
"""Function that decodes chunks."""


class ChunkCache:
    """Least recently used cache of decoded chunks; threads that need a chunk in decoding wait for it.

    Parameters
    ----------
    max_bytes
        Maximum bytes of decoded chunks.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._chunks: OrderedDict[Hashable, Future[Array]] = OrderedDict()
        self._bytes = 0

    def load(self, keys: Sequence[Hashable], decode: Decode) -> list[Array]:
        """Return decoded chunks, in the order of their keys; absent chunks are decoded in one call."""
        futures, absent = [], []
        with self._lock:
            for key in keys:
                future = self._chunks.get(key)
                if future is None:
                    future = self._chunks[key] = Future()
                    absent.append(key)
                else:
                    self._chunks.move_to_end(key)
                futures.append(future)
        if absent:
            self._decode(absent, decode)
        return [future.result() for future in futures]

    def drop(self, stale: Callable[[Hashable], bool]) -> None:
        """Remove decoded chunks by their keys."""
        with self._lock:
            for key in [key for key, future in self._chunks.items() if future.done() and stale(key)]:
                self._bytes -= self._chunks.pop(key).result().nbytes

    def _decode(self, keys: list[Hashable], decode: Decode) -> None:
        """Decode chunks and hand them to waiting threads; after an error, the next read decodes them again."""
        try:
            decoded = decode(keys)
        except BaseException as error:
            with self._lock:
                futures = [self._chunks.pop(key) for key in keys]
            for future in futures:
                future.set_exception(error)
            raise
        for key in keys:
            self._chunks[key].set_result(decoded[key])
        with self._lock:
            self._bytes += sum(decoded[key].nbytes for key in keys)
            for key in list(self._chunks):
                if self._bytes <= self._max_bytes:
                    break
                if self._chunks[key].done():
                    self._bytes -= self._chunks.pop(key).result().nbytes


_cache = ChunkCache()
_inherited: list[ChunkCache] = []


def chunk_cache() -> ChunkCache:
    """Return the cache of this process."""
    return _cache


def _reset_after_fork() -> None:
    """Give a child process an empty cache: a thread that decodes a chunk exists in its parent only."""
    global _cache  # noqa: PLW0603 (one per process)
    _inherited.append(_cache)
    _cache = ChunkCache()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_reset_after_fork)

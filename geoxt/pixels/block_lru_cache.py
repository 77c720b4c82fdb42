"""LRU cache of decoded blocks of compressed files in memory, shared by the threads of a process.

GDAL's cache is separate for each open dataset, and each thread opens a dataset: GDAL decodes a block once per thread.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from rasterio.env import get_gdal_config

from geoxt.pixels.gdal_cache import MAX_BYTES, OPTION
from geoxt.types import Array


class _Block:
    """A block that is decoded, or that a thread decodes now."""

    __slots__ = ("lock", "pixels")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.pixels: Array | None = None
        """(row, column, sample), never changed."""


class BlockLRUCache:
    """Cache of the most recently used decoded blocks of all files of a process.

    Parameters
    ----------
    limit
        Bytes; by default those of GDAL's cache of decoded blocks, and at most 512 MB unless `GDAL_CACHEMAX` is set.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._blocks: OrderedDict[Hashable, _Block] = OrderedDict()
        self._guard = threading.Lock()
        self._size = 0

    @property
    def limit(self) -> int:
        """Maximum bytes of all blocks."""
        if self._limit is not None:
            return self._limit
        size = int(get_gdal_config(OPTION) or 0)
        return size if OPTION in os.environ else min(size, MAX_BYTES)

    def __len__(self) -> int:
        return len(self._blocks)

    def get(self, key: Hashable, decode: Callable[[], Array | None]) -> Array | None:
        """Return the pixels of a block, decoded if they are not in memory; a thread waits while another decodes them.

        Parameters
        ----------
        key
            Version of the file, and position of the block.
        decode
            Returns the pixels, or `None` if the block cannot be decoded; `None` is not cached.
        """
        with self._guard:
            block = self._blocks.get(key)
            if block is None:
                block = self._blocks[key] = _Block()
            else:
                self._blocks.move_to_end(key)
        if block.pixels is None:
            with block.lock:
                if block.pixels is None:
                    pixels = None
                    try:
                        pixels = decode()
                    finally:
                        self._store(key, block, pixels)
                    return pixels
        return block.pixels

    def _store(self, key: Hashable, block: _Block, pixels: Array | None) -> None:
        """Count a decoded block, and remove the least recently used ones beyond the limit."""
        with self._guard:
            if self._blocks.get(key) is not block:  # removed meanwhile
                return
            if pixels is None:
                del self._blocks[key]
                return
            block.pixels = pixels
            self._size += pixels.nbytes
            limit = self.limit
            while self._size > limit and self._blocks:
                removed = self._blocks.popitem(last=False)[1].pixels
                self._size -= 0 if removed is None else removed.nbytes


_cache = BlockLRUCache()


def block_lru_cache() -> BlockLRUCache:
    """Return the cache of this process."""
    return _cache


def _reset_after_fork() -> None:
    """Give a child process an empty cache: a thread of its parent may hold the locks."""
    global _cache  # noqa: PLW0603 (one per process)
    _cache = BlockLRUCache()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_reset_after_fork)

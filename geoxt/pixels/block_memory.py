"""Decoded blocks of compressed files in memory, shared by the threads of a process.

A block is decoded row by row from its start, as far as a window needs; a later window that needs more rows continues.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Hashable

from rasterio.env import get_gdal_config

from geoxt.pixels.gdal_cache import MAX_BYTES, OPTION
from geoxt.pixels.tiff_codecs import Decoder
from geoxt.types import Array

DECODER_BYTES = 130_000
"""Memory of a suspended decoder, about."""


class DecodedBlock:
    """First rows of a block, and the decoder of the others."""

    __slots__ = ("decoder", "lock", "pixels", "rows", "size")

    def __init__(self) -> None:
        self.pixels: Array | None = None
        """(row, column, sample); replaced, but never changed, once its rows are counted in `rows`."""
        self.rows = 0
        """Number of decoded rows."""
        self.size = 0
        """Bytes that the memory counts for the block."""
        self.decoder: Decoder | None = None
        self.lock = threading.Lock()


class BlockMemory:
    """The most recently used blocks of all files of a process.

    Parameters
    ----------
    limit
        Bytes; by default those of GDAL's cache of decoded blocks, and at most 512 MB unless `GDAL_CACHEMAX` is set.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._blocks: OrderedDict[Hashable, DecodedBlock] = OrderedDict()
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

    def block(self, key: Hashable) -> DecodedBlock:
        """Return a block by the version of its file and its position; a new one has no rows."""
        with self._guard:
            block = self._blocks.get(key)
            if block is None:
                block = self._blocks[key] = DecodedBlock()
            else:
                self._blocks.move_to_end(key)
            return block

    def count(self, key: Hashable, block: DecodedBlock) -> None:
        """Count the bytes of a block that has grown; the least recently used blocks beyond the limit are removed."""
        size = 0 if block.pixels is None else block.pixels.nbytes
        size += 0 if block.decoder is None else DECODER_BYTES
        with self._guard:
            if self._blocks.get(key) is not block:
                return
            self._size += size - block.size
            block.size = size
            limit = self.limit
            while self._size > limit and len(self._blocks) > 1:
                self._size -= self._blocks.popitem(last=False)[1].size

    def remove(self, key: Hashable) -> None:
        """Remove a block that cannot be decoded."""
        with self._guard:
            block = self._blocks.pop(key, None)
            self._size -= 0 if block is None else block.size


_memory = BlockMemory()


def block_memory() -> BlockMemory:
    """Return the memory of this process."""
    return _memory


def _reset_after_fork() -> None:
    """Give a child process an empty memory: a thread of its parent may hold the locks."""
    global _memory  # noqa: PLW0603 (one per process)
    _memory = BlockMemory()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_reset_after_fork)

__all__ = ["BlockMemory", "DecodedBlock", "block_memory"]

"""Block caches: folders of decoded blocks, their size limit, and the removal of entries beyond it.

`cached_blocks` describes the entries.
"""

from __future__ import annotations

import json
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoxt.errors import GeoxtWarning, InputError
from geoxt.storage import cache_folder

VARIABLE = "GEOXT_BLOCK_CACHE"
"""Environment variable with the default cache: `FOLDER` or `FOLDER:SIZE`."""
DEFAULT_LIMIT = 50 * 10**9
"""Default size of a cache in bytes."""
SUFFIX = ".blocks"
MAGIC = b"geoxt-blocks-1\n\0"
HEADER = 4096
"""Bytes of an entry's header."""
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


@dataclass(frozen=True, slots=True)
class BlockCache:
    """Folder and size of a block cache; pickled with the layer.

    Parameters
    ----------
    folder
        Absolute path of the folder.
    limit
        Bytes on disk; the least recently used entries are removed beyond it.
    """

    folder: str
    limit: int = DEFAULT_LIMIT

    def __str__(self) -> str:
        return f"{self.folder}:{self.limit}"


SomeCache = bool | str | os.PathLike[str] | BlockCache | None
"""Folder or "FOLDER:SIZE"; True for the default folder; False for none; `None` for GEOXT_BLOCK_CACHE."""


def parse_block_cache(cache: SomeCache) -> BlockCache | None:
    """Return the block cache that an argument or, for `None`, the environment variable GEOXT_BLOCK_CACHE names.

    Parameters
    ----------
    cache
        Folder, or "FOLDER:SIZE" with a size such as "50GB"; True for the default folder below the user's cache folder;
        False for no cache.

    Returns
    -------
    BlockCache or None

    Raises
    ------
    InputError
        If the size is not a number with an optional unit (kB, MB, GB, TB), or is zero.

    Examples
    --------
    >>> parse_block_cache("/data/blocks:20GB")
    BlockCache(folder='/data/blocks', limit=20000000000)
    """
    if isinstance(cache, BlockCache) or cache is False:
        return cache or None
    if cache is None:
        cache = os.environ.get(VARIABLE, "")
        if not cache:
            return None
    if cache is True:
        folder = cache_folder("blocks")
        if folder is None:
            problem = "Cannot place the block cache: GEOXT_CACHE is empty, which switches caches off."
            raise InputError(problem, remedy="Pass a folder as {cache}.", argument="cache")
        return BlockCache(str(folder.absolute()))
    text = os.fspath(cache)
    folder_text, separator, size = text.rpartition(":")
    if not separator or os.sep in size:
        folder_text, size = text, ""
    limit = _parse_size(size, text) if size else DEFAULT_LIMIT
    return BlockCache(str(Path(folder_text).expanduser().absolute()), limit)


def _parse_size(size: str, text: str) -> int:
    number = size.rstrip("kKmMgGtTbB ")
    unit = size[len(number) :].strip().lower()
    unit = unit if unit.endswith("b") or not unit else unit + "b"
    try:
        limit = int(float(number) * _UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        limit = 0
    if limit <= 0:
        problem = f"Cannot read the size of the block cache {text!r}: {size!r} is not a positive number of bytes."
        raise InputError(problem, remedy="Pass {cache} as 'FOLDER:50GB'.", value=text, argument="cache")
    return limit


def make_header(document: dict[str, Any]) -> bytes:
    """Return the header of an entry."""
    text = json.dumps(document).encode()
    text = text if len(text) <= HEADER - 24 else json.dumps({**document, "source": ""}).encode()
    return (MAGIC + struct.pack("=II", len(text), zlib.crc32(text)) + text).ljust(HEADER, b"\0")


def read_header(descriptor: int) -> dict[str, Any] | None:
    """Return the document of a header, or `None` if it is damaged."""
    data = os.pread(descriptor, HEADER, 0)
    if len(data) != HEADER or not data.startswith(MAGIC):
        return None
    length, crc = struct.unpack("=II", data[16:24])
    text = data[24 : 24 + length]
    if len(text) != length or zlib.crc32(text) != crc:
        return None
    document: dict[str, Any] = json.loads(text)
    return document


class Budget:
    """Writes of this process into one cache folder, and removal of entries beyond its limit.

    The folder is measured before the first write, and after each `interval` of bytes written, which bounds the excess
    that several processes can cause together.
    """

    def __init__(self, cache: BlockCache) -> None:
        self.cache, self.pid = cache, os.getpid()
        self.enabled = True
        self.full: set[Path] = set()
        self.interval = max(min(cache.limit // 16, 64 * 2**20), 1)
        self.measured: int | None = None
        self.written = 0

    def admits(self, path: Path, size: int) -> bool:
        """Return whether an entry may grow by a number of bytes, after the removal of other entries if needed."""
        if not self.enabled or path in self.full:
            return False
        over = self.measured is None or self.measured + self.written + size > self.cache.limit
        if over or self.written > self.interval:
            self.written = 0
            self.measured = shrink(self.cache, self.cache.limit - max(self.interval, size), keep=path)
            if self.measured + size > self.cache.limit:
                self.full.add(path)
                return False
        self.written += size
        return True

    def disable(self, error: OSError) -> None:
        """Stop caching in this process, with one warning."""
        if self.enabled:
            self.enabled = False
            reason = os.strerror(error.errno) if error.errno else str(error)
            msg = f"Cannot write to the block cache {self.cache.folder}: {reason}. Files are read without the cache."
            warnings.warn(msg, GeoxtWarning, stacklevel=2)


_budgets: dict[BlockCache, Budget] = {}


def budget_of(cache: BlockCache) -> Budget:
    """Return the budget of a cache in this process."""
    budget = _budgets.get(cache)
    if budget is None or budget.pid != os.getpid():
        budget = _budgets[cache] = Budget(cache)
    return budget


def shrink(cache: BlockCache, limit: int, *, keep: Path | None = None) -> int:
    """Remove the least recently used entries except `keep` beyond a limit; return the remaining bytes on disk.

    An entry that a process reads stays readable there until it is closed.
    """
    entries = sorted(entries_of(cache.folder), key=lambda entry: entry.used)
    total = sum(entry.size for entry in entries)
    for entry in entries:
        if total <= limit:
            break
        if entry.path != keep:
            entry.path.unlink(missing_ok=True)
            total -= entry.size
    return total


@dataclass(frozen=True, slots=True)
class Entry:
    """File of a block cache."""

    path: Path
    size: int
    """Bytes on disk."""
    used: float
    """Time of the last use, in seconds since the epoch."""

    @property
    def source(self) -> str:
        """Address of the source file, or an empty string for a damaged entry."""
        try:
            with self.path.open("rb") as entry:
                return str((read_header(entry.fileno()) or {}).get("source", ""))
        except (OSError, ValueError):
            return ""


def entries_of(folder: str | os.PathLike[str]) -> Iterator[Entry]:
    """Yield the entries of a cache folder, temporary ones of killed processes included."""
    for path in Path(folder).glob(f"??/*{SUFFIX}*"):
        with suppress(FileNotFoundError):
            status = path.stat()
            yield Entry(path, status.st_blocks * 512, status.st_mtime)


def clear_block_cache(cache: BlockCache) -> int:
    """Remove all entries of a cache; return the bytes that they took on disk."""
    size = 0
    for entry in entries_of(cache.folder):
        entry.path.unlink(missing_ok=True)
        size += entry.size
        with suppress(OSError):
            entry.path.parent.rmdir()
    return size

"""`geoxt cache`: the contents of a block cache, and its removal."""

from __future__ import annotations

import time
from pathlib import Path

from geoxt.pixels.block_cache import BlockCache, clear_block_cache, entries_of, parse_block_cache

LISTED = 20
"""Entries that `info` lists."""


def cache_info(folder: str | None) -> str:
    """Return the size of a block cache, and its most recently used entries, as text."""
    cache = _cache(folder)
    entries = sorted(entries_of(cache.folder), key=lambda entry: -entry.used)
    total = sum(entry.size for entry in entries)
    lines = [f"{cache.folder}: {len(entries)} files, {_gigabytes(total)} of {_gigabytes(cache.limit)}"]
    for entry in entries[:LISTED]:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        lines.append(f"{_gigabytes(entry.size):>10}  {used}  {entry.source or entry.path.name}")
    if len(entries) > LISTED:
        lines.append(f"… and {len(entries) - LISTED} more")
    return "\n".join(lines)


def cache_clear(folder: str | None) -> str:
    """Remove all entries of a block cache, and return their total size as text."""
    cache = _cache(folder)
    return f"{cache.folder}: removed {_gigabytes(clear_block_cache(cache))}"


def _cache(folder: str | None) -> BlockCache:
    """Return the cache in a folder; by default in GEOXT_BLOCK_CACHE, else in the user's cache folder."""
    cache = parse_block_cache(folder and Path(folder).expanduser()) or parse_block_cache(True)
    assert cache is not None
    return cache


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"

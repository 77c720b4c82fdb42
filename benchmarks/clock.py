"""Patches a second, counted the same way for every library (needs nothing but Python)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

CHUNK = 1 << 24
"""Bytes read at a time."""


def rate(batches: Iterable[Any], size: Callable[[Any], int], *, skip: int = 1) -> float:
    """Return patches a second over an iterable of batches.

    Parameters
    ----------
    batches
        A loader.
    size
        Gives the number of patches of a batch.
    skip
        Batches that come before the clock starts. With n worker processes these take turns, so n batches come close
        together: skip n, and let the rest be a multiple of n, or the rate depends on the number of batches.
    """
    seen, start, last = 0, 0.0, 0.0
    for place, batch in enumerate(batches):
        last = time.perf_counter()
        if place + 1 == skip:
            start = last
        elif place >= skip:
            seen += size(batch)
    return seen / (last - start)


def best(call: Callable[[], Any], repeats: int) -> float:
    """Return the least seconds that a call took: what it costs on an idle machine."""
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return min(found)


def warm(folder: Path) -> int:
    """Read every file of a folder once, so that all runs find them in the page cache; return the bytes."""
    total = 0
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while part := file.read(CHUNK):
                    total += len(part)
    return total

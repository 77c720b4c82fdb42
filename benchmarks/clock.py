"""Throughput in patches per second, measured equally for every library (standard library only)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

CHUNK = 1 << 24
"""Bytes per read."""


def rate(batches: Iterable[Any], size: Callable[[Any], int], *, skip: int = 1) -> float:
    """Return patches per second over an iterable of batches.

    Parameters
    ----------
    batches
        Batches, such as a loader.
    size
        Function that returns the number of patches of a batch.
    skip
        Number of warm-up batches before timing. With n workers, n batches arrive close together: skip n, and time a
        multiple of n batches, or the rate depends on the number of batches.
    """
    patches, start, last = 0, 0.0, 0.0
    for index, batch in enumerate(batches):
        last = time.perf_counter()
        if index + 1 == skip:
            start = last
        elif index >= skip:
            patches += size(batch)
    return patches / (last - start)


def best(call: Callable[[], Any], repeats: int) -> float:
    """Return the minimum duration of a call in seconds, an estimate of its cost on an idle machine."""
    durations = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return min(durations)


def warm(folder: Path) -> int:
    """Read every file of a folder into the page cache, and return the number of bytes."""
    total = 0
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while part := file.read(CHUNK):
                    total += len(part)
    return total

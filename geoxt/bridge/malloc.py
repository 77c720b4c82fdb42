"""Let glibc's malloc keep the memory of large tensors for the next batch.

By default glibc maps new memory for blocks above 128 kB to 32 MB, and returns it when they are freed. The kernel then
clears the pages of every activation of every batch: half of the user time of a training or a prediction, on CPUs.
"""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache

_MMAP_MAX, _TRIM_THRESHOLD, _ARENA_MAX = -4, -1, -8  # numbers of malloc.h
_KEPT_BYTES = 2**31 - 1
"""Bytes of freed memory that remain with the process: the maximum of mallopt's int."""


@cache
def keep_freed_memory() -> bool:
    """Set malloc's thresholds, once per process, and return whether they were set.

    Up to 2 GB of freed memory remain with the process. Nothing changes if the C library is not glibc, the environment
    variable `GEOXT_MALLOPT` is 0, or one of `GLIBC_TUNABLES` and `MALLOC_*` states the user's thresholds.

    Notes
    -----
    Large blocks come from the heap (`M_MMAP_MAX`), its free end is kept (`M_TRIM_THRESHOLD`), and threads share it
    (`M_ARENA_MAX`), as heaps of other threads have at most 64 MB and are unmapped when they are empty.

    Examples
    --------
    >>> keep_freed_memory() == keep_freed_memory()
    True
    """
    is_set = "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ)
    if is_set or os.environ.get("GEOXT_MALLOPT") == "0" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    values = {_MMAP_MAX: 0, _TRIM_THRESHOLD: _KEPT_BYTES, _ARENA_MAX: 1}
    results = [mallopt(number, value) for number, value in values.items()]
    return all(results)

"""Let glibc's malloc keep the memory of large tensors for the next batch.

By default glibc maps new memory for blocks above 128 kB to 32 MB, and returns it when they are freed. The kernel then
clears the pages of every activation of every batch: half of the user time of a training or a prediction, on CPUs.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from threading import Event, Thread

_MMAP_MAX, _TRIM_THRESHOLD, _ARENA_MAX = -4, -1, -8  # numbers of malloc.h
_KEPT_BYTES = 2**31 - 1
"""Bytes of freed memory that remain with the process: the maximum of mallopt's int."""
_MAX_HEAPS = 256
"""Maximum number of threads that are started to count malloc's heaps."""


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


def start_in_main_heap(start_thread: Callable[[], object], count: int) -> None:
    """Start threads that allocate from glibc's main heap, if its heaps can be counted.

    glibc assigns its heaps to new threads in turn, also those that existed before `keep_freed_memory`. Blocks of 64 MB
    and more fit in the main heap only: in others malloc maps new memory for each. Waiting threads occupy the others.

    Parameters
    ----------
    start_thread
        Function that starts a thread, and returns after this thread has called `in_main_heap`.
    count
        Number of threads to start.
    """
    taken: list[bool] = []
    finished = Event()

    def take_heap() -> None:
        is_main: Future[bool] = Future()

        def wait() -> None:
            is_main.set_result(in_main_heap())
            finished.wait()

        Thread(target=wait, daemon=True).start()
        taken.append(is_main.result())

    try:
        while keep_freed_memory() and sum(taken) < 2 and len(taken) < _MAX_HEAPS:
            take_heap()
        others = taken[::-1].index(True, 1) - 1 if sum(taken) == 2 else 0
        for _ in range(count):
            for _ in range(others):
                take_heap()
            start_thread()
    finally:
        finished.set()


def in_main_heap() -> bool:
    """Return whether glibc's malloc takes this thread's blocks from the main heap, which is below all mapped memory."""
    if not keep_freed_memory():
        return False
    library = ctypes.CDLL(None)
    library.malloc.restype = library.sbrk.restype = ctypes.c_void_p
    library.sbrk.argtypes, library.free.argtypes = (ctypes.c_ssize_t,), (ctypes.c_void_p,)
    block = library.malloc(4096)  # larger than the blocks that each thread caches
    library.free(block)
    return bool(block < library.sbrk(0))

"""Threads that run a model: one batch per thread, on one core each, so that maps do not depend on the core count.

torch would spread a batch over all cores; the last bits of a convolution then depend on their number, and a map from a
cluster would differ from one computed locally. Concurrent batches use all cores as well, and one batch is read while
another one runs.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeVar

import torch

from geoxt.bridge.malloc import in_main_heap, start_in_main_heap
from geoxt.writers import blocks

T = TypeVar("T")
U = TypeVar("U")

_POOLS: dict[int, tuple[ThreadPoolExecutor, int]] = {}
"""Thread pool and number of threads by process id: a forked child has no threads of its parent's pool."""
_POOLS_LOCK = threading.Lock()
_STOPS = [0]
"""Number of calls of `stop`."""


class StoppedError(RuntimeError):
    """Raised in a prediction whose map could not be written, or whose writing was interrupted."""


def stop() -> None:
    """Stop submitting new batches."""
    _STOPS[0] += 1


blocks.on_interrupt(stop)


def stops() -> int:
    """Return the number of calls of `stop` so far."""
    return _STOPS[0]


def require_running(stops_before: int) -> None:
    """Raise if `stop` was called since `stops` returned a number.

    Raises
    ------
    StoppedError
        If it was.
    """
    if _STOPS[0] != stops_before:
        raise StoppedError


def size() -> int:
    """Return the number of threads."""
    return _pool()[1]


def submit(function: Callable[..., T], *arguments: Any) -> Future[T]:
    """Run a function in a thread of the pool."""
    return _pool()[0].submit(function, *arguments)


def prefetch(function: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
    """Yield `function(item)` of each item in order; threads compute the next results meanwhile.

    At most one item more than there are threads is in flight, which bounds memory.
    """
    pool, threads = _pool()
    stops_before, in_flight = stops(), deque[Future[U]]()
    try:
        for item in items:
            require_running(stops_before)
            in_flight.append(pool.submit(function, item))
            if len(in_flight) > threads:
                yield in_flight.popleft().result()
        while in_flight:
            yield in_flight.popleft().result()
    finally:
        for future in in_flight:
            future.cancel()


def _pool() -> tuple[ThreadPoolExecutor, int]:
    with _POOLS_LOCK:
        pool = _POOLS.get(os.getpid())
        if pool is None:
            pool = _POOLS[os.getpid()] = _start_pool(_thread_count())
        return pool


def _start_pool(count: int) -> tuple[ThreadPoolExecutor, int]:
    """Return a pool whose threads limit torch to one core each; torch's setting in other threads is unchanged."""
    before, ready = torch.get_num_threads(), threading.Barrier(count + 1)
    started: SimpleQueue[bool] = SimpleQueue()

    def begin() -> None:
        started.put(in_main_heap())
        torch.set_num_threads(1)
        torch.get_num_threads()  # makes torch initialize this thread's count; it would take a later one otherwise
        ready.wait()

    def start_thread() -> None:
        pool.submit(int)
        started.get()

    pool = ThreadPoolExecutor(count, thread_name_prefix="geoxt-predict", initializer=begin)
    start_in_main_heap(start_thread, count)  # threads wait at the barrier, so that no idle one takes a second job
    ready.wait()
    torch.set_num_threads(before)
    return pool, count


def _thread_count() -> int:
    """Return torch's number of threads, or that of the dask worker: dask sets torch's to 1 there."""
    return max(torch.get_num_threads(), _worker_threads(), 1)


def _worker_threads() -> int:
    distributed: Any = sys.modules.get("distributed")
    if distributed is None:
        return 1
    try:
        return int(distributed.get_worker().state.nthreads)
    except ValueError:
        return 1

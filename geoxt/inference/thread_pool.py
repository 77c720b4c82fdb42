"""The threads that run a model: a batch each, on one core each, so that no core count changes a bit.

torch would spread one batch over all cores; then the last bits of a convolution depend on how many these are, and a
map from a cluster differs from one made alone. Batches beside each other use the cores as well, and one batch is read
while another one runs.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch

from geoxt.writers import blocks

T = TypeVar("T")
U = TypeVar("U")

_POOLS: dict[int, tuple[ThreadPoolExecutor, int]] = {}
"""The pool of each process, by process id: a forked child must not wait for its parent's threads."""
_MAKING = threading.Lock()
_STOPS = [0]
"""How often `stop` was called."""


class StoppedError(RuntimeError):
    """What ran was stopped, because what wanted it has failed or was interrupted."""


def stop() -> None:
    """Let all that runs end after the batches that are in flight."""
    _STOPS[0] += 1


blocks.on_interrupt(stop)


def prefetch(job: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
    """Yield `job(item)` for each item, in order, while the next ones already run.

    There is one more in flight than there are threads, and no more: memory is bounded by that.
    """
    pool, count = _pool()
    stops, running = _STOPS[0], deque[Future[U]]()
    try:
        for item in items:
            if _STOPS[0] != stops:
                raise StoppedError
            running.append(pool.submit(job, item))
            if len(running) > count:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        for one in running:
            one.cancel()


def _pool() -> tuple[ThreadPoolExecutor, int]:
    with _MAKING:
        found = _POOLS.get(os.getpid())
        if found is None:
            found = _POOLS[os.getpid()] = _made(_cores())
        return found


def _made(count: int) -> tuple[ThreadPoolExecutor, int]:
    """Return a pool whose threads keep torch to one core; torch's count elsewhere stays as it was."""
    before, ready = torch.get_num_threads(), threading.Barrier(count + 1)

    def begin() -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()  # only now does torch hold the thread's own count for good
        ready.wait()

    pool = ThreadPoolExecutor(count, thread_name_prefix="geoxt-predict", initializer=begin)
    for _ in range(count):  # none is idle before all have begun, so each job starts a thread
        pool.submit(int)
    ready.wait()
    torch.set_num_threads(before)
    return pool, count


def _cores() -> int:
    """Return as many threads as torch may use, or as a dask worker was given: dask tells torch to use one."""
    return max(torch.get_num_threads(), _worker_threads(), 1)


def _worker_threads() -> int:
    distributed: Any = sys.modules.get("distributed")
    if distributed is None:
        return 1
    try:
        return int(distributed.get_worker().state.nthreads)
    except ValueError:
        return 1

"""Executors of map tiles: this process, several processes of this machine, or the workers of a dask cluster."""

from __future__ import annotations

import multiprocessing
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import cloudpickle

from geoxt.errors import GeoxtWarning, OutputError
from geoxt.progress import default_client
from geoxt.tiling.map_tile import MapTile
from geoxt.tiling.tile_job import TileJob, failure, run_tile
from geoxt.tiling.tile_states import write_state

_JOB: dict[str, TileJob] = {}
"""The job of a worker process."""
_AHEAD = 2
"""Submitted map tiles per worker: no worker waits for its next tile, and the scheduler holds few tasks."""
_CHECK_INTERVAL = 60
"""Seconds without a finished map tile after which the cluster's workers are counted."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """Attempt at a map tile."""

    tile: MapTile
    number: int = 1
    """Number of the attempt."""
    alone: bool = False
    """Whether no other tile runs meanwhile, as one of several tiles killed their process, such as by its memory."""


class _Submit(Protocol):
    def __call__(self, tile: MapTile, attempt: int) -> Future[dict[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class _Workers:
    """Workers that compute map tiles."""

    submit: _Submit
    """Submits one attempt at a tile."""
    limit: Callable[[], int]
    """Number of tiles to submit at once."""
    restart: Callable[[], None]
    """Replaces the workers after one was killed."""
    check: Callable[[], None]
    """Warns if there is no worker."""
    close: Callable[[], None]
    """Ends the workers."""


def run_tiles(job: TileJob, tiles: Sequence[MapTile], *, retries: int, num_workers: int) -> Iterator[dict[str, Any]]:
    """Process map tiles, and yield the state of each when it is finished or has failed in all attempts.

    Failed tiles are tried again after all others.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    waiting = deque(_Attempt(tile) for tile in tiles)
    client = default_client()
    if num_workers == 0 and client is None:
        while waiting:
            attempt = waiting.popleft()
            state = run_tile(job, attempt.tile, attempt.number)
            if _is_repeated(state, retries):
                waiting.append(_Attempt(attempt.tile, attempt.number + 1))
            else:
                yield state
        return
    workers = _processes(job, num_workers) if client is None or num_workers else _cluster(job, client)
    try:
        yield from _run(job, workers, waiting, retries)
    finally:
        workers.close()


def _run(job: TileJob, workers: _Workers, waiting: deque[_Attempt], retries: int) -> Iterator[dict[str, Any]]:
    running: dict[Future[dict[str, Any]], _Attempt] = {}
    while waiting or running:
        while waiting and len(running) < workers.limit():
            if running and (waiting[0].alone or any(attempt.alone for attempt in running.values())):
                break
            attempt = waiting.popleft()
            running[workers.submit(attempt.tile, attempt.number)] = attempt
        while not (finished := wait(running, _CHECK_INTERVAL, FIRST_COMPLETED).done):
            workers.check()
        broken = any(isinstance(future.exception(), BrokenProcessPool) for future in finished)
        if broken:  # the pool ends all its tiles, whichever of them killed the process
            finished, _ = wait(running)
        for future in finished:
            attempt, error = running.pop(future), future.exception()
            if isinstance(error, OutputError):
                raise error
            state = future.result() if error is None else failure(attempt.tile, attempt.number, error)
            if _is_repeated(state, retries):
                alone = isinstance(error, BrokenProcessPool)
                waiting.append(_Attempt(attempt.tile, attempt.number + 1, alone=alone))
                continue
            if error is not None:
                write_state(job.folder, attempt.tile.name, state)
            yield state
        if broken:
            workers.restart()


def _is_repeated(state: dict[str, Any], retries: int) -> bool:
    """Return whether a map tile failed and is tried again."""
    return state["state"] == "failed" and state["retry"] and state["attempts"] <= retries


def _processes(job: TileJob, num_workers: int) -> _Workers:
    """Return processes of this machine, each with the job, which is unpickled once."""
    payload = cloudpickle.dumps(job)
    pools: list[Executor] = []

    def start() -> None:
        # Forked children could wait for locks that other threads, of torch or GDAL, held at the time.
        context = multiprocessing.get_context("spawn")
        pools.append(ProcessPoolExecutor(num_workers, context, initializer=_load_job, initargs=(payload,)))

    def close() -> None:
        while pools:
            pools.pop().shutdown(wait=True, cancel_futures=True)

    def restart() -> None:
        close()
        start()

    def submit(tile: MapTile, attempt: int) -> Future[dict[str, Any]]:
        try:
            return pools[-1].submit(_run_loaded, tile, attempt)
        except BrokenProcessPool as error:
            failed: Future[dict[str, Any]] = Future()
            failed.set_exception(error)
            return failed

    start()
    return _Workers(submit, lambda: _AHEAD * num_workers, restart, lambda: None, close)


def _load_job(payload: bytes) -> None:
    _JOB["job"] = cloudpickle.loads(payload)


def _run_loaded(tile: MapTile, attempt: int) -> dict[str, Any]:
    return run_tile(_JOB["job"], tile, attempt)


class SharedJob:
    """A job that workers of a dask cluster pass to each other as bytes, and that each process loads once."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload

    def __reduce__(self) -> tuple[type[SharedJob], tuple[bytes]]:
        return SharedJob, (self.payload,)

    @cached_property
    def job(self) -> TileJob:
        """The job; loading 200,000 scenes takes seconds."""
        job: TileJob = cloudpickle.loads(self.payload)
        return job


def run_shared(shared: SharedJob, tile: MapTile, attempt: int) -> dict[str, Any]:
    """Write one map tile of a shared job, and return its state."""
    return run_tile(shared.job, tile, attempt)


def _cluster(job: TileJob, client: Any) -> _Workers:
    """Return the workers of a dask cluster. The job is one task, whose result they fetch; each tile is a small task.

    Raises
    ------
    OutputError
        If a worker does not see the folder of the tiles.
    """
    exists = client.run(Path.exists, job.folder.absolute())
    if not exists or not all(exists.values()):
        raise OutputError(
            f"Cannot write the map tiles of {str(job.folder)!r}: not all workers of the dask cluster see this folder.",
            remedy="Pass {folder} on a file system that all workers share.",
            argument="folder",
        )
    resources = job.resources() or None
    payload = cloudpickle.dumps(job)

    def load() -> Any:
        return client.submit(SharedJob, payload, pure=False)

    # A killed worker loses its copy: the task is run again elsewhere, which a scattered value could not be.
    shared = [load()]
    executor = client.get_executor(pure=False, resources=resources)

    def submit(tile: MapTile, attempt: int) -> Future[dict[str, Any]]:
        if shared[0].status == "error":  # the scheduler gave it up, as several workers were killed while they ran it
            shared[0] = load()
        future: Future[dict[str, Any]] = executor.submit(run_shared, shared[0], tile, attempt)
        return future

    def limit() -> int:
        return max(_AHEAD * sum(client.nthreads().values()), 1)

    def check() -> None:
        if not client.nthreads():
            text = "The dask cluster has no workers: map tiles wait for one. A LocalCluster gives up killed workers "
            text += "that need longer to start than dask's setting distributed.deploy.lost-worker-timeout, 15 s."
            warnings.warn(text, GeoxtWarning, stacklevel=4)

    def close() -> None:
        executor.shutdown(wait=False)
        shared[0].release()

    return _Workers(submit, limit, lambda: None, check, close)

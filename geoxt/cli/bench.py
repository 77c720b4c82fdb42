"""`geoxt bench`: windows per second read from files, by number of workers and threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import median

import xarray as xr
from dask.system import CPU_COUNT

from geoxt.bridge import loader
from geoxt.cli.image_and_labels import open_image_and_labels
from geoxt.crs import crs_name
from geoxt.errors import InputError
from geoxt.grid import grid_of
from geoxt.samplers import GridSampler, RandomSampler

Log = Callable[[str], None]
"""Prints a line of text."""
Setting = tuple[int, int]
"""Worker processes, and threads of each process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Parameters of a benchmark."""

    image: tuple[str, ...]
    """Paths and glob patterns of the image's files."""
    labels: str | None = None
    """Raster of class codes, aligned to the image; None reads the image alone."""
    product: str | None = None
    """Known product of the image, such as "landsat8"."""
    crs: str | None = None
    """CRS onto which images of several CRSs are resampled."""
    size: int = 256
    """Height and width of a window, in pixels."""
    batch_size: int = 32
    """Windows per batch."""
    batches: int = 16
    """Number of timed batches."""
    grid: bool = False
    """Whether to read adjacent windows instead of random ones."""
    num_workers: tuple[int, ...] | None = None
    """Numbers of worker processes to time; by default 0 and powers of two up to the number of cores."""
    repeats: int = 3
    """Repeats of each setting, interleaved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Reading rate of a setting."""

    num_workers: int
    """Worker processes; 0 reads in the main process."""
    threads: int
    """Threads of each process."""
    windows: float
    """Windows per second, the median of the repeats."""
    megabytes: float
    """Megabytes of tensors per second, the median of the repeats."""


def run(job: Bench, *, log: Log = lambda _: None) -> tuple[Rate, ...]:
    """Open the files, and time each setting over the same windows.

    Parameters
    ----------
    job
        Parameters of the benchmark.
    log
        Prints a line of progress.

    Returns
    -------
    tuple of Rate
        The fastest first.

    Raises
    ------
    GeoxtError
        If the files cannot be opened or aligned, or a parameter is out of range.
    """
    _check(job)
    start = time.perf_counter()
    data = open_image_and_labels(job.image, job.labels, product=job.product, crs=job.crs)
    grid = grid_of(data)
    shapes = ", ".join(f"{name} {' x '.join(map(str, layer.shape))} {layer.dtype}" for name, layer in data.items())
    log(f"open      {shapes} in {crs_name(grid.crs)}, {time.perf_counter() - start:.2f} s")
    if min(grid.shape) < job.size:
        msg = f"Cannot read windows of {job.size} px: all layers cover only {grid.shape[0]} x {grid.shape[1]} px."
        raise InputError(msg, remedy=f"Pass {{size}} of {min(grid.shape)} or less.", value=job.size, argument="size")
    start = time.perf_counter()
    next(iter(loader(data, RandomSampler(data, size=job.size, length=1, seed=1))))
    log(f"first     window after {time.perf_counter() - start:.2f} s")
    settings = _settings(job)
    rates: dict[Setting, list[tuple[float, float]]] = {setting: [] for setting in settings}
    for turn in range(job.repeats):
        first = turn % len(settings)  # another setting leads each turn, so that none always reads with cold caches
        for setting in settings[first:] + settings[:first]:
            rates[setting].append(_rate(job, data, setting))
    medians = [
        Rate(num_workers=w, threads=t, windows=median(n for n, _ in pairs), megabytes=median(b for _, b in pairs))
        for (w, t), pairs in rates.items()
    ]
    return tuple(sorted(medians, key=lambda rate: -rate.windows))


def describe(job: Bench, rates: Sequence[Rate]) -> str:
    """Return a table of the rates, and the loader call of the fastest setting."""
    best = rates[0]
    options = f"batch_size={job.batch_size}, num_workers={best.num_workers}, threads={best.threads}"
    return "\n".join(
        [
            "workers  threads  windows/s      MB/s",
            *(f"{r.num_workers:7d}  {r.threads:7d}  {r.windows:9.1f}  {r.megabytes:8.1f}" for r in rates),
            "",
            f"Fastest: loader(sampler, {options})",
        ]
    )


def _check(job: Bench) -> None:
    for name, minimum in {"size": 1, "batch_size": 1, "batches": 2, "repeats": 1}.items():
        value = getattr(job, name)
        if value < minimum:
            msg = f"Cannot time windows with {name} {value}."
            raise InputError(msg, remedy=f"Pass {{{name}}} of {minimum} or more.", value=value, argument=name)
    if job.num_workers is not None and min(job.num_workers, default=-1) < 0:
        msg = f"Cannot time windows with the worker counts {list(job.num_workers)}."
        raise InputError(msg, remedy="Pass {num_workers} of 0 or more.", value=job.num_workers, argument="num_workers")


def _settings(job: Bench) -> list[Setting]:
    """Return the settings to time: without workers 1 thread and a thread per core, with workers 1 thread each."""
    counts = (0, *(2**n for n in range(CPU_COUNT.bit_length()))) if job.num_workers is None else job.num_workers
    without = [(0, 1), (0, CPU_COUNT)] if CPU_COUNT > 1 else [(0, 1)]
    return list(dict.fromkeys(pair for count in counts for pair in (without if count == 0 else [(count, 1)])))


def _rate(job: Bench, data: xr.Dataset, setting: Setting) -> tuple[float, float]:
    """Return windows and megabytes per second, timed from when each worker has returned a batch."""
    num_workers, threads = setting
    warm_up = max(num_workers, 1)
    timed = -(-job.batches // warm_up) * warm_up  # a multiple of the workers, whose batches arrive together
    length = (warm_up + timed) * job.batch_size
    random = RandomSampler(data, size=job.size, length=length, seed=0)
    windows = list(islice(cycle(GridSampler(data, size=job.size)), length)) if job.grid else random
    megabytes = start = last = 0.0
    batches = loader(data, windows, batch_size=job.batch_size, num_workers=num_workers, threads=threads)
    for index, batch in enumerate(batches):
        last = time.perf_counter()
        if index < warm_up:
            start = last
        megabytes = sum(batch[str(name)].nbytes for name in data.data_vars) / 1e6
    seconds = max(last - start, 1e-9)
    return timed * job.batch_size / seconds, timed * megabytes / seconds

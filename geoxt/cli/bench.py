"""The job behind `geoxt bench`: how fast windows come from your own files, by each mix of workers and threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import median

import xarray as xr
from dask.system import CPU_COUNT

from geoxt.alignment import intersection
from geoxt.bridge import loader
from geoxt.errors import InputError
from geoxt.grid import crs_name, grid_of
from geoxt.layers import open_cogs
from geoxt.samplers import GridSampler, RandomSampler

Say = Callable[[str], None]
"""Shows a line of text."""
Mix = tuple[int, int]
"""Workers, and threads of each process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What to measure."""

    image: tuple[str, ...]
    """Paths and patterns of the image's files."""
    labels: str | None = None
    """File of class codes, which comes onto the image's grid; `None` reads the image alone."""
    product: str | None = None
    """Name of the known product of the image, such as "landsat8"."""
    size: int = 256
    """Pixels: side of a window."""
    batch: int = 32
    """Windows in a batch."""
    batches: int = 16
    """Batches that are timed."""
    grid: bool = False
    """Whether to read windows side by side rather than at random."""
    num_workers: tuple[int, ...] | None = None
    """Numbers of worker processes to try; `None` tries none, and powers of two up to the number of cores."""
    repeats: int = 3
    """How often each mix is timed; the mixes take turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How fast a mix was."""

    num_workers: int
    """Processes that read; 0 is the one that trains."""
    threads: int
    """Windows that each reads at once."""
    windows: float
    """Windows a second: the median of the repeats."""
    megabytes: float
    """Megabytes of tensors a second."""


def run(job: Bench, *, say: Say = lambda _: None) -> tuple[Rate, ...]:
    """Open the files, and time each mix of workers and threads over the same windows.

    Parameters
    ----------
    job
        What to measure.
    say
        Shows a line as soon as it is known.

    Returns
    -------
    tuple of Rate
        The quickest first.

    Raises
    ------
    GeoxtError
        Where files cannot be opened or aligned, or a number is too small.
    """
    _check(job)
    start = time.perf_counter()
    data = _open(job)
    grid = grid_of(data)
    held = ", ".join(f"{name} {' x '.join(map(str, layer.shape))} {layer.dtype}" for name, layer in data.items())
    say(f"open      {held} in {crs_name(grid.crs)}, {time.perf_counter() - start:.2f} s")
    if min(grid.shape) < job.size:
        msg = f"Cannot read windows of {job.size} px from {grid.shape[0]} x {grid.shape[1]} px where all layers lie."
        raise InputError(msg + f" Pass --size {min(grid.shape)} or less.")
    start = time.perf_counter()
    next(iter(loader(data, RandomSampler(data, size=job.size, length=1, seed=1))))
    say(f"first     window after {time.perf_counter() - start:.2f} s")
    mixes = _mixes(job)
    found: dict[Mix, list[tuple[float, float]]] = {mix: [] for mix in mixes}
    for turn in range(job.repeats):
        for mix in mixes[turn % len(mixes) :] + mixes[: turn % len(mixes)]:
            found[mix].append(_rate(job, data, mix))
    rates = [
        Rate(num_workers=w, threads=t, windows=median(n for n, _ in some), megabytes=median(b for _, b in some))
        for (w, t), some in found.items()
    ]
    return tuple(sorted(rates, key=lambda rate: -rate.windows))


def describe(job: Bench, rates: Sequence[Rate]) -> str:
    """Return the rates, the quickest first, and the loader to write, as text of several lines."""
    best = rates[0]
    mix = f"batch_size={job.batch}, num_workers={best.num_workers}, threads={best.threads}"
    return "\n".join(
        [
            "workers  threads  windows/s      MB/s",
            *(f"{one.num_workers:7d}  {one.threads:7d}  {one.windows:9.1f}  {one.megabytes:8.1f}" for one in rates),
            "",
            f"Quickest: loader(sampler, {mix})",
        ]
    )


def _check(job: Bench) -> None:
    least = {"size": 1, "batch": 1, "batches": 2, "repeats": 1}
    for option, lowest in least.items():
        if getattr(job, option) < lowest:
            msg = f"Cannot measure with --{option} {getattr(job, option)}: pass {lowest} or more."
            raise InputError(msg)
    if job.num_workers is not None and min(job.num_workers, default=-1) < 0:
        counts = " ".join(map(str, job.num_workers))
        msg = f"Cannot measure with --num-workers {counts}: pass numbers of processes, 0 or more."
        raise InputError(msg)


def _open(job: Bench) -> xr.Dataset:
    """Return the layers on the image's grid."""
    image = open_cogs(job.image, product=job.product, name="image")
    if job.labels is None:
        return xr.Dataset({"image": image})
    labels = open_cogs(job.labels, categorical=True, resampling="nearest", name="mask")
    return intersection(image=image, mask=labels, grid="image")


def _mixes(job: Bench) -> list[Mix]:
    """Return the mixes to try: without workers one thread, and one a core; with workers one thread each."""
    counts = (0, *(2**n for n in range(CPU_COUNT.bit_length()))) if job.num_workers is None else job.num_workers
    alone = [(0, 1), (0, CPU_COUNT)] if CPU_COUNT > 1 else [(0, 1)]
    return list(dict.fromkeys(mix for count in counts for mix in (alone if count == 0 else [(count, 1)])))


def _rate(job: Bench, data: xr.Dataset, mix: Mix) -> tuple[float, float]:
    """Return windows and megabytes a second of a mix, from when each of its workers has given a batch."""
    workers, threads = mix
    skip = max(workers, 1)
    rounds = -(-job.batches // skip) * skip  # whole turns of all workers, whose batches come close together
    length = (skip + rounds) * job.batch
    random = RandomSampler(data, size=job.size, length=length, seed=0)
    plan = list(islice(cycle(GridSampler(data, size=job.size)), length)) if job.grid else random
    size = start = last = 0.0
    for place, batch in enumerate(loader(data, plan, batch_size=job.batch, num_workers=workers, threads=threads)):
        last = time.perf_counter()
        if place < skip:
            start = last
        size = sum(batch[str(name)].nbytes for name in data.data_vars) / 1e6
    seconds = max(last - start, 1e-9)
    return rounds * job.batch / seconds, rounds * size / seconds

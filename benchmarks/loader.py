"""What a loader adds to the engine's own time, and the memory of epochs of increasing length.

    python benchmarks/work.py DATA
    python benchmarks/loader.py DATA

The engine alone is `read_batch` of the same windows by as many processes and threads, its batches dropped where they
were read. All take turns, files in the page cache. Writes results/loader.md. Takes about five minutes.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import xarray as xr
from clock import rate, warm
from report import machine, table, write
from torch.utils.data import DataLoader
from work_layers import drawn, opened

from geoxt.bridge import WindowDataset, WindowStream, read_batch, readers_of
from geoxt.bridge.buffer_pool import BufferPool
from geoxt.samplers import WindowSequence

BATCH = 32
MIXES = ((0, 1), (0, 2), (1, 1), (2, 1))
"""Workers, and threads of each process."""
EPOCHS = (16, 64, 256)
"""Batches in the epochs whose memory is watched."""
BAR = 0.20
"""Share of the engine's time that a loader may add."""


def engine(both: xr.Dataset, plan: WindowSequence, workers: int, threads: int) -> float:
    """Return patches a second of the engine alone, by some processes (0: by this one) that share nothing."""
    if not workers:
        return rate(_batches(both, plan, 0, 1, threads), lambda found: len(found["image"]))
    context = get_context("fork")
    ready, ends = context.Barrier(workers), context.SimpleQueue()
    some = [context.Process(target=_alone, args=(both, plan, n, workers, threads, ready, ends)) for n in range(workers)]
    for one in some:
        one.start()
    found = [ends.get() for _ in some]
    for one in some:
        one.join()
    return sum(found)


def _alone(both: xr.Dataset, plan: WindowSequence, first: int, of: int, threads: int, ready: Any, ends: Any) -> None:
    """Read every so many batches, and send the rate."""
    batches = _batches(both, plan, first, of, threads)
    ready.wait()
    ends.put(rate(batches, lambda found: len(found["image"])))


def _batches(both: xr.Dataset, plan: WindowSequence, first: int, step: int, threads: int) -> Any:
    """Yield batches as the engine reads them, one after the other."""
    nodes, buffers = readers_of(both), BufferPool()
    with ThreadPoolExecutor(threads) if threads > 1 else nullcontext() as pool:
        for start in range(first * BATCH, len(plan), step * BATCH):
            windows = list(plan[start : start + BATCH])
            yield read_batch(nodes, windows, map_reads=pool.map if pool else map, buffers=buffers)


def loaded(both: xr.Dataset, plan: WindowSequence, workers: int, threads: int) -> float:
    """Return patches a second of `geoml.loader`."""
    return _rate(both.geoml.loader(plan, batch_size=BATCH, num_workers=workers, threads=threads), workers)


def mapped(both: xr.Dataset, plan: WindowSequence, workers: int, threads: int) -> float:
    """Return patches a second of torch's own loader over the map-style dataset."""
    return _rate(DataLoader(WindowDataset(both, plan, threads=threads), batch_size=BATCH, num_workers=workers), workers)


def streamed(both: xr.Dataset, plan: WindowSequence, workers: int, threads: int) -> float:
    """Return patches a second of torch's own loader over the iterable-style dataset."""
    stream = WindowStream(WindowDataset(both, plan, threads=threads), chunk_size=BATCH)
    return _rate(DataLoader(stream, batch_size=BATCH, num_workers=workers), workers)


def _rate(batches: Any, workers: int) -> float:
    return rate(batches, lambda found: len(found["image"]), skip=max(workers, 1))


WAYS: dict[str, Callable[[xr.Dataset, WindowSequence, int, int], float]] = {
    "engine alone": engine,
    "geoml.loader": loaded,
    "torch's DataLoader, map-style": mapped,
    "torch's DataLoader, iterable": streamed,
}


def throughput(both: xr.Dataset, count: int, repeats: int) -> str:
    """Return the table of patches a second, each with what it adds to the engine's time."""
    found: dict[tuple[str, tuple[int, int]], list[float]] = {}
    for turn in range(repeats):
        for workers, threads in MIXES:
            plan = drawn(both, "random", count=count + 2 * BATCH, batch=BATCH, seed=turn)
            assert isinstance(plan, WindowSequence)
            order = list(WAYS.items())
            for name, way in order[turn % len(order) :] + order[: turn % len(order)]:
                found.setdefault((name, (workers, threads)), []).append(way(both, plan, workers, threads))
    rows = []
    for mix in MIXES:
        alone = found["engine alone", mix]
        for name in WAYS:
            own = found[name, mix]
            more = [a / o - 1 for a, o in zip(alone, own, strict=True)]
            added = ["", ""] if own is alone else [f"{median(more):+.1%}", f"{min(more):+.1%} to {max(more):+.1%}"]
            rows.append([name, str(mix[0]), str(mix[1]), f"{median(own):.0f}", *added])
    return table(["read by", "workers", "threads", "patches a second", "added time, median", "range"], rows)


def held(pids: Sequence[int]) -> float:
    """Return MB that processes hold: anonymous and shared memory, each page counted once; no files."""
    total = 0
    for pid in pids:
        try:
            facts = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(x.split()[1]) for x in facts.splitlines() if x.startswith(("Pss_Anon:", "Pss_Shmem:")))
    return total / 1024


def peak(data: Path, batches: int, workers: int, threads: int) -> float:
    """Return the most MB that an epoch adds to what this process held before, its workers included."""
    both = opened(data, into="cdl")
    plan = drawn(both, "random", count=BATCH * batches, batch=BATCH)
    me = os.getpid()
    before, most = held([me]), 0.0
    for _ in both.geoml.loader(plan, batch_size=BATCH, num_workers=workers, threads=threads):
        children = Path(f"/proc/{me}/task/{me}/children").read_text().split()
        most = max(most, held([me, *map(int, children)]) - before)
    return most


def memory(data: Path) -> str:
    """Return the table of the most memory of epochs of increasing length, each in a new process."""
    rows = []
    for workers, threads in ((0, 2), (2, 1)):
        row = [f"{_elsewhere(partial(peak, data, n, workers, threads)):.0f}" for n in EPOCHS]
        rows.append([f"{workers} workers, {threads} threads", *row])
    return table(["MB, of an epoch of", *[f"{n} batches" for n in EPOCHS]], rows)


def _elsewhere(call: Callable[[], float]) -> float:
    """Return what a call gives in a new process, which may start others."""
    context = get_context("spawn")
    answer = context.SimpleQueue()
    process = context.Process(target=_answer, args=(call, answer))
    process.start()
    found: float = answer.get()
    process.join()
    return found


def _answer(call: Callable[[], float], answer: Any) -> None:
    answer.put(call())


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--count", type=int, default=512, help="patches a rate is taken over")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    os.environ["GDAL_CACHEMAX"] = "64"  # MB
    print(f"{sum(warm(args.data / name) for name in ('landsat', 'cdl')) / 1e9:.1f} GB in the page cache", flush=True)
    both = opened(args.data, into="cdl")
    how = (
        f"Made by `work.py` and `loader.py`: random patches of 7 x 224 x 224 and their labels in batches of {BATCH}, "
        f"warped into the crop map's grid; medians of {args.repeats} turns of {args.count:,} patches each. The engine "
        "alone is `read_batch` of the same windows by as many processes and threads, each batch dropped where it was "
        "read. Added time is beside the engine's of the same turn; below zero, the loader is the quicker: it reads the "
        f"next batch while one is handed over. The bar is {BAR:.0%}."
    )
    parts = [
        "# What a loader adds to the engine's time",
        how,
        machine("torch", "rasterio", "numpy"),
        throughput(both, args.count, args.repeats),
        "## Memory",
        "The most that an epoch adds to the process and its workers: anonymous and shared memory, pages counted once.",
        memory(args.data),
    ]
    print(write("loader.md", parts).read_text())


if __name__ == "__main__":
    main()

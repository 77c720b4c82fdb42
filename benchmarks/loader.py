"""Overhead of loaders over `read_batch`, and memory of epochs of increasing length.

    python benchmarks/make_data.py DATA
    python benchmarks/loader.py DATA

`read_batch` reads the same windows in as many processes and threads, and its batches are discarded. Runs alternate,
with files in the page cache. Writes results/loader.md. Takes about five minutes.
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
from data_layers import draw_windows, open_layers
from report import machine, table, write
from torch.utils.data import DataLoader

from geoxt.bridge import WindowDataset, WindowStream, read_batch, readers_of
from geoxt.bridge.buffer_pool import BufferPool
from geoxt.samplers import WindowSequence

BATCH = 32
MIXES = ((0, 1), (0, 2), (1, 1), (2, 1))
"""Workers, and threads per process."""
EPOCHS = (16, 64, 256)
"""Batches per epoch in the memory measurement."""
MAX_OVERHEAD = 0.20
"""Maximum overhead as a fraction of the time of `read_batch`."""


def batch_reads(layers: xr.Dataset, windows: WindowSequence, workers: int, threads: int) -> float:
    """Return patches per second of `read_batch` in independent processes (0: in this process)."""
    if not workers:
        return rate(_batches(layers, windows, 0, 1, threads), lambda samples: len(samples["image"]))
    context = get_context("fork")
    ready, queue = context.Barrier(workers), context.SimpleQueue()
    processes = [
        context.Process(target=_measure_in_process, args=(layers, windows, n, workers, threads, ready, queue))
        for n in range(workers)
    ]
    for process in processes:
        process.start()
    rates = [queue.get() for _ in processes]
    for process in processes:
        process.join()
    return sum(rates)


def _measure_in_process(
    layers: xr.Dataset, windows: WindowSequence, first: int, step: int, threads: int, ready: Any, rates: Any
) -> None:
    """Read every n-th batch, and send the rate."""
    batches = _batches(layers, windows, first, step, threads)
    ready.wait()
    rates.put(rate(batches, lambda samples: len(samples["image"])))


def _batches(layers: xr.Dataset, windows: WindowSequence, first: int, step: int, threads: int) -> Any:
    """Yield batches of `read_batch` in order."""
    nodes, buffers = readers_of(layers), BufferPool()
    with ThreadPoolExecutor(threads) if threads > 1 else nullcontext() as pool:
        for start in range(first * BATCH, len(windows), step * BATCH):
            batch = list(windows[start : start + BATCH])
            yield read_batch(nodes, batch, map_reads=pool.map if pool else map, buffers=buffers)


def geoxt_loader(layers: xr.Dataset, windows: WindowSequence, workers: int, threads: int) -> float:
    """Return patches per second of `geoml.loader`."""
    return _rate(layers.geoml.loader(windows, batch_size=BATCH, num_workers=workers, threads=threads), workers)


def torch_map_style(layers: xr.Dataset, windows: WindowSequence, workers: int, threads: int) -> float:
    """Return patches per second of torch's DataLoader with the map-style dataset."""
    return _rate(
        DataLoader(WindowDataset(layers, windows, threads=threads), batch_size=BATCH, num_workers=workers), workers
    )


def torch_iterable_style(layers: xr.Dataset, windows: WindowSequence, workers: int, threads: int) -> float:
    """Return patches per second of torch's DataLoader with the iterable-style dataset."""
    stream = WindowStream(WindowDataset(layers, windows, threads=threads), chunk_size=BATCH)
    return _rate(DataLoader(stream, batch_size=BATCH, num_workers=workers), workers)


def _rate(batches: Any, workers: int) -> float:
    return rate(batches, lambda samples: len(samples["image"]), skip=max(workers, 1))


METHODS: dict[str, Callable[[xr.Dataset, WindowSequence, int, int], float]] = {
    "read_batch": batch_reads,
    "geoml.loader": geoxt_loader,
    "torch's DataLoader, map-style": torch_map_style,
    "torch's DataLoader, iterable": torch_iterable_style,
}


def throughput(layers: xr.Dataset, count: int, repeats: int) -> str:
    """Return the table of patches per second with the overhead over `read_batch`."""
    rates: dict[tuple[str, tuple[int, int]], list[float]] = {}
    for turn in range(repeats):
        for workers, threads in MIXES:
            windows = draw_windows(layers, "random", count=count + 2 * BATCH, batch=BATCH, seed=turn)
            assert isinstance(windows, WindowSequence)
            order = list(METHODS.items())
            for name, way in order[turn % len(order) :] + order[: turn % len(order)]:
                rates.setdefault((name, (workers, threads)), []).append(way(layers, windows, workers, threads))
    rows = []
    for mix in MIXES:
        baseline = rates["read_batch", mix]
        for name in METHODS:
            loader_rates = rates[name, mix]
            more = [a / o - 1 for a, o in zip(baseline, loader_rates, strict=True)]
            added = (
                ["", ""]
                if loader_rates is baseline
                else [f"{median(more):+.1%}", f"{min(more):+.1%} to {max(more):+.1%}"]
            )
            rows.append([name, str(mix[0]), str(mix[1]), f"{median(loader_rates):.0f}", *added])
    return table(["read by", "workers", "threads", "patches per second", "overhead, median", "range"], rows)


def memory_of(pids: Sequence[int]) -> float:
    """Return the memory of processes in MB: anonymous and shared, each page counted once, without files."""
    total = 0
    for pid in pids:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(x.split()[1]) for x in rollup.splitlines() if x.startswith(("Pss_Anon:", "Pss_Shmem:")))
    return total / 1024


def peak(data: Path, batches: int, workers: int, threads: int) -> float:
    """Return the peak memory in MB that an epoch adds to this process and its workers."""
    layers = open_layers(data, into="cdl")
    windows = draw_windows(layers, "random", count=BATCH * batches, batch=BATCH)
    me = os.getpid()
    before, highest = memory_of([me]), 0.0
    for _ in layers.geoml.loader(windows, batch_size=BATCH, num_workers=workers, threads=threads):
        children = Path(f"/proc/{me}/task/{me}/children").read_text().split()
        highest = max(highest, memory_of([me, *map(int, children)]) - before)
    return highest


def memory(data: Path) -> str:
    """Return the table of peak memory of epochs of increasing length, each in a new process."""
    rows = []
    for workers, threads in ((0, 2), (2, 1)):
        row = [f"{_in_new_process(partial(peak, data, n, workers, threads)):.0f}" for n in EPOCHS]
        rows.append([f"{workers} workers, {threads} threads", *row])
    return table(["MB per epoch of", *[f"{n} batches" for n in EPOCHS]], rows)


def _in_new_process(call: Callable[[], float]) -> float:
    """Return the result of a call in a new process that may start workers."""
    context = get_context("spawn")
    answer = context.SimpleQueue()
    process = context.Process(target=_answer, args=(call, answer))
    process.start()
    result: float = answer.get()
    process.join()
    return result


def _answer(call: Callable[[], float], answer: Any) -> None:
    answer.put(call())


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--count", type=int, default=512, help="patches per measured rate")
    parser.add_argument("--repeats", type=int, default=5, help="repeats of each measurement")
    args = parser.parse_args()
    os.environ["GDAL_CACHEMAX"] = "64"  # MB
    print(f"{sum(warm(args.data / name) for name in ('landsat', 'cdl')) / 1e9:.1f} GB in the page cache", flush=True)
    layers = open_layers(args.data, into="cdl")
    about = (
        f"Made by `make_data.py` and `loader.py`: random patches of 7 x 224 x 224 and their labels in batches of "
        f"{BATCH}, warped into the crop map's grid; medians of {args.repeats} runs of {args.count:,} patches each. "
        "`read_batch` reads the same windows in as many processes and threads, and discards the batches. Overhead is "
        "relative to `read_batch` of the same run; negative if the loader is faster, because it reads the next batch "
        f"while one is handed over. The limit is {MAX_OVERHEAD:.0%}."
    )
    parts = [
        "# Overhead of loaders over read_batch",
        about,
        machine("torch", "rasterio", "numpy"),
        throughput(layers, args.count, args.repeats),
        "## Memory",
        "Peak memory that an epoch adds to the process and its workers: anonymous and shared, pages counted once.",
        memory(args.data),
    ]
    print(write("loader.md", parts).read_text())


if __name__ == "__main__":
    main()

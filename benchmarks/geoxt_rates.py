"""Print geoxt's rates on the work of `work.py`, in patches (7 x 224 x 224 image, 224 x 224 mask) a second, as JSON.

    python benchmarks/geoxt_rates.py DATA --into cdl --batch 32 --mix 0:2 2:1

A mix is workers:threads. Batches are float32 images and int64 masks, collated, with validity and places beside them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import xarray as xr
from clock import rate
from work_layers import drawn, opened

MEMORY = 4096
"""Pixels: side of the part of the layers that is loaded for "memory"."""


def layers(data: Path, into: str) -> xr.Dataset:
    """Return the layers; for "memory", the middle of the aligned ones, loaded."""
    if into != "memory":
        return opened(data, into=into)
    both = opened(data, into="aligned")
    middle = [n // 2 for n in (both.sizes["y"], both.sizes["x"])]
    rows, cols = (slice(max(n - MEMORY // 2, 0), n + MEMORY // 2) for n in middle)
    return both.isel(y=rows, x=cols).load()


def measure(both: xr.Dataset, sampler: str, batch: int, count: int, workers: int, threads: int) -> float:
    """Return the rate of one epoch."""
    skip = max(workers, 1)
    windows = drawn(both, sampler, count=count + skip * batch, batch=batch)
    loader = both.geoml.loader(windows, batch_size=batch, num_workers=workers, threads=threads)
    return rate(loader, lambda found: len(found["image"]), skip=skip)


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--into", default="cdl", choices=("cdl", "landsat", "aligned", "memory"))
    parser.add_argument("--samplers", nargs="+", default=["random", "random-batch", "grid"])
    parser.add_argument("--batch", type=int, nargs="+", default=[32])
    parser.add_argument("--count", type=int, default=1024, help="patches, beside those before the clock starts")
    parser.add_argument("--mix", nargs="+", default=["0:2", "2:1"], help="workers:threads")
    args = parser.parse_args()
    both = layers(args.data, args.into)
    for mix in args.mix:
        workers, threads = map(int, mix.split(":"))
        for batch in args.batch:
            count = max(args.count // (2 * batch), 2) * 2 * batch
            for sampler in args.samplers:
                found = measure(both, sampler, batch, count, workers, threads)
                print(json.dumps({"sampler": sampler, "batch": batch, "mix": mix, "rate": round(found, 1)}), flush=True)


if __name__ == "__main__":
    main()

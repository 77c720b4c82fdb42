"""Print the rates of geoxt on the data of `make_data.py` as JSON, in patches (7 x 224 x 224 image and mask) per second.

    python benchmarks/geoxt_rates.py DATA --into cdl --batch 32 --mix 0:2 2:1

A mix is workers:threads. Batches are float32 images and int64 masks, collated, with valid masks and bounds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import xarray as xr
from clock import rate
from data_layers import draw_windows, open_layers

MEMORY = 4096
"""Side in pixels of the part loaded for "memory"."""


def open_part(data: Path, into: str) -> xr.Dataset:
    """Return the layers; for "memory", the loaded centre of the aligned layers."""
    if into != "memory":
        return open_layers(data, into=into)
    layers = open_layers(data, into="aligned")
    middle = [n // 2 for n in (layers.sizes["y"], layers.sizes["x"])]
    rows, cols = (slice(max(n - MEMORY // 2, 0), n + MEMORY // 2) for n in middle)
    return layers.isel(y=rows, x=cols).load()


def measure(layers: xr.Dataset, sampler: str, batch: int, count: int, workers: int, threads: int) -> float:
    """Return the rate of one epoch in patches per second."""
    skip = max(workers, 1)
    windows = draw_windows(layers, sampler, count=count + skip * batch, batch=batch)
    loader = layers.geoml.loader(windows, batch_size=batch, num_workers=workers, threads=threads)
    return rate(loader, lambda samples: len(samples["image"]), skip=skip)


def main() -> None:
    """Parse arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--into", default="cdl", choices=("cdl", "landsat", "aligned", "memory"))
    parser.add_argument("--samplers", nargs="+", default=["random", "random-batch", "grid"])
    parser.add_argument("--batch", type=int, nargs="+", default=[32])
    parser.add_argument("--count", type=int, default=1024, help="timed patches, after warm-up")
    parser.add_argument("--mix", nargs="+", default=["0:2", "2:1"], help="workers:threads")
    args = parser.parse_args()
    layers = open_part(args.data, args.into)
    for mix in args.mix:
        workers, threads = map(int, mix.split(":"))
        for batch in args.batch:
            count = max(args.count // (2 * batch), 2) * 2 * batch
            for sampler in args.samplers:
                measured_rate = measure(layers, sampler, batch, count, workers, threads)
                print(
                    json.dumps({"sampler": sampler, "batch": batch, "mix": mix, "rate": round(measured_rate, 1)}),
                    flush=True,
                )


if __name__ == "__main__":
    main()

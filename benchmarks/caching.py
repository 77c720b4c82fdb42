"""Rates of random patches from compressed files: without a cache, in block order, from the block cache, from a pack.

    python benchmarks/caching.py DATA [--peer PYTHON_WITH_TORCHGEO]

Writes the data of `make_data.py` into DATA, once per compression, and results/caching.md. Each rate is measured in a
new process with files in the page cache; the modes alternate in each round, and medians are printed.
"""
# ruff: noqa: S603

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median

from clock import rate, warm
from report import machine, table, write

FOLDER = Path(__file__).parent
KINDS = ("none", "deflate", "zstd", "lerc_zstd")
MODES = {
    "random": "random order, no cache",
    "local": "block order, no cache",
    "filling": "random order, cache being filled",
    "local filling": "block order, cache being filled",
    "cached": "random order, second epoch from the cache",
    "pack": "random order, from a pack",
}
SIZE, BATCH = 224, 32


def measure(folder: Path, mode: str, count: int) -> float:
    """Return the patches per second of one epoch, in this process with two threads."""
    from data_layers import BANDS, SCENE_CRS

    import geoxt
    from geoxt.samplers import PackSampler, RandomSampler

    blocks = folder / "blocks"
    cache = f"{blocks}:100GB" if mode in {"filling", "local filling", "cached"} else False
    if "filling" in mode:
        geoxt.pixels.block_cache.clear_block_cache(geoxt.pixels.block_cache.parse_block_cache(cache))
    crops = geoxt.open_cogs(folder / "cdl" / "*.tif", product="cdl", cache=cache)
    scenes = geoxt.open_cogs(folder / "landsat" / "*.TIF", product="landsat8", bands=BANDS, crs=SCENE_CRS, cache=cache)
    layers = geoxt.intersection(image=scenes, mask=crops, grid="image")
    order = {"locality": "block", "block": 1024, "buffer": 256} if "local" in mode else {}
    windows = RandomSampler(layers, size=SIZE, length=count, seed=0, **order)
    if mode == "pack":
        path = folder / "pack.zarr"
        if not path.exists():
            geoxt.pack(layers, windows, path, progress=False)
        data = geoxt.open_pack(path)
        loader = data.geoml.loader(PackSampler(data, seed=1), batch_size=BATCH)
    else:
        loader = layers.geoml.loader(windows, batch_size=BATCH, threads=2)
        if mode == "cached":  # the epoch that fills the cache
            for _ in loader:
                pass
    return rate(loader, lambda batch: len(batch["image"]))


def run_once(folder: Path, mode: str, count: int) -> float:
    """Return the rate of a mode, measured in a new process."""
    command = [sys.executable, __file__, str(folder), "--measure", mode, "--count", str(count)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def run_peer(python: str, folder: Path, count: int) -> float:
    """Return TorchGeo's rate of random patches with two workers."""
    command = [python, FOLDER / "torchgeo_rates.py", folder, "--into", "landsat", "--samplers", "random"]
    output = subprocess.run([*command, "--count", str(count)], check=True, capture_output=True, text=True).stdout
    return float(json.loads(output.splitlines()[-1])["rate"])


def main() -> None:
    """Parse arguments, and measure or write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--peer", help="Python interpreter with TorchGeo")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=2048, help="patches of an epoch")
    parser.add_argument("--size", type=int, default=8000, help="side of a scene, in pixels")
    parser.add_argument("--measure", choices=MODES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(measure(args.data, args.measure, args.count))
        return
    rates: dict[tuple[str, str], list[float]] = defaultdict(list)
    for kind in args.kinds:
        folder = args.data / kind
        if not folder.exists():
            make = [sys.executable, FOLDER / "make_data.py", folder, "--compress", kind, "--size", str(args.size)]
            subprocess.run(make, check=True)
        warm(folder)
        for _ in range(args.rounds):
            if args.peer:
                rates[kind, "peer"].append(run_peer(args.peer, folder, min(args.count, 256)))
            for mode in MODES:
                if kind != "none" or mode in {"random", "pack"}:
                    rates[kind, mode].append(run_once(folder, mode, args.count))
                    print(kind, mode, f"{rates[kind, mode][-1]:.0f}", flush=True)
    rows = []
    for mode, title in ({"peer": "TorchGeo, random order, 2 workers"} | MODES).items():
        medians = [f"{median(rates[kind, mode]):,.0f}" if rates[kind, mode] else "" for kind in args.kinds]
        rows.append([title, *medians])
    about = (
        f"Made by `caching.py`: {args.count:,} random patches of 7 x {SIZE} x {SIZE} and labels on one"
        f" zone's grid, batches of {BATCH}, two threads; patches per second, medians of {args.rounds} runs, files"
        " in the page cache. Blocks of 1024 pixels and a buffer of 256 patches in block order."
    )
    line = machine("torch", "rasterio", "zarr", "numpy")
    write("caching.md", ["# Compressed files", about + " " + line, table(["patches/s", *args.kinds], rows)])


if __name__ == "__main__":
    main()

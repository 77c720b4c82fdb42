"""Rates of random patches from compressed files and Zarr: decoding, order, block cache, a latency of 50 ms, a pack.

    python benchmarks/caching.py DATA [--peer PYTHON_WITH_TORCHGEO]

Writes the data of `make_data.py` into DATA, once per compression, the Zarr store of `zarr_windows.py` (4 bands of 8,192
pixels, chunks of 1,024, zstd, no labels), and results/caching.md. Each rate is measured in a
new process with files in the page cache; the modes alternate in each round, and medians are printed. Takes less than 15
minutes on two idle cores, after the data and packs are written: `--rounds 0` only writes the data.
"""
# ruff: noqa: S603

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Literal

from clock import rate, warm
from report import machine, table, write
from zarr_windows import make_store

FOLDER = Path(__file__).parent
KINDS = ("none", "deflate", "zstd", "lerc_zstd", "zarr")
MODES = {
    "gdal": "random order, no cache, decoded by GDAL",
    "random": "random order, no cache",
    "second": "random order, no cache, second epoch",
    "local": "block order, no cache",
    "local cached": "block order, first epoch, which fills the cache, 2 workers",
    "cached": "random order, second epoch from the cache",
    "remote": "random order, 50 ms of latency",
    "remote cached": "random order, 50 ms of latency, second epoch from the cache",
    "pack": "random order, from a pack",
    "grid landsat": "grid order, scenes' grid, 2 workers",
    "grid cdl": "grid order, crop map's grid, 2 workers",
}
PEERS = {
    "peer": "TorchGeo, random order, 2 workers",
    "peer landsat": "TorchGeo, grid order, scenes' grid, 2 workers",
    "peer cdl": "TorchGeo, grid order, crop map's grid, 2 workers",
}
MODES_OF = {
    "none": ("random", "second", "pack", "grid landsat", "grid cdl"),
    "deflate": ("gdal", "random", "local", "local cached", "cached", "remote", "remote cached", "pack"),
    "zstd": ("random", "cached"),
    "lerc_zstd": ("random", "cached"),
    "zarr": ("random", "second", "remote", "remote cached"),
}
PEERS_OF = {"none": tuple(PEERS), "deflate": ("peer",), "zstd": (), "lerc_zstd": (), "zarr": ()}
CACHED = {"cached", "remote cached", "local cached"}
LOCAL = {"local", "local cached"}
LOCALITY: dict[str, Any] = {"locality": "block", "block": 2048, "buffer": 256}
MEGABYTES = 1024
"""Decoded blocks in memory in block order; the default of GDAL, and of TorchGeo, is 5 % of the memory per process."""
SIZE, BATCH = 224, 32
LATENCY = 0.05
"""Seconds added to each request."""


def open_data(folder: Path, cache: str | Literal[False], url: str = "") -> Any:
    """Return the layers "image" and "mask", local or from a server; of a Zarr store, the image."""
    from data_layers import BANDS, SCENE_CRS

    import geoxt

    if folder.name == "zarr":
        return geoxt.open_zarr(f"{url}/windows.zarr" if url else folder / "windows.zarr", cache=cache)

    def files(pattern: str) -> list[str]:
        names = [str(path.relative_to(folder)) for path in sorted(folder.glob(pattern))]
        return [f"{url}/{name}" if url else str(folder / name) for name in names]

    crops = geoxt.open_cogs(files("cdl/*.tif"), product="cdl", cache=cache)
    scenes = geoxt.open_cogs(files("landsat/*.TIF"), product="landsat8", bands=BANDS, crs=SCENE_CRS, cache=cache)
    return geoxt.intersection(image=scenes, mask=crops, grid="image")


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder through a proxy that adds the latency; yield its address."""
    sys.path.insert(0, str(FOLDER.parent / "tests"))  # for tests/support
    from support.proxy import proxied
    from support.servers import serve_files

    with serve_files(str(folder)) as upstream, proxied(upstream) as proxy:
        proxy.set(latency=LATENCY)
        yield proxy.url


def measure(folder: Path, mode: str, count: int) -> float:
    """Return the patches per second of one epoch, with two threads or workers."""
    if mode.startswith("remote"):
        with served(folder) as url:
            return _epoch(folder, mode, count, url)
    return _epoch(folder, mode, count)


def _epoch(folder: Path, mode: str, count: int, url: str = "") -> float:
    """Return the patches per second of one epoch; of the second for modes of the second epoch."""
    import geoxt
    from geoxt.pixels import block_cache, tiff_codecs
    from geoxt.samplers import PackSampler, RandomSampler

    cache: str | Literal[False] = f"{folder / 'blocks'}:100GB" if mode in CACHED else False
    if cache:
        block_cache.clear_block_cache(block_cache.parse_block_cache(cache))
    if mode == "gdal":
        tiff_codecs.isal_zlib = None  # as without the extra `codecs`
    layers = open_data(folder, cache, url)
    order = LOCALITY if mode in LOCAL else {}
    windows = RandomSampler(layers, size=SIZE, length=count, seed=0, **order)
    if mode == "pack":
        path = folder / f"pack-{count}.zarr"
        if not path.exists():
            geoxt.pack(layers, windows, path, progress=False)
        data = geoxt.open_pack(path)
        loader = data.geoml.loader(PackSampler(data, seed=1), batch_size=BATCH)
    else:
        if mode == "local cached":  # each worker decodes blocks, which both read from the cache
            loader = layers.geoml.loader(windows, batch_size=BATCH, num_workers=2)
            return rate(loader, lambda batch: len(batch["image"]), skip=2)
        loader = layers.geoml.loader(windows, batch_size=BATCH, threads=2)
        if mode in {"second", "cached", "remote cached"}:
            for _ in loader:
                pass
    return rate(loader, lambda batch: len(batch["image"]))


def peak(folder: Path, count: int) -> float:
    """Return the anonymous memory in MB that an epoch from the filled cache adds to this process."""
    from geoxt.samplers import RandomSampler

    layers = open_data(folder, f"{folder / 'blocks'}:100GB")
    for _ in layers.geoml.loader(RandomSampler(layers, size=SIZE, length=4 * BATCH, seed=1), batch_size=BATCH):
        pass
    before, highest = _anonymous(), 0.0
    windows = RandomSampler(layers, size=SIZE, length=count, seed=0)
    for _ in layers.geoml.loader(windows, batch_size=BATCH, threads=2):
        highest = max(highest, _anonymous() - before)
    return highest


def _anonymous() -> float:
    """Return the anonymous memory of this process in MB."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss_Anon:")) / 1024


def run_once(folder: Path, mode: str, count: int) -> float:
    """Return the rate of a mode, or the peak memory, measured in a new process."""
    if mode.startswith("grid"):
        return run_rates(sys.executable, "geoxt", folder, mode.split()[1], "grid", count)
    env = os.environ | ({"GDAL_CACHEMAX": str(MEGABYTES)} if mode in LOCAL else {})
    count = 2 * count if mode in LOCAL else count  # an epoch that draws each pixel about once
    command = [sys.executable, __file__, str(folder), "--measure", mode, "--count", str(count)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout.split()[-1])


def run_peer(python: str, folder: Path, mode: str, count: int) -> float:
    """Return TorchGeo's rate with two workers."""
    if mode == "peer":
        return run_rates(python, "torchgeo", folder, "landsat", "random", min(count, 256))
    return run_rates(python, "torchgeo", folder, mode.split()[1], "grid", count)


def run_rates(python: str, library: str, folder: Path, grid: str, sampler: str, count: int) -> float:
    """Return the rate of a library, measured by `geoxt_rates.py` or `torchgeo_rates.py`."""
    command = [python, FOLDER / f"{library}_rates.py", folder, "--into", grid, "--samplers", sampler]
    command += ["--count", str(count), "--mix", "2:1" if library == "geoxt" else "2"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(output.splitlines()[-1])["rate"])


def main() -> None:
    """Parse arguments, and measure or write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--peer", help="Python interpreter with TorchGeo")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--modes", nargs="+", default=tuple(MODES), choices=MODES)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--count", type=int, default=1024, help="patches of an epoch; twice as many in block order")
    parser.add_argument("--size", type=int, default=5000, help="side of a scene, in pixels")
    parser.add_argument("--measure", choices=[*MODES, "peak"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(peak(args.data, args.count) if args.measure == "peak" else measure(args.data, args.measure, args.count))
        return
    rates: dict[tuple[str, str], list[float]] = defaultdict(list)
    for kind in args.kinds:
        folder = args.data / kind
        if not folder.exists():
            if kind == "zarr":
                folder.mkdir(parents=True)
                make_store(folder / "windows.zarr")
                continue
            make = [sys.executable, FOLDER / "make_data.py", folder, "--compress", kind, "--size", str(args.size)]
            subprocess.run(make, check=True)
    for _ in range(args.rounds):
        for kind in args.kinds:
            folder = args.data / kind
            warm(folder)
            for mode in PEERS_OF[kind] if args.peer else ():
                rates[kind, mode].append(run_peer(args.peer, folder, mode, args.count))
                print(kind, mode, f"{rates[kind, mode][-1]:.0f}", flush=True)
            for mode in (mode for mode in MODES_OF[kind] if mode in args.modes):
                rates[kind, mode].append(run_once(folder, mode, args.count))
                print(kind, mode, f"{rates[kind, mode][-1]:.0f}", flush=True)
    memory: list[tuple[int, float]] = []
    if not args.rounds:
        return
    if "cached" in args.modes and "deflate" in args.kinds:
        run_once(args.data / "deflate", "cached", 4 * args.count)  # fills the cache
        memory = [(n, run_once(args.data / "deflate", "peak", n)) for n in (args.count, 4 * args.count)]
    report({key: median(values) for key, values in rates.items()}, args, memory)


def report(medians: dict[tuple[str, str], float], args: Any, memory: list[tuple[int, float]]) -> None:
    """Write and print the results."""
    rows = []
    for mode, title in (PEERS | MODES).items():
        cells = [f"{medians[kind, mode]:,.0f}" if (kind, mode) in medians else "" for kind in args.kinds]
        rows.append([title, *cells])
    pairs = {
        "Random, DEFLATE, no cache, relative to GDAL's decoder": (("deflate", "random"), ("deflate", "gdal")),
        "Block order, DEFLATE, no cache, relative to TorchGeo": (("deflate", "local"), ("deflate", "peer")),
        "Second epoch, DEFLATE, cached, relative to uncompressed": (("deflate", "cached"), ("none", "second")),
        "Second epoch, ZSTD, cached, relative to uncompressed": (("zstd", "cached"), ("none", "second")),
        "Second epoch, remote, cached, relative to uncompressed": (("deflate", "remote cached"), ("none", "second")),
        "Second epoch, remote Zarr, cached, relative to local": (("zarr", "remote cached"), ("zarr", "second")),
        "Pack relative to uncompressed files": (("none", "pack"), ("none", "second")),
        "Grid, uncompressed, scenes' grid, relative to TorchGeo": (("none", "grid landsat"), ("none", "peer landsat")),
        "Grid, uncompressed, crop map's grid, relative to TorchGeo": (("none", "grid cdl"), ("none", "peer cdl")),
    }  # fmt: skip
    lines = [f"* {k}: {medians[a] / medians[b]:.2f}." for k, (a, b) in pairs.items() if {a, b} <= medians.keys()]
    lines += [f"* Memory added by a cached epoch of {n:,} patches: {size:.0f} MB." for n, size in memory]
    about = (
        f"Made by `caching.py`: {args.count:,} random patches of 7 x {SIZE} x {SIZE} and labels on one"
        f" zone's grid, scenes of {args.size:,} pixels, batches of {BATCH}, two threads; patches per second, medians of"
        f" {args.rounds} runs, files in the page cache. In block order {2 * args.count:,} patches, blocks of"
        f" {LOCALITY['block']} pixels, a buffer of {LOCALITY['buffer']} patches, and GDAL_CACHEMAX={MEGABYTES}."
    )
    line = machine("torch", "rasterio", "zarr", "numpy")
    parts = ["# Compressed files", about + " " + line, table(["patches/s", *args.kinds], rows), "\n".join(lines)]
    print(write("caching.md", parts).read_text())


if __name__ == "__main__":
    main()

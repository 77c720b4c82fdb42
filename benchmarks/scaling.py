"""What does not grow: the cost of a window with the number of scenes, memory with the length of an epoch.

    python benchmarks/work.py DATA
    python benchmarks/scaling.py DATA

Also the time to open many files, the first time and again, and the share of decoding where files are compressed.
Writes results/scaling.md. Takes about ten minutes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from affine import Affine
from clock import warm
from odc.geo.geobox import GeoBox
from report import machine, table, write
from stages import shares, stages
from work import PIXEL, places, write_map, write_scenes
from work_layers import drawn, opened

import geoxt
from geoxt.bridge import readers_of
from geoxt.source import Mosaic, Scene, view_of

CROWDS = (10, 1_000, 100_000)
ACROSS = 400
"""Made-up scenes in a row."""
PACKED = ("none", "deflate", "zstd")


def crowd(real: Mosaic, count: int) -> Mosaic:
    """Return a mosaic with made-up scenes to the south-east, as dense as real ones; no window touches them."""
    rows, cols = real.grid.shape
    first = real.scenes[0]
    scenes = list(real.scenes)
    for n in range(count - len(scenes)):
        down, across = divmod(n, ACROSS)
        move = Affine.translation(PIXEL * (1.2 * cols + 6400 * across), -PIXEL * (1.2 * rows + 6400 * down))
        grid = GeoBox(first.grid.shape, move @ real.grid.affine, real.grid.crs)
        made = tuple(None if a is None else replace(a, grid=grid, href=f"made-up/{n}.tif") for a in first.assets)
        scenes.append(Scene(id=f"made-up-{n}", assets=made))
    side = int(1.2 * rows) + 6400 * (count // ACROSS + 2), int(1.2 * cols) + 6400 * (ACROSS + 2)
    grid = GeoBox(side, real.grid.affine, real.grid.crs)
    return replace(real, grid=grid, scenes=tuple(scenes), steps=(tuple(range(len(scenes))),))


def by_scenes(data: Path, count: int, repeats: int) -> str:
    """Return the table of milliseconds for a window in mosaics of 10 to 100,000 scenes."""
    layer = opened(data, into="landsat")["image"]
    view = view_of(layer)
    assert isinstance(view.source, Mosaic)
    windows = [w.shift(view.window.row, view.window.col) for w in drawn(layer, "random", count=count, batch=32)]
    mosaics = {n: crowd(view.source, n) for n in CROWDS}
    found: dict[int, list[list[float]]] = {n: [[] for _ in windows] for n in CROWDS}
    first = {}
    for n, mosaic in mosaics.items():
        start = time.perf_counter()
        mosaic.read(windows[0])
        first[n] = time.perf_counter() - start
    for turn in range(repeats):
        for place, window in enumerate(windows):
            for n in np.roll(CROWDS, turn).tolist():
                start = time.perf_counter()
                mosaics[n].read(window, dtype=np.dtype("float32"))
                found[n][place].append(time.perf_counter() - start)
    means = {n: float(np.mean([min(times) for times in some])) for n, some in found.items()}
    rows = [
        [f"{n:,}", f"{1e3 * means[n]:.3f}", f"{means[n] / means[CROWDS[0]] - 1:+.1%}", f"{first[n]:.2f}"]
        for n in CROWDS
    ]
    return table(["scenes", "ms a window (7 bands)", "against 10", "s for the first window, tree included"], rows)


def opening(folder: Path, count: int) -> str:
    """Return the table of seconds to open many files: headers read, then from the index."""
    some = [replace(place, row=f"{n:06d}") for n, place in enumerate(places(64)[:1] * (count // 7 + 1))]
    write_scenes(folder / "many", some, 64, "none")
    files = sorted((folder / "many").iterdir())
    os.environ["GEOXT_CACHE"] = str(folder / "cache")
    rows = []
    for title in ("first: every header read", "second: from the index"):
        start = time.perf_counter()
        geoxt.open_cogs(files, product="landsat8")
        rows.append([title, f"{len(files):,}", f"{time.perf_counter() - start:.2f}"])
    return table(["open", "files", "seconds"], rows)


def resident() -> float:
    """Return MB of anonymous memory that this process holds."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


def memory(data: Path, batches: int) -> str:
    """Return the table of the most memory held in each part of an epoch, above that before it."""
    both = opened(data, into="cdl")
    before = resident()
    peaks = []
    for batch, _ in enumerate(both.geoml.loader(drawn(both, "random", count=32 * batches, batch=32), batch_size=32)):
        eighth = 8 * batch // batches
        peaks += [0.0] * (eighth + 1 - len(peaks))
        peaks[eighth] = max(peaks[eighth], resident() - before)
    return table(
        [f"eighth of an epoch of {batches} batches", *map(str, range(1, 9))], [["MB", *[f"{p:.0f}" for p in peaks]]]
    )


def packed(folder: Path, size: int, count: int) -> str:
    """Return the table of where time goes for each kind of compression, on one scene; blocks are never found cached."""
    rows = []
    for kind in PACKED:
        data = folder / kind
        write_scenes(data / "landsat", places(size)[-1:], size, kind)
        write_map(data / "cdl", places(size)[-1:], size, kind)
        warm(data)
        both = opened(data, into="cdl")
        windows = list(drawn(both, "random", count=count, batch=32))
        layers = list(readers_of(both)[""].layers.values())
        found = shares(stages(layers, windows, 3))
        total = sum(found.values())
        rows.append([kind, f"{total:.2f}", *[f"{part:.2f} ({part / total:.0%})" for part in found.values()]])
    return table(["compression", "ms a window", "read and decode", "warp", "validity, mosaic, copy"], rows)


def steps(data: Path, count: int) -> str:
    """Return the table of milliseconds of each step of a window, on both grids."""
    found = {}
    for into in ("cdl", "landsat"):
        both = opened(data, into=into)
        layers = list(readers_of(both)[""].layers.values())
        found[into] = stages(layers, list(drawn(both, "random", count=count, batch=32)))
    names = [n for n in found["cdl"] if any(found[i][n] for i in found)]
    rows = [[name, *[f"{found[into][name]:.3f}" for into in found]] for name in names]
    return table(["step (some hold others)", "into the crop map's grid", "into the scenes' grid"], rows)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--count", type=int, default=128, help="windows that are timed")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--files", type=int, default=1_001)
    parser.add_argument("--batches", type=int, default=128, help="of 32, in the epoch whose memory is watched")
    parser.add_argument("--size", type=int, default=4_000, help="pixels a side of the compressed scene")
    args = parser.parse_args()
    os.environ["GDAL_CACHEMAX"] = "64"  # MB: less than a pass over the compressed windows decodes
    with tempfile.TemporaryDirectory() as scratch:
        parts = [
            "# What a window costs, and what it does not depend on",
            "Made by `work.py` and `scaling.py`; times are of one thread, the quickest of some repeats of each window.",
            machine("torch", "rasterio", "numpy"),
            "## The number of scenes",
            by_scenes(args.data, args.count, args.repeats),
            "## Opening",
            opening(Path(scratch), args.files),
            "## Memory over an epoch",
            memory(args.data, args.batches),
            "## Where the time goes",
            steps(args.data, args.count),
            "## Compressed files",
            packed(Path(scratch), args.size, args.count),
        ]
    print(write("scaling.md", parts).read_text())


if __name__ == "__main__":
    main()

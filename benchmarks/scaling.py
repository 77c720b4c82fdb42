"""Scaling: cost of a window by number of scenes, and memory by length of an epoch.

    python benchmarks/make_data.py DATA
    python benchmarks/scaling.py DATA

Also the time to open many files with and without cached headers, and the time of decoding compressed files.
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
from data_layers import draw_windows, open_layers
from make_data import PIXEL, scene_positions, write_map, write_scenes
from odc.geo.geobox import GeoBox
from report import machine, table, write
from stages import stages, summarize

import geoxt
from geoxt.bridge import readers_of
from geoxt.source import Mosaic, Scene, view_of

SCENE_COUNTS = (10, 1_000, 100_000)
SCENES_PER_ROW = 400
"""Synthetic scenes per row."""
COMPRESSIONS = ("none", "deflate", "zstd")


def add_synthetic_scenes(real: Mosaic, count: int) -> Mosaic:
    """Return a mosaic with synthetic scenes to the south-east, outside all windows."""
    rows, cols = real.grid.shape
    first = real.scenes[0]
    scenes = list(real.scenes)
    for n in range(count - len(scenes)):
        down, across = divmod(n, SCENES_PER_ROW)
        move = Affine.translation(PIXEL * (1.2 * cols + 6400 * across), -PIXEL * (1.2 * rows + 6400 * down))
        grid = GeoBox(first.grid.shape, move @ real.grid.affine, real.grid.crs)
        assets = tuple(None if a is None else replace(a, grid=grid, href=f"synthetic/{n}.tif") for a in first.assets)
        scenes.append(Scene(id=f"synthetic-{n}", assets=assets))
    side = int(1.2 * rows) + 6400 * (count // SCENES_PER_ROW + 2), int(1.2 * cols) + 6400 * (SCENES_PER_ROW + 2)
    grid = GeoBox(side, real.grid.affine, real.grid.crs)
    return replace(real, grid=grid, scenes=tuple(scenes), steps=(tuple(range(len(scenes))),))


def by_scenes(data: Path, count: int, repeats: int) -> str:
    """Return the table of milliseconds per window in mosaics of 10 to 100,000 scenes."""
    layer = open_layers(data, into="landsat")["image"]
    view = view_of(layer)
    assert isinstance(view.source, Mosaic)
    windows = [w.shift(view.window.row, view.window.col) for w in draw_windows(layer, "random", count=count, batch=32)]
    mosaics = {n: add_synthetic_scenes(view.source, n) for n in SCENE_COUNTS}
    durations: dict[int, list[list[float]]] = {n: [[] for _ in windows] for n in SCENE_COUNTS}
    first = {}
    for n, mosaic in mosaics.items():
        start = time.perf_counter()
        mosaic.read(windows[0])
        first[n] = time.perf_counter() - start
    for turn in range(repeats):
        for index, window in enumerate(windows):
            for n in np.roll(SCENE_COUNTS, turn).tolist():
                start = time.perf_counter()
                mosaics[n].read(window, dtype=np.dtype("float32"))
                durations[n][index].append(time.perf_counter() - start)
    means = {n: float(np.mean([min(times) for times in windows_of_n])) for n, windows_of_n in durations.items()}
    rows = [
        [f"{n:,}", f"{1e3 * means[n]:.3f}", f"{means[n] / means[SCENE_COUNTS[0]] - 1:+.1%}", f"{first[n]:.2f}"]
        for n in SCENE_COUNTS
    ]
    return table(
        ["scenes", "ms per window (7 bands)", "relative to 10", "s for the first window, including the spatial index"],
        rows,
    )


def opening(folder: Path, count: int) -> str:
    """Return the table of seconds to open many files, with headers read and with headers cached."""
    positions = [
        replace(position, row=f"{n:06d}") for n, position in enumerate(scene_positions(64)[:1] * (count // 7 + 1))
    ]
    write_scenes(folder / "many", positions, 64, "none")
    files = sorted((folder / "many").iterdir())
    os.environ["GEOXT_CACHE"] = str(folder / "cache")
    rows = []
    for title in ("first: every header read", "second: from the header cache"):
        start = time.perf_counter()
        geoxt.open_cogs(files, product="landsat8")
        rows.append([title, f"{len(files):,}", f"{time.perf_counter() - start:.2f}"])
    return table(["open", "files", "seconds"], rows)


def resident() -> float:
    """Return the anonymous memory of this process in MB."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


def memory(data: Path, batches: int) -> str:
    """Return the table of peak memory in each eighth of an epoch, minus the memory before it."""
    dataset = open_layers(data, into="cdl")
    before = resident()
    peaks = []
    for batch, _ in enumerate(
        dataset.geoml.loader(draw_windows(dataset, "random", count=32 * batches, batch=32), batch_size=32)
    ):
        eighth = 8 * batch // batches
        peaks += [0.0] * (eighth + 1 - len(peaks))
        peaks[eighth] = max(peaks[eighth], resident() - before)
    return table(
        [f"eighth of an epoch of {batches} batches", *map(str, range(1, 9))], [["MB", *[f"{p:.0f}" for p in peaks]]]
    )


def compressed(folder: Path, size: int, count: int) -> str:
    """Return the table of time per step and compression on one scene, without cached blocks."""
    rows = []
    for kind in COMPRESSIONS:
        data = folder / kind
        write_scenes(data / "landsat", scene_positions(size)[-1:], size, kind)
        write_map(data / "cdl", scene_positions(size)[-1:], size, kind)
        warm(data)
        dataset = open_layers(data, into="cdl")
        windows = list(draw_windows(dataset, "random", count=count, batch=32))
        layers = list(readers_of(dataset)[""].layers.values())
        milliseconds = summarize(stages(layers, windows, 3))
        total = sum(milliseconds.values())
        rows.append([kind, f"{total:.2f}", *[f"{part:.2f} ({part / total:.0%})" for part in milliseconds.values()]])
    return table(["compression", "ms per window", "read and decode", "warp", "valid mask, mosaic, copy"], rows)


def step_times(data: Path, count: int) -> str:
    """Return the table of milliseconds per step of a window on both grids."""
    milliseconds = {}
    for into in ("cdl", "landsat"):
        dataset = open_layers(data, into=into)
        layers = list(readers_of(dataset)[""].layers.values())
        milliseconds[into] = stages(layers, list(draw_windows(dataset, "random", count=count, batch=32)))
    names = [n for n in milliseconds["cdl"] if any(part[n] for part in milliseconds.values())]
    rows = [[name, *[f"{part[name]:.3f}" for part in milliseconds.values()]] for name in names]
    return table(["step (includes called steps)", "into the crop map's grid", "into the scenes' grid"], rows)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--count", type=int, default=128, help="number of timed windows")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--files", type=int, default=1_001)
    parser.add_argument("--batches", type=int, default=128, help="batches of 32 in the epoch whose memory is measured")
    parser.add_argument("--size", type=int, default=4_000, help="side of the compressed scene, in pixels")
    args = parser.parse_args()
    os.environ["GDAL_CACHEMAX"] = "64"  # MB, less than the decoded size of all compressed windows
    with tempfile.TemporaryDirectory() as scratch:
        parts = [
            "# Cost of a window by number of scenes, and memory of an epoch",
            "Made by `make_data.py` and `scaling.py`; times of one thread, fastest of several repeats of each window.",
            machine("torch", "rasterio", "numpy"),
            "## Number of scenes",
            by_scenes(args.data, args.count, args.repeats),
            "## Opening",
            opening(Path(scratch), args.files),
            "## Memory over an epoch",
            memory(args.data, args.batches),
            "## Time per step",
            step_times(args.data, args.count),
            "## Compressed files",
            compressed(Path(scratch), args.size, args.count),
        ]
    print(write("scaling.md", parts).read_text())


if __name__ == "__main__":
    main()

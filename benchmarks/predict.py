"""Whole-scene prediction: its rate beside the model's bare forward rate, and its memory on 20,000 x 20,000 x 6 pixels.

    python benchmarks/predict.py rate     # a U-Net (ResNet-18) on a scene in a file, into an array and into a COG
    python benchmarks/predict.py memory   # a cheap model on scenes of 1.2 and 4.8 GB into COGs, memory over time
    python benchmarks/predict.py report   # results/predict.md and results/predict.png of both

Each measurement runs in a process of its own, so that one's memory is not the other's.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import rasterio
import report
import torch
import xarray as xr
from rasterio.windows import Window
from torch import nn

from geoxt.inference import predict, thread_pool
from geoxt.inference.tiles import Lattice
from geoxt.layers import open_cogs
from geoxt.models import create
from geoxt.windows import Window as Part
from geoxt.writers import to_cog

BANDS = 6
SIZE, OVERLAP, BATCH = 256, 64, 8
BLOCK = 512
LIMIT = 3.0
"""GB of resident memory that a 20,000 x 20,000 x 6 scene may take."""
LEAST = 0.8
"""Share of the bare forward rate that prediction has to reach."""


def write_scene(path: Path, side: int) -> None:
    """Write a uint16 scene in tiles, block row by block row; about a hundredth of it is nodata."""
    rng = np.random.default_rng(0)
    profile = {"driver": "GTiff", "height": side, "width": side, "count": BANDS, "dtype": "uint16", "nodata": 0}
    profile |= {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "interleave": "pixel", "bigtiff": "if_safer"}
    profile |= {"crs": "EPSG:32632", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)}
    noise = rng.integers(1, 10_000, (BANDS, BLOCK, side + side // 8), dtype="uint16")
    noise[:, : BLOCK // 10, : side // 10] = 0
    with rasterio.open(path, "w", **profile) as file:
        for row in range(0, side, BLOCK):
            height, shift = min(BLOCK, side - row), int(rng.integers(side // 8))
            file.write(noise[:, :height, shift : shift + side], window=Window(0, row, side, height))


class Cheap(nn.Module):
    """Four classes from the six bands of a pixel and its neighbours."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(BANDS, 4, 3, padding=1)

    def forward(self, images):
        """Return logits (N, 4, H, W)."""
        return self.body(images / 10_000)


def unet() -> nn.Module:
    """Return the registry's U-Net with random weights: they do not change its rate."""
    torch.manual_seed(0)
    return create("unet", in_chans=BANDS, classes=5).eval()


def resident() -> float:
    """Return the resident memory of this process in GB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e9


def memory(folder: Path, side: int) -> dict:
    """Map a scene into a COG, and return the peak and the course of resident memory."""
    scene, course, over, start = folder / f"scene-{side}.tif", [], threading.Event(), time.perf_counter()

    def watch() -> None:
        while not over.wait(0.25):
            course.append((time.perf_counter() - start, resident()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    before = resident()
    layer = open_cogs(scene)
    to_cog(predict(layer, Cheap(), size=512, overlap=32, batch_size=4), folder / "map.tif", progress=True, resume=False)
    seconds = time.perf_counter() - start
    over.set()
    watcher.join()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {
        "side": side,
        "seconds": seconds,
        "peak": peak,
        "before": before,
        "course": course[:: max(len(course) // 400, 1)],
        "scene": scene.stat().st_size,
        "map": (folder / "map.tif").stat().st_size,
        "line": report.machine("torch", "dask", "rasterio"),
    }


def bare(model: nn.Module, batches: int) -> dict[str, float]:
    """Return Mpx/s of the forward pass alone, on tiles in memory: one batch on all cores, and a batch on each core."""
    images = torch.rand(BATCH, BANDS, SIZE, SIZE)

    def forward(_: int) -> None:
        with torch.inference_mode():
            model(images)

    found = {}
    for name, run in (("all cores", map), ("a core", thread_pool.prefetch)):
        list(run(forward, range(2)))
        start = time.perf_counter()
        list(run(forward, range(batches)))
        found[name] = batches * BATCH * SIZE**2 / 1e6 / (time.perf_counter() - start)
    return found


def rate(folder: Path, side: int) -> dict:
    """Return the rates of prediction and of the forward pass alone, the latter before and after."""
    scene = folder / f"scene-{side}.tif"
    model, layer = unet(), open_cogs(scene)
    lattice = Lattice(shape=(side, side), size=(SIZE, SIZE), overlap=(OVERLAP, OVERLAP))
    tiles = len(list(lattice.touching(Part(0, 0, side, side))))
    rounds = []
    for _ in range(3):
        one = {"bare": bare(model, 12)}
        options = {"size": SIZE, "overlap": OVERLAP, "batch_size": BATCH, "output": "classes"}
        for name, write in (("array", xr.DataArray.compute), ("COG", partial(to_cog, path=folder / "map.tif"))):
            lazy = predict(layer, model, **options)
            start = time.perf_counter()
            write(lazy)
            one[name] = time.perf_counter() - start
        rounds.append(one)
    return {"side": side, "tiles": tiles, "rounds": rounds, "line": report.machine("torch", "dask", "rasterio")}


def alone(command: str, folder: Path, side: int) -> dict:
    """Run a measurement in a process of its own, on a scene that is written here."""
    if not (scene := folder / f"scene-{side}.tif").exists():
        write_scene(scene, side)
    target = folder / f"{command}-{side}.json"
    options = ["--inner", target, "--folder", folder, "--side", side]
    subprocess.run([sys.executable, __file__, command, *map(str, options)], check=True)  # noqa: S603 (this very script)
    return json.loads(target.read_text())


def figure(runs: list[dict], path: Path) -> None:
    """Draw resident memory over time, a line for each size of scene."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(7, 3), layout="constrained")
    axes = drawing.subplots()
    for found, color in zip(runs, ("#8fb4cc", "#1f5f8b"), strict=True):
        seconds, gigabytes = zip(*found["course"], strict=True)
        scene = f"{found['side']:,} x {found['side']:,} x {BANDS}, {gigabytes_of(found):.1f} GB"
        axes.plot(seconds, gigabytes, color=color, label=scene)
    axes.axhline(LIMIT, color="#b03030", linestyle="--", linewidth=1, label=f"{LIMIT:g} GB allowed")
    axes.set(xlabel="seconds", ylabel="resident memory, GB", ylim=(0, None), xlim=(0, None))
    axes.legend(frameon=False)
    drawing.savefig(path, dpi=120)


def gigabytes_of(found: dict) -> float:
    """Return how large a scene is in memory, GB."""
    return found["side"] ** 2 * BANDS * 2 / 1e9


def write_report(rates: dict, runs: list[dict]) -> Path:
    """Write the results."""
    pixels, ran = rates["side"] ** 2 / 1e6, rates["tiles"] * SIZE**2 / 1e6
    rows, shares = [], []
    for one in rates["rounds"]:
        best = max(one["bare"].values())
        share = {name: ran / one[name] / best for name in ("array", "COG")}
        shares.append(share)
        both = [f"{one['bare'][name]:.2f}" for name in ("all cores", "a core")]
        rows.append([str(len(rows) + 1), *both, *(f"{ran / one[n]:.2f}" for n in ("array", "COG")),
                     *(f"{pixels / one[n]:.2f}" for n in ("array", "COG")),
                     *(f"{share[n]:.0%}" for n in ("array", "COG"))])  # fmt: skip
    middle = {name: float(np.median([share[name] for share in shares])) for name in ("array", "COG")}
    head = ["round", "bare, one batch on all cores", "bare, a batch a core", "tiles to an array", "tiles to a COG",
            "map to an array", "map to a COG", "share, array", "share, COG"]  # fmt: skip
    report.RESULTS.mkdir(exist_ok=True)
    figure(runs, report.RESULTS / "predict.png")
    side = f"{rates['side']:,} x {rates['side']:,} x {BANDS}"
    about_rate = (
        f"The registry's U-Net (ResNet-18, {BANDS} bands, 5 classes) on a uint16 scene of {side} pixels in a file; "
        f"tiles of {SIZE} px that overlap by {OVERLAP}, {BATCH} a batch, float32. All in Mpx/s. *Bare* is the forward "
        f"pass alone on tiles in memory; *tiles* are the pixels that the model saw ({rates['tiles']} tiles, {ran:.1f} "
        f"Mpx), *map* those of the map ({pixels:.1f} Mpx). The share is that of tiles to the better of the two bare "
        "rates of its round: reading, scaling, blending and writing are in. It passes 100 % where the machine was "
        "quicker than during the bare run."
    )
    about_memory = (
        "uint16 scenes through one 3 x 3 convolution into COGs of class codes with overviews, tiles of 512 px. Peaks "
        "are of resident memory; what it was before is that of Python, torch and GDAL. At most "
        f"{LIMIT:g} GB is asked for the larger one."
    )
    lines = [
        [f"{one['side']:,} x {one['side']:,} x {BANDS}", f"{gigabytes_of(one):.1f}", f"{one['map'] / 1e6:.0f}",
         f"{one['seconds']:.0f}", f"{one['before']:.2f}", f"{one['peak']:.2f}"]
        for one in runs
    ]  # fmt: skip
    shares_found = f"{middle['array']:.0%} to an array, {middle['COG']:.0%} to a COG"
    parts = [
        "# Whole-scene prediction",
        "`python benchmarks/predict.py rate`, `memory`, `report`. " + rates["line"],
        "## Rate",
        about_rate,
        report.table(head, rows),
        f"Median share: {shares_found}; at least {LEAST:.0%} is asked.",
        "## Memory",
        about_memory,
        report.table(["scene", "scene, GB", "map, MB", "seconds", "before, GB", "peak, GB"], lines),
        "![Resident memory over time](predict.png)",
    ]
    return report.write("predict.md", parts)


def main() -> None:
    """Measure, or write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["rate", "memory", "report"])
    parser.add_argument("--folder", type=Path, help="where files are put (default: a temporary folder)")
    parser.add_argument("--side", type=int, help="pixels (default: 2560 for rate; 20000, and half of it, for memory)")
    parser.add_argument("--inner", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inner:
        measure = {"rate": rate, "memory": memory}[args.command]
        args.inner.write_text(json.dumps(measure(args.folder, args.side)))
        return
    with tempfile.TemporaryDirectory() as made:
        folder = args.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        large = args.side or 20_000
        sides = {"rate": [args.side or 2560], "memory": [large // 2, large]}
        asked = [args.command] if args.command != "report" else ["rate", "memory"]
        found = {}
        for one in asked:
            runs = []
            for side in sides[one]:
                known = folder / f"{one}-{side}.json"
                again = args.command != "report" or not known.exists()
                runs.append(alone(one, folder, side) if again else json.loads(known.read_text()))
                print(one, json.dumps({k: v for k, v in runs[-1].items() if k != "course"}, indent=1))
            found[one] = runs
        if args.command == "report":
            print(write_report(found["rate"][0], found["memory"]))


if __name__ == "__main__":
    main()

"""Scene prediction: rate relative to the forward pass alone, and memory on 20,000 x 20,000 x 6 pixels.

    python benchmarks/predict.py rate     # a U-Net (ResNet-18) on a scene file, to an array and to a COG
    python benchmarks/predict.py memory   # a small model on scenes of 1.2 and 4.8 GB to COGs, memory over time
    python benchmarks/predict.py report   # write results/predict.md and results/predict.png

Each measurement runs in a new process, so that their memory is independent.
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
"""Maximum resident memory for a 20,000 x 20,000 x 6 scene, in GB."""
MIN_RATIO = 0.8
"""Minimum prediction rate as a fraction of the forward rate."""


def write_scene(path: Path, side: int) -> None:
    """Write a tiled uint16 scene by block rows; about 1 % is nodata."""
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


class SmallModel(nn.Module):
    """One 3 x 3 convolution from six bands to four classes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(BANDS, 4, 3, padding=1)

    def forward(self, images):
        """Return logits (N, 4, H, W)."""
        return self.body(images / 10_000)


def unet() -> nn.Module:
    """Return the registry's U-Net with random weights, which do not affect its rate."""
    torch.manual_seed(0)
    return create("unet", in_chans=BANDS, num_classes=5).eval()


def resident() -> float:
    """Return the resident memory of this process in GB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e9


def memory(folder: Path, side: int) -> dict:
    """Predict a scene to a COG, and return peak resident memory and its time series."""
    scene, course, finished, start = folder / f"scene-{side}.tif", [], threading.Event(), time.perf_counter()

    def watch() -> None:
        while not finished.wait(0.25):
            course.append((time.perf_counter() - start, resident()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    before = resident()
    layer = open_cogs(scene)
    to_cog(
        predict(layer, SmallModel(), size=512, overlap=32, batch_size=4),
        folder / "map.tif",
        progress=True,
        resume=False,
    )
    seconds = time.perf_counter() - start
    finished.set()
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


def forward_rates(model: nn.Module, batches: int) -> dict[str, float]:
    """Return Mpx/s of the forward pass on tiles in memory: one batch on all cores, and one batch per core."""
    images = torch.rand(BATCH, BANDS, SIZE, SIZE)

    def forward(_: int) -> None:
        with torch.inference_mode():
            model(images)

    rates = {}
    for name, run in (("all cores", map), ("a core", thread_pool.prefetch)):
        list(run(forward, range(2)))
        start = time.perf_counter()
        list(run(forward, range(batches)))
        rates[name] = batches * BATCH * SIZE**2 / 1e6 / (time.perf_counter() - start)
    return rates


def rate(folder: Path, side: int) -> dict:
    """Return three rounds of forward rates and prediction times."""
    scene = folder / f"scene-{side}.tif"
    model, layer = unet(), open_cogs(scene)
    lattice = Lattice(shape=(side, side), size=(SIZE, SIZE), overlap=(OVERLAP, OVERLAP))
    tiles = len(list(lattice.touching(Part(0, 0, side, side))))
    rounds = []
    for _ in range(3):
        times = {"forward": forward_rates(model, 12)}
        options = {"size": SIZE, "overlap": OVERLAP, "batch_size": BATCH, "output": "classes"}
        for name, write in (("array", xr.DataArray.compute), ("COG", partial(to_cog, path=folder / "map.tif"))):
            lazy = predict(layer, model, **options)
            start = time.perf_counter()
            write(lazy)
            times[name] = time.perf_counter() - start
        rounds.append(times)
    return {"side": side, "tiles": tiles, "rounds": rounds, "line": report.machine("torch", "dask", "rasterio")}


def in_new_process(command: str, folder: Path, side: int) -> dict:
    """Write the scene if missing, and run a measurement in a new process."""
    if not (scene := folder / f"scene-{side}.tif").exists():
        write_scene(scene, side)
    target = folder / f"{command}-{side}.json"
    options = ["--inner", target, "--folder", folder, "--side", side]
    subprocess.run([sys.executable, __file__, command, *map(str, options)], check=True)  # noqa: S603 (this very script)
    return json.loads(target.read_text())


def figure(runs: list[dict], path: Path) -> None:
    """Plot resident memory over time, one line per scene size."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(7, 3), layout="constrained")
    axes = drawing.subplots()
    for run, color in zip(runs, ("#8fb4cc", "#1f5f8b"), strict=True):
        seconds, gigabytes = zip(*run["course"], strict=True)
        scene = f"{run['side']:,} x {run['side']:,} x {BANDS}, {gigabytes_of(run):.1f} GB"
        axes.plot(seconds, gigabytes, color=color, label=scene)
    axes.axhline(LIMIT, color="#b03030", linestyle="--", linewidth=1, label=f"{LIMIT:g} GB limit")
    axes.set(xlabel="seconds", ylabel="resident memory, GB", ylim=(0, None), xlim=(0, None))
    axes.legend(frameon=False)
    drawing.savefig(path, dpi=120)


def gigabytes_of(run: dict) -> float:
    """Return the size of a scene in memory, in GB."""
    return run["side"] ** 2 * BANDS * 2 / 1e9


def write_report(rates: dict, runs: list[dict]) -> Path:
    """Write the results."""
    pixels, tile_pixels = rates["side"] ** 2 / 1e6, rates["tiles"] * SIZE**2 / 1e6
    rows, ratios = [], []
    for times in rates["rounds"]:
        best = max(times["forward"].values())
        ratio = {name: tile_pixels / times[name] / best for name in ("array", "COG")}
        ratios.append(ratio)
        forward = [f"{times['forward'][name]:.2f}" for name in ("all cores", "a core")]
        rows.append([str(len(rows) + 1), *forward, *(f"{tile_pixels / times[n]:.2f}" for n in ("array", "COG")),
                     *(f"{pixels / times[n]:.2f}" for n in ("array", "COG")),
                     *(f"{ratio[n]:.0%}" for n in ("array", "COG"))])  # fmt: skip
    medians = {name: float(np.median([ratio[name] for ratio in ratios])) for name in ("array", "COG")}
    head = ["round", "forward, one batch on all cores", "forward, one batch per core", "tiles to an array",
            "tiles to a COG",
            "map to an array", "map to a COG", "ratio, array", "ratio, COG"]  # fmt: skip
    report.RESULTS.mkdir(exist_ok=True)
    figure(runs, report.RESULTS / "predict.png")
    side = f"{rates['side']:,} x {rates['side']:,} x {BANDS}"
    about_rate = (
        f"The registry's U-Net (ResNet-18, {BANDS} bands, 5 classes) on a uint16 scene of {side} pixels in a file; "
        f"tiles of {SIZE} px with {OVERLAP} px overlap, {BATCH} per batch, float32. All in Mpx/s. *Forward* is the "
        f"forward pass on tiles in memory; *tiles* counts the pixels of all tiles ({rates['tiles']} tiles, "
        f"{tile_pixels:.1f} Mpx), *map* the pixels of the map ({pixels:.1f} Mpx). The ratio is the tile rate relative "
        "to the better forward rate of its round, including reading, scaling, blending and writing. It exceeds 100 % "
        "if the machine was faster than during the forward run."
    )
    about_memory = (
        "uint16 scenes through one 3 x 3 convolution into COGs of class codes with overviews, tiles of 512 px. Peaks "
        "are of resident memory; *before* is the memory of Python, torch and GDAL. The limit is "
        f"{LIMIT:g} GB for the larger scene."
    )
    lines = [
        [f"{run['side']:,} x {run['side']:,} x {BANDS}", f"{gigabytes_of(run):.1f}", f"{run['map'] / 1e6:.0f}",
         f"{run['seconds']:.0f}", f"{run['before']:.2f}", f"{run['peak']:.2f}"]
        for run in runs
    ]  # fmt: skip
    ratios_found = f"{medians['array']:.0%} to an array, {medians['COG']:.0%} to a COG"
    parts = [
        "# Scene prediction",
        "`python benchmarks/predict.py rate`, `memory`, `report`. " + rates["line"],
        "## Rate",
        about_rate,
        report.table(head, rows),
        f"Median ratio: {ratios_found}; the minimum is {MIN_RATIO:.0%}.",
        "## Memory",
        about_memory,
        report.table(["scene", "scene, GB", "map, MB", "seconds", "before, GB", "peak, GB"], lines),
        "![Resident memory over time](predict.png)",
    ]
    return report.write("predict.md", parts)


def main() -> None:
    """Parse arguments, and measure or write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["rate", "memory", "report"])
    parser.add_argument("--folder", type=Path, help="folder of scenes and maps (default: a temporary folder)")
    parser.add_argument(
        "--side",
        type=int,
        help="side of the scene in pixels (default: 2560 for rate; 20000, and half of it, for memory)",
    )
    parser.add_argument("--inner", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inner:
        measure = {"rate": rate, "memory": memory}[args.command]
        args.inner.write_text(json.dumps(measure(args.folder, args.side)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        large = args.side or 20_000
        sides = {"rate": [args.side or 2560], "memory": [large // 2, large]}
        commands = [args.command] if args.command != "report" else ["rate", "memory"]
        results = {}
        for command in commands:
            runs = []
            for side in sides[command]:
                result = folder / f"{command}-{side}.json"
                measure_again = args.command != "report" or not result.exists()
                runs.append(in_new_process(command, folder, side) if measure_again else json.loads(result.read_text()))
                print(command, json.dumps({k: v for k, v in runs[-1].items() if k != "course"}, indent=1))
            results[command] = runs
        if args.command == "report":
            print(write_report(results["rate"][0], results["memory"]))


if __name__ == "__main__":
    main()

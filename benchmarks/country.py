"""Simulation of a map of a country on a dask cluster: failing reads, killed workers, memory and task size.

    python benchmarks/country.py [--tiles 20000] [--dates 10] [--kill-every 60] [--failures 0.01] [--folder FOLDER]

Made scenes of 110 x 110 pixels, 1 % of the side of a Sentinel-2 tile, with several dates of each, as a stac-geoparquet
file; the model returns its input, and fails for a fraction of its batches as a file that cannot be read would. Two
workers compute one map tile per scene, and one of them is killed at intervals. Workers record each file that they
write, and the map is compared with the scenes' pixels. With a folder, the same call resumes a simulation that was
killed. Writes results/country.md.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import multiprocessing
import multiprocessing.forkserver
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import numpy as np
import psutil
import pyarrow as pa
import pyproj
import rasterio
import shapely
import torch
from distributed import Client, LocalCluster, Worker, WorkerPlugin
from pyarrow import parquet
from report import machine, table, write
from torch import nn

import geoxt
from geoxt.testing import make_grid
from geoxt.tiling import tile_executors, tile_job

SIDE = 110
"""Pixels of a scene and of a map tile."""
FIELDS = ("run", "second", "done", "memory", "tasks", "kills", "cpu")
"""Columns of samples.csv: number of the run, seconds since its start, tiles that it finished, MB and tasks of the
scheduler, killed workers, CPU seconds of all workers."""


class FailingModel(nn.Module):
    """Returns its input, or raises at random."""

    def __init__(self, fraction: float) -> None:
        super().__init__()
        self.fraction = fraction

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the images."""
        # The first batch is the empty one by which `predict` learns the shape of the output.
        if images.abs().sum() > 0 and random.SystemRandom().random() < self.fraction:
            msg = "simulated failure of a read"
            raise OSError(msg)
        return images


class Record(WorkerPlugin):
    """Appends each map tile that a worker writes, and each error, to files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def setup(self, worker: Worker) -> None:
        """Replace the functions that write a map tile, and that state an error."""
        del worker
        to_cog = geoxt.to_cog

        def recorded(layer: Any, path: Path, **keywords: Any) -> Path:
            to_cog(layer, path, **keywords)
            append(self.folder / "writes.txt", path.stem)
            return path

        tile_job.to_cog = recorded
        record_errors(self.folder)


def record_errors(folder: Path) -> None:
    """Append the error of each failed attempt to a file."""
    failure = tile_job.failure

    def recorded(tile: Any, attempt: int, error: BaseException, **keywords: Any) -> dict[str, Any]:
        append(folder / "errors.txt", f"{type(error).__name__}: {error}".partition("\n")[0])
        return failure(tile, attempt, error, **keywords)

    tile_job.failure = tile_executors.failure = recorded


def append(path: Path, line: str) -> None:
    """Append a line to a file, in one write."""
    with path.open("a") as file:
        file.write(f"{line}\n")


def make_scenes(folder: Path, count: int, dates: int) -> int:
    """Write one file per position and the items of all dates, unless they exist; return the number of columns."""
    cols = int(np.ceil(count**0.5))
    grid = make_grid((SIDE, SIDE))
    profile = {"driver": "GTiff", "dtype": "uint16", "count": 1, "nodata": 0, "height": SIDE, "width": SIDE}
    profile["crs"] = grid.crs.to_wkt()
    for index in range(count):
        path = folder / f"{index:06d}.tif"
        if not path.exists():
            row, col = divmod(index, cols)
            temporary = path.with_suffix(".part")
            transform = grid.translate_pix(col * SIDE, row * SIDE).affine
            with rasterio.open(temporary, "w", transform=transform, **profile) as file:
                file.write(pixels_of(index)[None])
            temporary.replace(path)
    parquet.write_table(items_of(folder, count, cols, dates), folder / "items.parquet", compression="zstd")
    return cols


def items_of(folder: Path, count: int, cols: int, dates: int) -> pa.Table:
    """Return the items of all dates of the scenes, as stac-geoparquet."""
    transform = np.tile(np.array(make_grid((SIDE, SIDE)).affine[:6]), (count, 1))
    rows, columns = np.divmod(np.arange(count), cols)
    transform[:, 2] += columns * SIDE * transform[:, 0]
    transform[:, 5] += rows * SIDE * transform[:, 4]
    left, top = transform[:, 2], transform[:, 5]
    right, bottom = left + SIDE * transform[:, 0], top + SIDE * transform[:, 4]
    to_degrees = pyproj.Transformer.from_crs("EPSG:32615", "OGC:CRS84", always_xy=True)
    x, y = to_degrees.transform(np.stack([left, right, right, left]), np.stack([bottom, bottom, top, top]))
    box = np.stack([x.min(0), y.min(0), x.max(0), y.max(0)], -1)
    outlines = shapely.to_wkb(shapely.polygons(np.stack([x, y], -1).transpose(1, 0, 2)))
    scene = np.repeat(np.arange(count), dates)
    date = np.tile(np.arange(dates), count)
    size = len(scene)
    fields = {
        "href": pa.array([str(folder / f"{index:06d}.tif") for index in scene]),
        "type": pa.repeat(pa.scalar("image/tiff; application=geotiff"), size),
        "roles": pa.repeat(pa.scalar(["data"]), size),
        "raster:bands": pa.repeat(pa.scalar([{"data_type": "uint16", "nodata": 0.0}]), size),
        "proj:shape": pa.repeat(pa.scalar([SIDE, SIDE]), size),
        "proj:transform": pa.array(list(transform[scene])),
    }
    asset = pa.StructArray.from_arrays(list(fields.values()), list(fields))
    start = np.datetime64("2024-06-01T10:00:00", "us")
    return pa.table({
        "type": pa.repeat(pa.scalar("Feature"), size),
        "stac_version": pa.repeat(pa.scalar("1.0.0"), size),
        "stac_extensions": pa.repeat(pa.scalar([], pa.list_(pa.string())), size),
        "id": pa.array([f"scene-{index:06d}-{day:02d}" for index, day in zip(scene, date, strict=True)]),
        "datetime": pa.array(start + date.astype("timedelta64[D]"), pa.timestamp("us", "UTC")),
        "proj:code": pa.repeat(pa.scalar("EPSG:32615"), size),
        "geometry": pa.array(outlines[scene]),
        "bbox": pa.StructArray.from_arrays(list(map(pa.array, box[scene].T)), ["xmin", "ymin", "xmax", "ymax"]),
        "assets": pa.StructArray.from_arrays([asset], ["image"]),
    })  # fmt: skip


def pixels_of(index: int) -> np.ndarray:
    """Return the pixels of the scenes at a position, none of which is 0."""
    return ((np.arange(SIDE * SIDE).reshape(SIDE, SIDE) + 7919 * index) % 65_000 + 1).astype("uint16")


@contextmanager
def disturbed(cluster: LocalCluster, folder: Path, kill_every: float) -> Iterator[None]:
    """Kill a random worker at intervals, which its nanny replaces, and append a sample of FIELDS every 10 seconds."""
    ended, start, kills, cpu = threading.Event(), time.perf_counter(), 0, Counter[int]()
    samples = folder / "samples.csv"
    run = max((sample["run"] for sample in read_samples(folder)), default=0) + 1
    finished = count_lines(folder / "writes.txt")

    def watch() -> None:
        nonlocal kills
        while not ended.wait(1):
            seconds = time.perf_counter() - start
            pids = [nanny.pid for nanny in cluster.workers.values() if nanny.pid]
            for pid in pids:
                if psutil.pid_exists(pid):
                    times = psutil.Process(pid).cpu_times()
                    cpu[pid] = times.user + times.system
            if pids and kill_every and seconds > (kills + 1) * kill_every:
                os.kill(random.choice(pids), signal.SIGKILL)  # noqa: S311 (no secret)
                kills += 1
            if int(seconds) % 10 == 0:
                memory = psutil.Process().memory_info().rss / 1e6
                done = count_lines(folder / "writes.txt") - finished
                values = run, seconds, done, memory, len(cluster.scheduler.tasks), kills, sum(cpu.values())
                with samples.open("a") as file:
                    csv.writer(file).writerow(f"{value:.0f}" for value in values)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def count_lines(path: Path) -> int:
    """Return the number of lines of a file, 0 if it does not exist."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def read_samples(folder: Path) -> list[dict[str, int]]:
    """Return the samples of all runs."""
    path = folder / "samples.csv"
    lines = csv.reader(path.open()) if path.exists() else []
    return [dict(zip(FIELDS, map(int, line), strict=True)) for line in lines]


def simulate(folder: Path, options: argparse.Namespace) -> list[list[str]]:
    """Write the map, compare it with the scenes, and return the measured values."""
    (folder / "scenes").mkdir(exist_ok=True)
    cols = make_scenes(folder / "scenes", options.tiles, options.dates)
    start = time.process_time()
    layer = geoxt.open_stac(str(folder / "scenes" / "items.parquet"), bands=["image"])
    opening = time.process_time() - start
    prediction = geoxt.predict(layer, FailingModel(options.failures), size=64, overlap=0, batch_size=4, output="values")
    sizes = list[int]()
    submit = Client.submit

    def record(client: Client, function: Any, *args: Any, **keywords: Any) -> Any:
        if function is tile_executors.run_shared:
            sizes.append(len(cloudpickle.dumps((function, args[1:]))))
        return submit(client, function, *args, **keywords)

    Client.submit = record
    settings = {"threads_per_worker": 1, "dashboard_address": None}
    settings["scheduler_kwargs"] = {"dashboard_address": ":0"}  # the port 8787 may be in use
    with LocalCluster(n_workers=2, **settings) as cluster, Client(cluster) as client:
        client.register_plugin(Record(folder))
        record_errors(folder)
        with disturbed(cluster, folder, options.kill_every):
            manifest = geoxt.to_tiles(prediction, folder / "map", tiles=SIDE, retries=8, progress=False)
    with rasterio.open(folder / "map" / "map.vrt") as file:
        for index in range(options.tiles):
            row, col = divmod(index, cols)
            window = rasterio.windows.Window(col * SIDE, row * SIDE, SIDE, SIDE)
            np.testing.assert_array_equal(file.read(1, window=window), pixels_of(index))
    files = len(list((folder / "map" / "tiles").glob("*.tif")))
    done = manifest[manifest["state"] == "done"]
    assert len(done) == files == options.tiles
    errors = Counter((folder / "errors.txt").read_text().splitlines() if (folder / "errors.txt").exists() else ())
    writes = Counter((folder / "writes.txt").read_text().split())
    samples = read_samples(folder)
    last = {sample["run"]: sample for sample in samples}.values()
    seconds, kills, cpu = (sum(sample[name] for sample in last) for name in ("second", "kills", "cpu"))
    return [
        ["map tiles, STAC items", f"{options.tiles:,}, {options.tiles * options.dates:,}"],
        ["tiles done, files", f"{len(done):,}, {files:,}"],
        ["pixels that differ from the scenes", "0"],
        ["tiles written twice", f"{sum(count > 1 for count in writes.values()):,}"],
        ["tiles of several attempts", f"{int((done['attempts'] > 1).sum()):,}"],
        *([f"failed attempts: {text}", f"{count:,}"] for text, count in errors.most_common(5)),
        ["killed workers", f"{kills:,}"],
        ["runs of the whole simulation", f"{len(last):,}"],
        ["seconds, map tiles per second", f"{seconds:,}, {options.tiles / seconds:.1f}"],
        ["CPU seconds of the workers, per map tile", f"{cpu:,}, {cpu / options.tiles:.3f}"],
        ["CPU seconds to open the catalog", f"{opening:.1f}"],
        ["size of a tile's task, bytes", f"{max(sizes, default=0):,}"],
        ["most tasks of the scheduler", f"{max(sample['tasks'] for sample in samples):,}"],
        *memory_rows(samples, options.tiles),
    ]


def memory_rows(samples: list[dict[str, int]], tiles: int) -> list[list[str]]:
    """Return the memory of scheduler and client in the first run, by the number of its finished tiles."""
    first = [sample for sample in samples if sample["run"] == 1]
    edges = np.linspace(0, tiles, 6)
    return [
        [f"MB of scheduler and client, map tiles {low:,.0f} to {high:,.0f}", f"{np.mean(values):,.0f}"]
        for low, high in itertools.pairwise(edges)
        if (values := [sample["memory"] for sample in first if low <= sample["done"] < high])
    ]


def main() -> int:
    """Run the simulation and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=20_000)
    parser.add_argument("--dates", type=int, default=10)
    parser.add_argument("--kill-every", type=float, default=60.0, metavar="SECONDS", help="0: never")
    parser.add_argument("--failures", type=float, default=0.01, metavar="FRACTION")
    parser.add_argument("--folder", type=Path, help="kept folder of scenes and map; default: a temporary folder")
    options = parser.parse_args()
    # Workers are forks of one process that has imported geoxt, so that a new one starts in a fraction of a second.
    # A LocalCluster gives up a worker that is absent a set time after it was killed, by default 15 s: also one that was
    # started in time, and killed again just then.
    multiprocessing.set_forkserver_preload(["distributed", "distributed.nanny", "geoxt.inference", "geoxt.tiling"])
    multiprocessing.forkserver.ensure_running()
    dask.config.set({
        "distributed.worker.multiprocessing-method": "forkserver",
        "distributed.deploy.lost-worker-timeout": "365 days",
    })  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        rows = simulate(folder, options)
    title = "# Map of a country on a dask cluster (simulation)"
    text = (
        f"{machine('dask', 'distributed', 'torch')} Two workers of one thread. {options.failures:.1%} of the batches "
        f"fail, and a worker is killed every {options.kill_every:g} s: "
        f"`python benchmarks/country.py {' '.join(sys.argv[1:])}`."
    )
    path = write("country.md", [title, text, table(("quantity", "value"), rows)])
    print(path.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())

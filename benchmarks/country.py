"""Simulation of a map of a country on a dask cluster: failing reads, killed workers, memory and task size.

    python benchmarks/country.py [--tiles 20000] [--dates 10] [--kill-every 60] [--failures 0.01]

Made scenes of 110 x 110 pixels, 1 % of the side of a Sentinel-2 tile, with several dates of each; the model returns its
input, and fails for a fraction of its batches as a file that cannot be read would. Two workers compute one map tile per
scene, and one of them is killed at intervals. The map is compared with the scenes' pixels. Writes results/country.md.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import numpy as np
import psutil
import rasterio
import torch
from distributed import Client, LocalCluster
from report import machine, table, write
from torch import nn

import geoxt
from geoxt.testing import make_grid
from geoxt.tiling.tile_job import run_tile

SIDE = 110
"""Pixels of a scene and of a map tile."""


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


def make_scenes(folder: Path, count: int, dates: int) -> tuple[list[dict[str, Any]], int]:
    """Write one file per position, and return the items of all dates and the number of columns."""
    cols = int(np.ceil(count**0.5))
    items = []
    for index in range(count):
        row, col = divmod(index, cols)
        grid = make_grid((SIDE, SIDE)).translate_pix(col * SIDE, row * SIDE)
        path = folder / f"{index:06d}.tif"
        profile = {"driver": "GTiff", "dtype": "uint16", "count": 1, "nodata": 0, "height": SIDE, "width": SIDE}
        with rasterio.open(path, "w", crs=grid.crs.to_wkt(), transform=grid.affine, **profile) as file:
            file.write(pixels_of(index)[None])
        west, south, east, north = grid.extent.to_crs("EPSG:4326").boundingbox
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        items += [
            {
                "type": "Feature",
                "stac_version": "1.0.0",
                "stac_extensions": [],
                "id": f"scene-{index:06d}-{date:02d}",
                "geometry": {"type": "Polygon", "coordinates": [ring]},
                "bbox": [west, south, east, north],
                "properties": {
                    "datetime": f"2024-06-{date % 28 + 1:02d}T10:00:00Z",
                    "proj:code": "EPSG:32615",
                    "proj:shape": [SIDE, SIDE],
                    "proj:transform": list(grid.affine)[:6],
                },
                "links": [],
                "assets": {
                    "image": {
                        "href": str(path),
                        "type": "image/tiff; application=geotiff",
                        "roles": ["data"],
                        "raster:bands": [{"data_type": "uint16", "nodata": 0}],
                    }
                },
            }
            for date in range(dates)
        ]
    return items, cols


def pixels_of(index: int) -> np.ndarray:
    """Return the pixels of the scenes at a position, none of which is 0."""
    return ((np.arange(SIDE * SIDE).reshape(SIDE, SIDE) + 7919 * index) % 65_000 + 1).astype("uint16")


def kill_workers(cluster: LocalCluster, seconds: float, ended: threading.Event, kills: list[float]) -> None:
    """Kill a random worker at intervals; its nanny starts another one."""
    while not ended.wait(seconds):
        pids = [nanny.pid for nanny in cluster.workers.values() if nanny.pid]
        if pids:
            os.kill(random.choice(pids), signal.SIGKILL)  # noqa: S311 (no secret)
            kills.append(time.time())


def watch(cluster: LocalCluster, ended: threading.Event, samples: list[tuple[float, int]]) -> None:
    """Record the memory of this process, in which the scheduler runs, and the number of the scheduler's tasks."""
    while not ended.wait(1):
        samples.append((psutil.Process().memory_info().rss / 1e6, len(cluster.scheduler.tasks)))


def simulate(folder: Path, options: argparse.Namespace) -> list[tuple[str, str]]:
    """Write the map, compare it with the scenes, and return the measured values."""
    (folder / "scenes").mkdir()
    items, cols = make_scenes(folder / "scenes", options.tiles, options.dates)
    layer = geoxt.open_stac(items, bands=["image"])
    prediction = geoxt.predict(layer, FailingModel(options.failures), size=64, overlap=0, batch_size=4, output="values")
    ended, kills, samples, sizes = threading.Event(), list[float](), list[tuple[float, int]](), list[int]()
    submit = Client.submit

    def record(client: Client, function: Any, *args: Any, **keywords: Any) -> Any:
        if function is run_tile:
            sizes.append(len(cloudpickle.dumps((function, args[1:]))))
        return submit(client, function, *args, **keywords)

    Client.submit = record
    # By default a LocalCluster gives up a worker that does not start within 15 s after it was killed.
    dask.config.set({"distributed.deploy.lost-worker-timeout": "10 minutes"})
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        threads = [
            threading.Thread(target=kill_workers, args=(cluster, options.kill_every, ended, kills), daemon=True),
            threading.Thread(target=watch, args=(cluster, ended, samples), daemon=True),
        ]
        for thread in threads:
            thread.start()
        start = time.perf_counter()
        manifest = geoxt.to_tiles(prediction, folder / "map", tiles=SIDE, retries=8, progress=False)
        seconds = time.perf_counter() - start
        ended.set()
    with rasterio.open(folder / "map" / "map.vrt") as file:
        for index in range(options.tiles):
            row, col = divmod(index, cols)
            window = rasterio.windows.Window(col * SIDE, row * SIDE, SIDE, SIDE)
            np.testing.assert_array_equal(file.read(1, window=window), pixels_of(index))
    files = len(list((folder / "map" / "tiles").glob("*.tif")))
    done = manifest[manifest["state"] == "done"]
    assert len(done) == files == options.tiles
    memory = np.array([value for value, _ in samples])
    third = max(len(memory) // 3, 1)
    return [
        ("map tiles, STAC items", f"{options.tiles:,}, {len(items):,}"),
        ("tiles done, files", f"{len(done):,}, {files:,}"),
        ("pixels that differ from the scenes", "0"),
        ("tiles of several attempts", f"{int((done['attempts'] > 1).sum()):,}"),
        ("killed workers", f"{len(kills):,}"),
        ("seconds", f"{seconds:,.0f}"),
        ("size of a tile's task, bytes", f"{max(sizes):,}"),
        ("most tasks of the scheduler", f"{max(count for _, count in samples):,}"),
        ("memory of scheduler and client in the first third, MB", f"{memory[:third].mean():,.0f}"),
        ("memory of scheduler and client in the last third, MB", f"{memory[-third:].mean():,.0f}"),
        ("peak memory of scheduler and client, MB", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:,.0f}"),
    ]


def main() -> int:
    """Run the simulation and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=20_000)
    parser.add_argument("--dates", type=int, default=10)
    parser.add_argument("--kill-every", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--failures", type=float, default=0.01, metavar="FRACTION")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = simulate(Path(folder), options)
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

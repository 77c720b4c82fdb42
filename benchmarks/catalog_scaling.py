"""Time and memory of opening one tile from stac-geoparquet files of 10,000 to 1,000,000 items.

    python benchmarks/catalog_scaling.py DATA [--counts 10000 100000 1000000]

The items are made: Sentinel-2-like, 6 bands, 50 dates per tile, in the order of their dates. Each opening is a new
process, after one of the smallest file, which imports all packages; medians. Writes results/catalog_scaling.md.
"""
# ruff: noqa: S603

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyproj
import shapely
from pyarrow import parquet
from report import machine, table, write

BANDS = ("B02", "B03", "B04", "B08", "B11", "B12")
DATES, SIDE, PIXEL = 50, 10_980, 10
"""Items per tile; pixels and meters."""
TILES_PER_ZONE = 200
ROWS_PER_GROUP = 50_000
Bounds = tuple[float, float, float, float]


def tiles(count: int) -> dict[str, np.ndarray]:
    """Return zone, left and top in meters, and bounds in degrees of some scenes."""
    zone = np.arange(count) // TILES_PER_ZONE % 60 + 1
    index = np.arange(count) % TILES_PER_ZONE
    left = 300_000.0 + 100_000 * (index % 4)
    top = 5_000.0 * (np.arange(count) // TILES_PER_ZONE // 60) + 600_000 + 100_000 * (index // 4)
    box = np.empty((count, 4))
    for number in np.unique(zone):
        (members,) = np.nonzero(zone == number)
        to_degrees = pyproj.Transformer.from_crs(32600 + int(number), 4326, always_xy=True)
        size = SIDE * PIXEL
        x, y = to_degrees.transform(
            left[members] + [[0], [size], [0], [size]], top[members] - [[0], [0], [size], [size]]
        )
        box[members] = np.stack([x.min(0), y.min(0), x.max(0), y.max(0)], -1)
    return {"zone": zone, "left": left, "top": top, "box": box}


def write_items(path: Path, count: int) -> None:
    """Write a stac-geoparquet file of items, row group by row group."""
    scenes = tiles(count // DATES)
    writer = None
    for first in range(0, count, ROWS_PER_GROUP):
        rows = np.arange(first, min(first + ROWS_PER_GROUP, count))
        chunk = _rows(rows, scenes, rows % (count // DATES), rows // (count // DATES))
        writer = writer or parquet.ParquetWriter(path, chunk.schema, compression="zstd")
        writer.write_table(chunk)
    assert writer is not None
    writer.close()


def _rows(rows: np.ndarray, scenes: dict[str, np.ndarray], tile: np.ndarray, date: np.ndarray) -> pa.Table:
    box = scenes["box"][tile]
    name = pc.binary_join_element_wise(pa.array(rows).cast(pa.string()), pa.scalar("S2"), "-")
    transform = np.zeros((len(rows), 6))
    transform[:, 0], transform[:, 4] = PIXEL, -PIXEL
    transform[:, 2], transform[:, 5] = scenes["left"][tile], scenes["top"][tile]
    fields = {
        "type": pa.repeat(pa.scalar("image/tiff; application=geotiff; profile=cloud-optimized"), len(rows)),
        "roles": pa.repeat(pa.scalar(["data"]), len(rows)),
        "proj:shape": pa.repeat(pa.scalar([SIDE, SIDE]), len(rows)),
        "proj:transform": pa.FixedSizeListArray.from_arrays(pa.array(transform.ravel()), 6).cast(
            pa.list_(pa.float64())
        ),
        "raster:bands": pa.repeat(pa.scalar([{"data_type": "uint16", "nodata": 0.0}]), len(rows)),
    }
    assets = {}
    for band in BANDS:
        href = pc.binary_join_element_wise("https://example.com", name, f"{band}.tif", "/")
        assets[band] = pa.StructArray.from_arrays([href, *fields.values()], ["href", *fields])
    code = pc.binary_join_element_wise("EPSG", pa.array(32600 + scenes["zone"][tile]).cast(pa.string()), ":")
    start = np.datetime64("2023-01-01T10:00:00", "us")
    columns = {
        "type": pa.repeat(pa.scalar("Feature"), len(rows)),
        "stac_version": pa.repeat(pa.scalar("1.0.0"), len(rows)),
        "stac_extensions": pa.repeat(pa.scalar([], pa.list_(pa.string())), len(rows)),
        "id": name,
        "collection": pa.repeat(pa.scalar("sentinel-2-l2a"), len(rows)),
        "datetime": pa.array(start + date.astype("timedelta64[D]") * 5, pa.timestamp("us", "UTC")),
        "proj:code": code,
        "geometry": pa.array(shapely.to_wkb(shapely.box(*box.T)), pa.binary()),
        "bbox": pa.StructArray.from_arrays([pa.array(side) for side in box.T], ["xmin", "ymin", "xmax", "ymax"]),
        "assets": pa.StructArray.from_arrays(list(assets.values()), list(assets)),
    }
    return pa.table(columns)


def middle_box(path: Path) -> Bounds:
    """Return a box of a tenth of a degree in the middle tile of a file."""
    count = parquet.ParquetFile(path).metadata.num_rows // DATES
    west, south, east, north = tiles(count)["box"][count // 2].tolist()
    lon, lat = (west + east) / 2, (south + north) / 2
    return lon - 0.05, lat - 0.05, lon + 0.05, lat + 0.05


def open_box(path: Path, bbox: Bounds) -> int:
    """Open half a year of a box, and return the number of dates."""
    import geoxt

    layer = geoxt.open_stac(str(path), bbox=bbox, bands=["B04", "B08"], groupby="day", datetime="2023-01/2023-06")
    return layer.sizes["time"]


def measure(path: Path, smallest: Path) -> dict[str, float]:
    """Return time, CPU time, MB of memory to open a box after the smallest file was opened, and number of dates."""
    open_box(smallest, middle_box(smallest))
    bbox = middle_box(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, cpu_start = time.perf_counter(), time.process_time()
    dates = open_box(path, bbox)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    added = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": seconds, "cpu": cpu, "memory": added / 1024, "dates": dates}


def main() -> None:
    """Write the files, open a tile of each in new processes, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.open:
        print(json.dumps(measure(args.open, args.data / f"{args.counts[0]}.parquet")))
        return
    args.data.mkdir(parents=True, exist_ok=True)
    rows = []
    for count in args.counts:
        path = args.data / f"{count}.parquet"
        if not path.exists():
            write_items(path, count)
        command = [sys.executable, __file__, str(args.data), "--open", str(path), "--counts", str(args.counts[0])]
        runs = [json.loads(subprocess.check_output(command)) for _ in range(args.runs)]
        seconds, cpu, memory = (median(run[key] for run in runs) for key in ("seconds", "cpu", "memory"))
        size = path.stat().st_size / 1e6
        figures = f"{seconds:.2f}", f"{cpu:.2f}", f"{memory:.0f}"
        rows.append([f"{count:,}", f"{size:.0f}", str(runs[0]["dates"]), *figures])
        print(*rows[-1], flush=True)
    parts = [
        "# Opening one tile from a catalog in stac-geoparquet",
        "Made by `catalog_scaling.py`; in new processes, each after opening the smallest file once. Medians.",
        machine("pyarrow", "xarray"),
        table(["items", "MB of the file", "opened dates", "seconds", "CPU seconds", "MB of memory added"], rows),
    ]
    print(write("catalog_scaling.md", parts).read_text())


if __name__ == "__main__":
    main()

"""Rates of windows of a compressed Zarr store in grid order: geoxt's loader, and windows of xarray with dask.

    python benchmarks/zarr_windows.py DATA [--rounds 3] [--count 400]

Writes a store of four bands in chunks of 1024 pixels (zstd) into DATA, and results/zarr_windows.md. Each rate is
measured in a new process with files in the page cache, locally and through an HTTP server; the readers alternate in
each round, and medians are printed.
"""
# ruff: noqa: S603

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from clock import rate
from report import machine, table, write

if TYPE_CHECKING:
    from collections.abc import Iterator

SIDE, CHUNK, SIZE, BATCH = 8192, 1024, 224, 32
READERS = {"geoxt": "geoxt.open_zarr, loader", "xarray": "xarray.open_zarr with dask, .isel(…).values"}
BANDS = ("b02", "b03", "b04", "b08")


def make_store(path: Path) -> None:
    """Write a smooth image with noise as a Zarr store of version 3."""
    import zarr

    rng = np.random.default_rng(0)
    group = zarr.open_group(str(path), mode="w", attributes={"proj:code": "EPSG:32633"})
    for name, start, step in (("y", 4_600_000, -10), ("x", 500_000, 10)):
        centers = start + step * (np.arange(SIDE) + 0.5)
        group.create_array(name, data=centers, dimension_names=(name,))
    smooth = np.add.outer(np.sin(np.arange(SIDE) / 90), np.cos(np.arange(SIDE) / 130)) * 1500 + 3000
    for band in BANDS:
        pixels = (smooth + rng.normal(0, 60, smooth.shape)).astype("uint16")
        codec = zarr.codecs.ZstdCodec(level=3)
        group.create_array(band, data=pixels, chunks=(CHUNK, CHUNK), compressors=codec, dimension_names=("y", "x"))
    zarr.consolidate_metadata(str(path))


def measure(address: str, reader: str, count: int) -> float:
    """Return the windows per second of a reader, in this process."""
    import geoxt
    from geoxt.samplers import GridSampler

    layer = geoxt.open_zarr(address)
    windows = list(GridSampler(layer, size=SIZE))[:count]
    if reader == "geoxt":
        loader = layer.geoml.loader(windows, batch_size=BATCH, threads=2)
        return rate(loader, lambda batch: len(batch["image"]))
    return rate(_xarray_batches(address, windows), len)


def _xarray_batches(address: str, windows: list[Any]) -> Iterator[Any]:
    """Yield batches (window, band, y, x) of float32 that are computed window by window."""
    import torch
    import xarray as xr

    image = xr.open_zarr(address, mask_and_scale=False)[list(BANDS)].to_dataarray("band")
    for start in range(0, len(windows), BATCH):
        parts = []
        for window in windows[start : start + BATCH]:
            rows, cols = (slice(first, first + SIZE) for first in (window.row, window.col))
            parts.append(torch.from_numpy(image.isel(y=rows, x=cols).values.astype("float32")))
        yield torch.stack(parts)


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder over HTTP on this machine, from another process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            time.sleep(2)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def run_once(address: str, reader: str, count: int) -> float:
    """Return the rate of a reader, measured in a new process."""
    command = [sys.executable, __file__, address, "--measure", reader, "--count", str(count)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    """Parse arguments, and measure or write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--measure", choices=READERS)
    options = parser.parse_args()
    if options.measure:
        print(measure(options.data, options.measure, options.count))
        return
    folder = Path(options.data)
    store = folder / "windows.zarr"
    if not store.exists():
        folder.mkdir(parents=True, exist_ok=True)
        make_store(store)
    rates: dict[tuple[str, str], list[float]] = defaultdict(list)
    with serve(folder) as url:
        addresses = {"local": str(store), "HTTP": f"{url}/{store.name}"}
        for _ in range(options.rounds):
            for location, address in addresses.items():
                for reader in READERS:
                    count = options.count if reader == "geoxt" else max(options.count // 4, 2 * BATCH)
                    rates[location, reader].append(run_once(address, reader, count))
    rows = []
    for location in addresses:
        rate_of = {reader: median(rates[location, reader]) for reader in READERS}
        times = rate_of["geoxt"] / rate_of["xarray"]
        rows.append([location, f"{rate_of['geoxt']:.0f}", f"{rate_of['xarray']:.1f}", f"{times:.1f}x"])
    text = f"Windows per second, {SIZE} pixels, {len(BANDS)} bands of uint16, chunks of {CHUNK} (zstd), grid order."
    rates_table = table(["store", READERS["geoxt"], READERS["xarray"], "ratio"], rows)
    packages = machine("zarr", "xarray", "dask", "numpy", "torch")
    print(write("zarr_windows.md", ["# Windows of a Zarr store", packages, text, rates_table]).read_text())


if __name__ == "__main__":
    main()

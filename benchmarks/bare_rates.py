"""Print the rate of rasterio reads of the aligned data: 7 bands and a label per patch, with open handles.

    python benchmarks/bare_rates.py DATA --mix 1 2

The rate, without conversion, stacking and collation, is an upper bound for loaders that read through GDAL. A mix is a
number of threads; each opens its handles.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import rasterio
from data_layers import draw_windows, open_layers

from geoxt.windows import Window

_thread_files = threading.local()


def handles(paths: Sequence[Path]) -> list[Any]:
    """Return the open files of this thread."""
    if not hasattr(_thread_files, "files"):
        _thread_files.files = [rasterio.open(path) for path in paths]
    return list(_thread_files.files)


def read(paths: Sequence[Path], window: Window) -> None:
    """Read one patch."""
    rows, cols = (window.row, window.stop[0]), (window.col, window.stop[1])
    for file in handles(paths):
        file.read(1, window=(rows, cols))


def measure(paths: Sequence[Path], windows: Sequence[Window], threads: int) -> float:
    """Return patches per second, after one warm-up window per thread."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda w: read(paths, w), windows[:threads]))
        start = time.perf_counter()
        list(pool.map(lambda w: read(paths, w), windows))
        return len(windows) / (time.perf_counter() - start)


def main() -> None:
    """Parse arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--samplers", nargs="+", default=["random", "random-batch", "grid"])
    parser.add_argument("--count", type=int, default=1024)
    parser.add_argument("--mix", nargs="+", default=["1", "2"], help="threads")
    args = parser.parse_args()
    layers = open_layers(args.data, into="aligned")
    paths = [*sorted((args.data / "aligned" / "landsat").iterdir()), *(args.data / "aligned" / "cdl").iterdir()]
    for mix in args.mix:
        for sampler in args.samplers:
            windows = list(draw_windows(layers, sampler, count=args.count, batch=32))
            measured_rate = measure(paths, windows, int(mix))
            print(
                json.dumps({"sampler": sampler, "batch": 32, "mix": mix, "rate": round(measured_rate, 1)}), flush=True
            )


if __name__ == "__main__":
    main()

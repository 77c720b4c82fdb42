"""Print the rate of plain rasterio reads of the aligned work: 7 bands and a label a patch, in handles that are kept.

    python benchmarks/bare_rates.py DATA --mix 1 2

It is the bound for any loader that reads through GDAL: nothing is converted, stacked or collated. A mix is a number of
threads, each with handles of its own.
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
from work_layers import drawn, opened

from geoxt.windows import Window

_kept = threading.local()


def handles(paths: Sequence[Path]) -> list[Any]:
    """Return this thread's open files."""
    if not hasattr(_kept, "files"):
        _kept.files = [rasterio.open(path) for path in paths]
    return list(_kept.files)


def read(paths: Sequence[Path], window: Window) -> None:
    """Read one patch."""
    rows, cols = (window.row, window.stop[0]), (window.col, window.stop[1])
    for file in handles(paths):
        file.read(1, window=(rows, cols))


def measure(paths: Sequence[Path], windows: Sequence[Window], threads: int) -> float:
    """Return patches a second, after one window in each thread."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda w: read(paths, w), windows[:threads]))
        start = time.perf_counter()
        list(pool.map(lambda w: read(paths, w), windows))
        return len(windows) / (time.perf_counter() - start)


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--samplers", nargs="+", default=["random", "random-batch", "grid"])
    parser.add_argument("--count", type=int, default=1024)
    parser.add_argument("--mix", nargs="+", default=["1", "2"], help="threads")
    args = parser.parse_args()
    both = opened(args.data, into="aligned")
    paths = [*sorted((args.data / "aligned" / "landsat").iterdir()), *(args.data / "aligned" / "cdl").iterdir()]
    for mix in args.mix:
        for sampler in args.samplers:
            windows = list(drawn(both, sampler, count=args.count, batch=32))
            found = measure(paths, windows, int(mix))
            print(json.dumps({"sampler": sampler, "batch": 32, "mix": mix, "rate": round(found, 1)}), flush=True)


if __name__ == "__main__":
    main()

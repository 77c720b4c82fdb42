"""geoxt against TorchGeo on the same files: patches per second by sampler, grid, batch size and file kind.

    python benchmarks/make_data.py DATA --aligned
    python benchmarks/samplers.py DATA --peer PYTHON_WITH_TORCHGEO

Runs alternate between the libraries, each in a new process with files in the page cache; rates are medians.
Writes results/samplers.md, samplers.json and samplers.png (the tables of Figure 3 of
https://arxiv.org/abs/2111.08872). `--quick` takes minutes, all parts about an hour; `--parts` and `--more` split
the run.
"""
# ruff: noqa: S603

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from clock import warm
from report import RESULTS, write
from samplers_report import draw, pages

FOLDER = Path(__file__).parent
MIXES = ("0:2", "2:1")
PEER_MIXES = ("0", "2")
"""Workers:threads of geoxt, and workers of TorchGeo; the better median counts."""
PARTS = ("main", "files", "sizes")
SIZES = (8, 16, 32, 64, 128, 256)
Key = tuple[str, ...]
"""Library, experiment, kind of files, sampler, batch size, mix."""
Rates = dict[Key, list[float]]


def run(command: Sequence[str], key: Key, rates: Rates) -> None:
    """Run a script that prints rates, and record them."""
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        msg = f"{' '.join(command)} failed:\n{process.stderr}"
        raise RuntimeError(msg)
    for line in process.stdout.splitlines():
        result = json.loads(line)
        rates[*key, result["sampler"], str(result["batch"]), result["mix"]].append(result["rate"])
        print(*key, line, flush=True)


def measure_once(args: argparse.Namespace, rates: Rates) -> None:
    """Measure each part once with both libraries."""
    if "main" in args.parts:
        grids(args, rates)
    if "files" in args.parts and args.aligned:
        files(args, rates)
    if "sizes" in args.parts:
        sizes(args, rates)


def grids(args: argparse.Namespace, rates: Rates) -> None:
    """Measure both libraries on both grids."""
    geoxt_command = [sys.executable, str(FOLDER / "geoxt_rates.py"), args.data, "--count", str(args.count)]
    torchgeo_command = [args.peer, str(FOLDER / "torchgeo_rates.py"), args.data, "--count", str(args.peer_count)]
    for into in ("cdl", "landsat"):
        run([*geoxt_command, "--into", into, "--mix", *MIXES], ("geoxt", "main", into), rates)
        long = [*torchgeo_command, "--into", into, "--mix", *args.peer_mix, "--count", str(args.count)]
        run(long, ("torchgeo", "main", into), rates)


def files(args: argparse.Namespace, rates: Rates) -> None:
    """Measure aligned files, plain rasterio reads, and files reopened for each read."""
    geoxt_command = [sys.executable, str(FOLDER / "geoxt_rates.py"), args.data, "--count", str(args.count)]
    torchgeo_command = [args.peer, str(FOLDER / "torchgeo_rates.py"), args.data, "--count", str(args.peer_count)]
    bare = [sys.executable, str(FOLDER / "bare_rates.py"), args.data, "--count", str(args.count)]
    run(bare, ("rasterio", "files", "aligned"), rates)
    for into in ("aligned", "memory"):
        run([*geoxt_command, "--into", into, "--mix", *MIXES], ("geoxt", "files", into), rates)
    run([*torchgeo_command, "--into", "aligned"], ("torchgeo", "files", "aligned"), rates)
    for into in ("cdl", "aligned"):
        run([*torchgeo_command, "--into", into, "--no-cache"], ("torchgeo", "open", into), rates)
        run(["env", "GEOXT_HANDLES=1", *geoxt_command, "--into", into, "--mix", "0:2"], ("geoxt", "open", into), rates)


def sizes(args: argparse.Namespace, rates: Rates) -> None:
    """Measure both libraries by batch size."""
    batch_sizes = [str(size) for size in args.sizes]
    geoxt_command = [
        sys.executable,
        str(FOLDER / "geoxt_rates.py"),
        args.data,
        "--count",
        str(args.count),
        "--mix",
        "0:2",
        "2:1",
    ]
    torchgeo_command = [args.peer, str(FOLDER / "torchgeo_rates.py"), args.data, "--count", str(args.peer_count)]
    run([*geoxt_command, "--batch", *batch_sizes], ("geoxt", "sizes", "cdl"), rates)
    run([*torchgeo_command, "--batch", *batch_sizes], ("torchgeo", "sizes", "cdl"), rates)


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--peer", required=True, help="Python interpreter with TorchGeo")
    parser.add_argument("--repeats", type=int, default=5, help="repeats of each measurement")
    parser.add_argument("--count", type=int, default=1024, help="patches per measured rate of geoxt")
    parser.add_argument(
        "--peer-count", type=int, default=256, help="patches per measured rate of TorchGeo, except in the first table"
    )
    parser.add_argument("--peer-mix", nargs="+", default=PEER_MIXES, help="numbers of worker processes of TorchGeo")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="batch sizes")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS, help="tables to measure")
    parser.add_argument("--more", action="store_true", help="add to the recorded rates")
    parser.add_argument("--quick", action="store_true", help="one repeat, few patches, two batch sizes")
    parser.add_argument("--redraw", action="store_true", help="only rewrite the results from recorded rates")
    args = parser.parse_args()
    if args.quick:
        args.repeats, args.count, args.peer_count, args.sizes = 1, 256, 64, (8, 32)
    args.aligned = (Path(args.data) / "aligned").exists()
    record_path = RESULTS / "samplers.json"
    if not args.redraw:
        rates: Rates = defaultdict(list)
        if args.more:
            rates |= {tuple(key): runs for *key, runs in json.loads(record_path.read_text())}
        for _ in range(args.repeats):
            print(f"{warm(Path(args.data)) / 1e9:.1f} GB read into the page cache", flush=True)
            measure_once(args, rates)
            RESULTS.mkdir(exist_ok=True)
            record_path.write_text(json.dumps([[*key, runs] for key, runs in sorted(rates.items())]) + "\n")
    args.counts = sorted({len(runs) for *_, runs in json.loads(record_path.read_text())})
    rates_by_key = {tuple(key): runs for *key, runs in json.loads(record_path.read_text())}
    medians = {key: median(runs) for key, runs in rates_by_key.items()}
    if any(key[1] == "sizes" for key in medians):
        draw(medians, RESULTS / "samplers.png")
    print(write("samplers.md", pages(medians, rates_by_key, args)).read_text())


if __name__ == "__main__":
    main()

"""geoxt against TorchGeo on the same files: patches a second by sampler, grid, batch size and kind of files.

    python benchmarks/work.py DATA --aligned
    python benchmarks/samplers.py DATA --peer PYTHON_WITH_TORCHGEO

The two take turns, each run in a process of its own, files in the page cache; rates are medians over the repeats.
Writes results/samplers.md, samplers.json and samplers.png (the tables of Figure 3 of
https://arxiv.org/abs/2111.08872). `--quick` takes some minutes, the whole about an hour; `--parts` and `--more` let it
be taken in parts.
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

HERE = Path(__file__).parent
MIXES = ("0:2", "2:1")
PEER_MIXES = ("0", "2")
"""Both libraries are given a choice, and the better median counts."""
PARTS = ("main", "files", "sizes")
SIZES = (8, 16, 32, 64, 128, 256)
Key = tuple[str, ...]
"""Library, experiment, kind of files, sampler, batch size, mix."""
Rates = dict[Key, list[float]]


def run(command: Sequence[str], key: Key, rates: Rates) -> None:
    """Run a script that prints rates, and note them."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"{' '.join(command)} failed:\n{done.stderr}"
        raise RuntimeError(msg)
    for line in done.stdout.splitlines():
        found = json.loads(line)
        rates[*key, found["sampler"], str(found["batch"]), found["mix"]].append(found["rate"])
        print(*key, line, flush=True)


def once(args: argparse.Namespace, rates: Rates) -> None:
    """Let both libraries do the work of each part, one after the other."""
    if "main" in args.parts:
        grids(args, rates)
    if "files" in args.parts and args.aligned:
        files(args, rates)
    if "sizes" in args.parts:
        sizes(args, rates)


def grids(args: argparse.Namespace, rates: Rates) -> None:
    """Let both libraries draw from both grids."""
    ours = [sys.executable, str(HERE / "geoxt_rates.py"), args.data, "--count", str(args.count)]
    theirs = [args.peer, str(HERE / "torchgeo_rates.py"), args.data, "--count", str(args.peer_count)]
    for into in ("cdl", "landsat"):
        run([*ours, "--into", into, "--mix", *MIXES], ("geoxt", "main", into), rates)
        long = [*theirs, "--into", into, "--mix", *args.peer_mix, "--count", str(args.count)]
        run(long, ("torchgeo", "main", into), rates)


def files(args: argparse.Namespace, rates: Rates) -> None:
    """Let both libraries read aligned files, plain reads beside them, and open files for each read."""
    ours = [sys.executable, str(HERE / "geoxt_rates.py"), args.data, "--count", str(args.count)]
    theirs = [args.peer, str(HERE / "torchgeo_rates.py"), args.data, "--count", str(args.peer_count)]
    bare = [sys.executable, str(HERE / "bare_rates.py"), args.data, "--count", str(args.count)]
    run(bare, ("rasterio", "files", "aligned"), rates)
    for into in ("aligned", "memory"):
        run([*ours, "--into", into, "--mix", *MIXES], ("geoxt", "files", into), rates)
    run([*theirs, "--into", "aligned"], ("torchgeo", "files", "aligned"), rates)
    for into in ("cdl", "aligned"):
        run([*theirs, "--into", into, "--no-cache"], ("torchgeo", "open", into), rates)
        run(["env", "GEOXT_HANDLES=1", *ours, "--into", into, "--mix", "0:2"], ("geoxt", "open", into), rates)


def sizes(args: argparse.Namespace, rates: Rates) -> None:
    """Let both libraries make batches of several sizes."""
    some = [str(size) for size in args.sizes]
    ours = [sys.executable, str(HERE / "geoxt_rates.py"), args.data, "--count", str(args.count), "--mix", "0:2", "2:1"]
    theirs = [args.peer, str(HERE / "torchgeo_rates.py"), args.data, "--count", str(args.peer_count)]
    run([*ours, "--batch", *some], ("geoxt", "sizes", "cdl"), rates)
    run([*theirs, "--batch", *some], ("torchgeo", "sizes", "cdl"), rates)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--peer", required=True, help="a Python that has TorchGeo")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--count", type=int, default=1024, help="patches a rate of geoxt's is taken over")
    parser.add_argument("--peer-count", type=int, default=256, help="the same, of TorchGeo's, but for the first table")
    parser.add_argument("--peer-mix", nargs="+", default=PEER_MIXES, help="worker processes that TorchGeo tries")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="batch sizes")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS, help="tables to measure")
    parser.add_argument("--more", action="store_true", help="add to the rates that are noted already")
    parser.add_argument("--quick", action="store_true", help="once, few patches, two batch sizes")
    parser.add_argument("--redraw", action="store_true", help="only write the results that are there anew")
    args = parser.parse_args()
    if args.quick:
        args.repeats, args.count, args.peer_count, args.sizes = 1, 256, 64, (8, 32)
    args.aligned = (Path(args.data) / "aligned").exists()
    noted = RESULTS / "samplers.json"
    if not args.redraw:
        rates: Rates = defaultdict(list)
        if args.more:
            rates |= {tuple(key): found for *key, found in json.loads(noted.read_text())}
        for _ in range(args.repeats):
            print(f"{warm(Path(args.data)) / 1e9:.1f} GB read into the page cache", flush=True)
            once(args, rates)
            RESULTS.mkdir(exist_ok=True)
            noted.write_text(json.dumps([[*key, found] for key, found in sorted(rates.items())]) + "\n")
    args.counts = sorted({len(found) for *_, found in json.loads(noted.read_text())})
    every = {tuple(key): found for *key, found in json.loads(noted.read_text())}
    middle = {key: median(found) for key, found in every.items()}
    if any(key[1] == "sizes" for key in middle):
        draw(middle, RESULTS / "samplers.png")
    print(write("samplers.md", pages(middle, every, args)).read_text())


if __name__ == "__main__":
    main()

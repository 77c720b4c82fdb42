"""Windows a second from a server with 50 ms added to each request, and requests a window: geoxt and TorchGeo.

    python benchmarks/network.py --peer PYTHON --out network.md

Seven bands a scene in files of their own, two scenes side by side, 4096 x 4096 pixels, COGs of 256 pixel blocks. Both
libraries read the same windows, in processes that start with empty caches, through one proxy that adds the delay.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from report import machine, table, write

import geoxt
from geoxt.samplers import RandomSampler
from geoxt.testing import make_grid, write_cog

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # for tests/support
from support.proxy import Proxy, proxied
from support.servers import serve_files

BANDS = [f"B{n}" for n in range(1, 8)]
SIDE, SIZE, RESOLUTION = 4096, 224, 30.0
LATENCY = 0.05
"""Seconds added to each request."""
TRIES = 4
"""Runs of TorchGeo: its forked workers write into connections that they share, and may read each other's answers."""
PAIRS = [(f"geoxt, {n} workers", f"TorchGeo, {n} workers") for n in ("no", 2)]
PAIRS += [("geoxt, 2 workers", f"TorchGeo, {n} workers, GDAL tuned") for n in (2, 4)]
"""Whose rates are compared."""
TUNED = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "CPL_VSIL_CURL_CACHE_SIZE": "134217728",
}  # fmt: skip
"""Settings that guides to COGs recommend."""


def make(folder: Path) -> None:
    """Write two scenes: slopes and noise, which deflate to about two thirds."""
    rng = np.random.default_rng(0)
    slope = np.add.outer(np.arange(SIDE), np.arange(SIDE)) // 4
    for place, scene in enumerate("ab"):
        grid = make_grid((SIDE, SIDE), left=600_000 + place * SIDE * RESOLUTION, resolution=RESOLUTION)
        noise = rng.integers(0, 256, (SIDE, SIDE))
        for n, band in enumerate(BANDS):
            image = (8000 + 300 * n + slope + np.roll(noise, n, 1)).astype("uint16")
            write_cog(folder / f"{scene}_{band}.tif", image, grid=grid, blocksize=256, creation={"compress": "deflate"})


def files(url: str) -> list[str]:
    """Return the addresses of all bands."""
    return [f"{url}/{scene}_{band}.tif" for scene in "ab" for band in BANDS]


def ours(url: str, count: int, batch: int, workers: int, threads: int | None) -> dict[str, object]:
    """Return geoxt's rate, the seconds that opening took, and where the windows lay."""
    start = time.perf_counter()
    layer = geoxt.open_cogs(files(url))
    opened = time.perf_counter() - start
    plan = RandomSampler(layer, size=SIZE, length=count, seed=1)
    seen, bounds, start = 0, [], time.perf_counter()
    for found in layer.geoml.loader(plan, batch_size=batch, num_workers=workers, threads=threads):
        seen += len(found["image"])
        bounds += found["bounds"].tolist()
        last = float(found["image"].sum())
    return {"rate": seen / (time.perf_counter() - start), "open": opened, "bounds": bounds, "sum": last}


def run(proxy: Proxy, command: list[str], given: str = "", **env: str) -> dict[str, object]:
    """Run one measurement in a process of its own; return what it prints, and the requests that it made."""
    proxy.forget()
    proxy.set(latency=LATENCY)
    done = subprocess.run(  # noqa: S603 (this script, or the peer's)
        command, input=given, capture_output=True, text=True, check=False, env={**os.environ, **env}
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    seen = proxy.seen
    heads = [r for r in seen if r.range is None or r.range[0] == 0]
    return json.loads(done.stdout.splitlines()[-1]) | {"asked": len(seen), "heads": len(heads)}


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="a Python that has TorchGeo")
    parser.add_argument("--count", type=int, default=128, help="windows")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--out", help="name of a file in benchmarks/results")
    parser.add_argument("--one", nargs=3, metavar=("URL", "WORKERS", "THREADS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        url, workers, threads = args.one
        print(json.dumps(ours(url, args.count, args.batch, int(workers), int(threads) or None)))
        return
    rows: list[tuple[str, dict[str, object]]] = []
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        with serve_files(folder) as upstream, proxied(upstream) as proxy:
            sizes = ["--count", str(args.count), "--batch", str(args.batch)]
            for title, workers, threads in (
                ("geoxt, no workers", 0, 0),
                ("geoxt, 2 workers", 2, 0),
                ("geoxt, no workers, 1 thread", 0, 1),
            ):
                found = run(proxy, [sys.executable, __file__, "--one", proxy.url, str(workers), str(threads), *sizes])
                rows.append((title, found))
                print(title, {k: v for k, v in found.items() if k != "bounds"}, flush=True)
            rows += theirs(args.peer, proxy, rows[0][1]["bounds"], args.batch) if args.peer else []
    if args.out:
        report(args.out, rows, args.count, args.batch)


def theirs(peer: str, proxy: Proxy, bounds: object, batch: int) -> list[tuple[str, dict[str, object]]]:
    """Return TorchGeo's rates on the same windows."""
    first = [f"/vsicurl/{one}" for one in files(proxy.url) if "B1" in one]
    work = json.dumps({"files": first, "bands": BANDS, "bounds": bounds, "resolution": RESOLUTION})
    rows = []
    script = str(Path(__file__).with_name("network_torchgeo.py"))
    for title, workers, env in (
        ("TorchGeo, no workers", 0, {}), ("TorchGeo, 2 workers", 2, {}),
        ("TorchGeo, 2 workers, GDAL tuned", 2, TUNED), ("TorchGeo, 4 workers, GDAL tuned", 4, TUNED),
    ):  # fmt: skip
        command = [peer, script, "--workers", str(workers), "--batch", str(batch)]
        for crashes in range(TRIES):
            try:
                found = run(proxy, command, work, **env)
            except RuntimeError as error:
                print(title, str(error).strip().splitlines()[-1], flush=True)
                continue
            rows.append((title if not crashes else f"{title} (after {crashes} runs that ended in an error)", found))
            print(*rows[-1], flush=True)
            break
        else:
            print(title, "never came to its end", flush=True)
    return rows


def _about(count: int, batch: int) -> str:
    """Return what was measured."""
    return (
        f"Made by `network.py`. {count} windows of {SIZE} pixels and {len(BANDS)} bands, drawn at random, in batches "
        f"of {batch}; each band a file; {LATENCY * 1000:.0f} ms added to each request by a proxy before the server. "
        "These and both libraries share the cores. The clock starts with the loader, after opening. Requests for "
        "headers: 14 files, one for the size and one for the first bytes of each; TorchGeo's workers have caches each."
    )


def report(name: str, rows: list[tuple[str, dict[str, object]]], count: int, batch: int) -> None:
    """Write the table."""

    def line(title: str, one: dict[str, object]) -> list[str]:
        asked, heads = int(one["asked"]), int(one["heads"])
        return [title, f"{one['rate']:.1f}", f"{one['open']:.1f}", f"{(asked - heads) / count:.1f}", str(heads)]

    head = ["", "windows a second", "seconds to open", "requests a window", "requests for headers"]
    rates = {title.split(" (")[0]: float(one["rate"]) for title, one in rows}
    pairs = [(a, b) for a, b in PAIRS if a in rates and b in rates]
    parts = [
        "# Windows from a slow server",
        _about(count, batch),
        machine("torch", "rasterio", "dask"),
        table(head, [line(title, one) for title, one in rows]),
    ]
    if pairs:
        parts.append("\n".join(f"* {a}, beside {b}: {rates[a] / rates[b]:.1f} times." for a, b in pairs))
    print(write(name, parts).read_text())


if __name__ == "__main__":
    main()

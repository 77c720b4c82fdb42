"""Windows per second, and requests per window, from a server with 50 ms latency: geoxt and TorchGeo.

    python benchmarks/network.py --peer PYTHON --out network.md

Two adjacent scenes of seven single-band COGs, 4096 x 4096 pixels in blocks of 256. Both libraries read the same
windows in processes with empty caches, through one proxy that adds the latency.
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
ATTEMPTS = 4
"""Attempts per TorchGeo run: forked workers share connections, and may read each other's responses."""
COMPARISONS = [(f"geoxt, {n} workers", f"TorchGeo, {n} workers") for n in ("no", 2)]
COMPARISONS += [("geoxt, 2 workers", f"TorchGeo, {n} workers, GDAL tuned") for n in (2, 4)]
"""Compared rows."""
TUNED = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "CPL_VSIL_CURL_CACHE_SIZE": "134217728",
}  # fmt: skip
"""GDAL settings recommended for COGs."""


def make(folder: Path) -> None:
    """Write two scenes of slopes and noise, which deflate compresses to about two thirds."""
    rng = np.random.default_rng(0)
    slope = np.add.outer(np.arange(SIDE), np.arange(SIDE)) // 4
    for column, scene in enumerate("ab"):
        grid = make_grid((SIDE, SIDE), left=600_000 + column * SIDE * RESOLUTION, resolution=RESOLUTION)
        noise = rng.integers(0, 256, (SIDE, SIDE))
        for n, band in enumerate(BANDS):
            image = (8000 + 300 * n + slope + np.roll(noise, n, 1)).astype("uint16")
            write_cog(folder / f"{scene}_{band}.tif", image, grid=grid, blocksize=256, creation={"compress": "deflate"})


def files(url: str) -> list[str]:
    """Return the URLs of all bands."""
    return [f"{url}/{scene}_{band}.tif" for scene in "ab" for band in BANDS]


def measure_geoxt(url: str, count: int, batch: int, workers: int, threads: int | None) -> dict[str, object]:
    """Return the rate of geoxt, the seconds of opening, and the bounds of the windows."""
    start = time.perf_counter()
    layer = geoxt.open_cogs(files(url))
    opened = time.perf_counter() - start
    windows = RandomSampler(layer, size=SIZE, length=count, seed=1)
    count_read, bounds, start = 0, [], time.perf_counter()
    for samples in layer.geoml.loader(windows, batch_size=batch, num_workers=workers, threads=threads):
        count_read += len(samples["image"])
        bounds += samples["bounds"].tolist()
        last = float(samples["image"].sum())
    return {"rate": count_read / (time.perf_counter() - start), "open": opened, "bounds": bounds, "sum": last}


def run(proxy: Proxy, command: list[str], stdin: str = "", **env: str) -> dict[str, object]:
    """Run one measurement in a new process; return the printed result with its request counts."""
    proxy.forget()
    proxy.set(latency=LATENCY)
    process = subprocess.run(  # noqa: S603 (this script, or the peer's)
        command, input=stdin, capture_output=True, text=True, check=False, env={**os.environ, **env}
    )
    if process.returncode:
        raise RuntimeError(process.stderr)
    requests = proxy.requests
    heads = [r for r in requests if r.range is None or r.range[0] == 0]
    return json.loads(process.stdout.splitlines()[-1]) | {"requests": len(requests), "header_requests": len(heads)}


def main() -> None:
    """Parse arguments, measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="Python interpreter with TorchGeo")
    parser.add_argument("--count", type=int, default=128, help="number of windows")
    parser.add_argument("--batch", type=int, default=32, help="windows per batch")
    parser.add_argument("--out", help="file name in benchmarks/results")
    parser.add_argument("--one", nargs=3, metavar=("URL", "WORKERS", "THREADS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        url, workers, threads = args.one
        print(json.dumps(measure_geoxt(url, args.count, args.batch, int(workers), int(threads) or None)))
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
                result = run(proxy, [sys.executable, __file__, "--one", proxy.url, str(workers), str(threads), *sizes])
                rows.append((title, result))
                print(title, {k: v for k, v in result.items() if k != "bounds"}, flush=True)
            rows += measure_torchgeo(args.peer, proxy, rows[0][1]["bounds"], args.batch) if args.peer else []
    if args.out:
        report(args.out, rows, args.count, args.batch)


def measure_torchgeo(peer: str, proxy: Proxy, bounds: object, batch: int) -> list[tuple[str, dict[str, object]]]:
    """Return the rates of TorchGeo on the same windows."""
    first = [f"/vsicurl/{url}" for url in files(proxy.url) if "B1" in url]
    work = json.dumps({"files": first, "bands": BANDS, "bounds": bounds, "resolution": RESOLUTION})
    rows = []
    script = str(Path(__file__).with_name("network_torchgeo.py"))
    for title, workers, env in (
        ("TorchGeo, no workers", 0, {}), ("TorchGeo, 2 workers", 2, {}),
        ("TorchGeo, 2 workers, GDAL tuned", 2, TUNED), ("TorchGeo, 4 workers, GDAL tuned", 4, TUNED),
    ):  # fmt: skip
        command = [peer, script, "--workers", str(workers), "--batch", str(batch)]
        for crashes in range(ATTEMPTS):
            try:
                result = run(proxy, command, work, **env)
            except RuntimeError as error:
                print(title, str(error).strip().splitlines()[-1], flush=True)
                continue
            rows.append((title if not crashes else f"{title} (after {crashes} failed runs)", result))
            print(*rows[-1], flush=True)
            break
        else:
            print(title, "failed in every run", flush=True)
    return rows


def _about(count: int, batch: int) -> str:
    """Return the description of the measurement."""
    return (
        f"Made by `network.py`. {count} windows of {SIZE} pixels and {len(BANDS)} bands, drawn at random, in batches "
        f"of {batch}; one file per band; {LATENCY * 1000:.0f} ms added to each request by a proxy. "
        "Server, proxy and library share the cores. Timing starts with the loader, after opening. Requests for "
        "headers: 14 files, one for the size and one for the first bytes of each; each TorchGeo worker has a cache."
    )


def report(name: str, rows: list[tuple[str, dict[str, object]]], count: int, batch: int) -> None:
    """Write the results."""

    def line(title: str, result: dict[str, object]) -> list[str]:
        requests, heads = int(result["requests"]), int(result["header_requests"])
        return [
            title,
            f"{result['rate']:.1f}",
            f"{result['open']:.1f}",
            f"{(requests - heads) / count:.1f}",
            str(heads),
        ]

    head = ["", "windows per second", "seconds to open", "requests per window", "requests for headers"]
    rates = {title.split(" (")[0]: float(result["rate"]) for title, result in rows}
    pairs = [(a, b) for a, b in COMPARISONS if a in rates and b in rates]
    parts = [
        "# Windows from a server with latency",
        _about(count, batch),
        machine("torch", "rasterio", "dask"),
        table(head, [line(title, result) for title, result in rows]),
    ]
    if pairs:
        parts.append("\n".join(f"* {a} relative to {b}: {rates[a] / rates[b]:.1f}." for a, b in pairs))
    print(write(name, parts).read_text())


if __name__ == "__main__":
    main()

"""Print the time of burning many polygons: opening, indexing, and random windows.

    python benchmarks/vector.py --polygons 100000 --size 10000

The polygons are rotated rectangles of 4 to 40 pixels, like buildings, in a temporary GeoPackage.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pyogrio
import pyproj
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

import geoxt
from geoxt.source import view_of


def polygons(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Return rotated rectangles in pixels of a square grid."""
    rng = np.random.default_rng(seed)
    corners = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    sides, angle = rng.uniform(4, 40, (count, 1, 2)), rng.uniform(0, np.pi, count)
    rotations = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]).transpose(2, 0, 1)
    return shapely.polygons((corners * sides) @ rotations + rng.uniform(0, size, (count, 1, 2)))


def write(path: Path, shapes: np.ndarray, grid: GeoBox, crs: str) -> None:
    """Write shapes in pixels of a grid to a GeoPackage in a CRS."""
    a = grid.affine

    def to_crs(p: np.ndarray) -> np.ndarray:
        x, y = a.a * p[:, 0] + a.c, a.e * p[:, 1] + a.f
        if crs != str(grid.crs):
            x, y = pyproj.Transformer.from_crs(str(grid.crs), crs, always_xy=True).transform(x, y)
        return np.c_[x, y]

    values = np.arange(len(shapes), dtype=np.int32) % 7 + 1
    pyogrio.raw.write(
        path, shapely.to_wkb(shapely.transform(shapes, to_crs)), field_data=[values], fields=["kind"], crs=crs,
        geometry_type="Polygon", driver="GPKG", layer="buildings",
    )  # fmt: skip


def timed(call):
    """Return the duration of a call in seconds, and its result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def main() -> None:
    """Parse arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--polygons", type=int, default=100_000, help="number of polygons")
    parser.add_argument("--size", type=int, default=10_000, help="side of the grid, in pixels")
    parser.add_argument("--windows", type=int, default=1000, help="number of random windows")
    args = parser.parse_args()
    grid = GeoBox((args.size, args.size), Affine(1, 0, 500_000, 0, -1, 5_000_000), "EPSG:32615")
    shapes = polygons(args.polygons, args.size)
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        for crs in ("EPSG:32615", "EPSG:4326"):
            path = Path(folder) / f"{crs[5:]}.gpkg"
            write(path, shapes, grid, crs)
            for options in ({}, {"all_touched": True}, {"instances": True}):
                opening, layer = timed(lambda p=path, o=options: geoxt.open_vector(p, grid=grid, column="kind", **o))
                view = view_of(layer)
                indexing, _ = timed(lambda v=view: v.read(geoxt.Window(0, 0, 256, 256)))
                seconds = []
                for row, col in rng.integers(0, args.size - 256, (args.windows, 2)).tolist():
                    seconds.append(timed(lambda r=row, c=col, v=view: v.read(geoxt.Window(r, c, 256, 256)))[0])
                typical, p99 = np.median(seconds) * 1e3, np.quantile(seconds, 0.99) * 1e3
                print(
                    f"{crs} {args.polygons} polygons {options or ''}: open {opening:.3f} s, first window (index) "
                    f"{indexing:.2f} s, a 256 px window {typical:.2f} ms (99th percentile {p99:.2f} ms)"
                )


if __name__ == "__main__":
    main()

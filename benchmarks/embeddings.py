"""Print the time and memory of extracting points from a layer of embeddings, and of mapping it by nearest neighbors.

    python benchmarks/embeddings.py --size 8192 --map 4096 --points 10000 --threads 2

The layer has 64 bands of int8, as a tiled GeoTIFF in a temporary folder that `product="alphaearth"` opens. `--samples`
points are the neighbors. Blocks are of 512 x 512 pixels; a read is a call that reads all bands of a window of the file.
`--output benchmarks/results/embeddings.md` writes the page.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import torch
from rasterio.windows import Window

import geoxt
from geoxt.pixels import reader
from geoxt.testing import make_grid

BANDS, BLOCK = 64, 512


def write(path: Path, size: int) -> None:
    """Write noise around 8 vectors, a field of 64 x 64 pixels each, block by block."""
    grid = make_grid((size, size))
    profile = {"driver": "GTiff", "count": BANDS, "height": size, "width": size, "dtype": "int8", "nodata": -128}
    profile |= {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "transform": grid.affine, "interleave": "band"}
    rng = np.random.default_rng(0)
    vectors = rng.integers(-90, 90, (8, BANDS), dtype="int8")
    noise = rng.integers(-20, 20, (BANDS, BLOCK, BLOCK), dtype="int8")
    with rasterio.open(path, "w", crs=grid.crs.to_wkt(), **profile) as file:
        for row in range(0, size, BLOCK):
            for col in range(0, size, BLOCK):
                fields = rng.integers(0, 8, (BLOCK // 64, BLOCK // 64)).repeat(64, 0).repeat(64, 1)
                file.write(vectors[fields].transpose(2, 0, 1) + noise, window=Window(col, row, BLOCK, BLOCK))


class Clock:
    """Wall and CPU time of this process since it was made."""

    def __init__(self) -> None:
        self.start = time.perf_counter(), time.process_time()

    def seconds(self) -> tuple[float, float]:
        """Return wall and CPU seconds."""
        return time.perf_counter() - self.start[0], time.process_time() - self.start[1]


def count_reads() -> list[object]:
    """Return a list to which each read of a file from now on adds its window."""
    reads: list[object] = []
    start_read = reader.start_read

    def counted(href: str, bands: list[int], window: object, **options: Any) -> Any:
        reads.append(window)
        return start_read(href, bands, window, **options)

    reader.start_read = counted
    return reads


def main() -> None:
    """Parse arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    for name, default in (("size", 8192), ("map", 4096), ("points", 10_000), ("samples", 500), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "2020", "15N", "xgenerated-0000000000-0000000000.tiff")
        path.parent.mkdir(parents=True)
        write(path, options.size)
        layer = geoxt.open_cogs([path], product="alphaearth")
        x, y = layer.geoml.grid.affine @ rng.uniform(0, options.size, (2, options.points))
        points = geopandas.GeoDataFrame(
            {"class": rng.integers(0, 8, options.points)}, geometry=geopandas.points_from_xy(x, y), crs=layer.odc.crs
        )
        cells = np.floor(np.stack(~layer.geoml.grid.affine @ (x, y)) / BLOCK)
        blocks = np.unique(cells, axis=1).shape[1]
        reads = count_reads()
        clock = Clock()
        table = geoxt.extract(layer, points)
        rows = [(f"extract {options.points} points in {blocks} blocks: {len(reads)} reads", *clock.seconds())]
        model = geoxt.embeddings.knn(table.iloc[: options.samples], n_neighbors=5, features=table.attrs["bands"])
        window = layer.isel(y=slice(0, options.map), x=slice(0, options.map))
        clock = Clock()
        geoxt.to_cog(geoxt.predict(window, model), Path(folder, "map.tif"), progress=False)
        rows.append((f"kNN map of {options.map} x {options.map} pixels, {options.samples} neighbors", *clock.seconds()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    lines = ["| of a layer of 64 bands | seconds | CPU seconds |", "| --- | --- | --- |"]
    lines += [f"| {title} | {wall:.1f} | {cpu:.1f} |" for title, wall, cpu in rows]
    load = f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    lines += ["", f"Layer of {options.size} x {options.size} pixels; peak memory {peak:.2f} GB; load average {load}."]
    print("\n".join(lines))
    if options.output:
        title = "# Embeddings\n\nBy `python benchmarks/embeddings.py`; the load is that of the machine at the end."
        options.output.write_text("\n".join([title, "", *lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()

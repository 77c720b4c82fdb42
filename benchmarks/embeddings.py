"""Print the time and memory of extracting points from a layer of embeddings, and of mapping it by nearest neighbors.

    python benchmarks/embeddings.py --size 8192 --map 4096 --points 10000 --threads 2

The layer has 64 bands of int8, as a tiled GeoTIFF in a temporary folder. `--samples` points are the neighbors.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import geopandas
import numpy as np
import rasterio
import torch
from rasterio.windows import Window

import geoxt
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


def main() -> None:
    """Parse arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("size", 8192), ("map", 4096), ("points", 10_000), ("samples", 500), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "embeddings.tif")
        write(path, options.size)
        layer = geoxt.open_cogs([path])
        x, y = layer.geoml.grid.affine @ rng.uniform(0, options.size, (2, options.points))
        points = geopandas.GeoDataFrame(
            {"class": rng.integers(0, 8, options.points)}, geometry=geopandas.points_from_xy(x, y), crs=layer.odc.crs
        )
        start = time.perf_counter()
        table = geoxt.extract(layer, points)
        print(f"extract {options.points} points: {time.perf_counter() - start:.1f} s")
        model = geoxt.embeddings.knn(table.iloc[: options.samples], n_neighbors=5, features=table.attrs["bands"])
        window = layer.isel(y=slice(0, options.map), x=slice(0, options.map))
        start = time.perf_counter()
        geoxt.to_cog(geoxt.predict(window, model), Path(folder, "map.tif"), progress=False)
        print(f"kNN map of {options.map} x {options.map} pixels: {time.perf_counter() - start:.1f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory: {peak:.2f} GB")


if __name__ == "__main__":
    main()

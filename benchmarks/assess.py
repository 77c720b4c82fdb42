"""Print the rates of assessing maps: strata of a map, its area of applicability, and estimates against a simulation.

    python benchmarks/assess.py                      # the sizes of the targets: about 10 minutes on 2 cores
    python benchmarks/assess.py --map 2000 --applicability 256 --training 500 --draws 50   # seconds

The map is a GeoTIFF of 12 classes in a temporary folder. Its strata are counted in one pass, against reading all blocks
of the same map; the cache of decoded blocks is kept small, so that both decode the file. The features are 10 correlated
bands; the layers are computed chunk by chunk on two threads. Peak memory is that of the process. Estimates are drawn
from a map whose accuracy is known: their mean, and the fraction of 95 % intervals that contain it.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import dask
import numpy as np
import rasterio
import xarray as xr
from odc.geo.geobox import GeoBox

import geoxt
from geoxt import assess
from geoxt.assess.map_strata import blocks_of, class_codes, count_strata
from geoxt.grid import coordinates, full_window, grid_of, to_rasterio
from geoxt.legend import Legend

CLASSES = Legend(tuple(range(1, 13)), tuple(f"class {code}" for code in range(1, 13)))
"""Classes of the map."""
FRACTIONS = np.r_[0.35, 0.2, np.full(10, 0.045)]
"""Fraction of the map of each class."""
STRIP = 512
"""Rows that are written at once."""
BANDS = 10
"""Features of the layer whose applicability is computed."""


def grid_of_size(size: int) -> GeoBox:
    """Return a square grid of 30 m in UTM."""
    return GeoBox.from_bbox((3e5, 4e6, 3e5 + 30 * size, 4e6 + 30 * size), "EPSG:32617", shape=(size, size))


def write_strips(path: Path, size: int, strip: Callable[[int, int], np.ndarray], nodata: float) -> None:
    """Write a tiled GeoTIFF strip by strip, so that the peak memory is not that of making it."""
    first = strip(0, 1)
    profile = {"driver": "GTiff", "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
    profile |= {"zlevel": 1, "height": size, "width": size, "count": len(first), "dtype": first.dtype, "nodata": nodata}
    with rasterio.open(path, "w", **profile, **to_rasterio(grid_of_size(size))) as file:
        for row in range(0, size, STRIP):
            height = min(STRIP, size - row)
            file.write(strip(row, height), window=((row, row + height), (0, size)))


def class_map(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Return patches of class codes, as of a land-cover map."""
    rng = np.random.default_rng(seed)
    patches = rng.choice(CLASSES.codes, [-(-side // 16) for side in shape], p=FRACTIONS).astype("uint8")
    return np.repeat(np.repeat(patches, 16, 0), 16, 1)[: shape[0], : shape[1]]


def features(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return bands (band, …) that vary along three axes, with noise."""
    axes = np.random.default_rng(5).normal(size=(3, BANDS))
    rng = np.random.default_rng(seed)
    bands = np.tensordot(axes.T, rng.normal(size=(3, *shape)), 1)
    return (1000 + 200 * bands + 40 * rng.normal(size=bands.shape)).astype("int16")


def measure_strata(folder: Path, size: int) -> None:
    """Print the time to read a map, and to count its strata."""
    path = folder / "map.tif"
    write_strips(path, size, lambda row, height: class_map((height, size), row)[None], nodata=0)
    layer = geoxt.open_cogs(path).squeeze(drop=True)
    read = class_codes(layer, "map")

    def read_all() -> None:
        for window in blocks_of(full_window(grid_of(layer))):
            read(window)

    for call in (read_all, lambda: count_strata(layer, read, CLASSES)):
        call()  # once before, so that both read from the page cache
    seconds = [min(timed(call) for _ in range(3)) for call in (read_all, lambda: count_strata(layer, read, CLASSES))]
    rates = [size**2 / 1e6 / duration for duration in seconds]
    print(f"strata of {size:,} x {size:,}: {seconds[1]:.2f} s, read alone {seconds[0]:.2f} s")
    print(f"  {rates[1]:,.0f} Mpixel/s of {rates[0]:,.0f}: {rates[1] / rates[0]:.0%} of the read rate")


def measure_applicability(folder: Path, size: int, training: int) -> None:
    """Print time and peak memory of the dissimilarity index of a layer."""
    path = folder / "bands.tif"
    write_strips(path, size, lambda row, height: features((height, size), row), nodata=-1)
    layer = geoxt.open_cogs(path).squeeze(drop=True)
    train = features((training,), 2**20).T.astype(float)
    before = peak_mib()
    start = time.perf_counter()
    folds = np.arange(training) % 5
    area = assess.applicability(train, layer, folds=folds)
    fitted = time.perf_counter() - start
    applicable = 0
    start = time.perf_counter()
    for row in range(0, size, 1024):  # a writer holds a row of chunks
        applicable += int((area["applicable"][row : row + 1024].to_numpy() == 1).sum())
    seconds = time.perf_counter() - start
    print(f"applicability of {size:,} x {size:,} x {BANDS} against {training:,} training pixels: {seconds:.1f} s")
    print(
        f"  {seconds / size**2 * 1e6:.1f} µs a pixel, {applicable / size**2:.1%} applicable, threshold {fitted:.1f} s"
    )
    print(f"  peak memory {peak_mib():,.0f} MiB, {before:,.0f} MiB before")


def measure_estimates(draws: int, size: int = 200) -> None:
    """Print the mean estimate and the coverage of intervals over samples of a map of known accuracy."""
    grid = grid_of_size(size)
    reference = class_map((size, size), 1)
    rng = np.random.default_rng(0)
    codes = np.where(rng.random(reference.shape) < 0.85, reference, class_map((size, size), 2))
    layer = xr.DataArray(codes, dims=("y", "x"), coords=coordinates(grid), attrs=CLASSES.attrs(), name="map")
    accuracy, names = (codes == reference).mean(), dict(zip(CLASSES.codes, CLASSES.names, strict=True))
    values, inside = [], 0
    start = time.perf_counter()
    for seed in range(draws):
        sample = assess.sample_design(layer, 300, min_per_class=5, seed=seed)
        sample["reference"] = [names[code] for code in reference[sample["row"], sample["col"]].tolist()]
        overall = assess.estimate(sample).overall
        values.append(overall.value)
        inside += abs(overall.value - accuracy) <= overall.ci95
    seconds = time.perf_counter() - start
    print(f"overall accuracy {accuracy:.4f}: {draws:,} samples of 300 pixels, mean estimate {np.mean(values):.4f}")
    print(f"  95 % intervals contain it in {inside / draws:.1%}; {seconds / draws * 1e3:.0f} ms a sample")


def timed(call) -> float:
    """Return the duration of a call in seconds."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak_mib() -> float:
    """Return the peak memory of the process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Parse arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--map", type=int, default=20_000, help="side of the map in pixels")
    parser.add_argument("--applicability", type=int, default=4_096, help="side of the layer in pixels")
    parser.add_argument("--training", type=int, default=10_000, help="training pixels")
    parser.add_argument("--draws", type=int, default=500, help="samples of the simulation")
    parser.add_argument("--workers", type=int, default=2, help="dask threads")
    options = parser.parse_args()
    os.environ.setdefault("GDAL_CACHEMAX", "8")  # megabytes
    with tempfile.TemporaryDirectory() as name, dask.config.set(scheduler="threads", num_workers=options.workers):
        measure_applicability(Path(name), options.applicability, options.training)
        measure_strata(Path(name), options.map)
    measure_estimates(options.draws)


if __name__ == "__main__":
    main()

"""Rates of assessing maps, the coverage of intervals in a simulation, and of conformal sets on real labels.

    python benchmarks/assess.py                      # the sizes of the targets: about 5 minutes on 2 cores
    python benchmarks/assess.py --map 2000 --applicability 256 --training 500 --draws 50   # seconds
    python benchmarks/assess.py --only applicability # one of the measurements, with time, CPU and peak memory
    python benchmarks/assess.py --image 'lsat7_2000_[1-57]0.tif' --labels landclass96.tif --write   # NC Landsat, too

The map is a GeoTIFF of 12 classes in a temporary folder. Its strata are counted in one pass, against reading all blocks
of the same map; the cache of decoded blocks is kept small, so that both decode the file. The features are 10 correlated
bands; the layers are computed chunk by chunk on two threads. Peak memory is that of the process. Estimates are drawn
from a map whose accuracy is known: their mean, and the fraction of 95 % intervals that contain it. Rates are of wall
time; CPU times depend less on other processes of the machine.

With an image and labels, the U-Net of `geoxt demo` is trained for each seed, which sets the split; conformal sets are
calibrated on a part of its test blocks, and their coverage is measured on the others. `--write` writes
results/assess.md.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import dask
import numpy as np
import rasterio
import xarray as xr
from odc.geo.geobox import GeoBox
from report import machine, write

import geoxt
from geoxt import assess
from geoxt.alignment import intersection
from geoxt.assess.conformal_sets import ConformalSets
from geoxt.assess.map_strata import blocks_of, class_codes, count_strata
from geoxt.cli.demo import Demo, run
from geoxt.grid import coordinates, full_window, grid_of, to_rasterio
from geoxt.legend import Legend
from geoxt.regions.region import GridRegion
from geoxt.windows import Window

CLASSES = Legend(tuple(range(1, 13)), tuple(f"class {code}" for code in range(1, 13)))
"""Classes of the map."""
FRACTIONS = np.r_[0.35, 0.2, np.full(10, 0.045)]
"""Fraction of the map of each class."""
STRIP = 512
"""Rows that are written at once."""
BANDS = 10
"""Features of the layer whose applicability is computed."""
LINES: list[str] = []
"""Printed lines."""


def say(text: str) -> None:
    """Print a line, and keep it for the results."""
    LINES.append(text)
    print(text, flush=True)


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
    calls = (read_all, lambda: count_strata(layer, read, CLASSES))
    times = [[timed(call) for _ in range(3)] for call in calls]
    seconds, cpu = ([min(part[k] for part in runs) for runs in times] for k in range(2))
    rates = [size**2 / 1e6 / duration for duration in seconds]
    say(f"strata of {size:,} x {size:,}: {seconds[1]:.2f} s, read alone {seconds[0]:.2f} s")
    say(f"  {rates[1]:,.0f} Mpixel/s of {rates[0]:,.0f}: {rates[1] / rates[0]:.0%} of the read rate")
    say(f"  CPU {cpu[1]:.2f} s, read alone {cpu[0]:.2f} s: {cpu[0] / cpu[1]:.0%}")


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
    start, cpu = time.perf_counter(), time.process_time()
    for row in range(0, size, 1024):  # a writer holds a row of chunks
        applicable += int((area["applicable"][row : row + 1024].to_numpy() == 1).sum())
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    say(f"applicability of {size:,} x {size:,} x {BANDS} against {training:,} training pixels: {seconds:.1f} s")
    say(f"  CPU {cpu:.1f} s, {cpu / size**2 * 1e6:.1f} µs a pixel; threshold {fitted:.1f} s")
    say(f"  {applicable / size**2:.1%} applicable")
    say(f"  peak memory {peak_mib():,.0f} MiB, {before:,.0f} MiB before")


def measure_estimates(draws: int, size: int = 200) -> None:
    """Print the mean estimate and the coverage of intervals over samples of a map of known accuracy."""
    grid = grid_of_size(size)
    reference = class_map((size, size), 1)
    rng = np.random.default_rng(0)
    codes = np.where(rng.random(reference.shape) < 0.85, reference, class_map((size, size), 2))
    layer = xr.DataArray(codes, dims=("y", "x"), coords=coordinates(grid), attrs=CLASSES.attrs(), name="map")
    accuracy, names = (codes == reference).mean(), dict(zip(CLASSES.codes, CLASSES.names, strict=True))
    shares = (
        np.array([(reference == code).mean() for code in CLASSES.codes]) * size**2 * 0.09
    )  # hectares of 30 m pixels
    values, inside, inside_area, normal = [], 0, np.zeros(len(shares)), np.zeros(len(shares))
    start = time.process_time()
    for seed in range(draws):
        sample = assess.sample_design(layer, 300, min_per_class=5, seed=seed)
        sample["reference"] = [names[code] for code in reference[sample["row"], sample["col"]].tolist()]
        table = assess.estimate(sample)
        values.append(table.overall.value)
        inside += table.overall.lower <= accuracy <= table.overall.upper
        order = [table.classes.index(name) for name in CLASSES.names]
        value, lower, upper, ci95 = (getattr(table.area, k)[order] for k in ("value", "lower", "upper", "ci95"))
        inside_area += (lower <= shares) & (shares <= upper)
        normal += np.abs(value - shares) <= ci95
    seconds = time.process_time() - start
    say(f"overall accuracy {accuracy:.4f}: {draws:,} samples of 300 pixels, mean estimate {np.mean(values):.4f}")
    say(f"  95 % intervals contain it in {inside / draws:.1%}; CPU {seconds / draws * 1e3:.0f} ms a sample")
    for title, covered in (("95 % intervals", inside_area), ("1.96 standard errors", normal)):
        ranges = f"{covered.min() / draws:.1%} to {covered.max() / draws:.1%} by class"
        say(f"  areas: {title} contain them in {covered.mean() / draws:.1%}, {ranges}")


def confusion(fractions: Sequence[float], accuracies: Sequence[float]) -> np.ndarray:
    """Return the fractions of the pixels mapped as each class by reference class; errors are as frequent as classes."""
    shares = np.array(fractions)
    errors = np.where(np.eye(len(shares), dtype=bool), 0, shares)
    errors *= ((1 - np.array(accuracies)) / errors.sum(1))[:, None]
    return errors + np.diag(accuracies)


def populations() -> dict[str, tuple[np.ndarray, np.ndarray, Sequence[int]]]:
    """Return known populations: fractions of strata, cells (stratum, map class, reference class), sample sizes."""
    rare = [0.6, 0.3, 0.06, 0.02, 0.015, 0.005], [0.95, 0.9, 0.8, 0.75, 0.7, 0.85]
    common, many = ([0.5, 0.3, 0.2], [0.85, 0.8, 0.9]), (FRACTIONS, [0.87] * 12)
    binary = [0.98, 0.02], [0.995, 0.7]
    strata = {
        "12 classes, proportional": (*many, [100, 60, *[14] * 10]),
        "12 classes, equal": (*many, [50] * 12),
        "rare classes, proportional, at least 30": (*rare, [230, 150, 30, 30, 30, 30]),
        "rare classes, equal": (*rare, [50] * 6),
        "rare classes, Neyman, at least 30": (*rare, [249, 206, 55, 30, 30, 30]),
        "3 classes, 60 pixels": (*common, [30, 18, 12]),
        "change of 2 % of the area": (*binary, [225, 75]),
    }
    result = {}
    for title, (fractions, accuracies, sizes) in strata.items():
        table = confusion(fractions, accuracies)
        cells = np.eye(len(table))[:, :, None] * table[:, None, :]  # the strata are the classes of the map
        result[title] = np.array(fractions), cells, sizes
    fractions, cells, _ = result["rare classes, equal"]
    result["rare classes, simple"] = np.ones(1), np.tensordot(fractions, cells, 1)[None], [600]
    mixtures = np.random.default_rng(1).dirichlet(8 * np.array([0.55, 0.35, 0.1]), 4)
    table = confusion([0.55, 0.35, 0.1], [0.9, 0.85, 0.8])
    regions = mixtures[:, :, None] * table
    result["4 regions, proportional"] = np.array([0.4, 0.3, 0.2, 0.1]), regions, [80, 60, 40, 20]
    result["4 regions, equal"] = np.array([0.4, 0.3, 0.2, 0.1]), regions, [100] * 4
    return result


def measure_coverage(draws: int) -> None:
    """Print how many intervals of accuracies and areas contain those of known populations."""
    say(f"coverage of 95 % intervals in {draws:,} samples: mean, range by class (1.96 standard errors: mean, minimum)")
    start, names = time.process_time(), ("overall", "area", "users", "producers", "f1")
    collected: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for title, (shares, cells, sizes) in populations().items():
        rng, table = np.random.default_rng(0), np.tensordot(shares, cells, 1)
        right, mapped, area = table.diagonal(), table.sum(1), table.sum(0)
        truths = (right.sum(), area, right / mapped, right / area, 2 * right / (mapped + area))
        inside: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for _ in range(draws):
            counts = [rng.multinomial(n, p.ravel()).reshape(p.shape) for n, p in zip(sizes, cells, strict=True)]
            drawn = assess.estimate_from_counts(np.array(counts), shares)
            for name, truth in zip(names, truths, strict=True):
                part = getattr(drawn, name)
                near = np.abs(part.value - truth) <= part.ci95
                both = np.atleast_2d(np.stack([(part.lower <= truth) & (truth <= part.upper), near]).astype(float).T)
                inside[name].append(np.where(np.isnan(np.atleast_1d(part.value))[:, None], np.nan, both))
        say(f"  {title}: {sum(sizes)} pixels")
        for name, covered in inside.items():
            by_class = np.nanmean(covered, 0)
            collected[name].append(by_class)
            say(f"    {name:9} {_range(by_class)}")
    say(f"  all; CPU {(time.process_time() - start) / draws / len(populations()) * 1e3:.1f} ms a sample")
    for name, parts in collected.items():
        by_class = np.concatenate(parts)
        share = ((by_class[:, 0] >= 0.93) & (by_class[:, 0] <= 0.97)).mean()
        say(f"    {name:9} {_range(by_class)}; {share:.0%} of {len(by_class)} within 93 to 97 %")


def _range(by_class: np.ndarray) -> str:
    mean, low, high = by_class.mean(0), by_class.min(0), by_class.max(0)
    return f"{mean[0]:.1%}, {low[0]:.1%} to {high[0]:.1%} ({mean[1]:.1%}, {low[1]:.1%})"


def measure_conformal(images: Sequence[str], labels: str, *, seeds: int, epochs: int, alpha: float = 0.1) -> None:
    """Print nominal and measured coverage of conformal sets on held-out blocks, by class."""
    mask = geoxt.open_cogs(labels, categorical=True, resampling="nearest")
    data = intersection(image=geoxt.open_cogs(images), mask=mask, grid="image")
    options = {
        "one threshold": {},
        "thresholds by class": {"class_conditional": True},
        "one threshold, exchangeable blocks": {"exchangeable": "blocks", "test_fraction": 0.3},
    }
    results: dict[str, list[ConformalSets]] = {title: [] for title in options}
    start, seconds = time.process_time(), 0.0
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as out, warnings.catch_warnings():
            warnings.simplefilter("ignore", geoxt.errors.AssessmentWarning)  # of rare classes, which the table shows
            job = Demo(out=Path(out), seed=seed, image=tuple(images), labels=labels, epochs=epochs, progress="none")
            report = run(job)
            windows = tuple(Window(*rectangle) for rectangle in report.metrics["blocks"]["test"])
            region = GridRegion(grid_of(data["image"]), windows)
            began = time.process_time()
            for title, sets in results.items():
                model = report.files["model.ckpt"]
                sets.append(assess.conformal(model, data, alpha, region=region, seed=seed, **options[title]))
            seconds += time.process_time() - began
    total = time.process_time() - start
    say(f"conformal sets of {seeds} models ({epochs} epochs each), nominal coverage {1 - alpha:.0%}, on test blocks:")
    for title, sets in results.items():
        covered = [prediction_set.coverage for prediction_set in sets]
        size = np.mean(
            [
                prediction_set.sizes @ np.arange(len(prediction_set.sizes)) / prediction_set.sizes.sum()
                for prediction_set in sets
            ]
        )
        by_seed = ", ".join(f"{s.coverage:.3f} ± {s.coverage_ci95:.3f}" for s in sets)
        say(f"  {title}: coverage by seed {by_seed}; mean {np.mean(covered):.3f}; {size:.2f} classes a set")
        names = sorted({name for prediction_set in sets for name in prediction_set.classes})
        for name in names:
            by_seed = [
                (prediction_set.class_coverage[k], prediction_set.test_pixels[k])
                for prediction_set in sets
                for k, n in enumerate(prediction_set.classes)
                if n == name
            ]
            values = ", ".join("-" if np.isnan(value) else f"{value:.3f}" for value, _ in by_seed)
            say(f"    {name}: {values} ({sum(int(count) for _, count in by_seed):,} pixels)")
        blocks = ", ".join("{} + {}".format(*prediction_set.blocks) for prediction_set in sets)
        say(f"    blocks of calibration and test: {blocks}")
    say(f"  CPU {total:.0f} s with training, conformal {seconds / (len(options) * seeds):.1f} s a call")


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Return the duration and the CPU time of a call in seconds."""
    start, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - start, time.process_time() - cpu


def peak_mib() -> float:
    """Return the peak memory of the process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Parse arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--map", type=int, default=20_000, help="side of the map in pixels")
    parser.add_argument("--applicability", type=int, default=4_096, help="side of the layer in pixels")
    parser.add_argument("--training", type=int, default=10_000, help="training pixels")
    parser.add_argument("--draws", type=int, default=2_000, help="samples of the simulation")
    parser.add_argument("--workers", type=int, default=2, help="dask threads")
    parser.add_argument("--image", nargs="+", help="image whose labels are used for conformal sets")
    parser.add_argument("--labels", help="raster of class codes")
    parser.add_argument("--seeds", type=int, default=3, help="models of conformal sets")
    parser.add_argument("--epochs", type=int, default=15, help="epochs of each")
    parser.add_argument(
        "--only", choices=["applicability", "strata", "estimates", "coverage", "conformal"], help="one measurement"
    )
    parser.add_argument("--write", action="store_true", help="write results/assess.md")
    options = parser.parse_args()
    os.environ.setdefault("GDAL_CACHEMAX", "8")  # megabytes
    if options.only == "conformal" and not (options.image and options.labels):
        parser.error("--only conformal needs --image and --labels")

    def measured(name: str) -> bool:
        return options.only in {None, name}

    with tempfile.TemporaryDirectory() as name, dask.config.set(scheduler="threads", num_workers=options.workers):
        if measured("applicability"):
            measure_applicability(Path(name), options.applicability, options.training)
        if measured("strata"):
            measure_strata(Path(name), options.map)
    if measured("estimates"):
        measure_estimates(options.draws)
    if measured("coverage"):
        measure_coverage(options.draws)
    if measured("conformal") and options.image and options.labels:
        measure_conformal(options.image, options.labels, seeds=options.seeds, epochs=options.epochs)
    if options.write:
        arguments = " ".join(sys.argv[1:])
        text = f"{machine('numpy', 'torch')} `python benchmarks/assess.py {arguments}`."
        write("assess.md", ["# Assessing maps", text, "```text\n" + "\n".join(LINES) + "\n```"])


if __name__ == "__main__":
    main()

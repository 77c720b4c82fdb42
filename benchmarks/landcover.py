"""Land cover from a Landsat 7 scene of Raleigh: a network and a recipe of choice against `geoxt demo`, on its blocks.

    python benchmarks/landcover.py --out landcover        # trains missing runs, writes results/landcover.md

Each seed has the split that the demo makes of it. The demo learns from the training blocks and chooses its epoch on
those for validation; here the number of epochs is fixed, and both are learnt from. The test blocks are the same.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import report
import torch
import xarray as xr
from torch import Tensor, nn

from geoxt.alignment import align, intersection
from geoxt.cli import demo
from geoxt.cli.experiment import experiment_command
from geoxt.inference import predict
from geoxt.layers import open_cogs
from geoxt.metrics.maps import score
from geoxt.models import Network, from_checkpoint
from geoxt.samplers import GridRegion, Region
from geoxt.splits import Split, by_block
from geoxt.trainers import WindowDataModule
from geoxt.trainers.tasks.flips import dihedral

BLOCK = 64
"""Side of the demo's blocks for a scene of this size, in pixels."""
SHARED = (10, 20, 30, 40, 50, 70)
"""Bands of 28.5 m, which the demo takes."""
LABELS = "landclass96.tif"
CONFIG = Path(__file__).with_name("landcover.yaml")


class Raleigh(WindowDataModule):
    """Windows of the scene and of its land cover; the split is that of the demo for the same seed.

    Parameters
    ----------
    folder
        Where `lsat7_2000_*.tif` and `landclass96.tif` are.
    bands
        Numbers of the bands, as the files have them.
    size, batch_size, length, seed
        As for `DataModule`.
    """

    def __init__(
        self, folder: str, *, bands: list[int], size: int = 64, batch_size: int = 16, length: int = 240, seed: int = 0
    ) -> None:
        data = read(Path(folder), bands)
        split = all_but_test(by_block(data, size=BLOCK, seed=seed))
        super().__init__(data, split, size=size, batch_size=batch_size, length=length, seed=seed)


def read(folder: Path, bands: Sequence[int]) -> xr.Dataset:
    """Return `image` (band, y, x) and `mask` (y, x) on the grid of the bands of 28.5 m; the others come onto it."""
    shared = open_cogs([str(file(folder, band)) for band in bands if band in SHARED])
    labels = open_cogs(folder / LABELS, categorical=True, resampling="nearest")
    data = intersection(image=shared, mask=labels, grid="image")
    others = [align(open_cogs(file(folder, band)), data["image"]) for band in bands if band not in SHARED]
    image = xr.concat([data["image"], *others], dim="band") if others else data["image"]
    return xr.Dataset({"image": image, "mask": data["mask"]})


def file(folder: Path, band: int) -> Path:
    """Return the path of a band."""
    return folder / f"lsat7_2000_{band}.tif"


def all_but_test(split: Split) -> Split:
    """Return a split with the validation blocks in the training part; windows may cross blocks."""
    train, val = (split.parts[part].nodes[""] for part in ("train", "val"))
    learnt = GridRegion(split.grid, (*train, *val), joined=True)
    return replace(split, train=Region({"": learnt}), val=Region({"": GridRegion(split.grid, ())}))


class Turned(nn.Module):
    """Test-time augmentation: mean probabilities over eight flips and quarter turns."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, K, H, W) of images (N, C, H, W)."""
        found = []
        for turns, flip in product(range(4), (False, True)):
            share = self.network(dihedral(image, turns=turns, flip=flip)).softmax(dim=1)
            back = torch.rot90(share, -turns, (-2, -1))
            found.append(back.flip(-1) if flip else back)
        return torch.stack(found).mean(dim=0).log()


def simple(folder: Path, out: Path, seed: int) -> dict:
    """Return the scores of the demo for a seed, from an earlier run if present."""
    kept = out / f"demo-{seed}"
    if not (kept / "metrics.json").exists():
        image = tuple(str(file(folder, band)) for band in SHARED)
        job = demo.Demo(out=kept, seed=seed, image=image, labels=str(folder / LABELS), progress="none")
        demo.run(job)
    return json.loads((kept / "metrics.json").read_text())


def scored(folder: Path, run: dict, model: Path) -> dict:
    """Return the scores of a run's map on the demo's test blocks."""
    network = from_checkpoint(model)
    data = read(folder, [int(name.rpartition("_")[2]) for name in network.card.bands])
    found = predict(data["image"], Turned(network), legend=network.card.legend, batch_size=4)
    return score(found.compute(), data["mask"], region=by_block(data, size=BLOCK, seed=run["seed"]).test)


def write(rows: Sequence[tuple[int, dict, dict]]) -> Path:
    """Write the results."""
    cells, names = [], ("accuracy", "miou")
    for seed, base, ours in rows:
        both = [f"{100 * one[name]:.1f}" for name in names for one in (base, ours)]
        cells.append([str(seed), f"{ours['pixels']:,}", f"{100 * base['majority_accuracy']:.1f}", *both])
    means = [
        f"{100 * statistics.fmean(values):.1f} ± {100 * statistics.stdev(values):.1f}"
        for values in ([row[at][name] for row in rows] for name in names for at in (1, 2))
    ]
    gains = [ours["accuracy"] - base["accuracy"] for _, base, ours in rows]
    head = ["seed", "test pixels", "most frequent class", "accuracy, demo", "accuracy", "mean IoU, demo", "mean IoU"]
    about = (
        "Landsat 7 of Raleigh, 2000, and a land-cover map of 1996 (7 classes). Each seed has its own split into blocks "
        f"of {BLOCK} px, as `geoxt demo` makes it; scores are those of the map on the test blocks, in percent, with "
        "mean ± sample standard deviation (n - 1) below. By seed, accuracy is "
        f"{', '.join(f'{100 * gain:+.1f}' for gain in gains)} points from the demo's."
    )
    how = (
        "The demo: a U-Net, six bands of 28.5 m, 15 epochs over the training blocks, the best on validation blocks. "
        "Here, as [landcover.yaml](../landcover.yaml) says: the thermal and the panchromatic band too, more "
        "epochs over the training and validation blocks, and the map averaged over all flips and quarter turns."
    )
    ran = "`python benchmarks/landcover.py --out landcover`. " + report.machine("torch", "rasterio")
    table = report.table(head, [*cells, ["mean", "", "", *means]])
    return report.write("landcover.md", ["# Land cover of Raleigh", ran, about, table, how])


def main() -> None:
    """Train, score and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/nc-landsat7"))
    parser.add_argument("--out", type=Path, default=Path("landcover"), help="folder of the experiment")
    args = parser.parse_args()
    experiment_command(["--config", str(CONFIG), "--out", str(args.out)])
    rows = []
    for path in sorted((args.out / "runs").glob("*/result.json")):
        run = json.loads(path.read_text())
        found = scored(args.data, run, path.with_name("best.ckpt"))
        print(run["seed"], found)
        rows.append((run["seed"], simple(args.data, args.out, run["seed"]), found))
    print(write(rows).read_text())


if __name__ == "__main__":
    main()

"""Land cover from a Landsat 7 scene of Raleigh: a tuned model against `geoxt demo` on the same test blocks.

    python benchmarks/landcover.py --out landcover        # trains missing runs, writes results/landcover.md

Each seed has the split of the demo for this seed. The demo trains on the training blocks and selects the epoch on the
validation blocks. The tuned model trains on both for a fixed number of epochs. Both are scored on the test blocks.
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
SHARED_BANDS = (10, 20, 30, 40, 50, 70)
"""Bands of 28.5 m, the bands of the demo."""
LABELS = "landclass96.tif"
CONFIG = Path(__file__).with_name("landcover.yaml")


class RaleighDataModule(WindowDataModule):
    """Windows of the scene and of its land-cover map, with the split of the demo for the same seed.

    Parameters
    ----------
    folder
        Folder of `lsat7_2000_*.tif` and `landclass96.tif`.
    bands
        Band numbers, as in the file names.
    size, batch_size, length, seed
        As for `WindowDataModule`.
    """

    def __init__(
        self, folder: str, *, bands: list[int], size: int = 64, batch_size: int = 16, length: int = 240, seed: int = 0
    ) -> None:
        data = read(Path(folder), bands)
        split = merge_train_val(by_block(data, size=BLOCK, seed=seed))
        super().__init__(data, split, size=size, batch_size=batch_size, length=length, seed=seed)


def read(folder: Path, bands: Sequence[int]) -> xr.Dataset:
    """Return `image` (band, y, x) and `mask` (y, x), with all bands aligned to the grid of 28.5 m."""
    shared = open_cogs([str(band_path(folder, band)) for band in bands if band in SHARED_BANDS])
    labels = open_cogs(folder / LABELS, categorical=True, resampling="nearest")
    data = intersection(image=shared, mask=labels, grid="image")
    others = [align(open_cogs(band_path(folder, band)), data["image"]) for band in bands if band not in SHARED_BANDS]
    image = xr.concat([data["image"], *others], dim="band") if others else data["image"]
    return xr.Dataset({"image": image, "mask": data["mask"]})


def band_path(folder: Path, band: int) -> Path:
    """Return the path of a band."""
    return folder / f"lsat7_2000_{band}.tif"


def merge_train_val(split: Split) -> Split:
    """Return a split with the validation blocks in the training part; windows may extend over several blocks."""
    train, val = (split.parts[part].nodes[""] for part in ("train", "val"))
    training = GridRegion(split.grid, (*train, *val), joined=True)
    return replace(split, train=Region({"": training}), val=Region({"": GridRegion(split.grid, ())}))


class TestTimeAugmentation(nn.Module):
    """Mean probabilities over the eight flips and quarter turns of the input."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, K, H, W) of images (N, C, H, W)."""
        outputs = []
        for turns, flip in product(range(4), (False, True)):
            probabilities = self.network(dihedral(image, turns=turns, flip=flip)).softmax(dim=1)
            restored = torch.rot90(probabilities, -turns, (-2, -1))
            outputs.append(restored.flip(-1) if flip else restored)
        return torch.stack(outputs).mean(dim=0).log()


def demo_scores(folder: Path, out: Path, seed: int) -> dict:
    """Return the scores of the demo for a seed, from `out` if it has them."""
    demo_folder = out / f"demo-{seed}"
    if not (demo_folder / "metrics.json").exists():
        image = tuple(str(band_path(folder, band)) for band in SHARED_BANDS)
        job = demo.Demo(out=demo_folder, seed=seed, image=image, labels=str(folder / LABELS), progress="none")
        demo.run(job)
    return json.loads((demo_folder / "metrics.json").read_text())


def model_scores(folder: Path, run: dict, model: Path) -> dict:
    """Return the scores of a run's map on the test blocks of the demo."""
    network = from_checkpoint(model)
    data = read(folder, [int(name.rpartition("_")[2]) for name in network.card.bands])
    codes = predict(data["image"], TestTimeAugmentation(network), legend=network.card.legend, batch_size=4)
    return score(codes.compute(), data["mask"], region=by_block(data, size=BLOCK, seed=run["seed"]).test)


def write(rows: Sequence[tuple[int, dict, dict]]) -> Path:
    """Write the results."""
    cells, names = [], ("accuracy", "miou")
    for seed, baseline, tuned in rows:
        scores = [f"{100 * values[name]:.1f}" for name in names for values in (baseline, tuned)]
        cells.append([str(seed), f"{tuned['pixels']:,}", f"{100 * baseline['majority_accuracy']:.1f}", *scores])
    means = [
        f"{100 * statistics.fmean(values):.1f} ± {100 * statistics.stdev(values):.1f}"
        for values in ([row[column][name] for row in rows] for name in names for column in (1, 2))
    ]
    gains = [tuned["accuracy"] - baseline["accuracy"] for _, baseline, tuned in rows]
    head = [
        "seed", "test pixels", "accuracy of the most frequent class", "accuracy, demo", "accuracy, tuned",
        "mean IoU, demo", "mean IoU, tuned",
    ]  # fmt: skip
    about = (
        "Landsat 7 of Raleigh, 2000, and a land-cover map of 1996 (7 classes). Each seed has another split into blocks "
        f"of {BLOCK} px, equal to the split of `geoxt demo`. Scores are of the map on the test blocks, in percent, "
        "with mean ± sample standard deviation (n - 1) over seeds. Differences of accuracy to the demo, by seed: "
        f"{', '.join(f'{100 * gain:+.1f}' for gain in gains)} points."
    )
    methods = (
        "The demo trains a U-Net on six bands of 28.5 m for 15 epochs over the training blocks, and selects the epoch "
        "on the validation blocks. The tuned model ([landcover.yaml](../landcover.yaml)) also uses the thermal and the "
        "panchromatic band, trains for more epochs over the training and validation blocks, and averages the map over "
        "all flips and quarter turns."
    )
    command = "`python benchmarks/landcover.py --out landcover`. " + report.machine("torch", "rasterio")
    table = report.table(head, [*cells, ["mean", "", "", *means]])
    return report.write("landcover.md", ["# Land cover of Raleigh", command, about, table, methods])


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
        scores = model_scores(args.data, run, path.with_name("best.ckpt"))
        print(run["seed"], scores)
        rows.append((run["seed"], demo_scores(args.data, args.out, run["seed"]), scores))
    print(write(rows).read_text())


if __name__ == "__main__":
    main()

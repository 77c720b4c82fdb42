"""EuroSAT RGB on two cores: ImageNet weights on three seeds, random ones on one, beside the figures of the paper.

    python benchmarks/eurosat.py --out eurosat        # trains missing runs, writes results/eurosat.md

It takes about half an hour a seed on two cores; `eurosat.yaml` says what is done. Chips of the test part are seen by no
training and no choice: those of validation choose the epoch.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import report
import torch
import yaml

from geoxt.cli.experiment import experiment_command
from geoxt.models import from_checkpoint
from geoxt.trainers.datamodules.image_folder import classify, read_image_folder, stratified_split

CONFIG = Path(__file__).with_name("eurosat.yaml")
PAPER = {"ImageNet": ("98.11", "ResNet50"), "random": ("87.33", "ResNet50")}
"""Accuracy in percent and model of the TorchGeo paper (arXiv 2111.08872), by initialisation."""


def recalls(config: dict, runs: Sequence[Path]) -> str:
    """Return the table of recall per class, and its most frequent confusion, over runs."""
    data = config["data"]["init_args"]
    images, labels, classes = read_image_folder(data["path"])
    held = stratified_split(labels, data["fractions"], seed=data["split_seed"])[2]
    truth, count = labels[held], len(classes)
    seen = torch.zeros(count, count, dtype=torch.int64)
    for path in runs:
        found = classify(from_checkpoint(path), images[held], size=data["sizes"][-1]).argmax(dim=1)
        seen += torch.bincount(truth * count + found, minlength=count**2).reshape(count, count)
    rows = []
    for k, name in enumerate(classes):
        wrong = seen[k].clone()
        wrong[k] = 0
        taken = classes[int(wrong.argmax())] if wrong.any() else ""
        share = float(seen[k, k] / seen[k].sum())
        rows.append(
            [name, str(int((truth == k).sum())), f"{100 * share:.2f}", f"{taken} ({int(wrong.max())})" if taken else ""]
        )
    return report.table(["class", "chips", "recall", "most often taken for (chips, over all seeds)"], rows)


def write(config: dict, found: dict, out: Path) -> Path:
    """Write the results."""
    rows = []
    for group in found["groups"]:
        start = "random" if "weights" in group["settings"] else "ImageNet"
        scores = [100 * run["scores"]["test/accuracy"] for run in group["runs"]]
        spread = f" ± {statistics.stdev(scores):.2f}" if len(scores) > 1 else ""
        rows.append([start, str(len(scores)), f"{statistics.fmean(scores):.2f}{spread}", *PAPER[start]])
        for run, score in zip(group["runs"], scores, strict=True):
            val = 100 * run["scores"]["val/accuracy"]
            rows.append([f"{start}, seed {run['seed']}", "", f"{score:.2f} (validation {val:.2f})", "", ""])
    chosen = sorted((out / "runs").glob("epochs=*_seed=*/best.ckpt"))
    about = (
        "EfficientNet-Lite0 on the chips of EuroSAT RGB that are here, a stratified 80/10/10 split, "
        f"{config['training']['epochs']} epochs over chips of {config['data']['init_args']['sizes'][0]} to "
        f"{config['data']['init_args']['sizes'][-1]} px; scored on the test part, averaged over all flips and "
        "turns. Accuracy in percent; mean ± sample standard deviation (n - 1) over seeds. The paper's split and "
        "model are others: its figures say what is usual, and are no comparison of like with like."
    )
    ran = "`python benchmarks/eurosat.py --out eurosat`. " + report.machine("torch", "timm")
    table = report.table(["weights at the start", "seeds", "accuracy", "paper", "its model"], rows)
    parts = ["# EuroSAT RGB", ran, about, table, "By class, over the seeds from ImageNet:", recalls(config, chosen)]
    return report.write("eurosat.md", parts)


def main() -> None:
    """Train, score and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("eurosat"), help="folder of the experiment")
    args = parser.parse_args()
    experiment_command(["--config", str(CONFIG), "--out", str(args.out)])
    found = json.loads((args.out / "results.json").read_text())
    print(write(yaml.safe_load(CONFIG.read_text()), found, args.out).read_text())


if __name__ == "__main__":
    main()

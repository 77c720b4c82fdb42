"""EuroSAT RGB on two cores: ImageNet weights (three seeds) and random weights (one seed), beside published scores.

    python benchmarks/eurosat.py --out eurosat        # trains missing runs, writes results/eurosat.md

Takes about half an hour per seed on two cores. `eurosat.yaml` is the configuration. The validation images select the
epoch; the test images are used for the scores only.
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
"""Accuracy in percent and model of the TorchGeo paper (arXiv 2111.08872), by initial weights."""


def recall_table(config: dict, runs: Sequence[Path]) -> str:
    """Return the table of the recall and the most frequent wrong class of each class, over all runs."""
    data = config["data"]["init_args"]
    images, labels, classes = read_image_folder(data["path"])
    test = stratified_split(labels, data["fractions"], seed=data["split_seed"])[2]
    truth, count = labels[test], len(classes)
    confusion = torch.zeros(count, count, dtype=torch.int64)
    for path in runs:
        codes = classify(from_checkpoint(path), images[test], size=data["sizes"][-1]).argmax(dim=1)
        confusion += torch.bincount(truth * count + codes, minlength=count**2).reshape(count, count)
    rows = []
    for k, name in enumerate(classes):
        errors = confusion[k].clone()
        errors[k] = 0
        recall = float(confusion[k, k] / confusion[k].sum())
        wrong_class = f"{classes[int(errors.argmax())]} ({int(errors.max())})" if errors.any() else ""
        rows.append([name, str(int((truth == k).sum())), f"{100 * recall:.2f}", wrong_class])
    return report.table(["class", "images", "recall", "most frequent wrong class (images, over all seeds)"], rows)


def write(config: dict, results: dict, out: Path) -> Path:
    """Write the results."""
    rows = []
    for group in results["groups"]:
        weights = "random" if "weights" in group["settings"] else "ImageNet"
        scores = [100 * run["scores"]["test/accuracy"] for run in group["runs"]]
        spread = f" ± {statistics.stdev(scores):.2f}" if len(scores) > 1 else ""
        rows.append([weights, str(len(scores)), f"{statistics.fmean(scores):.2f}{spread}", *PAPER[weights]])
        for run, score in zip(group["runs"], scores, strict=True):
            val = 100 * run["scores"]["val/accuracy"]
            rows.append([f"{weights}, seed {run['seed']}", "", f"{score:.2f} (validation {val:.2f})", "", ""])
    checkpoints = sorted((out / "runs").glob("epochs=*_seed=*/best.ckpt"))
    about = (
        "EfficientNet-Lite0 on the local images of EuroSAT RGB, a stratified 80/10/10 split, "
        f"{config['training']['epochs']} epochs over images of {config['data']['init_args']['sizes'][0]} to "
        f"{config['data']['init_args']['sizes'][-1]} px; scores are of the test part, averaged over all flips and "
        "quarter turns. Accuracy in percent; mean ± sample standard deviation (n - 1) over seeds. The paper used "
        "another split and another model: its scores are for orientation, not for comparison."
    )
    command = "`python benchmarks/eurosat.py --out eurosat`. " + report.machine("torch", "timm")
    table = report.table(["initial weights", "seeds", "accuracy", "accuracy of the paper", "model of the paper"], rows)
    parts = ["# EuroSAT RGB", command, about, table, "By class, over the seeds with ImageNet weights:"]
    parts.append(recall_table(config, checkpoints))
    return report.write("eurosat.md", parts)


def main() -> None:
    """Train, score and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("eurosat"), help="folder of the experiment")
    args = parser.parse_args()
    experiment_command(["--config", str(CONFIG), "--out", str(args.out)])
    results = json.loads((args.out / "results.json").read_text())
    print(write(yaml.safe_load(CONFIG.read_text()), results, args.out).read_text())


if __name__ == "__main__":
    main()

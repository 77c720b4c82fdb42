"""Tables 3 and 4 of Stewart et al. 2022, with the results of `geoxt experiment` beside the published values.

python experiments/paper/table.py results                            # folders of results, named as the configurations
python experiments/paper/table.py results --chesapeake data/chesapeake_cvpr   # tests on the six states first
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import yaml

from geoxt.models import from_checkpoint
from geoxt.trainers import BenchmarkDataModule, Task, evaluate

PUBLISHED: Any = yaml.safe_load(Path(__file__).with_name("tables.yaml").read_text(encoding="utf-8"))
STATES = "states.json"
CHOSEN = ("model", "model_options.encoder", "weights", "recipe.lr", "recipe.loss")
SEGMENTATION = ("landcoverai", "chesapeake_cvpr", "etci2021")


def load(path: Path) -> Any:
    """Return the content of a JSON file; None without the file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def score_states(folder: Path, root: str) -> None:
    """Write the mean IoU of the best settings on the test tiles of each state, by seed."""
    runs = load(folder / "results.json")["groups"][0]["runs"]
    configs = [run["config"] for run in runs]
    scores: dict[str, list[float]] = {}
    for path in sorted(folder.glob("runs/*/result.json")):
        config = load(path)["config"]
        if config not in configs:
            continue
        network = from_checkpoint(path.with_name("best.ckpt"))
        task = Task(network.card)
        task.network.load_state_dict(network.state_dict())
        options = {k: v for k, v in config["data"]["init_args"].items() if k not in {"root", "where"}}
        for state in dict.fromkeys(row["state"] for row in PUBLISHED["table4"]):
            data = BenchmarkDataModule(root=root, **options, where={"state": state})
            scores.setdefault(state, []).append(evaluate(task, data)["miou"])
    (folder / STATES).write_text(json.dumps(scores), encoding="utf-8")


def percent(values: list[float]) -> str:
    """Return mean and sample standard deviation in percent."""
    deviation = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):.2f}{deviation}"


def ours(results: Path, row: dict[str, Any]) -> tuple[str, str]:
    """Return our value of a row and the best settings; empty for a row that was not run."""
    folder = results / str(row["config"])
    report = load(folder / "results.json") if row["config"] else None
    if report is None:
        return "", ""
    settings = ", ".join(str(report["best"][name]) for name in CHOSEN if name in report["best"])
    if "state" in row:
        return percent((load(folder / STATES) or {}).get(row["state"], [])) if (
            folder / STATES
        ).exists() else "", settings
    name = "test/miou" if row["dataset"] in SEGMENTATION else "test/accuracy"
    return percent([run["scores"][name] for run in report["groups"][0]["runs"]]), settings


def table(results: Path, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> str:
    """Return a Markdown table."""
    lines = [[*columns, "published", "geoxt", "best settings"], ["---"] * (len(columns) + 3)]
    for row in rows:
        published = f"{row['mean']:.2f}" + ("" if row["std"] is None else f" ± {row['std']:.2f}")
        lines.append([*(row[column] for column in columns), published, *ours(results, row)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments: list[str] | None = None) -> None:
    """Print both tables."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("results", type=Path, help="folder with a folder of results for each configuration")
    options.add_argument("--chesapeake", metavar="ROOT", help="folder of Chesapeake CVPR, for the scores of each state")
    args = options.parse_args(arguments)
    for name in {row["config"] for row in PUBLISHED["table4"]} if args.chesapeake else ():
        if (args.results / name / "results.json").exists():
            score_states(args.results / name, args.chesapeake)
    print("Overall accuracy, or mean IoU of LandCover.ai, Chesapeake and ETCI 2021, in percent.\n")
    print(table(args.results, PUBLISHED["table3"], ("dataset", "method", "weights", "bands")))
    print("\nMean IoU of Chesapeake by test state, trained on Delaware, in percent.\n")
    print(table(args.results, PUBLISHED["table4"], ("weights", "state")))


if __name__ == "__main__":
    main()

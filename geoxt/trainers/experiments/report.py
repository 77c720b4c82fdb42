"""Reports of experiments: the best run, mean and standard deviation over seeds, and both as Markdown tables."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from geoxt.errors import InputError
from geoxt.trainers.loop.callbacks import lower_is_better


def best_of(runs: Sequence[dict[str, Any]], grid_monitor: str | None = None) -> dict[str, Any]:
    """Return the run with the best score, by default the score that selects epochs; NaN ranks last.

    Raises
    ------
    InputError
        If a run has no such score.
    """
    monitor = grid_monitor or str(runs[0]["monitor"])
    sign = -1 if lower_is_better(monitor) else 1
    scores = [_score(run, monitor) for run in runs]
    rank = [sign * score if not math.isnan(score) else -math.inf for score in scores]
    return runs[rank.index(max(rank))]


def _score(run: Mapping[str, Any], grid_monitor: str) -> float:
    """Return the score of a run's best epoch."""
    if grid_monitor == run["monitor"]:
        return float(run["best"])
    if grid_monitor not in run["scores"]:
        logged = ", ".join(name for name in run["scores"] if name.startswith("val/"))
        msg = f"Cannot select the best settings by {grid_monitor!r}: validation logs {logged or 'no scores'}."
        remedy = "Pass {grid_monitor}, a logged score."
        raise InputError(msg, remedy=remedy, value=grid_monitor, argument="grid_monitor")
    return float(run["scores"][grid_monitor])


def summarize(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return mean and sample standard deviation (n - 1) of each score over runs; None for the deviation of one run."""
    names = [name for name in runs[0]["scores"] if all(name in run["scores"] for run in runs)]
    summary = {}
    for name in names:
        values = [run["scores"][name] for run in runs]
        deviation = statistics.stdev(values) if len(values) > 1 else None
        summary[name] = {"mean": statistics.fmean(values), "std": deviation, "n": len(values)}
    return summary


def markdown(report: Mapping[str, Any]) -> str:
    """Return a report as two Markdown tables: the grid, and the means over seeds."""
    lines = []
    if report["grid"]:
        names = list(dict.fromkeys(name for run in report["grid"] for name in run["settings"]))
        monitor = report.get("experiment", {}).get("grid_monitor") or report["grid"][0]["monitor"]
        lines += [_row([*names, "seed", monitor, "minutes"]), _rule(len(names) + 3)]
        for run in report["grid"]:
            cells = [*(format_value(run["settings"].get(name, "")) for name in names), run["seed"]]
            lines.append(_row([*cells, f"{_score(run, monitor):.4f}", f"{run['seconds'] / 60:.1f}"]))
        lines.append("")
    scores = [name for name in report["groups"][0]["summary"] if name.count("/") == 1]
    lines += [_row(["settings", "seeds", *scores]), _rule(len(scores) + 2)]
    for group in report["groups"]:
        settings = ", ".join(f"{key} {format_value(value)}" for key, value in group["settings"].items())
        means = [_mean(group["summary"].get(name)) for name in scores]
        lines.append(_row([settings or "as configured", len(group["runs"]), *means]))
    lines += ["", "Mean ± sample standard deviation (n - 1) over seeds.", ""]
    return "\n".join(lines)


def format_value(value: Any) -> str:
    """Return a setting as text for tables and folder names."""
    return "random" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _mean(score: Mapping[str, Any] | None) -> str:
    if score is None:
        return ""
    return f"{score['mean']:.4f}" + ("" if score["std"] is None else f" ± {score['std']:.4f}")


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _rule(columns: int) -> str:
    return "|" + "---|" * columns

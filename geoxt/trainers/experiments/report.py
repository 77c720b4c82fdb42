"""Tables of experiments: the best run, means and deviations over seeds, and both as markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from geoxt.trainers.loop.callbacks import lower_is_better


def best_of(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the run with the best score; one that is not a number is worse than any."""
    sign = -1 if lower_is_better(runs[0]["monitor"]) else 1
    return max(runs, key=lambda one: sign * one["best"] if not math.isnan(one["best"]) else -math.inf)


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return mean and sample standard deviation (n - 1) of each score over runs; of one run, no deviation."""
    names = [name for name in runs[0]["scores"] if all(name in one["scores"] for one in runs)]
    found = {}
    for name in names:
        values = [one["scores"][name] for one in runs]
        deviation = statistics.stdev(values) if len(values) > 1 else None
        found[name] = {"mean": statistics.fmean(values), "std": deviation, "n": len(values)}
    return found


def table(report: Mapping[str, Any]) -> str:
    """Return a report as two tables in markdown: the grid, and the means over seeds."""
    lines = []
    if report["grid"]:
        names = list(report["grid"][0]["settings"])
        monitor = report["grid"][0]["monitor"]
        lines += [_row([*names, "seed", monitor, "minutes"]), _rule(len(names) + 3)]
        for one in report["grid"]:
            cells = [*(cell(one["settings"][name]) for name in names), one["seed"]]
            lines.append(_row([*cells, f"{one['best']:.4f}", f"{one['seconds'] / 60:.1f}"]))
        lines.append("")
    scores = [name for name in report["groups"][0]["summary"] if name.count("/") == 1]
    lines += [_row(["settings", "seeds", *scores]), _rule(len(scores) + 2)]
    for group in report["groups"]:
        said = ", ".join(f"{name} {cell(value)}" for name, value in group["settings"].items()) or "as configured"
        found = [_mean(group["summary"].get(name)) for name in scores]
        lines.append(_row([said, len(group["runs"]), *found]))
    lines += ["", "Mean ± sample standard deviation (n - 1) over seeds.", ""]
    return "\n".join(lines)


def cell(value: Any) -> str:
    """Return a setting as a table shows it."""
    return "random" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _mean(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    return f"{found['mean']:.4f}" + ("" if found["std"] is None else f" ± {found['std']:.4f}")


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _rule(columns: int) -> str:
    return "|" + "---|" * columns

"""Experiments: a grid of settings on one seed, the best of them on several, and a table; each run kept on its own."""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from geoxt.errors import InputError, OutputError
from geoxt.trainers.fit import Precision, Progress, evaluate, fit
from geoxt.trainers.learning import Learning, build
from geoxt.types import SomePath

Say = Callable[[str], None]
"""Shows a line of text."""
Settings = Mapping[str, Any]
"""Values by dotted name within `Learning`, such as `recipe.lr`."""

RESULT, MODEL, TRAINING, TABLE, REPORT = "result.json", "model.ckpt", "training", "results.md", "results.json"


@dataclass(frozen=True, kw_only=True)  # without slots: jsonargparse reads defaults from __dict__
class Training:
    """How long and in what way to train; see `fit`."""

    epochs: int = 10
    """Passes over the training part."""
    precision: Precision = "32"
    """Bits that layers compute with."""
    accumulate: int = 1
    """Batches a step."""
    patience: int | None = None
    """Epochs without a better score before training stops."""
    clip: float | None = None
    """Longest gradient."""
    compiled: bool = False
    """Whether to compile the network."""
    every: int = 200
    """Steps after which a training is kept, to go on from."""


@dataclass(frozen=True, kw_only=True)  # without slots: jsonargparse reads defaults from __dict__
class Compared:
    """Settings that are run beside the best ones."""

    set: Settings
    """What differs from the best ones."""
    seeds: tuple[int, ...] = (0,)
    """On which seeds."""


@dataclass(frozen=True, kw_only=True)  # without slots: jsonargparse reads defaults from __dict__
class Experiment:
    """A grid over settings on one seed; the best by validation repeated over several."""

    learning: Learning
    """What all runs have in common."""
    training: Training = field(default_factory=Training)
    """How the best settings are trained."""
    grid: Mapping[str, list[Any]] = field(default_factory=dict)
    """Values to try, by dotted name within `learning`; all combinations are run. None: `learning` is run as it is."""
    grid_epochs: int | None = None
    """Epochs of the grid's runs; as in `training` by default."""
    grid_seed: int = 0
    """Seed of the grid's runs."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds on which the best settings are repeated: of weights, order and augmentation."""
    compare: tuple[Compared, ...] = ()
    """Other settings to run."""


def run(
    experiment: Experiment,
    data: Callable[[int, int], pl.LightningDataModule],
    out: SomePath,
    *,
    say: Say = lambda _: None,
    progress: Progress = "none",
) -> dict[str, Any]:
    """Run an experiment, or what is left of it.

    Parameters
    ----------
    experiment
        What to run.
    data
        Makes the data module of a run from its seed and its number of epochs.
    out
        Folder of the results. Each run has a folder in `runs`, with `result.json` once it is done; a run that was cut
        off goes on from its last step. At the end there are `results.md` and `results.json`.
    say
        Shows what is done.
    progress
        What to show of each training.

    Returns
    -------
    dict
        What `results.json` holds.

    Raises
    ------
    InputError
        Where a setting is unknown, or a folder holds a run of other settings.
    OutputError
        Where results cannot be written.
    """
    combinations = [
        dict(zip(experiment.grid, values, strict=True)) for values in itertools.product(*experiment.grid.values())
    ]
    for settings in [*combinations, *(one.set for one in experiment.compare)]:
        changed(experiment.learning, settings)
    runner = _Runner(experiment, data, Path(out), say, progress)
    short = replace(experiment.training, epochs=experiment.grid_epochs or experiment.training.epochs)
    tried = [runner.run(settings, experiment.grid_seed, short) for settings in combinations] if experiment.grid else []
    best: dict[str, Any] = _best(tried)["settings"] if tried else {}
    repeated = [runner.run(best, seed, experiment.training) for seed in experiment.seeds]
    others = [
        {
            "settings": best | dict(one.set),
            "runs": [runner.run(best | dict(one.set), seed, experiment.training) for seed in one.seeds],
        }
        for one in experiment.compare
    ]
    groups: list[dict[str, Any]] = [{"settings": best, "runs": repeated}, *others]
    report = {
        "experiment": _plain(experiment),
        "grid": tried,
        "best": best,
        "groups": [group | {"summary": summary(group["runs"])} for group in groups],
        "deviation": "sample (n - 1)",
    }
    _write(Path(out) / REPORT, json.dumps(report, indent=2) + "\n")
    _write(Path(out) / TABLE, table(report))
    return report


def changed(learning: Learning, settings: Settings) -> Learning:
    """Return what is learnt with some settings changed, by dotted name.

    Examples
    --------
    >>> changed(Learning(), {"recipe.lr": 0.1, "model": "fcn"}).recipe.lr
    0.1
    """
    for name, value in settings.items():
        learning = _set(learning, name.split("."), value, name)
    return learning


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
            cells = [*(_cell(one["settings"][name]) for name in names), one["seed"]]
            lines.append(_row([*cells, f"{one['best']:.4f}", f"{one['seconds'] / 60:.1f}"]))
        lines.append("")
    scores = [name for name in report["groups"][0]["summary"] if name.count("/") == 1]
    lines += [_row(["settings", "seeds", *scores]), _rule(len(scores) + 2)]
    for group in report["groups"]:
        said = ", ".join(f"{name} {_cell(value)}" for name, value in group["settings"].items()) or "as configured"
        found = [_mean(group["summary"].get(name)) for name in scores]
        lines.append(_row([said, len(group["runs"]), *found]))
    lines += ["", "Mean ± sample standard deviation (n - 1) over seeds.", ""]
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Runner:
    experiment: Experiment
    data: Callable[[int, int], pl.LightningDataModule]
    out: Path
    say: Say
    progress: Progress

    def run(self, settings: Settings, seed: int, training: Training) -> dict[str, Any]:
        """Return the result of a run: that which is kept, or else of doing it."""
        learning = changed(self.experiment.learning, settings)
        config = _plain({"learning": learning, "training": training, "seed": seed})
        label = " ".join(f"{name}={_cell(value)}" for name, value in settings.items()) or "as configured"
        folder = self.out / "runs" / _folder(settings, seed, training.epochs)
        kept = _kept(folder / RESULT, config)
        if kept is not None:
            self.say(f"kept      {label} seed={seed}: {kept['monitor']} {kept['best']:.4f}")
            return kept
        self.say(f"run       {label} seed={seed}, {training.epochs} epochs")
        result = self._train(learning, training, seed, folder, config) | {"settings": dict(settings)}
        _write(folder / RESULT, json.dumps(result, indent=2) + "\n")
        shutil.rmtree(folder / TRAINING, ignore_errors=True)
        self.say(f"          {result['monitor']} {result['best']:.4f}, {result['seconds'] / 60:.1f} min")
        return result

    def _train(
        self, learning: Learning, training: Training, seed: int, folder: Path, config: Mapping[str, Any]
    ) -> dict[str, Any]:
        _make(folder)
        _write(folder / "config.json", json.dumps(config, indent=2) + "\n")
        start, before = time.perf_counter(), _seconds(folder)
        data = self.data(seed, training.epochs)
        module: Any = build(learning, data, seed=seed)
        options = {f.name: getattr(training, f.name) for f in fields(training)}
        watch = _Watch(folder, start, before)
        history = fit(
            module,
            data,
            seed=seed,
            checkpoint=folder / MODEL,
            resume=folder / TRAINING,
            progress=self.progress,
            callbacks=[watch],
            **options,
        )
        seconds = time.perf_counter() - start + before
        scores = evaluate(module, data)
        monitor = module.monitor or "train/loss"
        best = (min if _falls(monitor) else max)(one[monitor] for one in history)
        at = next(one for one in history if one[monitor] == best)
        scores |= {name: value for name, value in at.items() if name.startswith("val/")}
        return {
            "config": config,
            "seed": seed,
            "monitor": monitor,
            "best": best,
            "scores": scores,
            "seconds": seconds,
            "history": history,
        }


class _Watch(pl.Callback):
    """Writes how long a run has taken, so that one which was cut off knows."""

    def __init__(self, folder: Path, start: float, before: float) -> None:
        super().__init__()
        self.folder, self.start, self.before = folder, start, before

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the seconds that the run has taken, those before it was cut off too."""
        del trainer, pl_module
        _write(self.folder / TRAINING / "seconds", str(time.perf_counter() - self.start + self.before))


def _seconds(folder: Path) -> float:
    file = folder / TRAINING / "seconds"
    return float(file.read_text()) if file.exists() else 0.0


def _falls(monitor: str) -> bool:
    return monitor.endswith(("loss", "rmse", "mae"))


def _best(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the run with the best score; one that is not a number is worse than any."""
    sign = -1 if _falls(runs[0]["monitor"]) else 1
    return max(runs, key=lambda one: sign * one["best"] if not math.isnan(one["best"]) else -math.inf)


def _set(value: Any, path: list[str], new: Any, name: str) -> Any:
    first, *rest = path
    if is_dataclass(value) and first in {f.name for f in fields(value)}:
        inner = _set(getattr(value, first), rest, new, name) if rest else new
        return replace(value, **{first: inner})  # type: ignore[type-var]
    if isinstance(value, Mapping):
        return {**value, first: _set(value.get(first), rest, new, name) if rest else new}
    msg = f"Cannot set {name!r} of an experiment: there is no {first!r}. Pass the dotted name of a field of Learning, "
    raise InputError(msg + "such as recipe.lr, model or weights.")


def _folder(settings: Settings, seed: int, epochs: int) -> str:
    said = [f"{name}={_cell(value)}" for name, value in settings.items()]
    return re.sub(r"[^A-Za-z0-9.=_-]+", "-", "_".join([*said, f"epochs={epochs}", f"seed={seed}"]))


def _kept(path: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a run's result, if it is done."""
    if not path.exists():
        return None
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        same = result["config"] == json.loads(json.dumps(config))
    except (OSError, ValueError, KeyError) as error:
        msg = f"Cannot read the result {str(path)!r}: {error}. Remove its folder, to do the run again."
        raise InputError(msg) from error
    if not same:
        msg = f"Cannot go on with {str(path.parent)!r}: it holds a run of another configuration. Pass another out=."
        raise InputError(msg)
    return result


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"Cannot make {str(folder)!r}: {error}. Pass another out=."
        raise OutputError(msg) from error


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    half = path.with_name(f".{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        half.write_text(text, encoding="utf-8")
        half.replace(path)
    except OSError as error:
        msg = f"Cannot write {str(path)!r}: {error}. Free space there, or pass another out=."
        raise OutputError(msg) from error


def _cell(value: Any) -> str:
    return "random" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _mean(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    return f"{found['mean']:.4f}" + ("" if found["std"] is None else f" ± {found['std']:.4f}")


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _rule(columns: int) -> str:
    return "|" + "---|" * columns

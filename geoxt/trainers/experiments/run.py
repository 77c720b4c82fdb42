"""Experiments: a grid of settings on one seed, the best of them on several, and a table; each run kept on its own."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from geoxt.errors import InputError
from geoxt.trainers.config.build import Learning, build
from geoxt.trainers.experiments.report import best_of, cell, summary, table
from geoxt.trainers.experiments.results import kept, make, to_json, write
from geoxt.trainers.loop.callbacks import lower_is_better
from geoxt.trainers.loop.fit import Precision, Progress, evaluate, fit
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
    best: dict[str, Any] = best_of(tried)["settings"] if tried else {}
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
        "experiment": to_json(experiment),
        "grid": tried,
        "best": best,
        "groups": [group | {"summary": summary(group["runs"])} for group in groups],
        "deviation": "sample (n - 1)",
    }
    write(Path(out) / REPORT, json.dumps(report, indent=2) + "\n")
    write(Path(out) / TABLE, table(report))
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
        config = to_json({"learning": learning, "training": training, "seed": seed})
        if not learning.transforms:
            del config["learning"]["transforms"]  # so that runs of before there were any are still known
        label = " ".join(f"{name}={cell(value)}" for name, value in settings.items()) or "as configured"
        folder = self.out / "runs" / _folder(settings, seed, training.epochs)
        known = kept(folder / RESULT, config)
        if known is not None:
            self.say(f"kept      {label} seed={seed}: {known['monitor']} {known['best']:.4f}")
            return known
        self.say(f"run       {label} seed={seed}, {training.epochs} epochs")
        result = self._train(learning, training, seed, folder, config) | {"settings": dict(settings)}
        write(folder / RESULT, json.dumps(result, indent=2) + "\n")
        shutil.rmtree(folder / TRAINING, ignore_errors=True)
        self.say(f"          {result['monitor']} {result['best']:.4f}, {result['seconds'] / 60:.1f} min")
        return result

    def _train(
        self, learning: Learning, training: Training, seed: int, folder: Path, config: Mapping[str, Any]
    ) -> dict[str, Any]:
        make(folder)
        write(folder / "config.json", json.dumps(config, indent=2) + "\n")
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
        monitor = module.monitor if module.monitor in history[0] else "train/loss"  # without a validation part
        best = (min if lower_is_better(monitor) else max)(one[monitor] for one in history)
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
        write(self.folder / TRAINING / "seconds", str(time.perf_counter() - self.start + self.before))


def _seconds(folder: Path) -> float:
    file = folder / TRAINING / "seconds"
    return float(file.read_text()) if file.exists() else 0.0


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
    said = [f"{name}={cell(value)}" for name, value in settings.items()]
    return re.sub(r"[^A-Za-z0-9.=_-]+", "-", "_".join([*said, f"epochs={epochs}", f"seed={seed}"]))

"""Experiments: a grid search on one seed, the best settings on several seeds, and a table of the results."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from geoxt.errors import InputError
from geoxt.trainers.config.schema import Experiment, Settings, TrainingConfig, with_settings
from geoxt.trainers.experiments.report import best_of, format_value, markdown, summarize
from geoxt.trainers.loop.data_files import require_same_files
from geoxt.trainers.loop.fit import Progress
from geoxt.trainers.loop.results import LAST, RESULT, create_folder, load_result, to_json, write_text
from geoxt.trainers.loop.resume import ResumableDataModule
from geoxt.trainers.loop.train import train
from geoxt.types import SomePath

Log = Callable[[str], None]
"""Prints a line of text."""
DataFactory = Callable[[int, int], pl.LightningDataModule]
"""Returns the data module of a run from its seed and its number of epochs."""

TABLE, REPORT = "results.md", "results.json"


def run_experiment(
    experiment: Experiment,
    config: TrainingConfig,
    data: DataFactory,
    out: SomePath,
    *,
    extra_config: Mapping[str, Any] | None = None,
    log: Log = lambda _: None,
    progress: Progress = "none",
) -> dict[str, Any]:
    """Run an experiment, or resume an interrupted one.

    Parameters
    ----------
    experiment
        Grid, seeds and comparisons.
    config
        Configuration that all runs share.
    data
        Returns the data module of a run from its seed and its number of epochs.
    out
        Folder of the results: `results.md`, `results.json`, and a folder for each run in `runs`, as `train` writes it.
        Finished runs are not repeated; an interrupted run is resumed.
    extra_config
        Further keys for the `config.yaml` of runs, such as the description of `data`.
    log
        Prints a line for each run.
    progress
        `"bar"`, `"lines"` or `"none"`, as for `fit`.

    Returns
    -------
    dict
        Contents of `results.json`.

    Raises
    ------
    InputError
        If a setting is unknown, the grid compares losses of several kinds, or `out` holds runs of another
        configuration or of local files that have changed since.
    OutputError
        If results cannot be written.

    Examples
    --------
    >>> from geoxt import trainers  # doctest: +SKIP
    >>> results = trainers.run_experiment(experiment, config, lambda seed, epochs: data, "results")  # doctest: +SKIP
    """
    combinations = experiment.combinations()
    _require_comparable(experiment, config)
    for settings in [*combinations, *(comparison.set for comparison in experiment.compare)]:
        with_settings(config, settings)  # raises before the first run
    runner = _Runner(config, data, Path(out), to_json(extra_config or {}), log, progress)
    grid = [runner.run(s, experiment.grid_seed, experiment.grid_epochs) for s in combinations]
    best: dict[str, Any] = best_of(grid, experiment.grid_monitor)["settings"] if grid else {}
    groups = [(best, experiment.seeds), *((best | dict(c.set), c.seeds) for c in experiment.compare)]
    runs = [[runner.run(settings, seed) for seed in seeds] for settings, seeds in groups]
    report = {
        "config": to_json(config),
        "experiment": to_json(experiment),
        "grid": grid,
        "best": best,
        "groups": [
            {"settings": settings, "runs": results, "summary": summarize(results)}
            for (settings, _), results in zip(groups, runs, strict=True)
        ],
        "deviation": "sample (n - 1)",
    }
    write_text(Path(out) / REPORT, json.dumps(report, indent=2) + "\n")
    write_text(Path(out) / TABLE, markdown(report))
    return report


def _require_comparable(experiment: Experiment, config: TrainingConfig) -> None:
    """Raise if the best settings would be selected by losses of different kinds.

    Raises
    ------
    InputError
        If the monitored score is a loss, and the settings have different loss functions.
    """
    monitor = experiment.grid_monitor or config.recipe.monitor or ""
    losses = {settings.get("recipe.loss", config.recipe.loss) for settings in experiment.combinations()}
    if monitor.endswith("loss") and len(losses) > 1:
        msg = f"Cannot select the best settings by {monitor!r}: the grid has the losses {', '.join(map(str, losses))}."
        remedy = "Pass {grid_monitor}, a score such as 'val/miou' or 'val/accuracy'."
        raise InputError(msg, remedy=remedy, value=monitor, argument="grid_monitor")


@dataclass(frozen=True)
class _Runner:
    config: TrainingConfig
    data: DataFactory
    out: Path
    extra_config: Mapping[str, Any]
    log: Log
    progress: Progress

    @cached_property
    def file_versions(self) -> dict[str, str]:
        """Versions of the files of the data, which do not depend on seed and epochs."""
        data = self.data(self.config.seed, self.config.training.epochs)
        return data.file_versions() if isinstance(data, ResumableDataModule) else {}

    def run(self, settings: Settings, seed: int, epochs: int | None = None) -> dict[str, Any]:
        """Return the result of a run with its settings, read from its file if the run has finished."""
        config = replace(with_settings(self.config, settings), seed=seed)
        if epochs is not None:
            config = replace(config, training=replace(config.training, epochs=epochs))
        folder = self.out / "runs" / _folder_name(settings, seed, config.training.epochs)
        label = " ".join(f"{key}={format_value(value)}" for key, value in settings.items()) or "as configured"
        result = load_result(folder / RESULT, {**self.extra_config, **to_json(asdict(config))})
        if result is not None:
            require_same_files(folder, self.file_versions)
            self.log(f"finished  {label} seed={seed}: {result['monitor']} {result['best']:.4f}")
        else:
            self.log(f"run       {label} seed={seed}, {config.training.epochs} epochs")
            create_folder(folder)
            data = self.data(seed, config.training.epochs)
            result = train(config, data, folder, extra_config=self.extra_config, progress=self.progress)
            self.log(f"          {result['monitor']} {result['best']:.4f}, {result['seconds'] / 60:.1f} min")
        (folder / LAST).unlink(missing_ok=True)
        return {**result, "settings": dict(settings)}


def _folder_name(settings: Settings, seed: int, epochs: int) -> str:
    parts = [f"{key}={format_value(value)}" for key, value in settings.items()]
    return re.sub(r"[^A-Za-z0-9.=_-]+", "-", "_".join([*parts, f"epochs={epochs}", f"seed={seed}"]))

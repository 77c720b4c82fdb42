"""One training run by a configuration: build the module, fit, evaluate, and write the results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytorch_lightning as pl
import yaml  # type: ignore[import-untyped]

from geoxt.errors import InputError
from geoxt.metrics.scores import Scores
from geoxt.trainers.config.build import build
from geoxt.trainers.config.schema import TrainingConfig
from geoxt.trainers.loop.callbacks import ElapsedTime, lower_is_better
from geoxt.trainers.loop.determinism import quiet_lightning
from geoxt.trainers.loop.fit import Progress, evaluate, fit, require_trainer_options
from geoxt.trainers.loop.processes import create_trainer, wait_for_all
from geoxt.trainers.loop.results import CONFIG, RESULT, lock_folder, require_same_config, to_json, write_text
from geoxt.types import SomePath


def train(
    config: TrainingConfig,
    data: pl.LightningDataModule,
    out: SomePath,
    *,
    extra_config: Mapping[str, Any] | None = None,
    progress: Progress = "none",
) -> dict[str, Any]:
    """Train by a configuration, or resume an interrupted run of it.

    Parameters
    ----------
    config
        Task, model, hyperparameters and seed.
    data
        Data module with `card`.
    out
        Folder of the run. It gets `config.yaml`, `best.ckpt` (the best epoch), `last.ckpt` (to resume from, after
        the first step or epoch) and `result.json`.
    extra_config
        Further keys for `config.yaml`, such as the description of `data`, so that the file can be run again.
    progress
        `"bar"`, `"lines"` or `"none"`, as for `fit`.

    Returns
    -------
    dict
        Contents of `result.json`: `config`, `seed`, `monitor` (name of the score that selects the best epoch) and
        `best` (its value), `scores` (of validation and test), `seconds` and `history` (scores of each epoch).

    Raises
    ------
    InputError
        If the configuration is invalid, or `out` holds a run of another configuration. Epochs, accelerator, interval of
        checkpoints and worker processes may differ.
    OutputError
        If `out` cannot be written, or another run is writing there.

    Examples
    --------
    >>> from geoxt import trainers  # doctest: +SKIP
    >>> result = trainers.train(config, data, "run")  # doctest: +SKIP
    >>> result["best"]  # doctest: +SKIP
    """
    out = Path(out)
    plain = {**to_json(extra_config or {}), **to_json(config)}
    options = dict(config.trainer)
    callbacks = instantiated(options.pop("callbacks", ()))
    require_trainer_options(options)
    hardware = {name: getattr(config.training, name) for name in ("accelerator", "devices", "strategy", "num_nodes")}
    with quiet_lightning():
        writes = create_trainer(**hardware, logger=False, enable_checkpointing=False).is_global_zero
    with lock_folder(out) if writes else nullcontext():
        require_same_config(out, plain)
        module: Any = build(config, data)
        if writes:
            write_text(out / CONFIG, yaml.safe_dump(plain, sort_keys=False))
        timer = ElapsedTime()
        history = fit(
            module,
            data,
            seed=config.seed,
            resume=out,
            progress=progress,
            callbacks=[timer, *callbacks],
            trainer=instantiated(options),
            **{f.name: getattr(config.training, f.name) for f in fields(config.training)},
        )
        scores = test_scores(module, evaluate(module, data, **hardware))
        result = {"config": plain, "seed": config.seed, **_best(module, history, scores)}
        result |= {"seconds": timer.seconds, "history": history}
        if writes:
            write_text(out / RESULT, json.dumps(result, indent=2) + "\n")
        wait_for_all()
    return result


def _best(module: Any, history: list[dict[str, float]], scores: Mapping[str, float]) -> dict[str, Any]:
    """Return the monitored score, its best value, and the scores of test and of the best epoch's validation."""
    monitor = module.monitor if module.monitor in history[0] else "train/loss"  # without a validation part
    best = (min if lower_is_better(monitor) else max)(epoch[monitor] for epoch in history)
    best_epoch = next(epoch for epoch in history if epoch[monitor] == best)
    validation = {name: value for name, value in best_epoch.items() if name.startswith("val/")}
    return {"monitor": monitor, "best": best, "scores": {**scores, **validation}}


def test_scores(module: Any, scores: Scores) -> dict[str, float]:
    """Return the logged scores and the loss of the test part, named as in loggers, such as `test/accuracy`."""
    if not scores:
        return {}
    loss = {"loss": scores["loss"]} if "loss" in scores else {}
    return {f"test/{name}": value for name, value in {**module.supervision.flat(scores), **loss}.items()}


def instantiated(value: Any) -> Any:
    """Return a configuration value whose descriptions (`class_path` and `init_args`) are replaced by objects.

    Raises
    ------
    InputError
        If a class cannot be imported.

    Examples
    --------
    >>> instantiated({"delta": {"class_path": "datetime.timedelta", "init_args": {"days": 2}}})
    {'delta': datetime.timedelta(days=2)}
    """
    if isinstance(value, list | tuple):
        return [instantiated(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    items = {name: instantiated(item) for name, item in value.items()}
    if "class_path" not in items:
        return items
    try:
        cls = resolve_name(items["class_path"])
    except (ImportError, AttributeError, ValueError) as error:
        msg = f"Cannot import {items['class_path']!r}: {error}."
        raise InputError(msg, remedy="Correct the class_path.") from error
    return cls(**items.get("init_args", {}))

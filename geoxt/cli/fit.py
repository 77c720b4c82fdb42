"""`geoxt fit`: one training run by a configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from geoxt.cli.configuration import configuration_errors
from geoxt.trainers.config.parser import parse, trainer_help
from geoxt.trainers.loop.callbacks import BEST
from geoxt.trainers.loop.fit import Progress
from geoxt.trainers.loop.processes import rank
from geoxt.trainers.loop.train import train


def fit_command(
    arguments: Sequence[str], *, log: Callable[[str], None] = print, progress: Progress = "lines"
) -> dict[str, Any]:
    """Train by a configuration, or resume an interrupted run of it.

    Parameters
    ----------
    arguments
        Options, such as `["--config", "fit.yaml", "--training.epochs", "3"]`.
    log
        Prints a line.
    progress
        `"bar"`, `"lines"` or `"none"`, as for `geoxt.trainers.fit`.

    Returns
    -------
    dict
        Contents of `result.json`; see `geoxt.trainers.train`.
    """
    if "--help.trainer" in arguments:
        log(trainer_help())
        return {}
    with configuration_errors("fit"):
        parsed = parse(arguments, command="fit")
        if parsed.ignored:
            log(f"ignored   {', '.join(parsed.ignored)} (for geoxt experiment)")
        data = parsed.data_module(parsed.config.seed, parsed.config.training.epochs)
        extra_config = {"data": parsed.data, "out": str(parsed.out)}
        result = train(parsed.config, data, parsed.out, extra_config=extra_config, progress=progress)
    if rank():  # another process of a run on several devices prints the same
        return result
    log(f"model     {parsed.out / BEST}")
    for name, value in result["scores"].items():
        log(f"{name:<40}{value:8.4f}")
    return result

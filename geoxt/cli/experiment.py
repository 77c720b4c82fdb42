"""`geoxt experiment`: training runs over a grid of settings and several seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from geoxt.cli.configuration import configuration_errors
from geoxt.trainers.config.parser import parse, trainer_help
from geoxt.trainers.experiments.run import TABLE, run_experiment
from geoxt.trainers.loop.fit import Progress


def experiment_command(
    arguments: Sequence[str], *, log: Callable[[str], None] = print, progress: Progress = "none"
) -> dict[str, Any]:
    """Run an experiment by a configuration, or resume an interrupted one.

    Parameters
    ----------
    arguments
        Options, such as `["--config", "experiment.yaml", "--out", "results"]`.
    log
        Prints a line.
    progress
        `"bar"`, `"lines"` or `"none"`, of each run.

    Returns
    -------
    dict
        Contents of `results.json`; see `geoxt.trainers.run_experiment`.
    """
    if "--help.trainer" in arguments:
        log(trainer_help())
        return {}
    with configuration_errors("experiment"):
        parsed = parse(arguments, command="experiment")
        report = run_experiment(
            parsed.experiment,
            parsed.config,
            parsed.data_module,
            parsed.out,
            extra_config={"data": parsed.data},
            log=log,
            progress=progress,
        )
    log(f"\n{(parsed.out / TABLE).read_text(encoding='utf-8')}")
    return report

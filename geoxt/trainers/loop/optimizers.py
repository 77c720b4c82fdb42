"""Optimisers and schedules by name: AdamW with one cycle by default, any of torch's otherwise."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from geoxt.errors import InputError
from geoxt.trainers.config.recipe import Recipe

_PLATEAU = {"patience": 3}
_CYCLE = {"pct_start": 0.2}


def optimizer_of(recipe: Recipe, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Return the optimiser that a recipe names.

    Raises
    ------
    InputError
        Where torch has none of that name, or it has no such argument.
    """
    found = getattr(torch.optim, recipe.optimizer, None)
    if not (inspect.isclass(found) and issubclass(found, Optimizer) and found is not Optimizer):
        msg = f"Cannot train with optimizer={recipe.optimizer!r}: pass one of torch.optim, such as 'AdamW' or 'SGD'."
        raise InputError(msg)
    takes = inspect.signature(found).parameters
    decay = {"weight_decay": recipe.weight_decay} if "weight_decay" in takes else {}
    options = {**decay, **recipe.optimizer_options}
    try:
        made: Any = found
        return made(list(parameters), lr=recipe.lr, **options)
    except (TypeError, ValueError) as error:
        msg = f"Cannot make the optimiser {recipe.optimizer!r} with {options}: {error}. Pass other optimizer_options=."
        raise InputError(msg) from error


def configure(recipe: Recipe, parameters: Iterable[nn.Parameter], *, steps: int, monitor: str) -> OptimizerLRScheduler:
    """Return the optimiser and schedule that a recipe names, as Lightning takes them.

    Parameters
    ----------
    recipe
        Names and options.
    parameters
        What is trained.
    steps
        Steps of the optimiser in the whole training.
    monitor
        The score that a plateau is seen by.
    """
    optimizer = optimizer_of(recipe, parameters)
    if recipe.schedule == "constant":
        return optimizer
    schedule = _schedule(recipe, optimizer, max(steps, 2))
    once = "step" if isinstance(schedule, lr_scheduler.OneCycleLR | lr_scheduler.CyclicLR) else "epoch"
    described: Any = {"scheduler": schedule, "interval": once, "monitor": monitor}
    return {"optimizer": optimizer, "lr_scheduler": described}


def _schedule(recipe: Recipe, optimizer: Optimizer, steps: int) -> Any:
    options = dict(recipe.schedule_options)
    try:
        match recipe.schedule:
            case "plateau":
                return lr_scheduler.ReduceLROnPlateau(optimizer, **{**_PLATEAU, **options})
            case "one-cycle":
                return lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=steps, **{**_CYCLE, **options})
            case name:
                found = getattr(lr_scheduler, name, None)
                if not (inspect.isclass(found) and issubclass(found, lr_scheduler.LRScheduler)):
                    msg = f"Cannot train with schedule={name!r}: pass 'one-cycle', 'plateau', 'constant' or the name "
                    raise InputError(msg + "of one in torch.optim.lr_scheduler, such as 'CosineAnnealingLR'.")
                return found(optimizer, **options)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        msg = f"Cannot make the schedule {recipe.schedule!r} with {options}: {error}. Pass other schedule_options=."
        raise InputError(msg) from error

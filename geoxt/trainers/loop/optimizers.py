"""Optimizers and learning rate schedules by name: AdamW and one cycle by default, any of torch's otherwise."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable
from typing import Any

import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from geoxt.errors import InputError
from geoxt.trainers.config.recipe import Recipe

_PLATEAU = {"patience": 3}
_ONE_CYCLE = {"pct_start": 0.2}


def parameter_groups(recipe: Recipe, network: nn.Module) -> list[Any]:
    """Return the trained parameters of a network, in two groups if the encoder has another learning rate.

    Raises
    ------
    InputError
        If `encoder_lr` is given, and the network has no encoder with trained parameters, or nothing else.
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if recipe.encoder_lr is None:
        return trained
    backbone = getattr(getattr(network, "body", None), "backbone", None)
    inside = {id(parameter) for parameter in backbone.parameters()} if isinstance(backbone, nn.Module) else set()
    encoder = [parameter for parameter in trained if id(parameter) in inside]
    others = [parameter for parameter in trained if id(parameter) not in inside]
    if not encoder or not others:
        msg = f"Cannot train the encoder with encoder_lr={recipe.encoder_lr:g}: the model has no encoder with trained "
        msg += "parameters beside a decoder."
        raise InputError(msg, remedy="Leave {encoder_lr} out.", value=recipe.encoder_lr, argument="encoder_lr")
    return [{"params": others}, {"params": encoder, "lr": recipe.encoder_lr}]


def create_optimizer(recipe: Recipe, parameters: Iterable[Any]) -> Optimizer:
    """Return the recipe's optimizer over parameters.

    Raises
    ------
    InputError
        If torch has no optimizer of that name, or the optimizer does not accept the options.
    """
    cls = getattr(torch.optim, recipe.optimizer, None)
    if not (inspect.isclass(cls) and issubclass(cls, Optimizer) and cls is not Optimizer):
        msg = f"Cannot train with optimizer {recipe.optimizer!r}: torch.optim has no such class."
        raise InputError(msg, remedy="Pass {optimizer:'AdamW'}, 'SGD' or another class of torch.optim.")
    accepted = inspect.signature(cls).parameters
    decay = {"weight_decay": recipe.weight_decay} if "weight_decay" in accepted else {}
    options = {**decay, **recipe.optimizer_options}
    try:
        create: Any = cls
        return create(list(parameters), lr=recipe.lr, **options)
    except (TypeError, ValueError) as error:
        msg = f"Cannot create the optimizer {recipe.optimizer!r} with {options}: {error}."
        raise InputError(msg, remedy="Pass other {optimizer_options}.") from error


def configure(recipe: Recipe, parameters: Iterable[Any], *, steps: int, monitor: str) -> OptimizerLRScheduler:
    """Return the recipe's optimizer and schedule, as `LightningModule.configure_optimizers` does.

    Parameters
    ----------
    recipe
        Names and options.
    parameters
        Trained parameters, or groups of them.
    steps
        Optimizer steps of the whole run.
    monitor
        Score that the schedule `"plateau"` follows.
    """
    optimizer = create_optimizer(recipe, parameters)
    if recipe.schedule == "constant":
        return optimizer
    schedule = _create_schedule(recipe, optimizer, max(steps, 2))
    interval = "step" if isinstance(schedule, lr_scheduler.OneCycleLR | lr_scheduler.CyclicLR) else "epoch"
    scheduler: Any = {"scheduler": schedule, "interval": interval, "monitor": monitor}
    return {"optimizer": optimizer, "lr_scheduler": scheduler}


def _create_schedule(recipe: Recipe, optimizer: Optimizer, steps: int) -> Any:
    options = dict(recipe.schedule_options)
    try:
        match recipe.schedule:
            case "plateau":
                return lr_scheduler.ReduceLROnPlateau(optimizer, **{**_PLATEAU, **options})
            case "one-cycle":
                rates = [group["lr"] for group in optimizer.param_groups]
                options = _ONE_CYCLE | options
                if math.isclose(options["pct_start"] * steps, 1):  # OneCycleLR divides by 0
                    options["pct_start"] = 1.001 / steps
                return lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps, **options)
            case name:
                cls = getattr(lr_scheduler, name, None)
                if not (inspect.isclass(cls) and issubclass(cls, lr_scheduler.LRScheduler)):
                    msg = f"Cannot train with schedule {name!r}: torch.optim.lr_scheduler has no such class."
                    remedy = "Pass {schedule:'one-cycle'}, 'plateau', 'constant' or a class of torch.optim.lr_scheduler"
                    raise InputError(msg, remedy=f"{remedy}, such as 'CosineAnnealingLR'.")
                return cls(optimizer, **options)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        msg = f"Cannot create the schedule {recipe.schedule!r} with {options}: {error}."
        raise InputError(msg, remedy="Pass other {schedule_options}.") from error

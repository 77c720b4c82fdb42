"""What to learn, as a configuration says it: the kind of task or the method, the model, its weights and the recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pytorch_lightning as pl
import torch

from geoxt.errors import InputError
from geoxt.models import load, weights
from geoxt.models.network import CARD, PREFIX, Network
from geoxt.tasks import TASKS, names
from geoxt.trainers.config.recipe import Recipe
from geoxt.trainers.config.transforms import SomeTransform, transform_of
from geoxt.trainers.selfsup import METHODS, SelfSupervised
from geoxt.trainers.tasks.module import Task

"""What self-supervision trains where no model is named."""


@dataclass(frozen=True, kw_only=True)  # without slots: jsonargparse reads defaults from __dict__
class Learning:
    """What to learn and how, but for the data."""

    task: str | None = None
    """A kind of task, or a method of self-supervision; by default what the data is for, else segmentation."""
    model: str | None = None
    """Name of an architecture in `geoxt.models`; by default one of the task's."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The architecture's own options."""
    weights: str | None = None
    """Where to start: a name of `geoxt.models.weights.names()`, or a checkpoint of geoxt's; `None` for random."""
    missing: Literal["mean", "random", "zero"] = "mean"
    """How bands begin that the weights do not know."""
    bands: Mapping[str, str] = field(default_factory=dict)
    """The weights' names of the data's bands, where they differ."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Where samples have other names than the kind of task: `{"image": …, "target": …}`."""
    method: Mapping[str, Any] = field(default_factory=dict)
    """The method's own options, and `positives`; for self-supervision."""
    transforms: Sequence[SomeTransform] = ()
    """What is done to training batches, one after the other, in place of the recipe's flips and turns: transforms of
    `geoxt.transforms` by name, or import paths; with arguments as `class_path` and `init_args`."""
    recipe: Recipe = field(default_factory=Recipe)
    """Loss, optimiser and schedule."""


def build(learning: Learning, data: Any, *, seed: int = 0) -> pl.LightningModule:
    """Return the module that learns from a data module.

    Parameters
    ----------
    learning
        What to learn.
    data
        A data module that has `card`.
    seed
        Of the initial weights.

    Raises
    ------
    InputError
        Where something in it is unknown, or weights do not fit.
    """
    task = learning.task or getattr(data, "task", None) or "segmentation"
    transform = transform_of(learning.transforms, image=learning.names.get("image"))  # before what takes long
    if task in METHODS:
        card = data.card(model=learning.model or TASKS["self-supervised"].model, **learning.options)
        options = dict(learning.method)
        positives = options.pop("positives", None)
        module: Any = SelfSupervised(
            card,
            task,
            positives=positives,
            recipe=learning.recipe,
            transform=transform,
            options=options,
            seed=seed,
        )
    elif task in names(supervised=True):
        card = data.card(model=learning.model or TASKS[task].model, task=task, **learning.options)
        if card.codes == tuple(range(len(card.codes))):
            transform = transform_of(learning.transforms, image=learning.names.get("image"), classes=len(card.codes))
        module = Task(card, learning.recipe, seed=seed, names=learning.names, transform=transform)
    else:
        msg = f"Cannot learn task={task!r}: pass one of {', '.join([*names(supervised=True), *METHODS])}."
        raise InputError(msg)
    if learning.weights is not None:
        start(module.network, learning)
    return module


def start(network: Network, learning: Learning) -> None:
    """Load the weights to start from into a network, in place: all that fit, but the last layer."""
    name = learning.weights
    assert name is not None
    if name in weights.names() or ("/" in name and not name.endswith((".ckpt", ".pt", ".pth"))):
        load(network.body, name, bands=network.card.bands, missing=learning.missing, alias=dict(learning.bands) or None)
        return
    try:
        checkpoint = torch.load(name, map_location="cpu", weights_only=True)
        state = {k.removeprefix(PREFIX): v for k, v in checkpoint["state_dict"].items() if k.startswith(PREFIX)}
        bands = tuple(checkpoint[CARD]["bands"])
    except Exception as error:  # torch raises errors of a dozen types for a file that is no checkpoint
        msg = f"Cannot start from weights={name!r} ({type(error).__name__}): pass a checkpoint of geoxt's, or one of "
        raise InputError(msg + f"{', '.join(list(weights.names())[:6])}, …") from error
    if bands != network.card.bands:
        msg = f"Cannot start from {name!r}: it knows the bands {', '.join(bands)}, the data has "
        raise InputError(msg + f"{', '.join(network.card.bands)}. Write its encoder by encoder_weights, and load that.")
    own = network.state_dict()
    fitting = {k: v for k, v in state.items() if k.startswith("body.") and k in own and own[k].shape == v.shape}
    if not fitting:
        msg = f"Cannot start from {name!r}: none of its weights fit {network.card.model!r}. Pass the same model=."
        raise InputError(msg)
    network.load_state_dict(fitting, strict=False)

"""Build the LightningModule that a configuration describes, with its initial weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch

from geoxt.errors import InputError
from geoxt.models import EncoderDecoder, load, weights
from geoxt.models.encoders.encoder_decoder import ENCODER
from geoxt.models.network import CARD, PREFIX, Network
from geoxt.tasks import TASKS, names
from geoxt.trainers.config.benchmark_datamodule import BenchmarkDataModule
from geoxt.trainers.config.schema import TrainingConfig
from geoxt.trainers.config.transforms import create_transform
from geoxt.trainers.config.weight_bands import alias_by_common_name
from geoxt.trainers.datamodules.layer_windows import WindowDataModule
from geoxt.trainers.selfsup import METHODS, SelfSupervised
from geoxt.trainers.tasks.module import Task
from geoxt.trees import nodes_of

_LOADING_OPTIONS = (
    "missing",
    "mean",
    "std",
    "size",
    "dates",
    "out_indices",
    "time",
    "location",
    "gsd",
    "file",
    "folder",
)
"""Options of a pretrained encoder."""
_DECODER_OPTIONS = ("decoder", "freeze", "lora", "dropout", "decoder_options")
_CHECKPOINT_SUFFIXES = (".ckpt", ".pt", ".pth")


def build(config: TrainingConfig, data: Any) -> pl.LightningModule:
    """Return the module that a configuration describes, for the bands and classes of a data module.

    Parameters
    ----------
    config
        Task, model, initial weights, transforms, hyperparameters and seed.
    data
        Data module with `card`.

    Returns
    -------
    LightningModule
        A `Task`, or `SelfSupervised` for a method of self-supervised learning.

    Raises
    ------
    InputError
        If a name in the configuration is unknown, or the weights do not fit the model.

    Examples
    --------
    >>> from geoxt import trainers  # doctest: +SKIP
    >>> task = trainers.build(config, data)  # doctest: +SKIP
    """
    task = config.task or getattr(data, "task", None) or "segmentation"
    image = config.sample_keys.get("image")
    transform = create_transform(config.transforms, image=image)  # fails before the statistics are read
    module: Any
    if task in METHODS:
        card = data.card(model=config.model or TASKS["self-supervised"].model, **config.model_options)
        options = dict(config.method_options)
        module = SelfSupervised(
            card,
            task,
            positives=options.pop("positives", getattr(data, "positives", None)),
            recipe=config.recipe,
            transform=transform,
            options=options,
            seed=config.seed,
        )
    elif task in names(supervised=True):
        if isinstance(data, BenchmarkDataModule):
            data.require_labels(config.sample_keys.get("target", TASKS[task].key or ""))
        if config.model is not None and config.model.startswith(ENCODER):
            model: Any = _encoder_decoder(config, data, task)
            card = model.card
        else:
            card = model = data.card(model=config.model or TASKS[task].model, task=task, **config.model_options)
        if card.codes == tuple(range(len(card.codes))):
            transform = create_transform(config.transforms, image=image, num_classes=len(card.codes))
        module = Task(model, config.recipe, seed=config.seed, names=config.sample_keys, transform=transform)
    else:
        msg = f"Cannot train for the task {task!r}: the tasks are {', '.join([*names(supervised=True), *METHODS])}."
        raise InputError(msg, remedy="Pass {task} from this list.", value=task, argument="task")
    if config.weights is not None:
        load_initial_weights(module.network, config)
    return module


def _encoder_decoder(config: TrainingConfig, data: Any, task: str) -> EncoderDecoder:
    """Return the pretrained encoder that a configuration names, for the bands of a data module, with a decoder."""
    options = dict(config.model_options)
    loading = {name: options.pop(name) for name in tuple(options) if name in _LOADING_OPTIONS}
    parts = {name: options.pop(name) for name in tuple(options) if name in _DECODER_OPTIONS}
    if options:
        msg = f"Cannot build {config.model!r} with the option {next(iter(options))!r}."
        remedy = f"Pass {{model_options}} with some of {', '.join((*_DECODER_OPTIONS, *_LOADING_OPTIONS))}."
        raise InputError(msg, remedy=remedy, value=next(iter(options)))
    card = data.card(task=task)
    if not config.recipe.standardize_targets:
        card = replace(card, target_mean=(), target_std=())
    nodes = nodes_of(data.data) if isinstance(data, WindowDataModule) else {}
    layer = next(iter(nodes.values()))["image"] if nodes else list(card.bands)
    encoder = load(str(config.model).removeprefix(ENCODER), bands=layer, **loading)
    return EncoderDecoder(encoder, card, seed=config.seed, **parts)


def load_initial_weights(network: Network, config: TrainingConfig) -> None:
    """Load the configured initial weights into a network, except for the last layer if its shape differs.

    Raises
    ------
    InputError
        If the weights cannot be read, or do not fit the network.
    """
    name = config.weights
    assert name is not None
    if name in weights.names() or ("/" in name and not name.endswith(_CHECKPOINT_SUFFIXES)):
        alias = dict(config.alias) or alias_by_common_name(network.card, weights.get(name))
        load(network.body, name, bands=network.card.bands, missing=config.missing, alias=alias or None)
        return
    try:
        checkpoint = torch.load(name, map_location="cpu", weights_only=True)
        state = {k.removeprefix(PREFIX): v for k, v in checkpoint["state_dict"].items() if k.startswith(PREFIX)}
        bands = tuple(checkpoint[CARD]["bands"])
    except Exception as error:  # torch raises errors of a dozen types for a file that is not a checkpoint
        msg = f"Cannot load the initial weights {name!r} ({type(error).__name__})."
        examples = ", ".join(list(weights.names())[:6])
        raise InputError(msg, remedy=f"Pass {{weights}}, a geoxt checkpoint or one of {examples}, ….") from error
    if bands != network.card.bands:
        msg = f"Cannot load the initial weights {name!r}: they are for the bands {', '.join(bands)}, the data has "
        msg += f"{', '.join(network.card.bands)}."
        raise InputError(msg, remedy="Write the encoder by encoder_weights, and pass its file by {weights}.")
    current = network.state_dict()
    fitting = {k: v for k, v in state.items() if k.startswith("body.") and k in current and current[k].shape == v.shape}
    if not fitting:
        msg = f"Cannot load the initial weights {name!r}: none fits the model {network.card.model!r}."
        raise InputError(msg, remedy="Pass {model}, the architecture of the weights.")
    network.load_state_dict(fitting, strict=False)

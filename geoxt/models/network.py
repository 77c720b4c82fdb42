"""`Network`: the model of a model card with built-in scaling; checkpoints are loaded and saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from geoxt import tasks
from geoxt.errors import InputError
from geoxt.models.card import Card
from geoxt.models.mlm import MLM, to_stac
from geoxt.models.registry import create, get, names
from geoxt.storage import atomic_write
from geoxt.tasks import Activation, Target
from geoxt.torch_devices import forked_rng
from geoxt.types import SomePath

CARD = "geoxt"
"""Checkpoint key of the model card."""
_OUTPUTS: dict[Target, str] = {"pixels": "maps", "image": "one vector per image", "instances": "boxes"}
"""Output of architectures by the unit that has a label."""
PREFIX = "network."
"""Prefix of the network's weights in a checkpoint."""


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(dim=1)


def _identity(values: Tensor) -> Tensor:
    return values


ACTIVATIONS: Mapping[Activation, Callable[[Tensor], Tensor]] = {
    "softmax": _softmax,
    "sigmoid": torch.sigmoid,
    "identity": _identity,
}
"""Activations of model outputs (N, K, H, W) or (N, K), by name; their values can be averaged over tiles."""


class Network(nn.Module):
    """The model of a model card; standardizes its input bands, and returns regressed values in their units.

    Parameters
    ----------
    card
        Model card.
    seed
        Seed of the initial weights. The state of torch's global generator is restored.
    body
        The model, instead of one of the card's architecture.
    """

    def __init__(self, card: Card, *, seed: int = 0, body: nn.Module | None = None) -> None:
        super().__init__()
        self.card = card
        self.body = _build_body(card, seed) if body is None else body
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(card.mean, dtype=torch.float32)[:, None, None])
        self.register_buffer("std", torch.tensor(card.std, dtype=torch.float32)[:, None, None])
        self.target_mean: Tensor | None
        self.target_std: Tensor | None
        for name, values in (("target_mean", card.target_mean), ("target_std", card.target_std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32) if values else None)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the model's output for images: logits (N, K, H, W), or values in the units of the targets.

        Parameters
        ----------
        image
            Float32 (N, C, H, W), or (N, T, C, H, W) for time series, in the units of the layer.
        valid
            Valid pixels, bool, of the shape of `image` without bands; invalid pixels are set to the band means.
        """
        scaled = (image - self.mean) / self.std
        if valid is not None:
            scaled = scaled.where(valid.unsqueeze(-3), 0)
        return self.in_target_units(self.body(scaled))

    def in_target_units(self, output: Tensor) -> Tensor:
        """Return outputs (N, K, ...) for standardized targets in the units of the targets."""
        if self.target_mean is None or self.target_std is None:
            return output
        return output * by_channel(self.target_std, output) + by_channel(self.target_mean, output)

    def standardized(self, values: Tensor) -> Tensor:
        """Return targets or outputs (N, K, ...) with the mean and the standard deviation of the card's targets removed.

        The inverse of `in_target_units`; unchanged if the card standardizes no targets.
        """
        if self.target_mean is None or self.target_std is None:
            return values
        return (values - by_channel(self.target_mean, values)) / by_channel(self.target_std, values)

    def activate(self, logits: Tensor) -> Tensor:
        """Return probabilities of logits, or values of a regression unchanged.

        Logits are divided by the temperature of the model card before a softmax.

        Raises
        ------
        InputError
            If the task has no activation.
        """
        activation = self.card.kind.activation
        if activation is None:
            msg = f"Cannot compute probabilities of a model for {self.card.task}: it has no activation."
            raise InputError(msg, remedy="Pass {output:'embeddings'}, or call detect() for a detector.")
        if activation == "softmax" and self.card.temperature != 1:
            logits = logits / self.card.temperature
        return ACTIVATIONS[activation](logits)


def by_channel(numbers: Tensor, output: Tensor) -> Tensor:
    """Return a number of each channel (K,) in the dimensions of outputs (N, K, ...)."""
    return numbers.view(-1, *[1] * (output.ndim - 2))


def _build_body(card: Card, seed: int) -> nn.Module:
    if card.kind.is_supervised:
        _require_task(card)
    with forked_rng():
        torch.manual_seed(seed)
        return create(card.model, in_chans=len(card.bands), num_classes=len(card.codes), **card.options)


def _require_task(card: Card) -> None:
    """Raise if the architecture takes another number of dates than the task, or has another type of output."""
    kinds = [tasks.get(task) for task in get(card.model).tasks]
    series, targets = any(kind.takes_series for kind in kinds), {kind.target for kind in kinds}
    if series == card.kind.takes_series and card.kind.target in targets:
        return
    if series != card.kind.takes_series:
        reason = f"it takes images of {'several dates' if series else 'one date'}"
    else:
        reason = f"its outputs are {' or '.join(text for target, text in _OUTPUTS.items() if target in targets)}"
    msg = f"Cannot build {card.model!r} for {card.task}: {reason}."
    others = ", ".join(names(task=card.task))
    raise InputError(msg, remedy=f"Pass {{model:{card.kind.model!r}}}, or another of {others}.", value=card.model)


def save_checkpoint(network: Network, path: SomePath) -> Path:
    """Write a network and its card as a checkpoint for prediction, and return the path.

    Training cannot be resumed from it: optimizer and schedule are not saved.
    """
    target = Path(path)
    state = {f"{PREFIX}{name}": value.detach().cpu() for name, value in network.state_dict().items()}
    weights = sum(parameter.numel() for parameter in network.parameters())
    content = {CARD: network.card.to_dict(), MLM: to_stac(network.card, weights=weights), "state_dict": state}
    with atomic_write(target) as temporary:
        torch.save(content, temporary)
    return target

"""A network: an architecture and its card, for images in their own units; and the way back from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from geoxt.errors import InputError, ReadError
from geoxt.models.card import Card
from geoxt.models.registry import create
from geoxt.tasks import Activation
from geoxt.types import SomePath

CARD = "geoxt"
"""Where a checkpoint keeps the card."""
PREFIX = "network."
"""What stands before the names of a network's weights in a checkpoint."""


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(dim=1)


def _identity(values: Tensor) -> Tensor:
    return values


ACTIVATIONS: Mapping[Activation, Callable[[Tensor], Tensor]] = {
    "softmax": _softmax,
    "sigmoid": torch.sigmoid,
    "identity": _identity,
}
"""Functions from model outputs (N, K, H, W) or (N, K) to what tiles average, by name."""


class Network(nn.Module):
    """The model that a card describes, with the scaling of its bands built in.

    Parameters
    ----------
    card
        Architecture, bands, scaling and classes.
    seed
        Seed of the initial weights; torch's global generator is left as it was.
    """

    def __init__(self, card: Card, *, seed: int = 0) -> None:
        super().__init__()
        self.card = card
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.body = create(card.model, in_chans=len(card.bands), classes=len(card.codes), **card.options)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(card.mean, dtype=torch.float32)[:, None, None])
        self.register_buffer("std", torch.tensor(card.std, dtype=torch.float32)[:, None, None])

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return logits (N, K, H, W) of images (N, C, H, W), float32, in the units of the layer.

        Pixels that are not `valid`, bool (N, H, W), stand at the mean of every band.
        """
        scaled = (image - self.mean) / self.std
        if valid is not None:
            scaled = scaled.where(valid.unsqueeze(-3), 0)
        logits: Tensor = self.body(scaled)
        return logits

    def activate(self, logits: Tensor) -> Tensor:
        """Return probabilities of logits."""
        activation = self.card.kind.activation
        if activation is None:
            msg = f"Cannot compute probabilities of a model for {self.card.task}: it has no activation."
            raise InputError(msg, remedy="Pass {output:'embeddings'}, or call detect() for a detector.")
        return ACTIVATIONS[activation](logits)


def from_checkpoint(path: SomePath) -> Network:
    """Load the network of a checkpoint that geoxt wrote: in evaluation mode, on the CPU, without Lightning.

    Raises
    ------
    ReadError
        Where the file cannot be read, or is no checkpoint at all.
    InputError
        Where it is no checkpoint of geoxt's.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises errors of a dozen types for a file that is no checkpoint
        reason = f"Cannot read the checkpoint {str(path)!r} ({type(error).__name__})"
        msg = f"{reason}: pass the path of one that geoxt wrote."
        raise ReadError(msg) from error
    if not isinstance(checkpoint, dict) or CARD not in checkpoint:
        msg = f"Cannot use the checkpoint {str(path)!r}: it has no model card. Pass one that geoxt wrote."
        raise InputError(msg)
    network = Network(Card.from_dict(checkpoint[CARD]))
    network.load_state_dict(_weights(checkpoint["state_dict"]))
    return network.eval()


def _weights(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}

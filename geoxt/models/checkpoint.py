"""Networks of checkpoints written by geoxt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from geoxt.errors import InputError, ReadError
from geoxt.models.card import Card
from geoxt.models.encoders.encoder_decoder import network_of
from geoxt.models.network import CARD, PREFIX, Network
from geoxt.types import SomePath


def from_checkpoint(path: SomePath, *, body: nn.Module | None = None) -> Network:
    """Return the network of a checkpoint written by geoxt, in evaluation mode on the CPU; Lightning is not needed.

    Parameters
    ----------
    path
        Checkpoint.
    body
        The module of a `Network` that was trained with a `body`, which gets the weights.

    Raises
    ------
    ReadError
        If the file cannot be read as a checkpoint.
    InputError
        If the checkpoint has no model card, or its weights do not fit the architecture.

    Examples
    --------
    >>> from geoxt import models  # doctest: +SKIP
    >>> network = models.from_checkpoint("run/best.ckpt")  # doctest: +SKIP
    >>> network.card.bands  # doctest: +SKIP
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen types of errors for other files
        msg = f"Cannot read the checkpoint {str(path)!r} ({type(error).__name__})."
        raise ReadError(msg, remedy="Pass the path of a checkpoint written by geoxt.", value=path) from error
    if not isinstance(checkpoint, dict) or CARD not in checkpoint:
        msg = f"Cannot use the checkpoint {str(path)!r}: it has no model card."
        raise InputError(msg, remedy="Pass a checkpoint written by geoxt.", value=path)
    card = Card.from_dict(checkpoint[CARD])
    network = network_of(card) if body is None else Network(card, body=body)
    try:
        network.load_state_dict(_weights(checkpoint["state_dict"]))
    except RuntimeError as error:
        msg = f"Cannot load {str(path)!r}: its weights do not fit {card.model!r}: {str(error).splitlines()[-1].strip()}"
        raise InputError(msg, remedy="Pass {body}, the module that was trained.", argument="body") from error
    return network.eval()


def _weights(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}

"""Networks of models: of tasks, checkpoints, model files, estimators, and the members of an ensemble."""

from __future__ import annotations

import os
from collections.abc import Sequence

from torch import nn

from geoxt.errors import InputError
from geoxt.inference.ensemble import distinct_members
from geoxt.inference.estimator_network import estimator_network, is_estimator
from geoxt.models.model_file import from_file
from geoxt.models.network import Network
from geoxt.types import Estimator, SomePath


def network_of(model: nn.Module | Estimator | SomePath) -> nn.Module:
    """Return the network of a task, a checkpoint, a model file or an estimator; any other module unchanged."""
    if is_estimator(model):
        return estimator_network(model)
    if isinstance(model, (str, os.PathLike)):
        return from_file(model)
    if not isinstance(model, nn.Module):
        msg = f"Cannot predict with a model of the type {type(model).__name__}."
        remedy = "Pass {model}, a module, a fitted estimator, or the path of a file."
        raise InputError(msg, remedy=remedy, argument="model")
    network = getattr(model, "network", None)
    return network if isinstance(network, Network) else model


def networks_of(
    model: nn.Module | Estimator | SomePath | None, members: Sequence[nn.Module | Estimator | SomePath]
) -> list[nn.Module]:
    """Return the networks of an ensemble, or that of a single model."""
    if isinstance(members, (str, os.PathLike, nn.Module)):
        msg = "Cannot use one model as the members of an ensemble."
        raise InputError(msg, remedy="Pass {members} as a list of models or checkpoints.", argument="members")
    network = None if model is None else network_of(model)
    networks = [network_of(member) for member in members]
    if network is not None and not networks:
        return [network]
    if not networks:
        raise InputError("Cannot predict without a model.", remedy="Pass {model}. Or pass {members}.", argument="model")
    return distinct_members(network, networks)

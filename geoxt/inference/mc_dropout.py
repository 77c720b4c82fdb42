"""Monte Carlo dropout: dropout layers that are active in evaluation mode, with a fixed mask for each sample."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from geoxt.errors import InputError

_ACTIVE = threading.local()
"""Seed of the masks in the sample that this thread computes."""
_BY_CHANNEL = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


class MCDropout(nn.Module):
    """Dropout with a mask that depends only on the seed, the sample and the layer.

    All tiles have the same mask, so that a sample is one thinned network: a map has no seams between tiles, and does
    not depend on the tiles of a batch (Kirsch et al. 2019, BatchBALD, https://arxiv.org/abs/1906.08158, section 4).

    Parameters
    ----------
    p
        Probability of an element, or of a channel, to be zeroed.
    by_channel
        Whether all pixels of a channel share a mask, as in `torch.nn.Dropout2d`.
    layer
        Number of the layer in its network.
    """

    def __init__(self, p: float, *, by_channel: bool, layer: int) -> None:
        super().__init__()
        self.p = p
        self.by_channel = by_channel
        self.layer = layer

    def forward(self, features: Tensor) -> Tensor:
        """Return features (N, …) with the mask of the active sample, or unchanged outside of samples."""
        seed: tuple[int, int] | None = getattr(_ACTIVE, "seed", None)
        if seed is None:
            return features
        generator = torch.Generator().manual_seed(_mix(*seed, self.layer))
        shape = (1, *features.shape[1:])
        if self.by_channel and features.ndim > 2:
            shape = (1, features.shape[1], *(1,) * (features.ndim - 2))
        mask = (torch.rand(shape, generator=generator) >= self.p).to(features)  # drawn on the CPU for all devices
        return features * mask / max(1 - self.p, torch.finfo(mask.dtype).tiny)


@contextmanager
def active_sample(seed: int, sample: int) -> Iterator[None]:
    """Activate dropout in this thread, with the masks of a sample."""
    _ACTIVE.seed = (seed, sample)
    try:
        yield
    finally:
        _ACTIVE.seed = None


def activate_dropout(model: nn.Module) -> None:
    """Replace the dropout layers of a model by `MCDropout` (modified inplace).

    Raises
    ------
    InputError
        If the model has no dropout layer with a probability above 0, or one other than
        `torch.nn.Dropout` and `Dropout1d` to `Dropout3d`.
    """
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, _DropoutNd)]
    layers = [(name, module) for name, module in layers if module.p > 0]
    if not layers:
        msg = "Cannot sample by dropout: the model has no dropout layer with a probability above 0."
        remedy = "Pass a {model} that was trained with dropout. Or pass several models as {members}."
        raise InputError(msg, remedy=remedy, argument="num_mc_samples")
    for number, (name, module) in enumerate(layers):
        if not isinstance(module, (nn.Dropout, *_BY_CHANNEL)):
            msg = f"Cannot sample by the dropout layer {name!r}: {type(module).__name__} is not supported."
            raise InputError(msg, remedy="Pass several models as {members}.", argument="num_mc_samples")
        parent, _, child = name.rpartition(".")
        active = MCDropout(module.p, by_channel=isinstance(module, _BY_CHANNEL), layer=number)
        setattr(model.get_submodule(parent), child, active)


def _mix(*numbers: int) -> int:
    """Return a seed that differs for other numbers (an LCG step for each, modulo 2**63)."""
    state = 0x9E3779B97F4A7C15
    for number in numbers:
        state = (state ^ (number & 0xFFFFFFFFFFFFFFFF)) * 6364136223846793005 + 1442695040888963407
        state = (state ^ (state >> 29)) % 2**63
    return state

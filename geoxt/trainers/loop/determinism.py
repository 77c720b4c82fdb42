"""What surrounds a training: seeds and deterministic kernels, a compiled network, and Lightning kept from talking."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

NOISE = (
    ".*does not have many workers.*",  # windows are read by threads: workers would cost more than they give
    ".*isinstance.treespec, LeafSpec.. is deprecated.*",  # Lightning 2.6 on torch >= 2.10, about itself
    ".*Checkpoint directory .* exists and is not empty.*",  # that of a training that goes on
    ".*your dataloader is not resumable.*",  # the data module is, which Lightning does not look at
    r".*callbacks used to create the checkpoint.*\['WeightAveraging'\].*",  # refused with an error right after
    ".*No positive samples.*",  # of a label that a part lacks; it has no score
    r".*Total length of .\w+. across ranks is zero.*",  # there need be no validation part
)


@contextmanager
def compiled_for_now(network: nn.Module, *, really: bool) -> Iterator[None]:
    """Compile a module's forward, and afterwards leave it as it was."""
    if really:
        network.compile()
    try:
        yield
    finally:
        network._compiled_call_impl = None  # noqa: SLF001 (torch has no other way back)


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Seed torch, and on CPUs use deterministic algorithms only; afterwards all is as it was."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if not torch.cuda.is_available():  # on CUDA, cross entropy of images has no deterministic kernel
            torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out what Lightning says of itself: the hardware it found, its tips, its own use of deprecated torch."""
    loggers: list[Any] = [
        logging.getLogger(f"pytorch_lightning.{name}")
        for name in ("utilities.rank_zero", "callbacks", "trainer.connectors.checkpoint_connector")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in NOISE:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

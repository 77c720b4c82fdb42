"""The environment of a training run: seeds and deterministic kernels, a compiled network, Lightning's messages."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from geoxt.torch_devices import forked_rng

LIGHTNING_WARNINGS = (
    r"Found \d+ module\(s\) in eval mode",  # frozen modules keep their statistics
    ".*does not have many workers.*",  # threads read windows: worker processes would cost more than they save
    ".*isinstance.treespec, LeafSpec.. is deprecated.*",  # Lightning 2.6 on torch >= 2.10, about its own code
    ".*Checkpoint directory .* exists and is not empty.*",  # the folder of a run that is resumed
    ".*your dataloader is not resumable.*",  # Lightning does not know that the data module is
    r".*callbacks used to create the checkpoint.*\['WeightAveraging'\].*",  # an error of geoxt's follows
    ".*The ``compute`` method of metric MeanLoss.*",  # a process without validation batches
    ".*recommended to use .self.log.*sync_dist=True.*",  # scores of torchmetrics are those of all processes already
    ".*No positive samples.*",  # a label that does not occur has no score
    r".*Total length of .\w+. across ranks is zero.*",  # there is no validation part
)
"""Warnings of Lightning and torchmetrics that do not apply here."""


@contextmanager
def compiled(network: nn.Module, *, enabled: bool) -> Iterator[None]:
    """Compile a module's forward within the context, if enabled."""
    if enabled:
        network.compile()
    try:
        yield
    finally:
        network._compiled_call_impl = None  # noqa: SLF001 (torch cannot undo compile otherwise)


@contextmanager
def deterministic(seed: int, accelerator: str = "auto") -> Iterator[None]:
    """Seed torch, and on CPUs use deterministic algorithms only, within the context."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with forked_rng():
        torch.manual_seed(seed)
        # On CUDA, cross entropy of images has no deterministic kernel.
        if accelerator == "cpu" or not torch.cuda.is_available():
            torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Suppress Lightning's log messages (hardware, tips) and the warnings that do not apply to geoxt."""
    loggers: list[Any] = [
        logging.getLogger(f"pytorch_lightning.{name}")
        for name in ("utilities.rank_zero", "callbacks", "trainer.connectors.checkpoint_connector")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in LIGHTNING_WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

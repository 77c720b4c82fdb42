"""Training in several processes, one per device (DDP): Lightning's Trainer, random numbers, processes that end."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy, Strategy
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]
from torch import distributed
from torch.multiprocessing.spawn import ProcessExitedException
from torch.nn.parallel import DistributedDataParallel

from geoxt.errors import InputError, ProcessError
from geoxt.torch_devices import warn_slow_bfloat16
from geoxt.trainers.config.transforms import reseed
from geoxt.types import Precision

Devices = int | str | Sequence[int]
"""Number of devices, their indices, or "auto" for all devices, as Lightning takes them."""

_PRECISION: dict[Precision, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}
_LOST = ("closed by peer", "Connection reset", "Broken pipe", "closed during", "Timed out waiting", "timeout caused")
"""Parts of gloo's messages if another process has ended or does not answer; those of NCCL are `DistBackendError`."""


def create_trainer(
    *,
    accelerator: str = "auto",
    devices: Devices = 1,
    strategy: str | Strategy = "auto",
    num_nodes: int = 1,
    precision: Precision = "32",
    **options: Any,
) -> pl.Trainer:
    """Return Lightning's Trainer.

    Raises
    ------
    InputError
        If a device is missing, a strategy is unknown, is not DDP or has a single device, or the device does not compute
        in the precision.
    """
    arguments = {"accelerator": accelerator, "devices": devices, "strategy": strategy, "num_nodes": num_nodes}
    listed = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    settings: Any = {**arguments, "precision": _PRECISION[precision], **options}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*AMP with fp16 is not supported.*")  # an error of geoxt's follows
            trainer = pl.Trainer(**settings)
    except (MisconfigurationException, ImportError, TypeError, ValueError, RuntimeError) as error:
        msg = f"Cannot train with {listed}: {str(error).rstrip('.!')}."
        remedy = "Pass {accelerator:'auto'}, {devices:1} and {strategy:'auto'}."
        raise InputError(msg, remedy=remedy, value=arguments) from error
    if not isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy)):
        msg = f"Cannot train with strategy={strategy!r}: only the strategies of DDP are supported."
        remedy = "Pass {strategy:'ddp'}. Or pass {strategy:'auto'}."
        raise InputError(msg, remedy=remedy, value=strategy, argument="strategy")
    if strategy != "auto" and trainer.world_size == 1:
        msg = f"Cannot train with strategy={strategy!r} on one device."
        remedy = "Pass {devices:2} or more. Or pass {strategy:'auto'}."
        raise InputError(msg, remedy=remedy, value=strategy, argument="strategy")
    if precision == "16" and trainer.strategy.root_device.type == "cpu":  # Lightning would compute in bfloat16
        msg = "Cannot train in precision '16' on the CPU: it does not compute in float16."
        raise InputError(msg, remedy="Pass {precision:'bf16'} or {precision:'32'}.", value=precision)
    if precision == "bf16" and trainer.strategy.root_device.type == "cpu":
        warn_slow_bfloat16()
    return trainer


class Ranks(pl.Callback):
    """Gives each process different random numbers, and equal statistics of batch normalization for validation.

    Parameters
    ----------
    seed
        Seed of the run. The process of rank 0 draws as a single process would.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Use deterministic algorithms on CPUs, which a spawned process does not inherit."""
        del pl_module, stage
        if trainer.world_size > 1 and trainer.strategy.root_device.type == "cpu":
            torch.use_deterministic_algorithms(True)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed the generators of this process."""
        if rank := trainer.global_rank:
            torch.manual_seed(int(np.random.default_rng([self.seed, rank]).integers(2**63)))
            reseed(getattr(pl_module, "transform", None), rank)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Broadcast the buffers once: DDP would at a forward pass, of which processes may have different numbers."""
        model = trainer.strategy.model
        if isinstance(model, DistributedDataParallel):
            for buffer in pl_module.buffers():
                distributed.broadcast(buffer, src=0)
            model.require_forward_param_sync = False

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let DDP broadcast the buffers in training again."""
        del pl_module
        model = trainer.strategy.model
        if isinstance(model, DistributedDataParallel):
            model.require_forward_param_sync = True


class HistoryFile(pl.Callback):
    """Passes the scores of epochs from forked or spawned processes to the one that started them, in a file.

    Parameters
    ----------
    history
        Callback with the scores as `epochs`.
    path
        Path of the file.
    """

    def __init__(self, history: Any, path: Path) -> None:
        super().__init__()
        self.history, self.path, self._process = history, path, os.getpid()

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file in the process of rank 0 if it was started by another."""
        del pl_module
        if trainer.is_global_zero and os.getpid() != self._process:
            self.path.write_text(json.dumps(self.history.epochs), encoding="utf-8")

    on_fit_end = on_test_end

    def read(self, trainer: pl.Trainer) -> list[dict[str, float]]:
        """Return the scores of all epochs, and remove the file."""
        if not isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
            return list(self.history.epochs)
        epochs: list[dict[str, float]] = json.loads(self.path.read_text(encoding="utf-8"))
        self.path.unlink()
        return epochs


@contextmanager
def lost_processes(folder: Path) -> Iterator[None]:
    """Raise an error of geoxt if another process of the run ends within the context.

    Raises
    ------
    ProcessError
        With the message of torch.
    """
    try:
        yield
    except (RuntimeError, ProcessExitedException) as error:  # torch's errors of distributed are RuntimeErrors
        is_lost = isinstance(error, (ProcessExitedException, distributed.DistError))
        if not is_lost and not any(part in str(error) for part in _LOST):
            raise
        first = str(error).strip().split("\n", maxsplit=1)[0]
        msg = f"Cannot continue the training: another process of the run has ended or does not answer ({first})."
        remedy = "See the error of that process, if it was printed. Call again with the same arguments to resume from "
        remedy += "the last checkpoint in {resume}."
        raise ProcessError(msg, remedy=remedy, value=str(folder)) from error


def rank() -> int:
    """Return the rank of this process; 0 in a single process."""
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0


def wait_for_all() -> None:
    """Wait until all processes of the run have called this function."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()


def gather(value: Any) -> list[Any]:
    """Return the values of all processes of the run, by rank."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values

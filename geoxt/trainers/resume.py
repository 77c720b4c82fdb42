"""Resuming: a training that was cut off goes on at the step where it was last kept, to the same weights bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, cast

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

_EPOCH, _BATCHES = "epoch", "batches"
_RANDOM = "random_state"


class Keep(pl.Callback):
    """Keeps all that a training needs to go on, in one file: at the start of each epoch, and every so many steps.

    With the weights, the optimiser and the schedule it keeps torch's random state, and the data module keeps how far it
    has come (`Resumable`).

    Parameters
    ----------
    path
        Where to; written under another name first.
    every
        Steps of the optimiser after which to keep it within an epoch; 0 keeps it between epochs only.
    """

    def __init__(self, path: Path, *, every: int = 0) -> None:
        super().__init__()
        self.path, self.every = path, every
        self._random: Tensor | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Go on with the random numbers of the run that was cut off; keep the training where an epoch starts."""
        del pl_module, batch
        if self._random is not None:
            torch.set_rng_state(self._random)
            self._random = None
        elif batch_idx == 0 and trainer.current_epoch > 0:
            self._keep(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the training every so many steps; gradients that have not led to a step yet cannot be kept."""
        del pl_module, outputs, batch
        done = batch_idx + 1
        stepped = done % trainer.accumulate_grad_batches == 0
        if self.every and stepped and trainer.global_step % self.every == 0 and done < trainer.num_training_batches:
            self._keep(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep torch's random state."""
        del trainer, pl_module
        checkpoint[_RANDOM] = torch.get_rng_state()

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember the random state: what starts the loaders still draws from it."""
        del trainer, pl_module
        self._random = checkpoint[_RANDOM].cpu()

    def _keep(self, trainer: pl.Trainer) -> None:
        half = self.path.with_name(f".{self.path.name}")
        trainer.save_checkpoint(half)
        half.replace(self.path)


class Plan(Protocol):
    """The batches of a loader, which can begin anywhere."""

    def begin(self, epoch: int, done: int, *, whole: bool = False) -> None:
        """Begin with an epoch, after some of its batches, which `len` counts as well where it is to be whole."""


class Resumable(pl.LightningDataModule):
    """A data module that knows how far into which epoch a training has come, and goes on from there."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = 0, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch, and the batches of it that have been learnt from."""
        trainer = self.trainer
        assert trainer is not None
        progress: Any = trainer.fit_loop.epoch_loop.batch_progress.total
        learnt = progress.processed
        epoch, batches = divmod(learnt, int(trainer.num_training_batches))
        return {_EPOCH: epoch, _BATCHES: batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up where `state_dict` was made."""
        self._begun = state_dict[_EPOCH], state_dict[_BATCHES]

    def going_on(self, loader: DataLoader[Any]) -> DataLoader[Any]:
        """Return the loader of training batches, set to begin where the training was cut off."""
        plan = cast("Plan", loader.sampler)
        plan.begin(*self._begun, whole=True)
        return loader

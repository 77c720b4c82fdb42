"""Resuming: a training that was cut off goes on at the step where it was last kept, to the same weights bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from geoxt.errors import InputError

_EPOCH, _BATCHES, _OF = "epoch", "batches", "of"
_RANDOM, _ASKED = "random_state", "asked"
_PLANNED = {"one-cycle", "OneCycleLR"}
"""Schedules whose every step depends on how many there are in all."""
_PLANNED_BY = (
    ("epochs", "epochs", "--trainer.max_epochs"),
    ("accumulate", "batches a step", "--trainer.accumulate_grad_batches"),
)


class Keep(pl.Callback):
    """Keeps all that a training needs to go on, in one file: at the start of each epoch, and every so many steps.

    Going on with another number of epochs, or of batches a step, is refused where the schedule is planned by them.

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
        """Keep torch's random state, and what the training was asked for."""
        checkpoint[_RANDOM] = torch.get_rng_state()
        checkpoint[_ASKED] = _asked(trainer, pl_module)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember the random state: what starts the loaders still draws from it."""
        require_same_plan(checkpoint, _asked(trainer, pl_module), where=self.path)
        self._random = checkpoint[_RANDOM].cpu()

    def _keep(self, trainer: pl.Trainer) -> None:
        half = self.path.with_name(f".{self.path.name}")
        trainer.save_checkpoint(half)
        half.replace(self.path)


def require_same_plan(kept: Mapping[str, Any], asked: Mapping[str, Any], *, where: Path) -> None:
    """Refuse to go on with what was kept where its schedule does not reach to what is asked for.

    Raises
    ------
    InputError
        Where the kept training is further than the epochs asked for, or its schedule was planned for other steps.
    """
    before, done = kept.get(_ASKED, asked), int(kept["epoch"])
    cannot = f"Cannot go on with the training kept in {str(where.parent)!r}: "
    if 0 < asked["epochs"] <= done and asked["epochs"] < before["epochs"]:
        msg = f"{cannot}it is in epoch {done + 1} of {before['epochs']}, and {asked['epochs']} are asked for. "
        raise InputError(msg + f"Pass epochs={before['epochs']} (--trainer.max_epochs) as before, or another folder.")
    for name, what, option in _PLANNED_BY:
        if before[name] != asked[name] and before["schedule"] in _PLANNED:
            msg = f"{cannot}its schedule {before['schedule']!r} was planned for {before[name]} {what}, and "
            msg += f"{asked[name]} are asked for. Pass {name}={before[name]} ({option}) to end it as planned, or "
            raise InputError(msg + "another folder; a recipe with schedule='constant' can go on for longer.")
    for name in ("schedule", "optimizer", "ema_decay"):
        if before.get(name) != asked[name]:
            msg = f"{cannot}it was begun with {name}={before.get(name)!r}, and {asked[name]!r} is asked for. "
            raise InputError(msg + f"Pass {name}={before.get(name)!r}, or another folder to start anew.")


def _asked(trainer: pl.Trainer, task: pl.LightningModule) -> dict[str, Any]:
    recipe: Any = task.recipe
    return {
        "epochs": trainer.max_epochs or -1,
        "accumulate": trainer.accumulate_grad_batches,
        "schedule": recipe.schedule,
        "optimizer": recipe.optimizer,
        "ema_decay": recipe.ema_decay,
    }


class Plan(Protocol):
    """The batches of a loader, which can begin anywhere."""

    def begin(self, epoch: int, done: int, *, whole: bool = False) -> None:
        """Begin with an epoch, after some of its batches, which `len` counts as well where it is to be whole."""

    def __len__(self) -> int:
        """Return the number of batches."""


class Resumable(pl.LightningDataModule):
    """A data module that knows how far into which epoch a training has come, and goes on from there."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = 0, 0
        self._of: int | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch, and the batches of it that have been learnt from."""
        trainer = self.trainer
        assert trainer is not None
        progress: Any = trainer.fit_loop.epoch_loop.batch_progress.total
        learnt = progress.processed
        epoch, batches = divmod(learnt, int(trainer.num_training_batches))
        return {_EPOCH: epoch, _BATCHES: batches, _OF: self._of}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up where `state_dict` was made."""
        self._begun = state_dict[_EPOCH], state_dict[_BATCHES]
        self._of = state_dict.get(_OF)

    def going_on(self, loader: DataLoader[Any]) -> DataLoader[Any]:
        """Return the loader of training batches, set to begin where the training was cut off.

        Raises
        ------
        InputError
            Where an epoch had another number of batches then.
        """
        plan = cast("Plan", loader.sampler)
        if self._of is not None and len(plan) != self._of:
            msg = f"Cannot go on in an epoch of {len(plan)} batches: the training was kept in one of {self._of}. Pass "
            raise InputError(msg + "the data and batch_size= as before, or another folder to start anew.")
        self._of = len(plan)
        plan.resume(*self._begun, full_length=True)
        return loader

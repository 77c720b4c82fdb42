"""Resuming: an interrupted run continues at its last checkpoint and reaches the same weights, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from geoxt.errors import InputError
from geoxt.trainers.config.recipe import Recipe
from geoxt.trainers.config.transforms import restore_rng, rng_states
from geoxt.trainers.loop.checkpoint_files import save_checkpoint
from geoxt.trainers.loop.processes import gather
from geoxt.trainers.loop.results import to_json

_EPOCH, _BATCHES, _BATCHES_PER_EPOCH = "epoch", "batches", "batches_per_epoch"
_CUDA_STATES = "cuda_rng_states"
_RNG_STATE, _REQUESTED, _EPOCH_MEANS, _WINDOWS = "rng_state", "requested", "epoch_means", "windows"
_RANKS, _WORLD_SIZE, _TRANSFORMS = "ranks", "devices", "transforms"
_STATE = (_RNG_STATE, _CUDA_STATES, _EPOCH_MEANS, "loops")
_FIXED_LENGTH = {"one-cycle", "OneCycleLR"}
"""Schedules whose every step depends on the total number of steps."""
_LENGTH = {"epochs": "epochs", "accumulate_grad_batches": "batches per step"}
_FREE = {"channels_last", "tta"}
"""Hyperparameters that may change when a run is resumed: they do not change its weights."""
_FIXED = tuple(f.name for f in fields(Recipe) if f.name not in _FREE)


class ResumeCheckpoint(pl.Callback):
    """Saves a checkpoint to resume from, at the start of each epoch and every few optimizer steps.

    Beside weights, optimizer and schedule it holds torch's random state and the running means of the epoch, such as the
    training loss; data modules add their position in the epoch (`ResumableDataModule`). Resuming is refused if the run
    requests another recipe, or another length with a schedule that depends on it.

    Parameters
    ----------
    path
        Path of the checkpoint, which is replaced atomically.
    every
        Optimizer steps between checkpoints within an epoch; 0 for the start of epochs only.
    seed
        Seed of the run, which a resumed run must share.
    """

    def __init__(self, path: Path, *, every: int = 0, seed: int = 0) -> None:
        super().__init__()
        self.path, self.every, self.seed = path, every, seed
        self._resumed: Mapping[str, Any] | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Restore the state of a resumed run; save a checkpoint at the start of an epoch."""
        del batch
        if self._resumed is not None:
            restore_random_states(self._resumed)
            if _TRANSFORMS in self._resumed:
                restore_rng(getattr(pl_module, "transform", None), self._resumed[_TRANSFORMS])
            _restore_progress(trainer, self._resumed["loops"]["fit_loop"])
        elif batch_idx == 0 and trainer.current_epoch > 0:
            self._save(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save a checkpoint every few optimizer steps; gradients accumulated between steps cannot be saved."""
        del pl_module, outputs, batch
        if self._resumed is not None:
            _add_epoch_means(trainer, self._resumed[_EPOCH_MEANS])
            trainer.fit_loop.restarting = False  # else the plateau schedule is not updated at the end of this epoch
            self._resumed = None
        done = batch_idx + 1
        stepped = done % trainer.accumulate_grad_batches == 0
        if self.every and stepped and trainer.global_step % self.every == 0 and done < trainer.num_training_batches:
            self._save(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save torch's random state, the running means, and the requested length and hyperparameters.

        Of several processes, the states of each are saved.
        """
        states = {**random_states(), _EPOCH_MEANS: _epoch_means(trainer)}
        checkpoint.update(states)
        checkpoint[_REQUESTED] = _run_settings(trainer, pl_module, self.seed)
        if trainer.world_size > 1:
            states[_EPOCH_MEANS] = {key: (value.cpu(), n.cpu()) for key, (value, n) in states[_EPOCH_MEANS].items()}
            states[_TRANSFORMS] = rng_states(getattr(pl_module, "transform", None))
            checkpoint[_RANKS] = gather(states)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store the checkpoint until the first batch: starting the data loaders draws random numbers."""
        require_same_schedule(checkpoint, _run_settings(trainer, pl_module, self.seed), folder=self.path.parent)
        states = {**checkpoint, **checkpoint.get(_RANKS, [{}])[trainer.global_rank]}
        self._resumed = {_EPOCH_MEANS: {}} | {n: states[n] for n in (*_STATE, _TRANSFORMS) if n in states}

    def _save(self, trainer: pl.Trainer) -> None:
        save_checkpoint(trainer, self.path)


def random_states() -> dict[str, Any]:
    """Return torch's random states: of the CPU and of all GPUs, where layers such as dropout draw."""
    states: dict[str, Any] = {_RNG_STATE: torch.get_rng_state()}
    if torch.cuda.is_available():
        states[_CUDA_STATES] = torch.cuda.get_rng_state_all()
    return states


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Restore the random states of `random_states`; those of GPUs that this machine lacks are ignored."""
    torch.set_rng_state(states[_RNG_STATE].cpu())
    if torch.cuda.is_available():
        for device, state in enumerate(states.get(_CUDA_STATES, ())[: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state.cpu(), device)


def require_same_schedule(checkpoint: Mapping[str, Any], requested: Mapping[str, Any], *, folder: Path) -> None:
    """Raise if the checkpoint's learning rate schedule does not fit the requested run.

    Raises
    ------
    InputError
        If the checkpoint is beyond the requested epochs, its schedule was planned for another length, or it was written
        with another recipe.
    """
    before, done = checkpoint.get(_REQUESTED, {}), int(checkpoint["epoch"])
    cannot = f"Cannot resume the run in {str(folder)!r}: "
    if 0 < requested["epochs"] <= done and requested["epochs"] < before.get("epochs", 0):
        msg = f"{cannot}it is in epoch {done + 1} of {before['epochs']}, and {requested['epochs']} are requested."
        raise InputError(msg, remedy=f"Pass {{epochs:{before['epochs']}}}. Or pass another folder.")
    for name, unit in _LENGTH.items():
        if before.get(name) != requested[name] and before.get("schedule") in _FIXED_LENGTH:
            msg = f"{cannot}its schedule {before['schedule']!r} was planned for {before[name]} {unit}, and "
            msg += f"{requested[name]} are requested."
            remedy = f"Pass {{{name}:{before[name]}}} to finish it as planned. Or pass another folder. Runs of "
            raise InputError(msg, remedy=remedy + "{schedule:'constant'} can be extended.")
    before = {_WORLD_SIZE: 1, **before}
    for name in (*_FIXED, "seed", _WORLD_SIZE):
        if before.get(name) != requested[name]:
            msg = f"{cannot}it was started with {name} {before.get(name)!r}, and {requested[name]!r} is requested."
            raise InputError(msg, remedy=f"Pass {{{name}:{before.get(name)!r}}}. Or pass another folder.")


def _restore_progress(trainer: pl.Trainer, state: Mapping[str, Any]) -> None:
    """Set Lightning's counters to those of an uninterrupted run, before the first batch of a resumed one.

    A checkpoint of the start of an epoch lies between the counts `ready` and `started` of its first batch. On restart
    Lightning 2.6 corrects the counts of the epoch but not the totals; with a total one too high, the next checkpoint
    within this epoch restarts at the wrong batch, and the epoch ends without validation.
    """
    loop: Any = trainer.fit_loop.epoch_loop
    total, saved = loop.batch_progress.total, state["epoch_loop.batch_progress"]["total"]
    total.ready = total.started + 1
    if saved["ready"] > saved["started"]:
        loop._batches_that_stepped = state["epoch_loop.state_dict"]["_batches_that_stepped"]  # noqa: SLF001
        loop.val_loop.batch_progress.load_state_dict(state["epoch_loop.val_loop.batch_progress"])


def _epoch_means(trainer: pl.Trainer) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the sum and the count of each value that is averaged over the training epoch, by Lightning's key."""
    results: Any = trainer.fit_loop.epoch_loop._results  # noqa: SLF001 (Lightning does not save them)
    means = {key: metric for key, metric in results.items() if metric.is_tensor and metric.meta.is_mean_reduction}
    return {key: (metric.value.clone(), metric.cumulated_batch_size.clone()) for key, metric in means.items()}


def _add_epoch_means(trainer: pl.Trainer, means: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Add the sums and counts of the batches before the checkpoint to those of the first resumed batch."""
    results: Any = trainer.fit_loop.epoch_loop._results  # noqa: SLF001
    for key in means.keys() & results.keys():
        metric, (value, count) = results[key], means[key]
        metric.value = value.to(metric.value) + metric.value
        metric.cumulated_batch_size = count.to(metric.cumulated_batch_size) + metric.cumulated_batch_size


def _run_settings(trainer: pl.Trainer, module: pl.LightningModule, seed: int) -> dict[str, Any]:
    recipe: Any = module.recipe
    return {
        "seed": seed,
        _WORLD_SIZE: trainer.world_size,
        "epochs": trainer.max_epochs or -1,
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
        **{name: to_json(getattr(recipe, name)) for name in _FIXED},
    }


class ResumableSampler(Protocol):
    """A batch sampler that can start at any batch of any epoch."""

    def resume(self, epoch: int, done: int, *, full_length: bool = False) -> None:
        """Continue an epoch after its first `done` batches; with `full_length`, `len` counts these too."""

    def shard(self, rank: int, world_size: int, *, even: bool = True) -> None:
        """Yield the batches of one of several processes only."""

    def __len__(self) -> int:
        """Return the number of batches."""


class _EmptyBatch:
    """An evaluation batch without samples."""

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield {}


class ResumableDataModule(pl.LightningDataModule):
    """A data module that saves its position in the epoch in checkpoints, and resumes there."""

    def __init__(self) -> None:
        super().__init__()
        self._position = 0, 0
        self._batches_per_epoch: int | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch and the number of its batches that have been processed."""
        trainer = self.trainer
        assert trainer is not None
        progress: Any = trainer.fit_loop.epoch_loop.batch_progress.total
        epoch, batches = divmod(progress.processed, int(trainer.num_training_batches))
        position = {_EPOCH: epoch, _BATCHES: batches, _BATCHES_PER_EPOCH: self._batches_per_epoch}
        return {**position, _WINDOWS: self.window_token}

    @property
    def window_token(self) -> str | None:
        """Token of the samples of all parts and their order; `None` if unknown."""
        return None

    def file_versions(self) -> dict[str, str]:
        """Return the version of each local file that samples are read from; empty if unknown."""
        return {}

    @property
    def ranks(self) -> tuple[int, int]:
        """Rank of this process, and number of processes, each of which gets a part of the batches."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    @property
    def device(self) -> str | None:
        """Device to which loaders copy batches; `None` for the CPU."""
        device = None if self.trainer is None else self.trainer.strategy.root_device
        return None if device is None or device.type == "cpu" else str(device)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch to a device; for MPS, which has no float64, bounds and transforms remain on the CPU."""
        move = partial(super().transfer_batch_to_device, device=device, dataloader_idx=dataloader_idx)
        if device.type != "mps" or not isinstance(batch, dict):
            return move(batch)
        return {
            key: value if getattr(value, "dtype", 0) == torch.float64 else move(value) for key, value in batch.items()
        }

    def divided(self, loader: DataLoader[Any], *, even: bool = False) -> Any:
        """Return a loader of evaluation batches that yields those of this process.

        Parameters
        ----------
        loader
            Loader whose sampler yields all batches.
        even
            Whether all processes get the same number of batches, so that some may be left out. Otherwise each batch is
            yielded by one process, and a process without any yields an empty batch, as Lightning skips the evaluation
            where there is none.
        """
        rank, world_size = self.ranks
        if world_size > 1 and len(loader):
            cast("ResumableSampler", loader.sampler).shard(rank, world_size, even=even)
            return loader if len(loader) else _EmptyBatch()
        return loader

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the position of a checkpoint.

        Raises
        ------
        InputError
            If the checkpoint was written with other samples or windows, as of another split, size or seed: a test part
            could then hold pixels of the training.
        """
        if None not in (before := state_dict.get(_WINDOWS), now := self.window_token) and before != now:
            msg = "Cannot resume: the checkpoint was written with other samples or windows, as of changed files or of "
            msg += "another split, size or seed."
            raise InputError(msg, remedy="Pass the same split, {size} and {seed} to the data. Or pass another folder.")
        self._position = state_dict[_EPOCH], state_dict[_BATCHES]
        self._batches_per_epoch = state_dict.get(_BATCHES_PER_EPOCH)

    def rewind(self) -> None:
        """Forget the position of a checkpoint, which an earlier run with this module restored."""
        self._position, self._batches_per_epoch = (0, 0), None

    def resumed(self, loader: DataLoader[Any]) -> DataLoader[Any]:
        """Return a loader of training batches, set to the position of the checkpoint.

        Raises
        ------
        InputError
            If the checkpoint was written with another number of batches per epoch.
        """
        sampler = cast("ResumableSampler", loader.sampler)
        if self.ranks[1] > 1:
            sampler.shard(*self.ranks)
        if self._batches_per_epoch is not None and len(sampler) != self._batches_per_epoch:
            msg = f"Cannot resume in an epoch of {len(sampler)} batches: the checkpoint has {self._batches_per_epoch} "
            msg += "batches per epoch."
            raise InputError(msg, remedy="Pass the same data and {batch_size}. Or pass another folder.")
        self._batches_per_epoch = len(sampler)
        sampler.resume(*self._position, full_length=True)
        return loader

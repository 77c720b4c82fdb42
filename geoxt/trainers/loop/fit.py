"""Fit: one call that trains a task the same way each time, and keeps its best epoch."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint, TQDMProgressBar

from geoxt.errors import InputError, OutputError
from geoxt.trainers.loop.callbacks import History, Learner, best_epoch, early, weight_averaging
from geoxt.trainers.loop.determinism import compiled_for_now, quiet, repeatable
from geoxt.trainers.loop.resume import Keep
from geoxt.trainers.tasks.module import Task
from geoxt.types import SomePath

Progress = Literal["bar", "lines", "none"]
"""A progress bar and a line of scores an epoch, the lines alone, or nothing."""

Precision = Literal["32", "bf16", "16"]
"""Bits of the numbers that layers compute with; the weights themselves always have 32."""

LAST = "last.ckpt"
"""In the folder of a training that can be resumed: where it stands."""

_PRECISION: Mapping[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def fit(
    task: pl.LightningModule,
    data: pl.LightningDataModule,
    *,
    epochs: int,
    seed: int = 0,
    checkpoint: SomePath | None = None,
    progress: Progress = "bar",
    accelerator: str = "auto",
    precision: Precision = "32",
    accumulate: int = 1,
    patience: int | None = None,
    clip: float | None = None,
    compiled: bool = False,
    resume: SomePath | None = None,
    every: int = 0,
    callbacks: Sequence[pl.Callback] = (),
) -> list[dict[str, float]]:
    """Train a task, and leave it with the weights of the epoch that validated best.

    Parameters
    ----------
    task
        What to train, a `Task` or `SelfSupervised`; changed in place.
    data
        Samples to train and to validate on.
    epochs
        Passes over the training windows.
    seed
        Seed of augmentation and dropout. On a CPU the same seed gives the same weights, bit for bit.
    checkpoint
        Where to keep the best epoch; its folder must be there.
    progress
        What to show meanwhile.
    accelerator
        In Lightning's terms.
    precision
        "32", or mixed with "bf16" or "16".
    accumulate
        Batches whose gradients are added up for one step.
    patience
        Epochs without a better score after which training stops early.
    clip
        Longest gradient.
    compiled
        Whether to compile the network (`torch.compile`): quicker after a minute, where there is a C++ compiler.
    resume
        Folder that a training which is cut off leaves off in, and goes on from: `last.ckpt`, where it stands, and
        `best.ckpt`, its best epoch. To go on, call this again with the same arguments.
    every
        Steps after which the training is kept there within an epoch; 0 keeps it between epochs only.
    callbacks
        Further ones of Lightning.

    Returns
    -------
    list of dict
        The scores of each epoch, by name.

    Raises
    ------
    InputError
        Where there is no epoch to train, or the recipe monitors a score that validation does not give.
    OutputError
        Where the folder to resume from cannot be made.
    """
    learner = cast("Learner", task)
    _require(epochs=epochs, accumulate=accumulate, patience=1 if patience is None else patience)
    history = History(lines=progress != "none")
    task.train()  # an earlier fit or evaluate left it in evaluation mode, and Lightning takes modules as they are
    with _folder(resume, checkpoint) as folder:
        best = best_epoch(folder, learner)
        bar = [TQDMProgressBar(leave=False)] if progress == "bar" else []
        kept = [] if resume is None else [Keep(folder / LAST, every=every)]
        with quiet(), repeatable(seed), compiled_for_now(learner.network, really=compiled):
            trainer = pl.Trainer(
                accelerator=accelerator,
                devices=1,
                max_epochs=epochs,
                callbacks=[
                    *weight_averaging(learner.recipe),
                    history,
                    *early(learner, patience),
                    best,
                    *kept,
                    *bar,
                    *callbacks,
                ],
                logger=False,
                enable_progress_bar=bool(bar),
                enable_model_summary=False,
                num_sanity_val_steps=0,
                precision=_PRECISION[precision],
                accumulate_grad_batches=accumulate,
                gradient_clip_val=clip,
            )
            last = folder / LAST
            try:
                trainer.fit(task, datamodule=data, ckpt_path=last if last.exists() else None)
            except SystemExit as stop:  # what Lightning makes of Ctrl-C
                raise KeyboardInterrupt from stop
        _take(task, Path(best.best_model_path), checkpoint, keep=resume is not None)
    return history.epochs


def resumable(
    trainer: pl.Trainer, task: pl.LightningModule, folder: Path, *, patience: int | None = None, every: int = 0
) -> Path | None:
    """Let a trainer average weights and keep its best epoch and where it stands, as `fit` does; say where to go on."""
    learner = cast("Learner", task)
    best = best_epoch(folder, learner)
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks[:] = [one for one in callbacks if not _by_default(one)]
    callbacks[:0] = weight_averaging(learner.recipe)  # before what keeps checkpoints
    callbacks += [History(lines=True), *early(learner, patience), best, Keep(folder / LAST, every=every)]
    return folder / LAST if (folder / LAST).exists() else None


def _by_default(callback: pl.Callback) -> bool:
    """Tell whether it is what keeps the last epoch, once more, where Lightning was asked for nothing."""
    if type(callback) is not ModelCheckpoint:
        return False
    return callback.dirpath is None and callback.filename is None and callback.monitor is None


def restore(task: pl.LightningModule, best: Path) -> None:
    """Load the weights of the best epoch."""
    task.load_state_dict(torch.load(best, map_location="cpu", weights_only=True)["state_dict"])
    task.eval()


def evaluate(task: pl.LightningModule, data: pl.LightningDataModule, *, accelerator: str = "auto") -> dict[str, float]:
    """Return a task's scores on the test part of its data, by name; none where there is no such part."""
    if not isinstance(task, Task) or not len(data.test_dataloader()):
        return {}
    with quiet(), torch.random.fork_rng():
        trainer = pl.Trainer(
            accelerator=accelerator, devices=1, logger=False, enable_progress_bar=False, enable_model_summary=False
        )
        (scores,) = trainer.test(task, datamodule=data, verbose=False)
    task.eval()
    return {name: float(value) for name, value in scores.items()}


def _require(**least: int) -> None:
    for name, value in least.items():
        if value < 1:
            msg = f"Cannot train for {value} {name}: pass {name}=1 or more."
            raise InputError(msg)


@contextmanager
def _folder(resume: SomePath | None, checkpoint: SomePath | None) -> Iterator[Path]:
    """Yield where to keep checkpoints meanwhile: a folder that stays, or one that is gone afterwards."""
    if resume is None:
        beside = Path(checkpoint).parent if checkpoint else None
        with tempfile.TemporaryDirectory(dir=beside, prefix=".fit-") as name:
            yield Path(name)
        return
    try:
        Path(resume).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"Cannot keep a training in {str(resume)!r}: {error}. Pass resume= a folder that can be made."
        raise OutputError(msg) from error
    yield Path(resume)


def _take(task: pl.LightningModule, best: Path, checkpoint: SomePath | None, *, keep: bool) -> None:
    """Load the weights of the best epoch, and move or copy its checkpoint to where it was asked for."""
    if not best.is_file():  # no epoch has ended yet
        return
    restore(task, best)
    if checkpoint is None:
        return
    if keep:
        half = Path(checkpoint).with_name(f".{Path(checkpoint).name}")
        shutil.copyfile(best, half)
        best = half
    best.replace(checkpoint)

"""Fit: one call that trains a task the same way each time, and keeps its best epoch."""

from __future__ import annotations

import logging
import math
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint, TQDMProgressBar

from geoxt.errors import InputError
from geoxt.trainers.average import WeightAverage
from geoxt.trainers.data import DataModule
from geoxt.trainers.task import Task
from geoxt.types import SomePath

Progress = Literal["bar", "lines", "none"]
"""A progress bar and a line of scores an epoch, the lines alone, or nothing."""

_NOISE = (
    ".*does not have many workers.*",  # windows are read by threads: workers would cost more than they give
    ".*isinstance.treespec, LeafSpec.. is deprecated.*",  # Lightning 2.6 on torch >= 2.10, about itself
)


def fit(
    task: Task,
    data: DataModule,
    *,
    epochs: int,
    seed: int = 0,
    checkpoint: SomePath | None = None,
    progress: Progress = "bar",
    accelerator: str = "auto",
) -> list[dict[str, float]]:
    """Train a task, and leave it with the weights of the epoch that validated best.

    Parameters
    ----------
    task
        What to train; changed in place.
    data
        Windows to train and to validate on.
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

    Returns
    -------
    list of dict
        The scores of each epoch, by name.

    Raises
    ------
    InputError
        Where there is no epoch to train, or the recipe monitors a score that validation does not give.
    """
    if epochs < 1:
        msg = f"Cannot train for {epochs} epochs: pass epochs=1 or more."
        raise InputError(msg)
    history = _History(lines=progress != "none")
    with tempfile.TemporaryDirectory(dir=Path(checkpoint).parent if checkpoint else None, prefix=".fit-") as folder:
        best = _Best(folder, monitor=task.recipe.monitor)
        average = [] if task.recipe.average is None else [WeightAverage(task.recipe.average)]
        bar = [TQDMProgressBar(leave=False)] if progress == "bar" else []
        with _quiet(), _repeatable(seed):
            trainer = pl.Trainer(
                accelerator=accelerator,
                devices=1,
                max_epochs=epochs,
                callbacks=[*average, history, best, *bar],
                logger=False,
                enable_progress_bar=bool(bar),
                enable_model_summary=False,
                num_sanity_val_steps=0,
            )
            try:
                trainer.fit(task, datamodule=data)
            except SystemExit as stop:  # what Lightning makes of Ctrl-C
                raise KeyboardInterrupt from stop
        kept = Path(best.best_model_path)
        task.load_state_dict(torch.load(kept, map_location="cpu", weights_only=True)["state_dict"])
        if checkpoint is not None:
            kept.replace(checkpoint)
    task.eval()
    return history.epochs


class _Best(ModelCheckpoint):
    """Keeps the epoch with the best score; losses count downwards."""

    def __init__(self, folder: str, *, monitor: str) -> None:
        mode = "min" if monitor.endswith("loss") else "max"
        super().__init__(dirpath=folder, filename="best", monitor=monitor, mode=mode)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        found = trainer.callback_metrics
        if self.monitor not in found:
            msg = (
                f"Cannot choose an epoch by {self.monitor!r}: pass Recipe(monitor=) one of {', '.join(sorted(found))}."
            )
            raise InputError(msg)
        if math.isnan(float(found[self.monitor])):
            msg = f"Cannot choose an epoch by {self.monitor!r}: no labelled pixel lies in the validation part. "
            raise InputError(msg + "Split into smaller blocks, or with another seed.")
        super().on_validation_end(trainer, pl_module)


class _History(pl.Callback):
    """Keeps the scores of each epoch, and shows a line of them."""

    def __init__(self, *, lines: bool) -> None:
        super().__init__()
        self.lines = lines
        self.epochs: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        scores = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        self.epochs.append({"epoch": trainer.current_epoch + 1, **scores})
        if self.lines:
            pl_module.print(_line(trainer.current_epoch + 1, trainer.max_epochs or 0, scores))


def _line(epoch: int, epochs: int, scores: Mapping[str, float]) -> str:
    shown = {"loss": "train/loss", "val loss": "val/loss", "val accuracy": "val/accuracy", "val mIoU": "val/miou"}
    parts = [f"{name} {scores[key]:.3f}" for name, key in shown.items() if key in scores]
    return f"epoch {epoch:>{len(str(epochs))}}/{epochs}  " + "  ".join(parts)


@contextmanager
def _repeatable(seed: int) -> Iterator[None]:
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
def _quiet() -> Iterator[None]:
    """Leave out what Lightning says of itself: the hardware it found, its tips, its own use of deprecated torch."""
    loggers: list[Any] = [
        logging.getLogger(f"pytorch_lightning.{name}") for name in ("utilities.rank_zero", "callbacks")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in _NOISE:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

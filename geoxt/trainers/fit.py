"""Fit: one call that trains a task the same way each time, and keeps its best epoch."""

from __future__ import annotations

import logging
import math
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, TQDMProgressBar
from torch import nn

from geoxt.errors import InputError, OutputError
from geoxt.trainers.average import WeightAverage
from geoxt.trainers.recipe import Recipe
from geoxt.trainers.resume import Keep
from geoxt.trainers.task import Task
from geoxt.types import SomePath

Progress = Literal["bar", "lines", "none"]
"""A progress bar and a line of scores an epoch, the lines alone, or nothing."""

Precision = Literal["32", "bf16", "16"]
"""Bits of the numbers that layers compute with; the weights themselves always have 32."""

LAST, BEST = "last.ckpt", "best.ckpt"
"""In the folder of a training that can be resumed: where it stands, and its best epoch."""

_PRECISION: Mapping[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}
NOISE = (
    ".*does not have many workers.*",  # windows are read by threads: workers would cost more than they give
    ".*isinstance.treespec, LeafSpec.. is deprecated.*",  # Lightning 2.6 on torch >= 2.10, about itself
    ".*Checkpoint directory .* exists and is not empty.*",  # that of a training that goes on
    ".*your dataloader is not resumable.*",  # the data module is, which Lightning does not look at
    ".*No positive samples.*",  # of a label that a part lacks; it has no score
    ".*Total length of .list. across ranks is zero.*",  # there need be no validation part
)


class Learner(Protocol):
    """What `fit` wants of a LightningModule."""

    recipe: Recipe
    network: nn.Module

    @property
    def monitor(self) -> str | None:
        """The score by which the best epoch is chosen; None keeps the last."""


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
    history = _History(lines=progress != "none")
    with _folder(resume, checkpoint) as folder:
        best = _best(folder, learner)
        bar = [TQDMProgressBar(leave=False)] if progress == "bar" else []
        kept = [] if resume is None else [Keep(folder / LAST, every=every)]
        with _quiet(), _repeatable(seed), _compiled(learner.network, really=compiled):
            trainer = pl.Trainer(
                accelerator=accelerator,
                devices=1,
                max_epochs=epochs,
                callbacks=[
                    *_average(learner.recipe),
                    history,
                    *_early(learner, patience),
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
    best = _best(folder, learner)
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks[:0] = _average(learner.recipe)  # before what keeps checkpoints
    callbacks += [*_early(learner, patience), best, Keep(folder / LAST, every=every)]
    return folder / LAST if (folder / LAST).exists() else None


def restore(task: pl.LightningModule, best: Path) -> None:
    """Load the weights of the best epoch."""
    task.load_state_dict(torch.load(best, map_location="cpu", weights_only=True)["state_dict"])
    task.eval()


def evaluate(task: pl.LightningModule, data: pl.LightningDataModule, *, accelerator: str = "auto") -> dict[str, float]:
    """Return a task's scores on the test part of its data, by name; none where there is no such part."""
    if not isinstance(task, Task) or not len(data.test_dataloader()):
        return {}
    with _quiet(), torch.random.fork_rng():
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


def _average(recipe: Recipe) -> list[pl.Callback]:
    return [] if recipe.average is None else [WeightAverage(recipe.average)]


def _early(task: Learner, patience: int | None) -> list[pl.Callback]:
    if patience is None:
        return []
    if task.monitor is None:
        msg = f"Cannot stop after patience={patience} epochs: no score is monitored. Pass Recipe(monitor=) one."
        raise InputError(msg)
    return [EarlyStopping(task.monitor, patience=patience, mode=_mode(task.monitor))]


def _mode(monitor: str) -> Literal["min", "max"]:
    falls = ("loss", "rmse", "mae")
    return "min" if monitor.endswith(falls) or monitor.split("/")[1:2] in (["rmse"], ["mae"]) else "max"


def _best(folder: Path, task: Learner) -> ModelCheckpoint:
    if task.monitor is None:
        return ModelCheckpoint(dirpath=folder, filename=Path(BEST).stem, enable_version_counter=False)
    return _Best(folder, monitor=task.monitor)


@contextmanager
def _compiled(network: nn.Module, *, really: bool) -> Iterator[None]:
    """Compile a module's forward, and afterwards leave it as it was."""
    if really:
        network.compile()
    try:
        yield
    finally:
        network._compiled_call_impl = None  # noqa: SLF001 (torch has no other way back)


class _Best(ModelCheckpoint):
    """Keeps the epoch with the best score; losses count downwards."""

    def __init__(self, folder: Path, *, monitor: str) -> None:
        name = Path(BEST).stem
        super().__init__(
            dirpath=folder, filename=name, monitor=monitor, mode=_mode(monitor), enable_version_counter=False
        )

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

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs = list(state_dict["epochs"])

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

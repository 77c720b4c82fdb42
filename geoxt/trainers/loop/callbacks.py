"""Lightning callbacks of a training run: EMA, early stopping, best checkpoint, scores per epoch, elapsed time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, WeightAveraging
from torch import Tensor, nn

from geoxt.errors import InputError
from geoxt.trainers.config.recipe import Recipe
from geoxt.trainers.loop.checkpoint_files import save_checkpoint

BEST = "best.ckpt"
"""Checkpoint of the best epoch, in the folder of a run."""


class Trainable(Protocol):
    """Attributes that `fit` requires of a LightningModule."""

    recipe: Recipe
    network: nn.Module

    @property
    def monitor(self) -> str | None:
        """Score that selects the best epoch; None to save the last epoch."""


def weight_averaging(recipe: Recipe) -> list[pl.Callback]:
    """Return Lightning's callback for an exponential moving average (EMA) of the weights, if the recipe has a decay."""
    return [] if recipe.ema_decay is None else [WeightAveraging(avg_fn=ema_average(recipe.ema_decay))]


def ema_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Return the averaging function of an EMA whose decay rises to its final value during the first steps.

    The decay after n steps is ``min(decay, (1 + n) / (10 + n))``, the warm-up of TensorFlow's
    ``ExponentialMovingAverage(num_updates=n)``: the random initial weights are soon forgotten, which Lightning's
    ``EMAWeightAveraging`` with its constant decay lacks.

    Parameters
    ----------
    decay
        Weight of the former average at each step, in [0, 1).
    """

    def step(average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        if not average.is_floating_point():  # counters, such as those of batch normalization
            return current
        weight = min(decay, (1 + int(count)) / (10 + int(count)))
        return average.lerp(current, 1 - weight)

    return step


def early_stopping(module: Trainable, patience: int | None) -> list[pl.Callback]:
    """Return the callback that stops training after `patience` epochs without a better score, if there is a patience.

    Raises
    ------
    InputError
        If the module monitors no score.
    """
    if patience is None:
        return []
    if module.monitor is None:
        msg = f"Cannot stop early after patience={patience} epochs: no score is monitored."
        raise InputError(msg, remedy="Name a score by {monitor} of the recipe, or leave out {patience}.")
    return [EarlyStopping(module.monitor, patience=patience, mode=_mode(module.monitor))]


def lower_is_better(monitor: str) -> bool:
    """Whether a score is a loss or an error, also one of a single channel (`val/rmse/height`)."""
    return monitor.endswith(("loss", "rmse", "mae")) or monitor.split("/")[1:2] in (["rmse"], ["mae"])


def _mode(monitor: str) -> Literal["min", "max"]:
    return "min" if lower_is_better(monitor) else "max"


def best_checkpoint(folder: Path, module: Trainable) -> ModelCheckpoint:
    """Return the callback that saves the epoch with the best score, or the last epoch if no score is monitored."""
    if module.monitor is None:
        return _WholeCheckpoint(dirpath=folder, filename=Path(BEST).stem, enable_version_counter=False)
    return _BestCheckpoint(folder, monitor=module.monitor)


class _WholeCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, whose files are complete or absent, in a folder that may be moved."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score and the path of its checkpoint, in the present folder.

        Lightning forgets the score if the folder has another path than in the checkpoint.

        Raises
        ------
        InputError
            If the checkpoint of the best epoch is missing.
        """

        def moved(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else path

        paths = {key: moved(state_dict[key]) for key in ("best_model_path", "kth_best_model_path", "last_model_path")}
        scores = {moved(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "best_k_models": scores, "dirpath": self.dirpath})
        if self.best_model_path and not Path(self.best_model_path).is_file():
            name = Path(self.best_model_path).name
            msg = f"Cannot resume the run in {self.dirpath!r}: {name!r}, its best epoch, is missing."
            raise InputError(msg, remedy="Restore this file, or pass another folder to start again.")

    def _save_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        # Lightning writes to the system's temporary folder, and from there copies to another file system
        save_checkpoint(trainer, Path(filepath))
        self._last_global_step_saved = trainer.global_step
        self._last_checkpoint_saved = filepath


class _BestCheckpoint(_WholeCheckpoint):
    """Saves the epoch with the best score; without a validation part, the last epoch."""

    def __init__(self, folder: Path, *, monitor: str) -> None:
        name = Path(BEST).stem
        super().__init__(
            dirpath=folder, filename=name, monitor=monitor, mode=_mode(monitor), enable_version_counter=False
        )
        self._key = super().state_key

    @property
    def state_key(self) -> str:
        """Key of the state in checkpoints; the same with and without a validation part."""
        return self._key

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Monitor no score if there is no validation part."""
        super().on_train_start(trainer, pl_module)
        if not sum(trainer.num_val_batches):
            self.monitor = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        scores = trainer.callback_metrics
        if self.monitor not in scores:
            msg = f"Cannot select the best epoch by {self.monitor!r}: validation logs {', '.join(sorted(scores))}."
            raise InputError(msg, remedy="Name a logged score by {monitor} of the recipe.", argument="monitor")
        if math.isnan(float(scores[self.monitor])):
            msg = f"Cannot select the best epoch by {self.monitor!r}: the validation part has no labelled pixel."
            raise InputError(msg, remedy="Split into smaller blocks, or with another seed.")
        super().on_validation_end(trainer, pl_module)


class History(pl.Callback):
    """Records the scores of each epoch, and prints a line of them.

    Parameters
    ----------
    lines
        Whether to print.
    """

    def __init__(self, *, lines: bool) -> None:
        super().__init__()
        self.lines = lines
        self.epochs: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the scores so far, for a checkpoint."""
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the scores of a resumed run."""
        self.epochs = list(state_dict["epochs"])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the scores of an epoch."""
        scores = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        self.epochs.append({"epoch": trainer.current_epoch + 1, **scores})
        if self.lines:
            pl_module.print(_line(trainer.current_epoch + 1, trainer.max_epochs or 0, scores))


class TestHistory(pl.Callback):
    """Records the scores of a task on the test part as plain values.

    Attributes
    ----------
    epochs
        One dict, of `Scores.to_dict`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[dict[str, Any]] = []

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the scores."""
        del trainer
        scores: Any = pl_module.scores
        self.epochs = [scores.to_dict()]


def _line(epoch: int, epochs: int, scores: Mapping[str, float]) -> str:
    columns = {"loss": "train/loss", "val loss": "val/loss", "val accuracy": "val/accuracy", "val mIoU": "val/miou"}
    parts = [f"{name} {scores[key]:.3f}" for name, key in columns.items() if key in scores]
    return f"epoch {epoch:>{len(str(epochs))}}/{epochs}  " + "  ".join(parts)


class ElapsedTime(pl.Callback):
    """Measures the duration of a run in seconds, including the time before an interruption."""

    def __init__(self) -> None:
        super().__init__()
        self._start, self._before = time.perf_counter(), 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the callback was created, plus the seconds of the resumed checkpoint."""
        return self._before + time.perf_counter() - self._start

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds so far, for a checkpoint."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the seconds of a resumed run."""
        self._before = state_dict["seconds"]

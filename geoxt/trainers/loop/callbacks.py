"""What watches a training: which epoch is best, when to stop, the running average, and the scores of each epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, WeightAveraging
from torch import Tensor, nn

from geoxt.errors import InputError
from geoxt.trainers.config.recipe import Recipe

BEST = "best.ckpt"
"""In the folder of a training: its best epoch."""


class Learner(Protocol):
    """What `fit` wants of a LightningModule."""

    recipe: Recipe
    network: nn.Module

    @property
    def monitor(self) -> str | None:
        """The score by which the best epoch is chosen; None keeps the last."""


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


def early(task: Learner, patience: int | None) -> list[pl.Callback]:
    """Return what stops a training after so many epochs without a better score."""
    if patience is None:
        return []
    if task.monitor is None:
        msg = f"Cannot stop after patience={patience} epochs: no score is monitored. Pass Recipe(monitor=) one."
        raise InputError(msg)
    return [EarlyStopping(task.monitor, patience=patience, mode=_mode(task.monitor))]


def lower_is_better(monitor: str) -> bool:
    """Tell whether less of a score is better: of losses and errors, also of one channel (`val/rmse/height`)."""
    return monitor.endswith(("loss", "rmse", "mae")) or monitor.split("/")[1:2] in (["rmse"], ["mae"])


def _mode(monitor: str) -> Literal["min", "max"]:
    return "min" if lower_is_better(monitor) else "max"


def best_epoch(folder: Path, task: Learner) -> ModelCheckpoint:
    """Return what keeps the epoch that validated best, or where no score is monitored the last one."""
    if task.monitor is None:
        return ModelCheckpoint(dirpath=folder, filename=Path(BEST).stem, enable_version_counter=False)
    return _Best(folder, monitor=task.monitor)


class _Best(ModelCheckpoint):
    """Keeps the epoch with the best score; losses count downwards. Without a validation part it keeps the last one."""

    def __init__(self, folder: Path, *, monitor: str) -> None:
        name = Path(BEST).stem
        super().__init__(
            dirpath=folder, filename=name, monitor=monitor, mode=_mode(monitor), enable_version_counter=False
        )
        self._key = super().state_key

    @property
    def state_key(self) -> str:
        """Where a checkpoint keeps this one's state: the same whether there is a validation part or not."""
        return self._key

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Watch no score where nothing is validated."""
        super().on_train_start(trainer, pl_module)
        if not sum(trainer.num_val_batches):
            self.monitor = None

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


class History(pl.Callback):
    """Keeps the scores of each epoch, and shows a line of them."""

    def __init__(self, *, lines: bool) -> None:
        super().__init__()
        self.lines = lines
        self.epochs: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the scores so far, for a checkpoint."""
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the scores of a training that goes on."""
        self.epochs = list(state_dict["epochs"])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the scores of an epoch, and show a line of them."""
        scores = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        self.epochs.append({"epoch": trainer.current_epoch + 1, **scores})
        if self.lines:
            pl_module.print(_line(trainer.current_epoch + 1, trainer.max_epochs or 0, scores))


def _line(epoch: int, epochs: int, scores: Mapping[str, float]) -> str:
    shown = {"loss": "train/loss", "val loss": "val/loss", "val accuracy": "val/accuracy", "val mIoU": "val/miou"}
    parts = [f"{name} {scores[key]:.3f}" for name, key in shown.items() if key in scores]
    return f"epoch {epoch:>{len(str(epochs))}}/{epochs}  " + "  ".join(parts)

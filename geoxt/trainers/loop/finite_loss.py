"""The Lightning callback that stops a run whose loss is not finite, before the weights are updated."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from geoxt.errors import InputError
from geoxt.metrics.label_codes import IGNORE
from geoxt.torch_devices import number_on_host

_REMEDY = (
    "Lower lr of the recipe, check its class_weights, and mark pixels of extreme values as nodata. "
    "Or pass {max_gradient_norm:1}."
)


class FiniteLoss(pl.Callback):
    """Raises if the loss of a batch, or the mean loss of validation or test, is not finite, or no batch has a label.

    The loss is checked after the backward pass has been started, which the device computes meanwhile, and before the
    optimizer steps.
    """

    def __init__(self) -> None:
        super().__init__()
        self._loss: Callable[[], float] | None = None
        self._batch: Any = None
        self._unlabelled = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reset the number of batches without labels."""
        del trainer, pl_module
        self._unlabelled = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Raise if no batch of an epoch has a label, before the model is scored.

        Raises
        ------
        InputError
            If all batches of the epoch are without labels.
        """
        del pl_module, outputs, batch
        if trainer.world_size == 1 and self._unlabelled == batch_idx + 1 == trainer.num_training_batches:
            msg = f"Cannot train: no batch of epoch {trainer.current_epoch + 1} has a labelled pixel or sample."
            raise InputError(msg, remedy="Check that the labels hold codes of the classes, where the image is valid.")

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Store the batch, for the classes in the error."""
        del trainer, pl_module, batch_idx
        self._batch = batch

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Start to copy the loss of the batch to the host."""
        del trainer, pl_module
        self._loss = number_on_host(loss.detach())

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Raise if the loss of the batch is not finite.

        Raises
        ------
        InputError
            With the classes, or the largest value, of the batch's labels.
        """
        loss, batch = self._loss, self._batch
        self._loss = self._batch = None
        number = 1.0 if loss is None else loss()
        if number == 0 and not _has_labels(pl_module, batch):
            self._unlabelled += 1
        if math.isfinite(number):
            return
        where = f"batch {trainer.fit_loop.batch_idx + 1} of epoch {trainer.current_epoch + 1}"
        msg = f"Cannot train on: the loss of {where} is {number:g}{_labels(pl_module, batch)}."
        raise InputError(msg, remedy=_REMEDY, value=number)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Raise if the mean validation loss is not finite."""
        del pl_module
        _require_logged(trainer, "val")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Raise if the mean test loss is not finite."""
        del pl_module
        _require_logged(trainer, "test")


def _require_logged(trainer: pl.Trainer, stage: str) -> None:
    loss = trainer.callback_metrics.get(f"{stage}/loss")
    if loss is not None:
        require_finite(torch.as_tensor(loss), stage)


def require_finite(loss: Tensor, stage: str, *, labels: int | None = None) -> None:
    """Raise if the mean loss of validation or test is not finite.

    Parameters
    ----------
    loss
        Mean loss.
    stage
        `"val"` or `"test"`.
    labels
        Number of labels that the mean is taken over, if known.

    Raises
    ------
    InputError
        If the loss is not finite.
    """
    if not bool(loss.isfinite()):
        if labels == 0:
            part = "validation" if stage == "val" else stage
            msg = f"Cannot score the model: the {part} part has no labelled pixel or sample."
            raise InputError(msg, remedy="Split into smaller blocks, or with another seed.")
        msg = f"Cannot score the model: {stage}/loss is {float(loss):g}, so that its outputs are not finite."
        raise InputError(msg, remedy=_REMEDY, value=float(loss))


def _target(module: Any, batch: Any) -> Tensor | None:
    """Return the target of a batch; `None` for detectors and self-supervised learning."""
    supervision = getattr(module, "supervision", None)
    if supervision is None or supervision.target is None:
        return None
    target: Tensor = module.target(batch)
    return target


def _has_labels(module: Any, batch: Any) -> bool:
    """Return whether a batch has a labelled pixel or sample, or its model learns without labels."""
    target = _target(module, batch)
    return target is None or bool((~target.isnan() if target.is_floating_point() else target != IGNORE).any())


def _labels(module: Any, batch: Any) -> str:
    """Return the classes of a batch, or the range of its values, as the end of a sentence; empty if it has none."""
    target = _target(module, batch)
    if target is None:
        return ""
    if not module.kind.is_categorical or target.is_floating_point():
        labeled = target[~target.isnan()]
        return f"; its labels are from {float(labeled.min()):g} to {float(labeled.max()):g}" if len(labeled) else ""
    names = module.card.legend.distinct_names
    classes = [names[index] for index in torch.unique(target[target != IGNORE]).tolist()]
    listed = f"its labels are of the classes {', '.join(classes)}" if classes else "none of its pixels is labelled"
    weights = module.class_weights
    return f"; {listed}" if weights is None else f"; {listed}, the class weights are {_format_weights(weights)}"


def _format_weights(weights: Tensor) -> str:
    return ", ".join(f"{weight:.4g}" for weight in weights.tolist())

"""Hyperparameters of a training run, as one value that a configuration file or a checkpoint can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)  # without slots: jsonargparse reads defaults from __dict__
class Recipe:
    """Loss, optimizer, learning rate schedule and regularization of a training run.

    Parameters
    ----------
    lr
        Maximum learning rate.
    encoder_lr
        Maximum learning rate of the encoder, if it differs: of a model with an encoder and a decoder.
    weight_decay
        Weight decay of the optimizer.
    optimizer
        Name of an optimizer in `torch.optim`.
    optimizer_options
        Further arguments of the optimizer.
    schedule
        Learning rate schedule: `"one-cycle"`, `"plateau"` (reduced when the validation loss stops improving),
        `"constant"`, or the name of a class in `torch.optim.lr_scheduler`, which is stepped once per epoch.
    schedule_options
        Further arguments of the schedule.
    loss
        Name of one of the task's losses; by default its first.
    class_weights
        Weight of each class in the loss, in the order of the card's classes, or `"balanced"` for inverse class
        frequencies in the training part.
    label_smoothing
        Fraction of the target that is spread evenly over all classes, in [0, 1).
    augment
        Whether to flip and rotate training samples at random.
    ema_decay
        Decay of the exponential moving average (EMA) of the weights that is validated and saved; None for the weights
        of the last step.
    channels_last
        Whether to store images in channels-last memory format, which is faster for many models (up to twice on CPUs).
    tta
        Whether to average test outputs over the eight flips and rotations of an image (test-time augmentation).
    standardize_targets
        Whether the loss of a regression is that of targets standardized by `target_mean` and `target_std` of the model
        card. Predictions and all other scores are in the units of the targets.
    monitor
        Validation score that selects the best epoch; by default that of the task, such as `val/miou`.
    """

    lr: float = 2e-3
    encoder_lr: float | None = None
    weight_decay: float = 0.05
    optimizer: str = "AdamW"
    optimizer_options: Mapping[str, Any] = field(default_factory=dict)
    schedule: str = "one-cycle"
    schedule_options: Mapping[str, Any] = field(default_factory=dict)
    loss: str | None = None
    class_weights: str | tuple[float, ...] | None = None
    label_smoothing: float = 0.1
    augment: bool = True
    ema_decay: float | None = 0.98
    channels_last: bool = False
    tta: bool = False
    standardize_targets: bool = True
    monitor: str | None = None

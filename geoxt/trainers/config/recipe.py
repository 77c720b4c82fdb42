"""A recipe: how a model is trained, as one value that a checkpoint keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)  # without slots: jsonargparse reads defaults from __dict__
class Recipe:
    """Loss, optimiser and schedule of a training run."""

    lr: float = 2e-3
    """Highest learning rate."""
    weight_decay: float = 0.05
    """The optimiser's weight decay."""
    optimizer: str = "AdamW"
    """Name of an optimiser in `torch.optim`."""
    optimizer_options: Mapping[str, Any] = field(default_factory=dict)
    """Its other arguments."""
    schedule: str = "one-cycle"
    """How the learning rate moves: `"one-cycle"` up and down once, `"plateau"` down when the validation loss stalls,
    `"constant"` not at all; or the name of any schedule in `torch.optim.lr_scheduler`, which moves once an epoch."""
    schedule_options: Mapping[str, Any] = field(default_factory=dict)
    """The schedule's other arguments."""
    loss: str | None = None
    """Name of a loss of the task; `None` takes its first."""
    class_weights: str | tuple[float, ...] | None = None
    """Weight of each class in the loss: numbers, or `"balanced"` for the inverse of its share of the training part."""
    label_smoothing: float = 0.1
    """Label smoothing: share of the target spread over all classes. Labels drawn on a map are never all right."""
    augment: bool = True
    """Whether training samples are flipped and turned at random."""
    ema_decay: float | None = 0.98
    """Decay of the running average of the weights that is validated and kept; `None` keeps the last weights."""
    channels_last: bool = False
    """Whether images lie in memory pixel by pixel, not band by band: for many models quicker, by half on a CPU."""
    test_time_augmentation: bool = False
    """Whether tests average the outputs for all eight flips and quarter turns of an image."""
    monitor: str | None = None
    """Score on the validation part by which the best epoch is chosen; `None` takes the task's own."""

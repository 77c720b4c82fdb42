"""A recipe: how a model is trained, as one value that a checkpoint keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Schedule = Literal["one-cycle", "plateau", "constant"]
"""How the learning rate moves: up and down once, down when the validation loss stalls, or not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Loss, optimiser and schedule of a training run."""

    lr: float = 2e-3
    """Highest learning rate of AdamW."""
    weight_decay: float = 0.05
    """AdamW's weight decay."""
    schedule: Schedule = "one-cycle"
    """How the learning rate moves."""
    loss: str = "cross_entropy"
    """Name of a loss of the task."""
    smoothing: float = 0.1
    """Label smoothing: share of the target spread over all classes. Labels drawn on a map are never all right."""
    augment: bool = True
    """Whether training samples are flipped and turned at random."""
    average: float | None = 0.98
    """Decay of the running average of the weights that is validated and kept; `None` keeps the last weights."""
    monitor: str = "val/accuracy"
    """Score on the validation part by which the best epoch is chosen."""

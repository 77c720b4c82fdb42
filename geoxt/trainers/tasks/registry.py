"""Target, losses, metric and scores of each supervised task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor
from torchmetrics import Metric

from geoxt import tasks
from geoxt.errors import InputError
from geoxt.metrics.confusion import ConfusionMatrix, classification_scores
from geoxt.metrics.detection import AveragePrecision, detection_scores
from geoxt.metrics.label_codes import Codes
from geoxt.metrics.multilabel import MultilabelCounts, multilabel_scores
from geoxt.metrics.regression import RegressionSums, regression_scores
from geoxt.metrics.scores import Scores
from geoxt.tasks import TASKS, TaskKind
from geoxt.trainers.tasks.losses import LOSSES, Loss
from geoxt.trainers.tasks.targets import (
    Batch,
    change_classes,
    image_class,
    image_labels,
    image_values,
    pixel_classes,
    pixel_values,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervision:
    """Target, metric and scores of a supervised task."""

    kind: TaskKind
    """Row of the task in `geoxt.tasks`."""
    target: Callable[[Batch, str, str, Codes], Tensor] | None = None
    """Function of a batch, the keys of image and labels, and the class codes, that returns the target; `None` for
    detectors, which take lists of instances."""
    metric: Callable[[int], Metric]
    """Function of the number of classes or channels that returns the metric."""
    scores: Callable[[Any, tuple[str, ...]], Scores]
    """Function of the metric's value and the names of the classes or channels that returns the scores."""
    logged: tuple[str, ...]
    """Scores that are logged by class or channel."""

    def flat(self, scores: Scores) -> dict[str, float]:
        """Return the logged scores by name; by channel only of several channels."""
        by_class = self.logged if self.kind.activation != "identity" or len(scores.classes) > 1 else ()
        keys = {*self.kind.scores, *(f"{name}/{key}" for name in by_class for key in scores.classes)}
        return {name: value for name, value in scores.flat().items() if name in keys}

    @property
    def losses(self) -> Mapping[str, Loss]:
        """Losses by name, the default first; empty if the model computes the loss."""
        activation = self.kind.activation
        return {} if activation is None else {name: LOSSES[activation][name] for name in self.kind.losses}


_PIXELS: Any = {"metric": ConfusionMatrix, "scores": classification_scores, "logged": ("iou",)}
_VALUES: Any = {"metric": RegressionSums, "scores": regression_scores, "logged": ("rmse", "mae")}
_FUNCTIONS: Mapping[str, Mapping[str, Any]] = {
    "segmentation": {"target": pixel_classes, **_PIXELS},
    "change": {"target": change_classes, **_PIXELS},
    "time-series": {"target": pixel_classes, **_PIXELS},
    "pixelwise-regression": {"target": pixel_values, **_VALUES},
    "classification": {
        "target": image_class,
        "metric": ConfusionMatrix,
        "scores": partial(classification_scores, unit="images"),
        "logged": ("recall", "precision", "f1"),
    },
    "multilabel": {
        "target": image_labels,
        "metric": MultilabelCounts,
        "scores": multilabel_scores,
        "logged": ("f1", "ap"),
    },
    "regression": {"target": image_values, **_VALUES},
    "detection": {"metric": AveragePrecision, "scores": detection_scores, "logged": ("ap",)},
    "instance-segmentation": {
        "metric": partial(AveragePrecision, masks=True),
        "scores": detection_scores,
        "logged": ("ap",),
    },
}

SUPERVISION: Mapping[str, Supervision] = {
    name: Supervision(kind=TASKS[name], **_FUNCTIONS[name]) for name in tasks.names(supervised=True)
}
"""Supervision of all supervised tasks, by name."""


def supervision_of(name: str) -> Supervision:
    """Return the supervision of a task by name.

    Raises
    ------
    InputError
        If no supervised task has this name.
    """
    if name not in SUPERVISION:
        msg = f"Cannot train a task named {name!r} from labels."
        raise InputError(msg, remedy=f"Pass {{task}}, one of {', '.join(SUPERVISION)}.", value=name, argument="task")
    return SUPERVISION[name]

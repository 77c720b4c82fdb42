"""Kinds of tasks as data: how each finds its target in a batch, by which losses it learns and how it is scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torchmetrics import Metric

from geoxt.errors import InputError
from geoxt.metrics.confusion import Confusion, report_images, report_pixels
from geoxt.metrics.label_codes import Codes
from geoxt.metrics.multilabel import Errors, Labels, report_errors, report_labels
from geoxt.trainers.tasks.detection_targets import AveragePrecision, report_precision
from geoxt.trainers.tasks.losses import CLASSES, PIXEL_CLASSES, Loss
from geoxt.trainers.tasks.targets import (
    Batch,
    change_classes,
    image_class,
    image_labels,
    image_values,
    pixel_classes,
    pixel_values,
)
from geoxt.trainers.tasks.value_losses import LABELS, VALUES


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What `Task` needs to know of one kind of task."""

    name: str
    """The name that a card carries."""
    image: str = "image"
    """Name of the layer that goes into the model."""
    target: str
    """Name of the layer, or of the entry of a sample, that is learnt."""
    losses: Mapping[str, Loss]
    """Losses by name; a recipe chooses one, by default the first. None where the model has its own."""
    find: Callable[[Batch, str, str, Codes], Tensor] | None = None
    """Finds the target in a batch. None for things (boxes), which the model takes as they are."""
    tally: Callable[[int], Metric]
    """Makes what adds up outputs and targets, for a number of classes or channels."""
    report: Callable[[Any, tuple[str, ...]], Mapping[str, float]]
    """From the tally and the names of classes or channels to scores by name."""
    monitor: str
    """Score on the validation part by which the best epoch is chosen, unless a recipe names another."""
    classes: bool = True
    """Whether the model tells classes apart (its highest output counts) rather than gives values."""
    pixels: bool = False
    """Whether the target has the pixels of the image, and is flipped with it."""
    times: bool = False
    """Whether the model takes several times: images (N, T, C, H, W)."""
    things: bool = False
    """Whether the target is a list of things in each image."""
    masks: bool = False
    """Whether things have masks."""
    model: str
    """The architecture that is taken where none is named."""


def _masks(classes: int) -> AveragePrecision:
    return AveragePrecision(classes, masks=True)


_PIXELS: Any = {
    "target": "mask",
    "losses": PIXEL_CLASSES,
    "find": pixel_classes,
    "tally": Confusion,
    "report": report_pixels,
    "monitor": "val/accuracy",
    "pixels": True,
    "model": "unet",
}
_VALUES: Any = {
    "losses": VALUES,
    "tally": Errors,
    "report": report_errors,
    "monitor": "val/loss",
    "classes": False,
}
_THINGS: Any = {
    "target": "boxes",
    "losses": {},
    "report": report_precision,
    "monitor": "val/map",
    "things": True,
}

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(name="segmentation", **_PIXELS),
        Kind(name="change", times=True, **{**_PIXELS, "find": change_classes, "model": "fc_siam_diff"}),
        Kind(name="time-series", times=True, **{**_PIXELS, "model": "utae"}),
        Kind(name="pixelwise-regression", target="target", find=pixel_values, pixels=True, model="unet", **_VALUES),
        Kind(
            name="classification",
            target="label",
            losses=CLASSES,
            find=image_class,
            tally=Confusion,
            report=report_images,
            monitor="val/accuracy",
            model="resnet18",
        ),
        Kind(
            name="multilabel",
            target="label",
            losses=LABELS,
            find=image_labels,
            tally=Labels,
            report=report_labels,
            monitor="val/map",
            classes=False,
            model="resnet18",
        ),
        Kind(name="regression", target="label", find=image_values, model="resnet18", **_VALUES),
        Kind(name="detection", tally=AveragePrecision, model="faster_rcnn", **_THINGS),
        Kind(name="instance-segmentation", tally=_masks, masks=True, model="mask_rcnn", **_THINGS),
    )
}
"""All kinds of tasks, by name."""


def kind_of(name: str) -> Kind:
    """Return a kind of task by name.

    Raises
    ------
    InputError
        Where there is none of that name.
    """
    if name not in KINDS:
        msg = f"Cannot train a task named {name!r}: pass one of {', '.join(KINDS)}."
        raise InputError(msg)
    return KINDS[name]

"""The kinds of tasks: target, activation, losses, scores and default output of each, as one frozen table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from geoxt.errors import InputError

TaskName = Literal[
    "segmentation",
    "change",
    "time-series",
    "pixelwise-regression",
    "classification",
    "multilabel",
    "regression",
    "detection",
    "instance-segmentation",
    "embedding",
    "self-supervised",
]
"""Name of a kind of task, as model cards, dataset specs and `task=` hold it."""
Target = Literal["pixels", "image", "instances"]
"""Unit that has a label: each pixel, each image, or each object in an image."""
Activation = Literal["softmax", "sigmoid", "identity"]
"""Function from raw model outputs to probabilities or values."""
Output = Literal["classes", "probabilities", "logits", "regression", "uncertainty", "embeddings", "values"]
"""Values of a predicted map: the most probable class of each pixel; one band of probabilities or of logits per class;
one band per regressed quantity; one band per measure of uncertainty; features, on a coarser grid if the model's are
coarser; or raw model outputs."""

ANY_NUMBER = -1
"""`TaskKind.dates` of models that take a time series of any length."""
_CLASS_LOSSES = ("cross_entropy", "focal", "bce")
_PIXEL_LOSSES = (*_CLASS_LOSSES, "dice", "jaccard", "cross_entropy+dice")
_VALUE_LOSSES = ("mse", "mae", "huber")
_VALUE_SCORES = ("bias", "mae", "rmse", "r2")
_CLASS_OUTPUTS: tuple[Output, ...] = ("classes", "probabilities", "logits", "uncertainty", "embeddings", "values")
_LABEL_OUTPUTS: tuple[Output, ...] = ("probabilities", "logits", "embeddings", "values")
"""Without classes: a pixel may have several labels, or none."""
_VALUE_OUTPUTS: tuple[Output, ...] = ("regression", "uncertainty", "embeddings", "values")
_FEATURE_OUTPUTS: tuple[Output, ...] = ("embeddings", "values")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskKind:
    """One kind of task."""

    name: TaskName
    """Name in model cards, dataset specs and `task=`."""
    target: Target | None = None
    """Unit that has a label; `None` for tasks without labels."""
    key: str | None = None
    """Sample key of the labels, such as `"mask"`; `boxes` also stands for the `labels` and `masks` of the instances."""
    dates: int = 1
    """Images of one sample: 1, 2, or `ANY_NUMBER` (a time series)."""
    activation: Activation | None = None
    """Activation of the model's output; `None` if the model applies its own or has no head."""
    outputs: tuple[Output, ...] = ()
    """Values of `predict(output=)`, the default first; empty for detectors, which `detect` runs."""
    losses: tuple[str, ...] = ()
    """Names of the losses, the default first; empty if the model computes its own loss."""
    scores: tuple[str, ...] = ()
    """Names of the scores over all classes or channels, as logged behind `val/` and `test/`."""
    monitor: str | None = None
    """Default score of model selection; `None` if the task cannot be trained with labels."""
    model: str | None = None
    """Name of the default architecture."""
    mlm: str | None = None
    """Name of the task in the STAC Machine Learning Model extension."""
    letter: str = ""
    """Task letter in the dataset tables of the TorchGeo paper (https://arxiv.org/abs/2111.08872)."""

    @property
    def output(self) -> Output | None:
        """Default of `predict(output=)`; `None` for detectors."""
        return self.outputs[0] if self.outputs else None

    @property
    def is_categorical(self) -> bool:
        """Whether the model's outputs are logits of mutually exclusive classes."""
        return self.activation == "softmax"

    @property
    def is_supervised(self) -> bool:
        """Whether `trainers.Task` trains the task from labels."""
        return self.monitor is not None

    @property
    def takes_series(self) -> bool:
        """Whether the model's input has a time dimension: (N, T, C, H, W)."""
        return self.dates != 1

    @property
    def has_masks(self) -> bool:
        """Whether each instance has a mask besides its box."""
        return self.name == "instance-segmentation"


def _segmentation(name: TaskName, *, model: str, letter: str, dates: int = 1) -> TaskKind:
    return TaskKind(
        name=name,
        target="pixels",
        key="mask",
        dates=dates,
        activation="softmax",
        outputs=_CLASS_OUTPUTS,
        losses=_PIXEL_LOSSES,
        scores=("accuracy", "miou"),
        monitor="val/accuracy",
        model=model,
        mlm="semantic-segmentation",
        letter=letter,
    )


def _regression(name: TaskName, *, target: Target, key: str, model: str) -> TaskKind:
    return TaskKind(
        name=name,
        target=target,
        key=key,
        activation="identity",
        outputs=_VALUE_OUTPUTS,
        losses=_VALUE_LOSSES,
        scores=_VALUE_SCORES,
        monitor="val/loss",
        model=model,
        mlm="regression",
        letter="R",
    )


def _detection(name: TaskName, *, model: str, mlm: str) -> TaskKind:
    return TaskKind(
        name=name,
        target="instances",
        key="boxes",
        scores=("map", "map50"),
        monitor="val/map",
        model=model,
        mlm=mlm,
        letter="I",
    )


TASKS: Mapping[str, TaskKind] = {
    kind.name: kind
    for kind in (
        _segmentation("segmentation", model="unet", letter="S"),
        _segmentation("change", model="fc_siam_diff", letter="D", dates=2),
        _segmentation("time-series", model="utae", letter="T", dates=ANY_NUMBER),
        _regression("pixelwise-regression", target="pixels", key="target", model="unet"),
        TaskKind(
            name="classification",
            target="image",
            key="label",
            activation="softmax",
            outputs=_CLASS_OUTPUTS,
            losses=_CLASS_LOSSES,
            scores=("accuracy", "macro_recall", "macro_f1"),
            monitor="val/accuracy",
            model="resnet18",
            mlm="scene-classification",
            letter="C",
        ),
        TaskKind(
            name="multilabel",
            target="image",
            key="label",
            activation="sigmoid",
            outputs=_LABEL_OUTPUTS,
            losses=("bce", "focal"),
            scores=("accuracy", "macro_f1", "micro_f1", "map"),
            monitor="val/map",
            model="resnet18",
            mlm="scene-classification",
            letter="C",
        ),
        _regression("regression", target="image", key="label", model="resnet18"),
        _detection("detection", model="faster_rcnn", mlm="object-detection"),
        _detection("instance-segmentation", model="mask_rcnn", mlm="instance-segmentation"),
        TaskKind(name="embedding", outputs=_FEATURE_OUTPUTS, model="rcf", mlm="similarity-search"),
        TaskKind(name="self-supervised", outputs=_FEATURE_OUTPUTS, model="resnet18", letter="T"),
    )
}
"""All kinds of tasks, by name."""


def names(*, supervised: bool | None = None) -> tuple[str, ...]:
    """Return the names of the kinds of tasks: all, or those with or without labels.

    Examples
    --------
    >>> names(supervised=False)
    ('embedding', 'self-supervised')
    """
    return tuple(name for name, kind in TASKS.items() if supervised in {None, kind.is_supervised})


def get(name: str) -> TaskKind:
    """Return a kind of task by name.

    Raises
    ------
    InputError
        If the name is unknown.

    Examples
    --------
    >>> get("segmentation").name
    'segmentation'
    """
    if name not in TASKS:
        msg = f"Cannot find a task named {name!r}."
        raise InputError(msg, remedy=f"Pass {{task}}, one of {', '.join(TASKS)}.", value=name, argument="task")
    return TASKS[name]

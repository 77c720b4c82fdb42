"""Table of the kinds of maps that `predict` computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from geoxt.errors import InputError
from geoxt.tasks import Output, TaskKind

Stage = Literal["raw", "activated", "probabilities", "embeddings"]
"""Stage of a model at which its output is taken: raw, after its activation, as probabilities, or as features."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputKind:
    """Kind of map."""

    name: Output
    """Name in `predict(output=)`."""
    stage: Stage
    """Stage at which the model's output is taken."""
    argmax: bool = False
    """Whether the map holds the code of the largest channel, without a band dimension."""
    classes: bool = False
    """Whether the model has one channel per class."""
    coarse: bool = False
    """Whether the grid of the map may be coarser than the layer's."""
    long_name: str
    """CF attribute `long_name` of the map."""


OUTPUTS: Mapping[str, OutputKind] = {
    kind.name: kind
    for kind in (
        OutputKind(name="classes", stage="probabilities", argmax=True, classes=True, long_name="predicted class"),
        OutputKind(name="probabilities", stage="probabilities", classes=True, long_name="probability of a class"),
        OutputKind(name="logits", stage="raw", classes=True, long_name="logit of a class"),
        OutputKind(name="regression", stage="activated", long_name="predicted quantity"),
        OutputKind(name="uncertainty", stage="probabilities", classes=True, long_name="uncertainty of a prediction"),
        OutputKind(name="embeddings", stage="embeddings", coarse=True, long_name="embedding"),
        OutputKind(name="values", stage="raw", long_name="output of a model"),
    )
}
"""All kinds by name."""


def output_for(task: TaskKind | None, name: Output | None = None) -> OutputKind:
    """Return the kind of map for a model's task.

    Parameters
    ----------
    task
        Task of the model; `None` for a model without a card, which may have any output.
    name
        Name of the kind; by default that of the task, or classes.

    Raises
    ------
    InputError
        If there is no kind of this name, or the model's task has no such output.
    """
    if task is None:
        return output_of("classes" if name is None else name)
    kind = output_of(name or task.output or "classes")
    if kind.name in task.outputs:
        return kind
    if not task.outputs:
        msg = f"Cannot map with a model for {task.name}: its outputs are objects."
        raise InputError(msg, remedy="Call detect() instead.", value=task.name, argument="model")
    reason = "a pixel may have several labels" if task.activation == "sigmoid" else "its task has no such output"
    msg = f"Cannot predict {kind.name} with a model for {task.name}: {reason}."
    remedy = f"Pass {{output}}, one of {', '.join(task.outputs)}."
    raise InputError(msg, remedy=remedy, value=kind.name, argument="output")


def output_of(name: str) -> OutputKind:
    """Return a kind of map by name.

    Raises
    ------
    InputError
        If there is no kind of this name.
    """
    if name not in OUTPUTS:
        hint = " For boxes use detect()." if name in {"boxes", "instances"} else ""
        msg = f"Cannot predict the output {name!r}."
        raise InputError(msg, remedy=f"Pass {{output}}, one of {', '.join(OUTPUTS)}.{hint}")
    return OUTPUTS[name]

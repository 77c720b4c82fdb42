"""What a map can show of a model's output, as data: a row for each kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from geoxt.errors import InputError
from geoxt.tasks import Output

Stage = Literal["raw", "activated", "probabilities", "embeddings"]
"""How far a model's output is taken: as it is, through its own last step, to probabilities, or to features."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What prediction needs to know of one kind of output."""

    name: Output
    """The name that `predict` takes."""
    stage: Stage
    """How far the model's output is taken."""
    picks: bool = False
    """Whether the best channel is chosen, so that there is no band dimension."""
    classes: bool = False
    """Whether there is a channel for each class."""
    coarse: bool = False
    """Whether the grid may be coarser than the layer's."""
    long_name: str
    """The CF attribute of that name."""


OUTPUTS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(name="classes", stage="probabilities", picks=True, classes=True, long_name="predicted class"),
        Kind(name="probabilities", stage="probabilities", classes=True, long_name="probability of a class"),
        Kind(name="logits", stage="raw", classes=True, long_name="logit of a class"),
        Kind(name="regression", stage="activated", long_name="predicted quantity"),
        Kind(name="embeddings", stage="embeddings", coarse=True, long_name="embedding"),
        Kind(name="values", stage="raw", long_name="output of a model"),
    )
}
"""All kinds of outputs, by name."""


def output_of(name: str) -> Kind:
    """Return a kind of output by name.

    Raises
    ------
    InputError
        Where there is none of that name.
    """
    if name not in OUTPUTS:
        hint = " For boxes use detect()." if name in {"boxes", "instances"} else ""
        msg = f"Cannot predict output={name!r}: pass one of {', '.join(OUTPUTS)}.{hint}"
        raise InputError(msg)
    return OUTPUTS[name]

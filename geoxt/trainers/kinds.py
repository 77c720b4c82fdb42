"""Kinds of tasks as data: which layer is learnt, by which losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from geoxt.errors import InputError
from geoxt.trainers.losses import PIXEL_CLASSES, Loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What `Task` needs to know of one kind of task."""

    name: str
    """The name that a card carries."""
    image: str
    """Name of the layer that goes into the model."""
    target: str
    """Name of the layer that is learnt."""
    losses: Mapping[str, Loss]
    """Losses by name; a recipe chooses one."""


KINDS: Mapping[str, Kind] = {
    kind.name: kind for kind in (Kind(name="segmentation", image="image", target="mask", losses=PIXEL_CLASSES),)
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

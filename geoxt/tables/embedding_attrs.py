"""Attributes that name the model of embeddings, compared before vectors of two layers are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geoxt.errors import InputError
from geoxt.regions.region import layers_in
from geoxt.trees import SomeData, nodes_of

NAMES = ("model", "version")
"""Attributes of a layer of embeddings."""


def embedding_attrs(data: SomeData) -> dict[str, str]:
    """Return the attributes that name the model of a layer of embeddings, as far as all layers agree."""
    layers = [layer for ds in nodes_of(data).values() for layer in layers_in(ds)]
    stated = {name: {str(layer.attrs.get(name, "")) for layer in layers} for name in NAMES}
    return {name: values.pop() for name, values in stated.items() if len(values) == 1 and values != {""}}


def require_equal_embeddings(first: Mapping[str, Any], other: Mapping[str, Any], titles: tuple[str, str]) -> None:
    """Raise if two mappings of attributes name different models or versions.

    Raises
    ------
    InputError
        If both name one, and they differ.
    """
    for name in NAMES:
        if first.get(name) and other.get(name) and str(first[name]) != str(other[name]):
            msg = f"Cannot compare embeddings: the {name} of {titles[0]} is {str(first[name])!r}, that of {titles[1]} "
            msg += f"is {str(other[name])!r}."
            raise InputError(msg, remedy="Use embeddings of one model and version.", value=other[name])

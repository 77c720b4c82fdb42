"""Room for batches: arrays that are filled again once nothing holds the tensors over them.

A batch is tens of megabytes, which the system hands out as new pages: clearing these takes a tenth of the time in
which the batch is read.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from geoxt.types import Array

SPARE = 2
"""Arrays of one shape and type that are kept while nothing holds them."""


class Room:
    """Gives arrays, and takes each back when the last tensor over it is gone. Pickles empty."""

    def __init__(self) -> None:
        self._spare: dict[Any, list[Array]] = {}

    def __reduce__(self) -> tuple[type[Room], tuple[()]]:
        return Room, ()

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return an array of any content."""
        spare = self._spare.setdefault((shape, dtype), [])
        try:
            owner = spare.pop()
        except IndexError:
            owner = np.empty(shape, dtype)
        lent = owner[...]
        weakref.finalize(lent, _take_back, spare, owner).atexit = False
        return lent


def _take_back(spare: list[Array], owner: Array) -> None:
    if len(spare) < SPARE:
        spare.append(owner)

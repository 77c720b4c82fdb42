"""Composites: one image of several that lie over each other, pixel by pixel, from their valid pixels alone.

Sums run over the images one by one, and a median sorts, so that the result does not depend on the window.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np

from geoxt.errors import InputError
from geoxt.types import Array, Mask

Reduction = Literal["first", "mean", "median", "min", "max"]
"""How pixels that lie over each other become one; "first" takes the first that is valid."""
Image = tuple[Array, Mask | None]
"""Values, and which are valid (`None`: all)."""


def compose(images: Iterable[Image], how: Reduction) -> tuple[Array, Mask] | None:
    """Return one image of several, `None` of none; invalid values are arbitrary.

    The values are float64 for "mean" and "median", else of the images' type.
    """
    match how:
        case "mean":
            return _mean(images)
        case "median":
            return _median(images)
        case "min" | "max":
            return _extreme(images, how)
        case _:
            msg = f"Cannot compose scenes by {how!r}: pass composite= 'first', 'mean', 'median', 'min' or 'max'."
            raise InputError(msg)


def _mean(images: Iterable[Image]) -> tuple[Array, Mask] | None:
    total: Array | None = None
    count: Array | None = None
    for values, valid in images:
        if total is None or count is None:
            total, count = np.zeros(values.shape), np.zeros(values.shape, "int32")
        good = True if valid is None else valid
        np.add(total, values, out=total, where=good)
        count += good
    if total is None or count is None:
        return None
    return total / np.maximum(count, 1), count > 0


def _median(images: Iterable[Image]) -> tuple[Array, Mask] | None:
    stack, flags = [], []
    for values, valid in images:
        wide = values.astype("float64")
        if valid is not None:
            wide[~valid] = np.inf
        stack.append(wide)
        flags.append(np.ones(values.shape, bool) if valid is None else valid)
    if not stack:
        return None
    ordered, count = np.sort(np.stack(stack), axis=0), np.stack(flags).sum(0)
    low, high = (np.take_along_axis(ordered, at[None], 0)[0] for at in (np.maximum(count - 1, 0) // 2, count // 2))
    return (low + high) / 2, count > 0


def _extreme(images: Iterable[Image], how: Literal["min", "max"]) -> tuple[Array, Mask] | None:
    choose = np.minimum if how == "min" else np.maximum
    best: Array | None = None
    known: Mask | None = None
    for values, valid in images:
        good = np.ones(values.shape, bool) if valid is None else valid
        if best is None or known is None:
            best, known = values.copy(), good.copy()
            continue
        np.copyto(best, np.where(known, choose(best, values), values), where=good)
        known |= good
    return None if best is None or known is None else (best, known)

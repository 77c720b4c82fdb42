"""Composites of overlapping images: mean, median, minimum or maximum of the valid values of each pixel.

Means add the images in one order, and medians sort, so that a pixel has the same bits in every window.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np

from geoxt.errors import InputError
from geoxt.types import Array, Mask

Reduction = Literal["first", "mean", "median", "min", "max"]
"""Method that combines overlapping pixels; "first" takes the first valid pixel."""
Image = tuple[Array, Mask | None]
"""Values and valid mask (`None`: all valid)."""


def compose(images: Iterable[Image], how: Reduction) -> tuple[Array, Mask] | None:
    """Return the composite of images, or `None` without images; invalid values are arbitrary.

    Values are float64 for "mean" and "median", else of the images' dtype.
    """
    match how:
        case "mean":
            return _mean(images)
        case "median":
            return _median(images)
        case "min" | "max":
            return _extreme(images, how)
        case _:
            remedy = "Pass {composite}, one of 'first', 'mean', 'median', 'min' and 'max'."
            raise InputError(f"Cannot compose scenes by {how!r}.", remedy=remedy, argument="composite")


def _mean(images: Iterable[Image]) -> tuple[Array, Mask] | None:
    total: Array | None = None
    count: Array | None = None
    for values, valid in images:
        if total is None or count is None:
            total, count = np.zeros(values.shape), np.zeros(values.shape, "int32")
        where = True if valid is None else valid
        np.add(total, values, out=total, where=where)
        count += where
    if total is None or count is None:
        return None
    return total / np.maximum(count, 1), count > 0


def _median(images: Iterable[Image]) -> tuple[Array, Mask] | None:
    stack, flags = [], []
    for values, valid in images:
        wide = values.astype("float64")
        if valid is not None:
            wide[~valid] = np.inf  # sorts behind all valid values
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
    best_valid: Mask | None = None
    for values, valid in images:
        where = np.ones(values.shape, bool) if valid is None else valid
        if best is None or best_valid is None:
            best, best_valid = values.copy(), where.copy()
            continue
        np.copyto(best, np.where(best_valid, choose(best, values), values), where=where)
        best_valid |= where
    return None if best is None or best_valid is None else (best, best_valid)

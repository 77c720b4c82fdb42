"""Decode run-length encoded masks of COCO files: uncompressed (a list of counts) and compressed (a text).

Counts are the lengths of alternating runs of 0 and 1, column by column. The text has 5 bits of a count per character,
the lowest first, as differences from the second last count (`maskApi.c` of https://github.com/cocodataset/cocoapi).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from geoxt.types import Array


def decode_runs(encoded: Mapping[str, Any], image_shape: tuple[int, int] | None = None) -> list[Array]:
    """Return a mask as rectangles that cover its pixels exactly, each a ring (4, 2) of x and y, float32.

    Parameters
    ----------
    encoded
        Object with `size` (height, width) and `counts`.
    image_shape
        Height and width of the image; by default not compared.

    Raises
    ------
    ValueError
        If the counts do not fill the size, or the size is not that of the image.

    Examples
    --------
    >>> [ring.tolist() for ring in decode_runs({"size": [2, 3], "counts": [1, 3, 2]})]
    [[[0.0, 1.0], [1.0, 1.0], [1.0, 2.0], [0.0, 2.0]], [[1.0, 0.0], [2.0, 0.0], [2.0, 2.0], [1.0, 2.0]]]
    """
    height, width = (int(side) for side in encoded["size"])
    if image_shape is not None and image_shape != (height, width):
        msg = f"a run-length encoded mask has {height}x{width} pixels, its image {image_shape[0]}x{image_shape[1]}"
        raise ValueError(msg)
    counts = encoded["counts"]
    counts = _parse_counts(counts) if isinstance(counts, str) else [int(count) for count in counts]
    ends = np.cumsum([0, *counts]).tolist()
    if ends[-1] != height * width or min(counts, default=0) < 0:
        msg = f"the counts of a run-length encoded mask sum to {ends[-1]}, not {height}x{width}"
        raise ValueError(msg)
    runs = list(pairwise(ends))[1::2]
    return [_box_ring(*box) for start, stop in runs if start < stop for box in _boxes(start, stop, height)]


def _parse_counts(text: str) -> list[int]:
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            msg = f"{character!r} is not a character of a run-length encoded mask"
            raise ValueError(msg)
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        msg = "a run-length encoded mask ends within a count"
        raise ValueError(msg)
    return counts


def _boxes(start: int, stop: int, height: int) -> Sequence[tuple[int, int, int, int]]:
    """Return the left, top, right and bottom of the rectangles of a run: its first, whole and last columns."""
    (left, top), (right, bottom) = divmod(start, height), divmod(stop, height)
    if left == right:
        return [(left, top, left + 1, bottom)]
    boxes = [(left, top, left + 1, height)] if top else []
    first = left + bool(top)
    boxes += [(first, 0, right, height)] if first < right else []
    return [*boxes, (right, 0, right + 1, bottom)] if bottom else boxes


def _box_ring(left: int, top: int, right: int, bottom: int) -> Array:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float32)

"""Pixels of overviews: averages of valid pixels, and modes of class codes."""

from __future__ import annotations

from typing import Any

import numpy as np

from geoxt.types import Array


def reduce_average(values: Array, factor: int, nodata: float | None) -> Array:
    """Return the averages of blocks of pixels, as GDAL computes overviews by AVERAGE.

    Parameters
    ----------
    values
        (…, y, x); the last blocks along y and x may have fewer rows and columns.
    factor
        Rows and columns of a block.
    nodata
        Value of missing pixels, which are ignored, as NaN is.

    Returns
    -------
    numpy.ndarray
        In the same data type, integers rounded half away from zero; nodata where a block has no valid pixel. An average
        that equals nodata is moved to the next number: it is valid.
    """
    valid = _is_valid(values, nodata)
    exact: Any = np.result_type(values.dtype, np.float64)
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        exact = np.longdouble  # float64 holds integers up to 2**53 only
    count = _sum(valid.astype(np.int32), factor)
    mean = _sum(np.where(valid, values, 0).astype(exact), factor) / np.maximum(count, 1)
    if values.dtype.kind in "iu":
        mean = np.copysign(np.floor(np.abs(mean) + 0.5), mean)
    result = mean.astype(values.dtype)
    empty = count == 0
    if nodata is not None and nodata == nodata:  # noqa: PLR0124 (NaN)
        result[~empty & (result == nodata)] = _next(nodata, values.dtype)
    if empty.any():
        result[empty] = np.nan if nodata is None else nodata
    return result


def reduce_mode(values: Array, factor: int, nodata: float | None) -> Array:
    """Return the most frequent valid value of blocks of pixels, the lowest of several.

    Parameters
    ----------
    values, factor, nodata
        As for `reduce_average`.

    Returns
    -------
    numpy.ndarray
        In the same data type; nodata where a block has no valid pixel.
    """
    rows, cols = values.shape[-2:]
    out = np.empty((*values.shape[:-2], -(-rows // factor), -(-cols // factor)), values.dtype)
    for y in _spans(rows, factor):
        for x in _spans(cols, factor):
            part = values[..., y, x]
            high, wide = min(factor, part.shape[-2]), min(factor, part.shape[-1])
            target = (
                ...,
                slice(y.start // factor, -(-y.stop // factor)),
                slice(x.start // factor, -(-x.stop // factor)),
            )
            out[target] = _modes(part, high, wide, nodata)
    return out


def _spans(size: int, factor: int) -> list[slice]:
    """Return the part of an axis with whole blocks, and the cut block."""
    divisible = size - size % factor
    return [slice(start, stop) for start, stop in ((0, divisible), (divisible, size)) if stop > start]


def _modes(values: Array, high: int, wide: int, nodata: float | None) -> Array:
    *lead, rows, cols = values.shape
    blocks = values.reshape(*lead, rows // high, high, cols // wide, wide).swapaxes(-3, -2)
    ordered = np.sort(blocks.reshape(*lead, rows // high, cols // wide, high * wide), axis=-1)
    positions = np.arange(high * wide, dtype=np.int32)
    begins = np.ones(ordered.shape, bool)
    np.not_equal(ordered[..., 1:], ordered[..., :-1], out=begins[..., 1:])
    # At the last pixel of a run of equal values this is the length of the run, before it less.
    lengths = positions + 1 - np.maximum.accumulate(np.where(begins, positions, 0), axis=-1)
    lengths[~_is_valid(ordered, nodata)] = 0
    longest = lengths.argmax(axis=-1)
    return np.take_along_axis(ordered, longest[..., None], axis=-1)[..., 0]


def _is_valid(values: Array, nodata: float | None) -> Array:
    valid = np.ones(values.shape, bool) if values.dtype.kind in "biu" else ~np.isnan(values)
    return valid if nodata is None or nodata != nodata else valid & (values != nodata)  # noqa: PLR0124 (NaN)


def _sum(values: Array, factor: int) -> Array:
    rows, cols = (np.arange(0, size, factor) for size in values.shape[-2:])
    return np.add.reduceat(np.add.reduceat(values, rows, axis=-2), cols, axis=-1)


def _next(nodata: float, dtype: np.dtype[Any]) -> Any:
    """Return a number next to nodata."""
    if dtype.kind in "iu":
        return int(nodata) + 1 if nodata < np.iinfo(dtype).max else int(nodata) - 1
    number = np.asarray(nodata, dtype)
    following = np.nextafter(number, np.asarray(np.inf, dtype))
    return following if np.isfinite(following) else np.nextafter(number, np.asarray(0, dtype))

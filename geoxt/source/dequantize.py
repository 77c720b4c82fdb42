"""Embeddings from quantized ones: stored integers to numbers, and vectors of unit length."""

from __future__ import annotations

import numpy as np

from geoxt.types import Array, Quantization


def dequantize(values: Array, quantization: Quantization) -> Array:
    """Return the float32 numbers of stored int8.

    "signed square": sign(v) * (|v| / 127.5) ** 2, of AlphaEarth Foundations.
    """
    assert quantization == "signed square"
    table: Array = _SIGNED_SQUARE[values.view(np.uint8)]
    return table


def _signed_square() -> Array:
    """Return the number of each byte, whose bits are those of the stored int8."""
    stored = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.float64)
    return np.asarray(np.sign(stored) * (stored / 127.5) ** 2, np.float32)


_SIGNED_SQUARE = _signed_square()


def to_unit_length(values: Array) -> Array:
    """Return vectors along the first axis with a Euclidean length of 1; zero and NaN are unchanged."""
    norm = np.sqrt(np.einsum("b...,b...->...", values, values, dtype=np.float64))
    return values / np.where(norm > 0, norm, 1).astype(values.dtype)

"""Dequantize embeddings, and normalize vectors to unit length."""

from __future__ import annotations

import numpy as np

from geoxt.types import Array, Quantization


def dequantize(values: Array, quantization: Quantization) -> Array:
    """Dequantize int8 to float32.

    "signed square": sign(v) * (|v| / 127.5) ** 2, of AlphaEarth Foundations.
    """
    assert quantization == "signed square"
    table: Array = _SIGNED_SQUARE[values.view(np.uint8)]
    return table


def _signed_square() -> Array:
    """Return the lookup table by byte: the value of the int8 with the same bits."""
    stored = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.float64)
    return np.asarray(np.sign(stored) * (stored / 127.5) ** 2, np.float32)


_SIGNED_SQUARE = _signed_square()


def to_unit_length(values: Array) -> Array:
    """Normalize vectors along the first axis to a Euclidean length of 1; zero and NaN are unchanged."""
    norm = np.sqrt(np.einsum("b...,b...->...", values, values, dtype=np.float64))
    return values / np.where(norm > 0, norm, 1).astype(values.dtype)

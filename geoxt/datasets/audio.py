"""Recordings (WAV, 8, 16 or 32 bit PCM) -> float32 within -1 and 1."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from geoxt.errors import ReadError
from geoxt.types import Array

_TYPES = {1: "u1", 2: "<i2", 4: "<i4"}


def read_wav(path: Path) -> tuple[Array, int]:
    """Return a recording (channel, time) and its rate.

    Raises
    ------
    ReadError
        Where it cannot be read, or is of another kind.
    """
    try:
        with wave.open(str(path), "rb") as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            count, raw = file.getnframes(), file.readframes(file.getnframes())
        values = np.frombuffer(raw, _TYPES[width]).reshape(count, channels).T.astype(np.float32)
    except (OSError, EOFError, KeyError, ValueError, wave.Error) as error:
        msg = f"Cannot read the recording {str(path)!r}: {type(error).__name__} {error}. Fetch the dataset again."
        raise ReadError(msg) from error
    return (values - 128) / 128 if width == 1 else values / 2.0 ** (8 * width - 1), rate

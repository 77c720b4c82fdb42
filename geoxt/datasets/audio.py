"""Read audio recordings (WAV, PCM of 8, 16 or 32 bit) as float32 between -1 and 1."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from geoxt.errors import ReadError
from geoxt.types import Array

_TYPES = {1: "u1", 2: "<i2", 4: "<i4"}


def read_wav(path: Path) -> tuple[Array, int]:
    """Return the samples (channel, time) of a recording, float32 between -1 and 1, and its sampling rate in Hz.

    Raises
    ------
    ReadError
        If the file cannot be read, or has another encoding.
    """
    try:
        with wave.open(str(path), "rb") as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            count, raw = file.getnframes(), file.readframes(file.getnframes())
        values = np.frombuffer(raw, _TYPES[width]).reshape(count, channels).T.astype(np.float32)
    except (OSError, EOFError, KeyError, ValueError, wave.Error) as error:
        raise ReadError(
            f"Cannot read the recording {str(path)!r}: {type(error).__name__} {error}.",
            remedy="Fetch the dataset again.",
        ) from error
    return (values - 128) / 128 if width == 1 else values / 2.0 ** (8 * width - 1), rate

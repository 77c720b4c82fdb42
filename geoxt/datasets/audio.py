"""Read audio recordings (WAV, PCM of 8, 16, 24 or 32 bit) as float32 between -1 and 1."""

from __future__ import annotations

import io
import struct
import wave
from pathlib import Path

import numpy as np

from geoxt.errors import ReadError
from geoxt.types import Array

_PCM, _EXTENSIBLE = 0x0001, 0xFFFE
"""Format tags of the `fmt ` chunk; EXTENSIBLE states the format in the first two bytes of a GUID at offset 24.
https://learn.microsoft.com/windows/win32/api/mmreg/ns-mmreg-waveformatextensible"""
_TYPES = {1: "u1", 2: "<i2", 4: "<i4"}


def read_wav(path: Path) -> tuple[Array, int]:
    """Return the samples (channel, time) of a recording, float32 between -1 and 1, and its sampling rate in Hz.

    Raises
    ------
    ReadError
        If the file cannot be read, is cut short, has no samples, or has another encoding.
    """
    try:
        content = _plain_pcm(path.read_bytes())
        with wave.open(io.BytesIO(content), "rb") as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            count, raw = file.getnframes(), file.readframes(file.getnframes())
        if not count:
            msg = "without samples"
            raise wave.Error(msg)  # noqa: TRY301 (the handler adds the file)
        values = _integers(raw, width).reshape(count, channels).T.astype(np.float32)
    except (OSError, EOFError, KeyError, ValueError, struct.error, wave.Error) as error:
        msg = f"Cannot read the recording {str(path)!r}: {type(error).__name__} {error}."
        remedy = "Fetch the dataset again with force=True. Recordings are WAV files of 8, 16, 24 or 32 bit (PCM)."
        raise ReadError(msg, remedy=remedy) from error
    return (values - 128) / 128 if width == 1 else values / 2.0 ** (8 * width - 1), rate


def _integers(raw: bytes, width: int) -> Array:
    """Return the integers of little-endian samples of 1 to 4 bytes."""
    if width != 3:
        return np.frombuffer(raw, _TYPES[width])
    triples = np.frombuffer(raw, "u1").reshape(-1, 3).astype(np.int32)
    unsigned = triples[:, 0] | triples[:, 1] << 8 | triples[:, 2] << 16
    return np.where(unsigned >= 1 << 23, unsigned - (1 << 24), unsigned)


def _plain_pcm(content: bytes) -> bytes:
    """Return a RIFF file with the tag of plain PCM if its tag is EXTENSIBLE, which `wave` reads from Python 3.12 on."""
    position = 12  # after RIFF, size, WAVE
    while position + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, position)
        if name == b"fmt ":
            (tag,) = struct.unpack_from("<H", content, position + 8)
            if tag == _EXTENSIBLE and size >= 40:
                (subformat,) = struct.unpack_from("<H", content, position + 8 + 24)
                if subformat != _PCM:
                    msg = f"samples of format {subformat}, not PCM"
                    raise wave.Error(msg)
                return content[: position + 8] + struct.pack("<H", _PCM) + content[position + 10 :]
            return content
        position += 8 + size + size % 2
    return content

"""Recordings of every PCM width and both kinds of header."""

from __future__ import annotations

import struct
import uuid
import wave

import numpy as np
import pytest

from geoxt.datasets.audio import read_wav
from geoxt.errors import ReadError

PCM = uuid.UUID("00000001-0000-0010-8000-00aa00389b71").bytes_le
FLOAT = uuid.UUID("00000003-0000-0010-8000-00aa00389b71").bytes_le
RATE = 22050


def riff(data, *, width, channels, extensible, guid=PCM, extra=b""):
    """Return a WAV file written by hand, after the documentation of WAVEFORMATEXTENSIBLE."""
    align = width * channels
    fmt = struct.pack("<HHIIHH", 0xFFFE if extensible else 1, channels, RATE, RATE * align, align, 8 * width)
    if extensible:
        fmt += struct.pack("<HHI", 22, 8 * width, 0) + guid
    chunks = extra + b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_samples_equal_the_written_ones(tmp_path, width, channels, extensible):
    low, high = -(2 ** (8 * width - 1)), 2 ** (8 * width - 1) - 1
    values = np.random.default_rng(width).integers(low, high, (50, channels), endpoint=True)
    values[:2, 0] = low, high
    stored = values + 128 if width == 1 else values
    data = b"".join(int(v).to_bytes(width, "little", signed=width > 1) for v in stored.ravel())
    path = tmp_path / "a.wav"
    # A chunk of odd length before the format is padded by one byte.
    path.write_bytes(
        riff(data, width=width, channels=channels, extensible=extensible, extra=b"LIST\x03\x00\x00\x00abc\0")
    )
    samples, rate = read_wav(path)
    assert (samples.shape, samples.dtype, rate) == ((channels, 50), np.float32, RATE)
    np.testing.assert_allclose(samples, values.T / 2.0 ** (8 * width - 1), rtol=1e-7)


def test_plain_files_equal_those_of_the_standard_library(tmp_path):
    path, values = tmp_path / "a.wav", np.arange(-300, 300, dtype="<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(values.tobytes())
    np.testing.assert_array_equal(read_wav(path)[0], values.reshape(-1, 2).T / np.float32(32768))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (riff(b"\0" * 80, width=4, channels=1, extensible=True, guid=FLOAT), "samples of format 3, not PCM"),
        (riff(b"\0" * 80, width=2, channels=2, extensible=True)[:-6], "Cannot read the recording"),
        (riff(b"\0" * 80, width=2, channels=2, extensible=True)[:40], "Cannot read the recording"),
        (riff(b"", width=2, channels=1, extensible=False), "without samples"),
        (b"RIFF", "Cannot read the recording"),
        (b"", "Cannot read the recording"),
        (b"<html>", "Cannot read the recording"),
    ],
)
def test_other_files_raise(tmp_path, content, message):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(ReadError, match=message):
        read_wav(tmp_path / "a.wav")

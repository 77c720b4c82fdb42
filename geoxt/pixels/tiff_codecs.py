"""Decoders of compressed TIFF blocks that stop after the rows that a window needs, and the predictors of TIFF.

DEFLATE is decoded by ISA-L (package isal), ZSTD by zstandard: the extra `codecs` installs both. Both release the GIL.
"""

from __future__ import annotations

import os
from typing import Any, Protocol

import numpy as np

from geoxt.pixels.tiff_directory import ORDER
from geoxt.pixels.torch_operations import accumulate
from geoxt.types import Array

try:
    from isal import isal_zlib
    from isal.igzip_lib import IsalError
except ImportError:
    isal_zlib, IsalError = None, EOFError  # type: ignore[assignment]
try:
    import zstandard
    from zstandard import ZstdError
except ImportError:
    zstandard, ZstdError = None, EOFError  # type: ignore[assignment,misc]

ERRORS: Any = (IsalError, ZstdError)
"""Errors of damaged blocks."""
DIFFERENCE, FLOAT = 2, 3
"""Values of the tag Predictor: horizontal differences, and those of the bytes of floats."""
CHUNK = 1 << 16
"""Compressed bytes that are read from the file at once."""


class Decoder(Protocol):
    """Decodes a block from its start, in parts.

    Parameters
    ----------
    start, size
        Position of the block in the file, and its number of bytes.
    """

    resumes: bool
    """Whether a suspended decoder takes so little memory that it is retained."""

    def __init__(self, start: int, size: int) -> None: ...

    def read_into(self, descriptor: int, out: Array) -> bool:
        """Decode the next bytes of an open file into a uint8 array; return whether the block has as many."""

    def at_end(self, descriptor: int) -> bool:
        """Return whether the block ends here, and its checksum is right."""


class DeflateDecoder:
    """Decodes a zlib stream in parts, and reads no more of the file than these need."""

    resumes = True

    def __init__(self, start: int, size: int) -> None:
        self._stream, self._next, self._end = isal_zlib.decompressobj(), start, start + size

    def _decode(self, descriptor: int, size: int) -> bytes:
        """Return the next bytes, up to a number of them; none at the end."""
        part = b""
        while not part and not self._stream.eof:
            data, last = self._stream.unconsumed_tail, False
            if not data:
                data = os.pread(descriptor, min(CHUNK, self._end - self._next), self._next)
                self._next += len(data)
                last = not data
            part = self._stream.decompress(data, size)
            if last:
                break
        return part

    def read_into(self, descriptor: int, out: Array) -> bool:
        """Decode the next bytes of an open file into a uint8 array; return whether the block has as many."""
        position = 0
        while position < len(out):
            part = self._decode(descriptor, len(out) - position)
            if not part:
                return False
            out[position : position + len(part)] = np.frombuffer(part, "uint8")
            position += len(part)
        return True

    def at_end(self, descriptor: int) -> bool:
        """Return whether the block ends here, and its checksum is right."""
        return not self._decode(descriptor, 1) and self._stream.eof


class ZstdDecoder:
    """Decodes a Zstandard frame in parts."""

    resumes = False

    def __init__(self, start: int, size: int) -> None:
        self._start, self._size = start, size
        self._stream: Any = None

    def read_into(self, descriptor: int, out: Array) -> bool:
        """Decode the next bytes of an open file into a uint8 array; return whether the block has as many."""
        if self._stream is None:
            data = os.pread(descriptor, self._size, self._start)
            self._stream = zstandard.ZstdDecompressor().stream_reader(data)
        return self._stream.readinto(out.data) == len(out)

    def at_end(self, descriptor: int) -> bool:  # noqa: ARG002 (of the protocol)
        """Return whether the block ends here, and its checksum is right."""
        return not self._stream.read(1)


def decoder_of(compression: int) -> type[Decoder] | None:
    """Return the decoder of a value of the tag Compression; `None` for others, and without its package."""
    if compression in (8, 32946) and isal_zlib is not None:
        return DeflateDecoder
    return ZstdDecoder if compression == 50000 and zstandard is not None else None


def undo_predictor(pixels: Array, predictor: int, order: str) -> None:
    """Replace decoded bytes by the pixels that they encode.

    Parameters
    ----------
    pixels
        (rows, columns, samples), contiguous: the bytes of whole rows of a block, then pixels in the byte order of this
        machine.
    predictor
        Value of the tag Predictor: 1, 2 or 3.
    order
        Byte order of the file: "<" or ">".

    References
    ----------
    TIFF 6.0 (https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf), section 14; Adobe Photoshop TIFF Technical
    Note 3 (https://chriscox.org/TIFFTN3d1.pdf), floating point predictor
    """
    count, columns, samples = pixels.shape
    size = pixels.itemsize
    if predictor == FLOAT:  # differences of bytes of a row whose first part holds the first byte of all floats, etc.
        octets = pixels.reshape(-1).view("uint8")
        accumulate(octets.reshape(count, columns * size, samples))
        planes = octets.reshape(count, size, columns * samples).transpose(0, 2, 1)
        pixels[...] = np.ascontiguousarray(planes).view(f">f{size}").reshape(pixels.shape)
        return
    if order != ORDER:
        pixels.byteswap(inplace=True)
    if predictor == DIFFERENCE:
        accumulate(pixels)


__all__ = ["ERRORS", "Decoder", "decoder_of", "undo_predictor"]

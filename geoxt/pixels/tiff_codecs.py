"""Decoders of whole compressed TIFF blocks, and the predictors of TIFF.

DEFLATE is decoded by ISA-L (package isal, extra `codecs`), which releases the GIL. ZSTD and others are left to GDAL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np

from geoxt.pixels.tiff_directory import ORDER
from geoxt.pixels.torch_operations import accumulate
from geoxt.types import Array

try:
    from isal import igzip_lib, isal_zlib

    IsalError = cast("type[Exception]", igzip_lib.IsalError)  # the stubs of isal 1.9 declare it as an instance
except ImportError:
    isal_zlib, IsalError = None, EOFError  # type: ignore[assignment]
DIFFERENCE, FLOAT = 2, 3
"""Values of the tag Predictor: horizontal differences, and those of the bytes of floats."""
Decoder = Callable[[bytes, int], bytes | None]
"""Returns the decoded bytes of a block; `None` if they are more or fewer than the requested number."""
PART = 1 << 16
"""Bytes that are decoded at once beyond the size of a block."""


class DamagedBlockError(Exception):
    """The compressed stream of a block is incomplete, or its checksum is wrong."""


def _inflate(block: bytes, size: int) -> bytes | None:
    """Decode a zlib stream, and verify its Adler-32 checksum; GDAL does not compare that of all blocks."""
    stream = isal_zlib.decompressobj()
    try:
        decoded: bytes = stream.decompress(block, size)
        longer = False
        while not stream.eof:  # the checksum follows; or a padded strip, which is decoded in parts to bound the memory
            more = stream.decompress(stream.unconsumed_tail, PART)
            if not more and not stream.eof:
                raise DamagedBlockError
            longer |= bool(more)
    except IsalError as error:
        raise DamagedBlockError from error
    return None if longer or len(decoded) < size else decoded


def decoder_of(compression: int) -> Decoder | None:
    """Return the decoder of a value of the tag Compression; `None` for others, and without its package."""
    return _inflate if compression in (8, 32946) and isal_zlib is not None else None


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


__all__ = ["DIFFERENCE", "FLOAT", "DamagedBlockError", "Decoder", "decoder_of", "undo_predictor"]

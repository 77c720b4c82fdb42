"""Windowed reads of uncompressed GeoTIFFs without GDAL, whose block cache only adds overhead to uncompressed data.

Offsets of strips or tiles are read from the TIFF directory once. Bytes are read by `pread`, which needs no lock, works
after a fork, and reports a truncated file (a memory map would end the process by SIGBUS). Files with any encoding are
left to `compressed_tiff` and GDAL.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import Interleaving

from geoxt.pixels.tiff_directory import ORDER, Directory, read_directory
from geoxt.types import Array
from geoxt.windows import Window

NOT_LOCAL = ("/vsi", "http:", "https:", "s3:", "gs:", "zip:", "tar:", "netcdf:", "hdf5:")
OFFSETS = (273, 324)
"""Tags StripOffsets and TileOffsets."""
STORED = {262: range(5), 266: range(2)}
"""Allowed values of PhotometricInterpretation (GDAL converts the others to RGB) and FillOrder (first bit highest)."""
_local = threading.local()


class RawBlocks:
    """Uncompressed blocks of equal size in a file, read without GDAL.

    Parameters
    ----------
    descriptor
        File descriptor, which the caller closes.
    dtype
        Data type of the pixels, in the byte order of this machine.
    block
        Rows and columns of a block. Those at the right and bottom edges are stored in full.
    samples
        Number of bands stored pixel by pixel; 1 if each band has separate blocks.
    """

    def __init__(self, descriptor: int, dtype: np.dtype[Any], block: tuple[int, int], samples: int = 1) -> None:
        self._descriptor, self._dtype, self._block = descriptor, dtype, block
        self._samples, self._contiguous = samples, samples > 1

    def _start(self, band: int, down: int, across: int) -> int:
        """Return the position of a band's block in bytes; 0 if it is not stored."""
        raise NotImplementedError

    def read(self, bands: Sequence[int], window: Window, out: Array | None = None) -> Array | None:
        """Return the values (band, height, width) of a window inside the file; `None` if only GDAL can read it.

        They are written to `out` if it has the file's data type.
        """
        if out is None or out.dtype != self._dtype:
            out = np.empty((len(bands), *window.shape), self._dtype)
        high, wide = self._block
        (row, col), (bottom, right) = (window.row, window.col), window.stop
        across = []
        for n in range(col // wide, (right - 1) // wide + 1):
            start = n * wide
            left, end = max(col, start), min(right, start + wide)
            across.append((n, slice(left - start, end - start), slice(left - col, end - col)))
        for down in range(row // high, (bottom - 1) // high + 1):
            top = max(row, down * high)
            rows = min(bottom, (down + 1) * high) - top
            target_rows = slice(top - row, top - row + rows)
            for n, block_cols, target_cols in across:
                for number, band in enumerate(bands[:1] if self._contiguous else bands):
                    strip = self._strip(band, down, n, top - down * high, rows)
                    if strip is None:
                        return None
                    if self._contiguous:
                        chosen = [band - 1 for band in bands]
                        out[:, target_rows, target_cols] = strip[:, block_cols, chosen].transpose(2, 0, 1)
                    else:
                        out[number, target_rows, target_cols] = strip[:, block_cols, 0]
        return out

    def _strip(self, band: int, down: int, across: int, first: int, rows: int) -> Array | None:
        """Return rows of a block: (rows, block width, samples), overwritten by the next call of this thread."""
        start = self._start(band, down, across)
        if not start:
            return None
        width = self._block[1] * self._samples
        size = rows * width * self._dtype.itemsize
        buffer = _buffer(size)
        if os.preadv(self._descriptor, [buffer[:size].data], start + first * width * self._dtype.itemsize) != size:
            return None  # truncated: GDAL reports the error
        return buffer[:size].view(self._dtype).reshape(rows, self._block[1], self._samples)


class RawTiff(RawBlocks):
    """An uncompressed GeoTIFF whose blocks can be read without GDAL.

    Parameters
    ----------
    file
        The open dataset.
    descriptor
        A file descriptor of the same file; closed with this object.
    offsets
        (plane, row, column) of blocks: bytes from the start of the file; 0 for a sparse block, which is not stored.
    """

    def __init__(self, file: rasterio.DatasetReader, descriptor: int, offsets: Array) -> None:
        pixel_interleaved = file.count > 1 and file.interleaving == Interleaving.pixel
        samples = file.count if pixel_interleaved else 1
        dtype, (high, wide) = np.dtype(file.dtypes[0]), file.block_shapes[0]
        super().__init__(descriptor, dtype, (high, wide), samples)
        # A block that a truncated file has in part is left to GDAL, which reads none of its rows: else the result would
        # depend on the reader. Strips at the bottom edge hold the rows that are left.
        tops = high * np.arange(offsets.shape[1])
        rows = np.full(len(tops), high) if wide < file.width else np.minimum(high, file.height - tops)
        ends = offsets + (rows * wide * samples * dtype.itemsize)[:, None]
        self._offsets = np.where(ends <= os.fstat(descriptor).st_size, offsets, 0).tolist()

    def __del__(self) -> None:
        os.close(self._descriptor)

    def _start(self, band: int, down: int, across: int) -> int:
        start: int = self._offsets[0 if self._contiguous else band - 1][down][across]
        return start


def open_raw(file: rasterio.DatasetReader, href: str) -> RawTiff | None:
    """Return an uncompressed GeoTIFF, or `None` if it is compressed, remote, bit-packed or not in native byte order.

    Always `None` on systems without positioned reads (Windows).
    """
    if not hasattr(os, "preadv"):
        return None
    if file.driver != "GTiff" or href.startswith(NOT_LOCAL):
        return None
    if file.compression is not None or len(set(file.dtypes)) > 1:
        return None
    if np.dtype(file.dtypes[0]).kind not in "iuf" or "NBITS" in file.tags(1, ns="IMAGE_STRUCTURE"):
        return None
    try:
        descriptor = os.open(href, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return None
    offsets = block_offsets(descriptor)
    high, wide = file.block_shapes[0]
    planes = 1 if file.interleaving == Interleaving.pixel else file.count
    shape = planes, -(-file.height // high), -(-file.width // wide)
    if offsets is not None and offsets.size == planes and wide == file.width:
        # GDAL reports virtual blocks for a file of one long strip (libtiff's TIFF_STRIPCHOP): they follow each other
        step = high * wide * (file.count // planes) * np.dtype(file.dtypes[0]).itemsize
        offsets = offsets[:, None] + step * np.arange(shape[1])
    if offsets is None or offsets.size != shape[0] * shape[1] * shape[2]:
        os.close(descriptor)
        return None
    return RawTiff(file, descriptor, offsets.reshape(shape))


def block_offsets(descriptor: int) -> Array | None:
    """Return the byte offsets of the tiles or strips of a TIFF's first image.

    `None` if it is not a TIFF, has another byte or bit order, or colours that GDAL converts (CMYK, YCbCr, Lab).
    """
    directory = read_directory(descriptor)
    if directory is None or directory.order != ORDER or not has_stored_values(directory):
        return None
    return next((directory.numbers(tag) for tag in OFFSETS if tag in directory.entries), None)


def has_stored_values(directory: Directory) -> bool:
    """Return whether GDAL returns the values that a TIFF stores: without conversion of colours or order of bits."""
    return all(directory.number(tag, values[0]) in values for tag, values in STORED.items())


def missing_directory(path: str) -> int | None:
    """Return the offset of a TIFF directory beyond the end of the file; `None` for complete files and other formats.

    GDAL opens a file cut before the directory of its mask or overviews as one without them.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 (called for every file)
            head = file.read(16)
            order = {b"II": "<", b"MM": ">"}.get(head[:2])
            if order is None or len(head) < 16:
                return None
            big = struct.unpack(order + "H", head[2:4])[0] == 43
            counter, pointer, entry = ("Q", "Q", 20) if big else ("H", "I", 12)
            start = struct.unpack_from(order + pointer, head, 8 if big else 4)[0]
            size = os.fstat(file.fileno()).st_size
            visited: set[int] = set()
            while start and start not in visited:
                visited.add(start)
                file.seek(start)
                count = file.read(struct.calcsize(counter))
                if len(count) < struct.calcsize(counter):
                    return int(start)
                end = start + len(count) + entry * struct.unpack(order + counter, count)[0]
                file.seek(end)
                following = file.read(struct.calcsize(pointer))
                if end > size or len(following) < struct.calcsize(pointer):
                    return int(start)
                start = struct.unpack(order + pointer, following)[0]
    except (OSError, ValueError):
        pass
    return None


def _buffer(size: int) -> Array:
    """Return this thread's buffer of at least `size` bytes."""
    buffer: Array | None = getattr(_local, "buffer", None)
    if buffer is None or len(buffer) < size:
        buffer = _local.buffer = np.empty(size, "uint8")
    return buffer

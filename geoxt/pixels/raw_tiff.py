"""Windows of uncompressed GeoTIFFs, straight from the file: nothing to decode, so GDAL's block cache only costs time.

Where the blocks lie is read from the file's own directory, all at once. The bytes come by `pread`, which needs no lock,
survives a fork, and reports a file that was cut short (a memory map would end the process instead). Whatever is not
plain is left to GDAL.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import Interleaving

from geoxt.types import Array
from geoxt.windows import Window

LOCAL = ("/vsi", "http:", "https:", "s3:", "gs:", "zip:", "tar:", "netcdf:", "hdf5:")
OFFSETS = (273, 324)
"""Tags of a TIFF that say where its strips or its tiles lie."""
STORED = {262: range(5), 266: range(2)}
"""Photometric interpretations that GDAL gives as they are stored, not as RGB; and a byte's first bit first."""
KINDS = {3: "u2", 4: "u4", 13: "u4", 16: "u8"}
"""Types of the numbers there."""
ORDER = {"little": b"II", "big": b"MM"}[sys.byteorder]
_local = threading.local()


class RawTiff:
    """An uncompressed GeoTIFF whose blocks can be read without GDAL.

    Parameters
    ----------
    file
        The open dataset.
    descriptor
        A file descriptor of the same file; closed with this object.
    offsets
        (plane, row, column) of the blocks: bytes from the start of the file, 0 for a block that is not there.
    """

    def __init__(self, file: rasterio.DatasetReader, descriptor: int, offsets: Array) -> None:
        self._descriptor, self._offsets = descriptor, offsets.tolist()
        self._dtype = np.dtype(file.dtypes[0])
        self._block = file.block_shapes[0]
        self._contiguous = file.count > 1 and file.interleaving == Interleaving.pixel
        self._samples = file.count if self._contiguous else 1

    def __del__(self) -> None:
        os.close(self._descriptor)

    def read(self, bands: Sequence[int], window: Window, out: Array | None = None) -> Array | None:
        """Return (band, height, width) of a window inside the file; `None` where it takes GDAL to read it.

        They stand in `out`, where that is given and of the file's type.
        """
        if out is None or out.dtype != self._dtype:
            out = np.empty((len(bands), *window.shape), self._dtype)
        high, wide = self._block
        bottom, right = window.stop
        across = [
            (n, slice(left - n * wide, end - n * wide), slice(left - window.col, end - window.col))
            for n in range(window.col // wide, (right - 1) // wide + 1)
            for left, end in [(max(window.col, n * wide), min(right, (n + 1) * wide))]
        ]
        for down in range(window.row // high, (bottom - 1) // high + 1):
            top = max(window.row, down * high)
            rows = min(bottom, (down + 1) * high) - top
            here = slice(top - window.row, top - window.row + rows)
            for n, found, place in across:
                for number, band in enumerate(bands[:1] if self._contiguous else bands):
                    strip = self._strip(band, down, n, top - down * high, rows)
                    if strip is None:
                        return None
                    if self._contiguous:
                        chosen = [band - 1 for band in bands]
                        out[:, here, place] = strip[:, found, chosen].transpose(2, 0, 1)
                    else:
                        out[number, here, place] = strip[:, found, 0]
        return out

    def _strip(self, band: int, down: int, across: int, first: int, rows: int) -> Array | None:
        """Return some full rows of a block: (rows, block width, samples), valid until the next call of this thread."""
        start = self._offsets[0 if self._contiguous else band - 1][down][across]
        if not start:
            return None
        width = self._block[1] * self._samples
        size = rows * width * self._dtype.itemsize
        held = _buffer(size)
        if os.preadv(self._descriptor, [held[:size].data], start + first * width * self._dtype.itemsize) != size:
            return None
        return held[:size].view(self._dtype).reshape(rows, self._block[1], self._samples)


def open_raw(file: rasterio.DatasetReader, href: str) -> RawTiff | None:
    """Return a GeoTIFF as a raw file, or `None` where it is not plain: compressed, remote, packed or of other order.

    Where the system has no positioned reads (Windows), no file is.
    """
    if not hasattr(os, "preadv"):  # Windows
        return None
    if file.driver != "GTiff" or href.startswith(LOCAL) or file.compression is not None or len(set(file.dtypes)) > 1:
        return None
    if np.dtype(file.dtypes[0]).kind not in "iuf" or "NBITS" in file.tags(1, ns="IMAGE_STRUCTURE"):
        return None
    try:
        descriptor = os.open(href, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return None
    found = block_offsets(descriptor)
    high, wide = file.block_shapes[0]
    planes = 1 if file.interleaving == Interleaving.pixel else file.count
    shape = planes, -(-file.height // high), -(-file.width // wide)
    if found is not None and found.size == planes and wide == file.width:  # libtiff chops one long strip
        step = high * wide * (file.count // planes) * np.dtype(file.dtypes[0]).itemsize
        found = found[:, None] + step * np.arange(shape[1])
    if found is None or found.size != shape[0] * shape[1] * shape[2]:
        os.close(descriptor)
        return None
    return RawTiff(file, descriptor, found.reshape(shape))


def block_offsets(descriptor: int) -> Array | None:
    """Return where the tiles or strips of a TIFF's first image lie.

    `None` where it is no TIFF, one of other byte or bit order, or one whose colours GDAL converts (CMYK, YCbCr, Lab).

    References
    ----------
    TIFF 6.0 (https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf), section 2; BigTIFF
    (https://libtiff.gitlab.io/libtiff/specification/bigtiff.html)
    """
    head = os.pread(descriptor, 16, 0)
    version = struct.unpack("=H", head[2:4])[0] if len(head) == 16 and head[:2] == ORDER else 0
    if version not in (42, 43):
        return None
    big = version == 43
    start = struct.unpack("=Q", head[8:16])[0] if big else struct.unpack("=I", head[4:8])[0]
    counter, entry = ("=Q", "=HHQ8s") if big else ("=H", "=HHI4s")
    size, length = struct.calcsize(counter), struct.calcsize(entry)
    count = os.pread(descriptor, size, start)
    if len(count) != size:
        return None
    table = os.pread(descriptor, length * struct.unpack(counter, count)[0], start + size)
    for tag, kind, number, value in struct.iter_unpack(entry, table[: len(table) // length * length]):
        if tag in STORED and int.from_bytes(value[:2], sys.byteorder) not in STORED[tag]:
            return None
        if tag in OFFSETS and kind in KINDS:
            return _numbers(descriptor, np.dtype(KINDS[kind]), number, value)
    return None


def _numbers(descriptor: int, dtype: np.dtype[Any], count: int, value: bytes) -> Array | None:
    """Return the numbers of an entry: they stand in it where they are few, else where it says."""
    size = count * dtype.itemsize
    if size > len(value):
        value = os.pread(descriptor, size, int.from_bytes(value, sys.byteorder))
    return np.frombuffer(value[:size], dtype).astype("int64") if len(value) >= size else None


def _buffer(size: int) -> Array:
    """Return this thread's buffer of bytes, as long as asked for or longer."""
    held: Array | None = getattr(_local, "buffer", None)
    if held is None or len(held) < size:
        held = _local.buffer = np.empty(size, "uint8")
    return held

"""Windows of uncompressed GeoTIFFs, straight from the file: nothing to decode, so GDAL's block cache only costs time.

GDAL says where the blocks lie; the bytes come by `pread`, which needs no lock, survives a fork, and reports a file that
was cut short (a memory map would end the process instead). Whatever is not plain is left to GDAL.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence

import numpy as np
import rasterio
from rasterio.enums import Interleaving

from geoxt.types import Array
from geoxt.windows import Window

LOCAL = ("/vsi", "http:", "https:", "s3:", "gs:", "zip:", "tar:", "netcdf:", "hdf5:")
ORDER = {"little": b"II", "big": b"MM"}[sys.byteorder]
_local = threading.local()


class RawTiff:
    """An uncompressed GeoTIFF whose blocks can be read without GDAL.

    Parameters
    ----------
    file
        The open dataset; it is asked for the places of blocks, when they are first needed.
    descriptor
        A file descriptor of the same file; closed with this object.
    """

    def __init__(self, file: rasterio.DatasetReader, descriptor: int) -> None:
        self._file, self._descriptor = file, descriptor
        self._dtype = np.dtype(file.dtypes[0])
        self._block = file.block_shapes[0]
        self._contiguous = file.count > 1 and file.interleaving == Interleaving.pixel
        self._samples = file.count if self._contiguous else 1
        self._offsets: dict[tuple[int, int, int], int] = {}

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
        start = self._offsets.get((band, down, across)) or self._offset(band, down, across)
        if not start:
            return None
        width = self._block[1] * self._samples
        size = rows * width * self._dtype.itemsize
        held = _buffer(size)
        if os.preadv(self._descriptor, [held[:size].data], start + first * width * self._dtype.itemsize) != size:
            return None
        return held[:size].view(self._dtype).reshape(rows, self._block[1], self._samples)

    def _offset(self, band: int, down: int, across: int) -> int:
        text = self._file.get_tag_item(f"BLOCK_OFFSET_{across}_{down}", "TIFF", bidx=band)
        found = self._offsets[band, down, across] = int(text or 0)
        return found


def open_raw(file: rasterio.DatasetReader, href: str) -> RawTiff | None:
    """Return a GeoTIFF as a raw file, or `None` where it is not plain: compressed, remote, packed or of other order."""
    if file.driver != "GTiff" or href.startswith(LOCAL) or file.compression is not None or len(set(file.dtypes)) > 1:
        return None
    if np.dtype(file.dtypes[0]).kind not in "iuf" or "NBITS" in file.tags(1, ns="IMAGE_STRUCTURE"):
        return None
    try:
        descriptor = os.open(href, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return None
    if os.pread(descriptor, 2, 0) != ORDER:
        os.close(descriptor)
        return None
    return RawTiff(file, descriptor)


def _buffer(size: int) -> Array:
    """Return this thread's buffer of bytes, as long as asked for or longer."""
    held: Array | None = getattr(_local, "buffer", None)
    if held is None or len(held) < size:
        held = _local.buffer = np.empty(size, "uint8")
    return held

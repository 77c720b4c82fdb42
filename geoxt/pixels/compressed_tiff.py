"""Windowed reads of local GeoTIFFs with DEFLATE, whose decoded blocks all threads of a process share.

A block is decoded as a whole, since its checksum covers all rows. GDAL reads all other files, and sparse blocks.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from functools import partial

import numpy as np
import rasterio
from rasterio.enums import Interleaving

from geoxt.errors import ReadError
from geoxt.pixels.block_lru_cache import block_lru_cache
from geoxt.pixels.file_version import FileVersion
from geoxt.pixels.raw_tiff import NOT_LOCAL, OFFSETS, RawBlocks, has_stored_values
from geoxt.pixels.tiff_codecs import DIFFERENCE, FLOAT, DamagedBlockError, Decoder, decoder_of, undo_predictor
from geoxt.pixels.tiff_directory import Directory, read_directory
from geoxt.types import Array
from geoxt.windows import Window

BITS, COMPRESSION, FILL_ORDER, SAMPLES, PREDICTOR = 258, 259, 266, 277, 317
"""Tags BitsPerSample, Compression, FillOrder, SamplesPerPixel and Predictor."""
SIZES = (279, 325)
"""Tags StripByteCounts and TileByteCounts."""
MAX_BLOCK = 64 * 2**20
"""Maximum size of a block in decoded bytes; GDAL reads files with larger blocks."""


class CompressedTiff(RawBlocks):
    """A compressed GeoTIFF whose blocks can be decoded without GDAL.

    Parameters
    ----------
    file
        The open dataset.
    directory
        Directory of the file; its descriptor is closed with this object.
    decoder
        Decoder of its blocks.
    positions
        (2, plane, row, column) of blocks: bytes from the start of the file, and number of bytes; 0 if not stored.
    href
        Path of the file.
    version
        Version of the file, under which its blocks stay in memory.
    """

    def __init__(
        self,
        file: rasterio.DatasetReader,
        directory: Directory,
        decoder: Decoder,
        positions: Array,
        href: str,
        version: Hashable,
    ) -> None:
        samples = file.count if file.count > 1 and file.interleaving == Interleaving.pixel else 1
        super().__init__(directory.descriptor, np.dtype(file.dtypes[0]), file.block_shapes[0], samples)
        self._decoder, self._href, self._version = decoder, href, version
        self._order, self._predictor = directory.order, directory.number(PREDICTOR, 1)
        self._positions = positions.tolist()
        # Tiles at the bottom are stored in full, strips are not.
        self._height = positions.shape[2] * self._block[0] if SIZES[1] in directory.entries else file.height

    def __del__(self) -> None:
        os.close(self._descriptor)

    def decode(self, bands: Sequence[int], window: Window) -> Array | None:
        """Return the values (band, height, width) of a window of whole blocks, which are not retained.

        `None` if only GDAL can read it.
        """
        return _Unretained(self).read(bands, window)

    def _strip(self, band: int, down: int, across: int, first: int, rows: int) -> Array | None:
        """Return rows of a block: (rows, block width, samples)."""
        key = self._href, self._version, 0 if self._contiguous else band - 1, down, across
        block = block_lru_cache().get(key, partial(self.decode_block, band, down, across))
        return None if block is None else block[first : first + rows]

    def decode_block(self, band: int, down: int, across: int) -> Array | None:
        """Return the pixels (row, column, sample) of a block, which are not retained; `None` if only GDAL can read it.

        Raises
        ------
        ReadError
            If a DEFLATE block is damaged, or its checksum is wrong.
        """
        plane = 0 if self._contiguous else band - 1
        start, size = (positions[plane][down][across] for positions in self._positions)
        if not start or not size:
            return None
        shape = min(self._block[0], self._height - down * self._block[0]), self._block[1], self._samples
        encoded = os.pread(self._descriptor, size, start)
        try:
            decoded = self._decoder(encoded, shape[0] * shape[1] * shape[2] * self._dtype.itemsize)
        except DamagedBlockError as error:
            problem = f"Cannot read {self._href}: its block at byte {start} is damaged."
            raise ReadError(problem, remedy="Replace the file by an intact copy.") from error
        if decoded is None:
            return None
        pixels = np.frombuffer(decoded, self._dtype).reshape(shape).copy()
        undo_predictor(pixels, self._predictor, self._order)
        return pixels


class _Unretained(RawBlocks):
    """Blocks of a compressed GeoTIFF, of which none stay in memory."""

    def __init__(self, file: CompressedTiff) -> None:
        super().__init__(file._descriptor, file._dtype, file._block, file._samples)  # noqa: SLF001 (of this file)
        self._file = file

    def _strip(self, band: int, down: int, across: int, first: int, rows: int) -> Array | None:
        block = self._file.decode_block(band, down, across)
        return None if block is None else block[first : first + rows]


def open_compressed(file: rasterio.DatasetReader, href: str, version: FileVersion | None) -> CompressedTiff | None:
    """Return a compressed GeoTIFF; `None` if it is remote, or has an encoding that GDAL decodes.

    Always `None` on systems without positioned reads (Windows).

    Parameters
    ----------
    file
        Open dataset of the full resolution.
    href
        Path of the file.
    version
        Version of the file that was opened.
    """
    if not hasattr(os, "pread") or file.driver != "GTiff" or href.startswith(NOT_LOCAL) or file.compression is None:
        return None
    if version is None:
        return None
    if len(set(file.dtypes)) > 1 or "NBITS" in file.tags(1, ns="IMAGE_STRUCTURE"):
        return None
    try:
        descriptor = os.open(href, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return None
    directory = read_directory(descriptor) if version.is_of(os.fstat(descriptor)) else None
    decoder = None if directory is None else decoder_of(directory.number(COMPRESSION, 1))
    if directory is not None and decoder is not None and _is_plain(file, directory):
        positions = _positions(file, directory)
        if positions is not None:
            return CompressedTiff(file, directory, decoder, positions, href, version.token)
    os.close(descriptor)
    return None


def _is_plain(file: rasterio.DatasetReader, directory: Directory) -> bool:
    """Return whether pixels are whole bytes with a supported predictor, in the order and colours of GDAL."""
    dtype = np.dtype(file.dtypes[0])
    bits = directory.numbers(BITS)
    predictors = {1, DIFFERENCE} | ({FLOAT} if dtype in ("float32", "float64") else set())
    return (
        dtype.kind in "iuf"
        and bits is not None
        and set(bits.tolist()) == {8 * dtype.itemsize}
        and directory.number(SAMPLES, 1) == file.count
        and directory.number(PREDICTOR, 1) in predictors
        and directory.number(FILL_ORDER, 1) == 1
        and has_stored_values(directory)
    )


def _positions(file: rasterio.DatasetReader, directory: Directory) -> Array | None:
    """Return (2, plane, row, column) positions and sizes of blocks, 0 for those beyond the end of a truncated file.

    `None` if the directory has another layout.
    """
    high, wide = file.block_shapes[0]
    planes = 1 if file.interleaving == Interleaving.pixel else file.count
    shape = planes, -(-file.height // high), -(-file.width // wide)
    end = os.fstat(directory.descriptor).st_size
    samples = file.count // planes
    if high * wide * samples * np.dtype(file.dtypes[0]).itemsize > MAX_BLOCK:
        return None
    values = [directory.numbers(tag) for tags in (OFFSETS, SIZES) for tag in tags if tag in directory.entries]
    if len(values) != 2 or any(v is None or v.size != np.prod(shape) for v in values):
        return None
    starts, sizes = (v.reshape(shape) for v in values if v is not None)
    complete = starts + sizes <= end  # GDAL raises the error of the others
    return np.stack([starts * complete, sizes * complete])

"""Windowed reads of local GeoTIFFs with DEFLATE or ZSTD, which decode only the rows that a window needs.

GDAL decodes whole blocks: for a window of 224 pixels in blocks of 512, a third of the rows in vain. The checksum of a
block is compared only once all its rows are decoded. GDAL reads all other files, and blocks that are sparse or damaged.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence

import numpy as np
import rasterio
from rasterio.enums import Interleaving

from geoxt.pixels.block_memory import BlockMemory, DecodedBlock, block_memory
from geoxt.pixels.file_version import FileVersion
from geoxt.pixels.raw_tiff import NOT_LOCAL, OFFSETS, RawBlocks, has_stored_values
from geoxt.pixels.tiff_codecs import DIFFERENCE, ERRORS, FLOAT, Decoder, decoder_of, undo_predictor
from geoxt.pixels.tiff_directory import Directory, read_directory
from geoxt.types import Array
from geoxt.windows import Window

BITS, COMPRESSION, FILL_ORDER, SAMPLES, PREDICTOR = 258, 259, 266, 277, 317
"""Tags BitsPerSample, Compression, FillOrder, SamplesPerPixel and Predictor."""
SIZES = (279, 325)
"""Tags StripByteCounts and TileByteCounts."""
MAX_BLOCK = 64 * 2**20
"""Largest block in decoded bytes; GDAL reads files with larger blocks."""


class CodedTiff(RawBlocks):
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
    key
        Version of the file, under which its blocks stay in memory.
    """

    def __init__(
        self,
        file: rasterio.DatasetReader,
        directory: Directory,
        decoder: type[Decoder],
        positions: Array,
        key: Hashable,
    ) -> None:
        samples = file.count if file.count > 1 and file.interleaving == Interleaving.pixel else 1
        super().__init__(directory.descriptor, np.dtype(file.dtypes[0]), file.block_shapes[0], samples)
        self._decoder, self._key = decoder, key
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
        return self.rows_of_block(block_memory(), band, down, across, slice(first, first + rows))

    def rows_of_block(self, memory: BlockMemory, band: int, down: int, across: int, rows: slice) -> Array | None:
        """Return rows of a block from a memory, decoded first if it lacks them; `None` if only GDAL can read them."""
        plane = 0 if self._contiguous else band - 1
        start, size = (positions[plane][down][across] for positions in self._positions)
        if not start or not size:
            return None
        key = self._key, plane, down, across
        block = memory.block(key)
        if block.rows < rows.stop:
            with block.lock:
                if block.rows < rows.stop:
                    height = min(self._block[0], self._height - down * self._block[0])
                    if not self._extend(block, (start, size), rows.stop, height):
                        memory.remove(key)
                        return None
                    memory.count(key, block)
        return None if block.pixels is None else block.pixels[rows]

    def _extend(self, block: DecodedBlock, position: tuple[int, int], stop: int, height: int) -> bool:
        """Decode the rows of a block up to a row at least; return False if the block is truncated or damaged.

        The first time only these rows are decoded; a block of which more is needed later gets memory for all its rows.
        """
        decoder, first = block.decoder, block.rows
        if decoder is None:
            decoder, stop, first = self._decoder(*position), height if first else stop, 0
        pixels = block.pixels
        if pixels is None or len(pixels) < stop:
            shape = stop if pixels is None else height, self._block[1], self._samples
            pixels = np.empty(shape, self._dtype)
            if first and block.pixels is not None:
                pixels[:first] = block.pixels[:first]
        out = pixels[first:stop]
        encoded = out.reshape(-1).view("uint8")
        try:
            if not decoder.read_into(self._descriptor, encoded):
                return False
            if stop == height and not decoder.at_end(self._descriptor):
                return False
        except ERRORS:
            return False
        undo_predictor(out, self._predictor, self._order)
        block.pixels, block.rows = pixels, stop
        block.decoder = decoder if decoder.resumes and stop < height else None
        return True


class _Unretained(RawBlocks):
    """Blocks of a compressed GeoTIFF, of which none stay in memory."""

    def __init__(self, file: CodedTiff) -> None:
        super().__init__(file._descriptor, file._dtype, file._block, file._samples)  # noqa: SLF001 (of this file)
        self._file, self._memory = file, BlockMemory(0)

    def _strip(self, band: int, down: int, across: int, first: int, rows: int) -> Array | None:
        return self._file.rows_of_block(self._memory, band, down, across, slice(first, first + rows))


def open_coded(file: rasterio.DatasetReader, href: str, version: FileVersion | None) -> CodedTiff | None:
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
            return CodedTiff(file, directory, decoder, positions, (href, version.token))
    os.close(descriptor)
    return None


def _is_plain(file: rasterio.DatasetReader, directory: Directory) -> bool:
    """Return whether pixels are whole numbers of bytes with a known predictor, in the order and colours of GDAL."""
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
    complete = starts + sizes <= end  # GDAL fails at the others, whose first rows could be decoded
    return np.stack([starts * complete, sizes * complete])


__all__ = ["CodedTiff", "open_coded"]

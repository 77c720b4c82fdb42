"""Decoded blocks of a raster in a block cache: read from its entry as plain bytes, decoded the first time.

An entry is one sparse file per source file and overview level:

    header      4096 bytes: magic, length and CRC-32 of a JSON document, the document
    states      uint32 per (block row, block column, plane): CRC-32 of the plane's bytes, 0 if it is not stored
    blocks      one plane per band, and one of uint8 for the valid mask; a block starts at a multiple of 4096 bytes

Bytes of a block are written before its state, so that a killed process leaves no half block behind. The page cache of
the operating system makes both visible to other processes, and keeps them in memory. A crash of the operating system
may lose bytes but not states: blocks of entries from before the last boot are therefore compared with their CRC-32.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import struct
import time
import warnings
import zlib
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, MaskFlags

from geoxt.errors import GeoxtWarning
from geoxt.pixels.block_cache import SUFFIX, BlockCache, budget_of, make_header, read_header
from geoxt.pixels.block_layout import PAGE, Layout, layout_of
from geoxt.pixels.compressed_tiff import CompressedTiff
from geoxt.pixels.raw_tiff import RawBlocks
from geoxt.storage import remove_stale, temporary_prefix
from geoxt.types import Array
from geoxt.windows import Window

TOUCH = 60.0
"""Seconds between two updates of an entry's time of use."""


class Planes(RawBlocks):
    """Planes of one data type in the blocks of an entry."""

    def __init__(self, descriptor: int, layout: Layout, dtype: str, first: int) -> None:
        super().__init__(descriptor, np.dtype(dtype), layout.block)
        self._first, self._columns, self._step, self._plane = (
            layout.offset(0, 0, first), layout.grid[1], layout.step, layout.plane
        )  # fmt: skip

    def _start(self, band: int, down: int, across: int) -> int:
        return self._first + (down * self._columns + across) * self._step + (band - 1) * self._plane


class CachedBlocks:
    """Decoded blocks of one raster in a cache.

    Parameters
    ----------
    file
        Open dataset, used by one thread.
    descriptor
        File descriptor of the entry, open for reading and writing; closed with this object.
    layout
        Arrangement of the blocks.
    cache
        Folder and size of the cache.
    path
        Path of the entry.
    trusted
        Whether the entry was created since the last boot, so that its blocks need no comparison with their CRC-32.
    compressed
        Decodes the blocks of the file in place of GDAL.
    """

    def __init__(
        self,
        file: rasterio.DatasetReader,
        descriptor: int,
        layout: Layout,
        cache: BlockCache,
        path: Path,
        *,
        trusted: bool,
        compressed: CompressedTiff | None,
    ) -> None:
        self._file, self._descriptor, self._layout, self._cache = file, descriptor, layout, cache
        self._path, self._trusted, self._compressed = path, trusted, compressed
        self._values = Planes(descriptor, layout, layout.dtype, 0)
        self._mask = Planes(descriptor, layout, "uint8", layout.count)
        self._present = np.zeros(layout.grid, bool)
        self._complete: dict[tuple[int, ...], set[tuple[int, int]]] = {}  # blocks whose planes (the key) are stored
        self._used = time.monotonic()
        alpha = ColorInterp.alpha in file.colorinterp
        self._alpha = file.colorinterp.index(ColorInterp.alpha) + 1 if alpha else 0

    def __del__(self) -> None:
        os.close(self._descriptor)

    def read_window(
        self, bands: Sequence[int], window: Window, *, masks: bool, out: Array | None
    ) -> tuple[Array, Array | None] | None:
        """Return values and valid mask of a window inside the raster; `None` if only GDAL can read it.

        Blocks that the entry lacks are decoded and stored first.
        """
        if masks and not self._layout.mask:
            return None
        planes = self._planes(bands, masks=masks)
        missing = self._missing(window, planes)
        if missing and not self._fill(missing, planes):
            return None
        return self._read(bands, window, masks=masks, out=out)

    def read_stored(
        self, bands: Sequence[int], window: Window, *, masks: bool, out: Array | None
    ) -> tuple[Array, Array | None] | None:
        """Return values and valid mask as `read_window`, without the file; `None` if the entry lacks a block."""
        if (masks and not self._layout.mask) or self._missing(window, self._planes(bands, masks=masks)):
            return None
        return self._read(bands, window, masks=masks, out=out)

    def _planes(self, bands: Sequence[int], *, masks: bool) -> list[int]:
        return [band - 1 for band in bands] + [self._layout.count] * masks

    def _missing(self, window: Window, planes: Sequence[int]) -> list[tuple[int, int]]:
        """Return the rows and columns of the blocks of a window that are not stored."""
        (high, wide), (bottom, right) = self._layout.block, window.stop
        rows, columns = (
            range(window.row // high, (bottom - 1) // high + 1),
            range(window.col // wide, (right - 1) // wide + 1),
        )
        complete = self._complete.setdefault(tuple(planes), set())
        unknown = [block for block in itertools.product(rows, columns) if block not in complete]
        if not unknown:
            return []
        self._look_up((slice(rows.start, rows.stop), slice(columns.start, columns.stop)), planes)
        missing = [block for block in unknown if not self._present[block][planes].all()]
        complete.update(set(unknown).difference(missing))
        return missing

    def _read(
        self, bands: Sequence[int], window: Window, *, masks: bool, out: Array | None
    ) -> tuple[Array, Array | None] | None:
        """Return values and valid mask of a window whose blocks are stored; `None` if the entry was cut."""
        self._touch()
        values = self._values.read(bands, window, out)
        if values is None or not masks:
            return None if values is None else (values, None)
        valid = self._mask.read([1], window)
        return None if valid is None else (values, np.broadcast_to(valid != 0, (len(bands), *window.shape)).copy())

    def _look_up(self, area: tuple[slice, slice], planes: Sequence[int]) -> None:
        """Update the record of stored blocks from the states of the entry."""
        rows, columns = area
        width = columns.stop - columns.start
        for row in range(rows.start, rows.stop):
            size = 4 * width * self._layout.grid[2]
            data = os.pread(self._descriptor, size, self._layout.state_offset(row, columns.start))
            if len(data) != size:
                return
            states = np.frombuffer(data, "uint32").reshape(width, -1)
            for column, plane in itertools.product(range(width), planes):
                state, key = int(states[column, plane]), (row, columns.start + column, plane)
                if state and not self._present[key]:
                    self._present[key] = self._trusted or self._checksum(*key) == state

    def _checksum(self, down: int, across: int, plane: int) -> int:
        size = self._layout.plane if plane < self._layout.count else self._layout.block[0] * self._layout.block[1]
        return checksum(os.pread(self._descriptor, size, self._layout.offset(down, across, plane)))

    def _fill(self, missing: Sequence[tuple[int, int]], planes: Sequence[int]) -> bool:
        """Decode and store blocks; return whether all are stored now."""
        budget = budget_of(self._cache)
        block, unit = self._layout.block, self._layout.unit
        per_unit = [max(n // size, 1) for n, size in zip(unit, block, strict=True)]
        for down, across in dict.fromkeys((row // per_unit[0], column // per_unit[1]) for row, column in missing):
            first = down * per_unit[0], across * per_unit[1]
            bounds = [
                (n * size, min((n + number) * size, end))
                for n, size, number, end in zip(first, block, per_unit, self._layout.shape, strict=True)
            ]
            if not budget.admits(self._path, per_unit[0] * per_unit[1] * len(planes) * (self._layout.plane + PAGE)):
                return False
            decoded = self._decode(planes, tuple(bounds))
            try:
                self._store_unit(decoded, *first)
            except OSError as error:  # of the cache; errors of the source are raised above
                budget.disable(error)
                return False
        return True

    def _decode(self, planes: Sequence[int], bounds: Any) -> dict[int, Array]:
        """Return the decoded pixels of planes in a rectangle of the raster."""
        count = self._layout.count
        bands = [plane + 1 for plane in planes if plane < count]
        values = None
        if self._compressed is not None:
            (top, bottom), (left, right) = bounds
            values = self._compressed.decode(bands, Window(top, left, bottom - top, right - left))
        if values is None:
            values = self._file.read(bands, window=bounds)
        decoded = {band - 1: pixels for band, pixels in zip(bands, values, strict=True)}
        return decoded | {count: self._read_mask(bounds)} if count in planes else decoded

    def _store_unit(self, decoded: dict[int, Array], down: int, across: int) -> None:
        """Write blocks that were decoded together; the first is at a block row and column."""
        high, wide = self._layout.block
        for plane, pixels in decoded.items():
            rows, columns = pixels.shape
            for row, column in itertools.product(range(-(-rows // high)), range(-(-columns // wide))):
                part = pixels[row * high : (row + 1) * high, column * wide : (column + 1) * wide]
                self._store(part, down + row, across + column, plane)

    def _read_mask(self, bounds: Any) -> Array:
        """Return the file's valid mask as uint8; the alpha band is read directly, as without a cache."""
        if self._alpha:
            alpha = np.asarray(self._file.read(self._alpha, window=bounds) != 0)
            flags = self._file.mask_flag_enums[0]
            if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:  # an internal mask: both count
                alpha &= self._file.read_masks(1, window=bounds) != 0
            return alpha.astype("uint8")
        return np.asarray(self._file.read_masks(1, window=bounds) != 0).astype("uint8")

    def _store(self, pixels: Array, down: int, across: int, plane: int) -> None:
        """Write one plane of a block, then its state."""
        if self._present[down, across, plane]:
            return
        block = np.zeros(self._layout.block, pixels.dtype)
        block[: pixels.shape[0], : pixels.shape[1]] = pixels
        data = block.tobytes()
        write_all(self._descriptor, data, self._layout.offset(down, across, plane))
        write_all(self._descriptor, struct.pack("=I", checksum(data)), self._layout.state_offset(down, across, plane))
        self._present[down, across, plane] = True

    def _touch(self) -> None:
        """Set the entry's time of use now and then: the least recently used entries are removed first."""
        now = time.monotonic()
        if now - self._used > TOUCH:
            self._used = now
            with suppress(OSError):
                os.utime(self._path)


def checksum(data: bytes, start: int = 0) -> int:
    """Return the CRC-32 of bytes, with 0, which marks an absent block, replaced by 1."""
    return zlib.crc32(data, start) or 1


def open_blocks(
    file: rasterio.DatasetReader, source: Sequence[Any], cache: BlockCache, *, compressed: CompressedTiff | None = None
) -> CachedBlocks | None:
    """Return the cached blocks of an open raster; its entry is created if it does not exist.

    Parameters
    ----------
    file
        Open dataset.
    source
        Identity of the file's content: unsigned address, overview level, size, time or ETag.
    cache
        Folder and size of the cache.
    compressed
        Decodes the blocks of the file in place of GDAL.

    Returns
    -------
    CachedBlocks or None
        `None` if the raster cannot be cached, or the folder cannot be written: one warning is issued.
    """
    if not hasattr(os, "preadv") or not budget_of(cache).enabled:
        return None
    layout = layout_of(file)
    if layout is None:
        return None
    path = entry_path(cache, source, layout)
    entry = try_entry(path, layout, str(source[0]), cache)
    if entry is None:
        return None
    descriptor, trusted = entry
    return CachedBlocks(file, descriptor, layout, cache, path, trusted=trusted, compressed=compressed)


def entry_path(cache: BlockCache, source: Sequence[Any], layout: Layout) -> Path:
    """Return the path of the entry of a source."""
    key = hashlib.sha256(json.dumps([*source, _identity(layout)], default=str).encode()).hexdigest()
    return Path(cache.folder) / key[:2] / f"{key}{SUFFIX}"


def _identity(layout: Layout) -> list[Any]:
    fields = [layout.shape, layout.block, layout.dtype, layout.count, layout.mask]
    return [*fields, layout.objects] if layout.objects else fields


def try_entry(path: Path, layout: Layout, source: str, cache: BlockCache) -> tuple[int, bool] | None:
    """Open an entry as `_open_entry`; if that fails, disable it or the cache with one warning, and return `None`."""
    try:
        return _open_entry(path, layout, source)
    except OSError as error:
        if error.errno == errno.EFBIG:  # ext4 holds files of 16 TB, sparse ones too
            budget_of(cache).full.add(path)
            msg = f"{source} is read without the block cache: it needs a file of {layout.size / 1e12:.1f} TB."
            warnings.warn(msg, GeoxtWarning, stacklevel=2)
        elif error.errno not in {errno.EMFILE, errno.ENFILE}:  # descriptors become free again
            budget_of(cache).disable(error)
        return None


def _open_entry(path: Path, layout: Layout, source: str) -> tuple[int, bool]:
    """Open an entry, created if it is absent or damaged; return its descriptor and whether it is of this boot."""
    for _ in range(10):
        with suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            header = read_header(descriptor)
            expected = json.loads(json.dumps(_identity(layout)))
            if header and header["layout"] == expected and os.fstat(descriptor).st_size == layout.size:
                with suppress(OSError):
                    os.utime(path)
                return descriptor, bool(boot()) and header["boot"] == boot()
            os.close(descriptor)
            path.unlink(missing_ok=True)  # damaged or of another version
        _create_entry(path, layout, source)
    msg = f"The entry {path} is removed again and again."
    raise OSError(msg)


def _create_entry(path: Path, layout: Layout, source: str) -> None:
    """Create an empty entry under a temporary name and link it, unless another process did so first."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    remove_stale(path.parent)
    temporary = path.with_name(f"{temporary_prefix(path.name)}{time.monotonic_ns():08d}")
    try:
        with temporary.open("xb") as entry:
            entry.write(make_header({"source": source, "layout": _identity(layout), "boot": boot()}))
            entry.truncate(layout.size)
            if layout.size > 2**24 and os.fstat(entry.fileno()).st_blocks * 512 > layout.size // 2:
                msg = f"The filesystem of {path.parent} has no sparse files"
                raise OSError(msg)
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_all(descriptor: int, data: bytes, offset: int) -> None:
    """Write bytes at a position of an entry."""
    written = os.pwrite(descriptor, data, offset)
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], offset + written)


@cache
def boot() -> str:
    """Return an identifier of the last boot, or an empty string if the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""

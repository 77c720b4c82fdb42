"""Verify that a GeoTIFF is complete: GDAL reports no error of the writes that it defers until the file is closed.

rasterio (as of 1.4) ignores the result of GDALClose, so that a full disk leaves a file whose directory lists tiles
beyond its end. Format: TIFF 6.0 and BigTIFF, as in `geoxt.pixels.raw_tiff`.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from geoxt.types import Array, SomePath

_OFFSETS, _COUNTS = (273, 324), (279, 325)
"""Tags StripOffsets and TileOffsets, StripByteCounts and TileByteCounts."""
_SUB_DIRECTORIES = 330
_KINDS = {3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
"""NumPy types of the TIFF field types SHORT, LONG, IFD, LONG8 and IFD8."""


def require_complete(path: SomePath) -> None:
    """Raise if a GeoTIFF lacks bytes of a directory, strip or tile, overviews and masks included.

    Raises
    ------
    OSError
        With the code ENOSPC: a file that is truncated without an error while writing is due to a full disk.
    """
    path = Path(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            complete = all(_lies_within(tags, size) for tags in _directories(file))
        except (struct.error, ValueError, KeyError):
            complete = False
    if not complete:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} (the file is truncated)", str(path))


def _lies_within(tags: dict[int, Array], size: int) -> bool:
    """Whether all strips or tiles of a directory are stored, and end before the end of the file."""
    offsets = next((tags[tag] for tag in _OFFSETS if tag in tags), None)
    counts = next((tags[tag] for tag in _COUNTS if tag in tags), None)
    if offsets is None or counts is None or offsets.shape != counts.shape:
        return False
    return bool((offsets > 0).all() and (counts > 0).all() and (offsets + counts <= size).all())


def _directories(file: BinaryIO) -> Iterator[dict[int, Array]]:
    """Yield the integer tags of each directory."""
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}[head[:2]]
    big = struct.unpack(f"{order}H", head[2:4]) == (43,)
    waiting = [struct.unpack(f"{order}Q", head[8:16])[0] if big else struct.unpack(f"{order}I", head[4:8])[0]]
    visited = set()
    while waiting:
        position = waiting.pop()
        if position in visited or not position:
            continue
        visited.add(position)
        tags, following = _directory(file, position, order, big=big)
        yield tags
        waiting += [following, *tags.get(_SUB_DIRECTORIES, np.empty(0, "u8")).tolist()]


def _directory(file: BinaryIO, position: int, order: str, *, big: bool) -> tuple[dict[int, Array], int]:
    """Return the integer tags of a directory, and the position of the next one."""
    count_format, entry_format, pointer = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    (count,) = _unpack(file, position, order + count_format)
    start = position + struct.calcsize(order + count_format)
    size = struct.calcsize(order + entry_format)
    tags: dict[int, Array] = {}
    for index in range(count):
        tag, kind, length, value = _unpack(file, start + index * size, order + entry_format)
        if kind not in _KINDS:
            continue
        dtype = np.dtype(order + _KINDS[kind])
        if dtype.itemsize * length > len(value):
            file.seek(struct.unpack(order + pointer, value)[0])
            value = file.read(dtype.itemsize * length)
        tags[tag] = np.frombuffer(value, dtype, length).astype("u8")
    (following,) = _unpack(file, start + count * size, order + pointer)
    return tags, following


def _unpack(file: BinaryIO, position: int, form: str) -> Any:
    file.seek(position)
    return struct.unpack(form, file.read(struct.calcsize(form)))

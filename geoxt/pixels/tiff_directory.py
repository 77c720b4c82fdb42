"""The first directory of a TIFF: its tags and their values, read by positioned reads.

Format: TIFF 6.0 specification and BigTIFF (https://libtiff.gitlab.io/libtiff/specification/bigtiff.html).
"""

from __future__ import annotations

import os
import struct
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from geoxt.types import Array

ORDERS = {b"II": "<", b"MM": ">"}
"""Byte orders of NumPy and `struct` by the first two bytes of a file."""
ORDER = {"little": "<", "big": ">"}[sys.byteorder]
"""Byte order of this machine."""
FIELD_TYPES = {3: "u2", 4: "u4", 13: "u4", 16: "u8"}
"""NumPy types of the TIFF field types SHORT, LONG, IFD and LONG8."""


@dataclass(frozen=True, slots=True)
class Directory:
    """Tags of a TIFF's first directory."""

    descriptor: int
    """File descriptor, open as long as values are read."""
    order: str
    """Byte order: "<" or ">"."""
    entries: dict[int, tuple[int, int, bytes]]
    """Field type, count, and value (or its offset) by tag."""

    def numbers(self, tag: int) -> Array | None:
        """Return the integers of a tag; `None` if it is absent, cut off, or of another type."""
        kind, count, value = self.entries.get(tag, (0, 0, b""))
        if kind not in FIELD_TYPES:
            return None
        dtype: np.dtype[Any] = np.dtype(self.order + FIELD_TYPES[kind])
        size = count * dtype.itemsize
        if size > len(value):
            if size > os.fstat(self.descriptor).st_size:
                return None
            offset = struct.unpack(self.order + ("I" if len(value) == 4 else "Q"), value)[0]
            value = os.pread(self.descriptor, size, offset)
        return np.frombuffer(value[:size], dtype).astype("int64") if len(value) >= size else None

    def number(self, tag: int, default: int) -> int:
        """Return the integer of a tag, or a default if it is absent; -1 if it has several values or another type."""
        if tag not in self.entries:
            return default
        values = self.numbers(tag)
        return -1 if values is None or len(values) != 1 else int(values[0])


def read_directory(descriptor: int) -> Directory | None:
    """Return the first directory of a file; `None` if it is not a TIFF.

    References
    ----------
    TIFF 6.0 (https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf), section 2; BigTIFF
    (https://libtiff.gitlab.io/libtiff/specification/bigtiff.html)
    """
    head = os.pread(descriptor, 16, 0)
    order = ORDERS.get(head[:2])
    if order is None or len(head) < 16:
        return None
    version = struct.unpack_from(order + "H", head, 2)[0]
    if version not in (42, 43):
        return None
    big = version == 43
    start = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)[0]
    counter, entry = (order + "Q", order + "HHQ8s") if big else (order + "H", order + "HHI4s")
    size, length = struct.calcsize(counter), struct.calcsize(entry)
    count = os.pread(descriptor, size, start)
    if len(count) != size:
        return None
    table = os.pread(descriptor, min(length * struct.unpack(counter, count)[0], 2**20), start + size)
    fields = struct.iter_unpack(entry, table[: len(table) // length * length])
    return Directory(descriptor, order, {tag: (kind, number, value) for tag, kind, number, value in fields})

"""Decoded chunks of a remote Zarr array in a block cache.

An entry is that of a file (see `cached_blocks`), with one plane for each index along the further dimensions, and after
the blocks the version of each object: CRC-32, length, random number, text. An object is a chunk, or a shard of chunks.
The states of its blocks are CRC-32 that start with that of its version.

A process stores chunks under a lock of the entry. If an object has another version, it sets the states of its blocks to
0, and then writes the version, the blocks and their states; a killed process thus leaves no block of another version.
Processes that read blocks compare the version before and after.
"""

from __future__ import annotations

import itertools
import os
import struct
import time
import zlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from math import prod
from typing import Any, Protocol

import numpy as np

from geoxt.errors import ReadError
from geoxt.pixels.block_cache import BlockCache, budget_of
from geoxt.pixels.block_layout import PAGE, VERSION, Layout
from geoxt.pixels.cached_blocks import TOUCH, Planes, checksum, entry_path, try_entry, write_all
from geoxt.pixels.chunked_planes import THREADS, ChunkedArray, Coords, read_chunks
from geoxt.pixels.object_versions import ObjectChanged, ObjectVersions
from geoxt.types import Array
from geoxt.windows import Window

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

ATTEMPTS = 5
"""Reads of an object that is replaced meanwhile."""
Block = tuple[int, int, int]
"""Row and column of a chunk, and plane, from 0."""


class StoredObjects(ChunkedArray, Protocol):
    """An array whose chunks are objects of a store, or parts of them."""

    @property
    def object_chunks(self) -> tuple[int, ...]:
        """Sizes of the array in an object."""

    def object_key(self, coords: Coords) -> str:
        """Return the path of an object in the store."""


class _Entry:
    """An open entry."""

    def __init__(self, descriptor: int, layout: Layout, *, trusted: bool) -> None:
        self.descriptor, self.layout, self.trusted = descriptor, layout, trusted
        self.planes = Planes(descriptor, layout, layout.dtype, 0)
        self.stored: dict[Block, bytes] = {}
        """Version of the object of each block that this process knows to be stored."""

    def __del__(self) -> None:
        os.close(self.descriptor)

    def version(self, number: int) -> bytes:
        """Return the stored version of an object, valid or damaged."""
        return os.pread(self.descriptor, VERSION, self.layout.version_offset(number))

    def states(self, blocks: Sequence[Block]) -> bool:
        """Return whether blocks are stored."""
        return all(any(os.pread(self.descriptor, 4, self.layout.state_offset(*block))) for block in blocks)

    def equal_checksums(self, blocks: Sequence[Block], version: bytes) -> bool:
        """Return whether the bytes of blocks have the CRC-32 of their states."""
        for block in blocks:
            data = os.pread(self.descriptor, self.layout.plane, self.layout.offset(*block))
            state = os.pread(self.descriptor, 4, self.layout.state_offset(*block))
            if struct.pack("=I", checksum(data, zlib.crc32(version))) != state:
                return False
        return True


class CachedChunks:
    """Decoded chunks of one array in a cache.

    Parameters
    ----------
    array
        The array.
    versions
        Versions of the objects of its store.
    cache
        Folder and size of the cache.
    source
        Address of the store without a signature, path of the array, and hash of its metadata.
    """

    def __init__(
        self, array: StoredObjects, versions: ObjectVersions, cache: BlockCache, source: Sequence[Any]
    ) -> None:
        self._array, self._versions, self._cache, self._source = array, versions, cache, source
        self._others = tuple(a for a in range(len(array.shape)) if a not in array.axes)
        self._sizes = tuple(array.shape[a] for a in self._others)
        self._objects = tuple(-(-n // size) for n, size in zip(array.shape, array.object_chunks, strict=True))
        (height, width), (high, wide) = ([sizes[a] for a in array.axes] for sizes in (array.shape, array.chunks))
        self._layout = Layout(
            shape=(height, width), block=(high, wide), unit=(high, wide), count=prod(self._sizes), mask=False,
            dtype=str(array.dtype.newbyteorder("=")), objects=prod(self._objects),
        )  # fmt: skip
        strides = np.cumprod((1, *self._objects[:0:-1]))[::-1].tolist()
        steps = [n if a in array.axes else 1 for a, n in enumerate(array.chunks)]
        parts = [
            [n // size * stride for n in range(0, length, step)]
            for length, step, size, stride in zip(array.shape, steps, array.object_chunks, strides, strict=True)
        ]
        # The number of a block's object is the sum of these, by row and column of the chunk, and by plane.
        self._numbers = tuple(parts[a] for a in array.axes)
        self._plane_numbers = [sum(p) for p in itertools.product(*(parts[a] for a in self._others))]
        self._planes = np.arange(self._layout.count).reshape(self._sizes)
        self._path = entry_path(cache, source, self._layout)
        self._entry = self._open() if self._path.exists() else None
        self._used = time.monotonic()

    def _open(self) -> _Entry | None:
        opened = try_entry(self._path, self._layout, f"{self._source[0]}/{self._source[1]}", self._cache)
        return None if opened is None else _Entry(opened[0], self._layout, trusted=opened[1])

    def read(self, planes: Sequence[int], window: Window) -> Array | None:
        """Return planes of a window, without a request; `None` if a chunk is not stored, or not yet compared."""
        entry = self._entry
        if entry is None:
            return None
        (high, wide), (bottom, right) = self._layout.block, window.stop
        rows = range(window.row // high, (bottom - 1) // high + 1)
        columns = range(window.col // wide, (right - 1) // wide + 1)
        blocks = list(itertools.product(rows, columns, (plane - 1 for plane in planes)))
        versions = [entry.stored.get(block) for block in blocks]
        if None in versions:
            return None
        values = entry.planes.read(planes, window)
        numbers = set(zip(map(self._number_of, blocks), versions, strict=True))
        if values is None or any(entry.version(number) != version for number, version in numbers):
            for block in blocks:  # the entry was cut, or an object was replaced by another process
                entry.stored.pop(block, None)
            return None
        now = time.monotonic()
        if now - self._used > TOUCH:  # the least recently used entries are removed first
            self._used = now
            with suppress(OSError):
                os.utime(self._path)
        return values

    def load(self, keys: list[Hashable]) -> Mapping[Hashable, Array]:
        """Return decoded chunks by keys, which end with positions; chunks of one object are read together."""
        objects: dict[Coords, dict[Coords, Hashable]] = {}
        for key in keys:
            coords: Coords = key[1]  # type: ignore[index]
            units = zip(coords, self._array.chunks, self._array.object_chunks, strict=True)
            objects.setdefault(tuple(c * n // size for c, n, size in units), {})[coords] = key
        if len(objects) == 1:
            parts = [self._load_object(position, list(members)) for position, members in objects.items()]
        else:
            with ThreadPoolExecutor(min(len(objects), THREADS)) as pool:
                parts = list(pool.map(lambda item: self._load_object(item[0], list(item[1])), objects.items()))
        of_coords = {coords: key for members in objects.values() for coords, key in members.items()}
        return {of_coords[coords]: pixels for part in parts for coords, pixels in part.items()}

    def _load_object(self, position: Coords, chunks: list[Coords]) -> dict[Coords, Array]:
        """Return chunks of an object, from the entry if it has them in the present version, else read and stored."""
        number = int(np.ravel_multi_index(position, self._objects))
        key = self._array.object_key(position)
        for _ in range(ATTEMPTS):
            former = b"" if self._entry is None else self._entry.version(number)
            try:
                stored = self._stored(number, key, chunks)
                if stored is not None:
                    return stored
                decoded = read_chunks(self._array, self._others, chunks)
            except ObjectChanged:
                self._versions.forget(key)
                continue
            self._save(number, key, former, decoded)
            return decoded
        problem = f"Cannot read {key} of {self._source[0]}: it was replaced during each of {ATTEMPTS} reads."
        raise ReadError(problem, remedy="Read it again when it is no longer written.")

    def _stored(self, number: int, key: str, chunks: list[Coords]) -> dict[Coords, Array] | None:
        """Return chunks of an object from the entry; `None` if one is absent, or of another version."""
        entry = self._entry
        if entry is None:
            return None
        version, blocks = entry.version(number), [block for c in chunks for block in self._blocks_of(c)]
        text = _version_text(version)
        if not text or not entry.states(blocks):
            return None
        present = self._versions.version(key)
        if present is None:
            present = self._versions.check(key, text, keep_bytes=self._array.chunks == self._array.object_chunks)
        if present != text or not (entry.trusted or entry.equal_checksums(blocks, version)):
            return None
        pixels = {c: self._read_chunk(entry, c) for c in chunks}
        if any(part is None for part in pixels.values()) or entry.version(number) != version:
            return None
        entry.stored.update(dict.fromkeys(blocks, version))
        return pixels  # type: ignore[return-value]

    def _read_chunk(self, entry: _Entry, coords: Coords) -> Array | None:
        (y, x), (high, wide) = self._array.axes, self._layout.block
        row, column = coords[y] * high, coords[x] * wide
        shape = min(high, self._layout.shape[0] - row), min(wide, self._layout.shape[1] - column)
        planes = self._planes_of(coords)
        values = entry.planes.read([plane + 1 for plane in planes.ravel().tolist()], Window(row, column, *shape))
        return None if values is None else values.reshape(*planes.shape, *shape)

    def _save(self, number: int, key: str, former: bytes, decoded: Mapping[Coords, Array]) -> None:
        """Store chunks of an object, unless another process stored another version since `former` was read."""
        if not self._versions.lasting(key):
            return
        budget, text = budget_of(self._cache), self._versions.version(key) or ""
        size = sum(len(self._blocks_of(c)) for c in decoded) * (self._layout.plane + PAGE) + PAGE
        refused = not budget.enabled or self._path in budget.full
        if refused or len(text) > VERSION - 14 or not text.isascii():
            return
        try:
            with self._locked() as entry:
                if entry is None or not budget.admits(self._path, size):
                    return
                version = entry.version(number)
                if _version_text(version) != text:
                    if version != former and any(version):
                        return
                    version = self._replace_version(entry, number, text, used=any(version))
                for coords, pixels in decoded.items():
                    self._store(entry, version, coords, pixels)
        except OSError as error:  # of the cache
            budget.disable(error)

    @contextmanager
    def _locked(self) -> Iterator[_Entry | None]:
        """Lock the entry among threads and processes; it is opened again if it was removed."""
        for _ in range(ATTEMPTS):
            try:
                lock = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)  # a lock belongs to one opening of a file
            except FileNotFoundError:
                self._entry = self._open()
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                entry = self._entry
                if entry is not None and os.path.sameopenfile(lock, entry.descriptor):
                    yield entry
                    return
            finally:
                os.close(lock)
            self._entry = self._open()
        yield None

    def _replace_version(self, entry: _Entry, number: int, text: str, *, used: bool) -> bytes:
        """Write another version of an object; its blocks, if it has any, are no longer stored."""
        if used:
            position = np.unravel_index(number, self._objects)
            units = zip(position, self._array.object_chunks, self._array.chunks, self._array.shape, strict=True)
            ranges = [range(int(p) * o // n, -(-min((int(p) + 1) * o, size) // n)) for p, o, n, size in units]
            for coords in itertools.product(*ranges):
                for block in self._blocks_of(coords):
                    write_all(entry.descriptor, bytes(4), self._layout.state_offset(*block))
        document = struct.pack("=H", len(text)) + os.urandom(8) + text.encode()
        version = (struct.pack("=I", zlib.crc32(document)) + document).ljust(VERSION, b"\0")
        write_all(entry.descriptor, version, self._layout.version_offset(number))
        return version

    def _store(self, entry: _Entry, version: bytes, coords: Coords, pixels: Array) -> None:
        """Write the planes of a chunk, then their states."""
        for block, plane in zip(self._blocks_of(coords), pixels.reshape(-1, *pixels.shape[-2:]), strict=True):
            full = np.zeros(self._layout.block, self._layout.dtype)
            full[: plane.shape[0], : plane.shape[1]] = plane
            data = full.tobytes()
            write_all(entry.descriptor, data, self._layout.offset(*block))
            state = checksum(data, zlib.crc32(version))
            write_all(entry.descriptor, struct.pack("=I", state), self._layout.state_offset(*block))
            entry.stored[block] = version

    def _planes_of(self, coords: Coords) -> Array:
        """Return the planes of a chunk, from 0: one dimension for each further one of the array."""
        starts = [coords[a] * self._array.chunks[a] for a in self._others]
        ends = [min(s + self._array.chunks[a], self._array.shape[a]) for s, a in zip(starts, self._others, strict=True)]
        return np.asarray(self._planes[tuple(slice(s, e) for s, e in zip(starts, ends, strict=True))])

    def _blocks_of(self, coords: Coords) -> list[Block]:
        down, across = (coords[a] for a in self._array.axes)
        return [(down, across, plane) for plane in self._planes_of(coords).ravel().tolist()]

    def _number_of(self, block: Block) -> int:
        """Return the number of the object of a block."""
        down, across, plane = block
        return self._numbers[0][down] + self._numbers[1][across] + self._plane_numbers[plane]


def _version_text(version: bytes) -> str:
    """Return the text of the version of an object; empty if none is stored, or it is damaged."""
    if len(version) != VERSION:
        return ""
    crc, length = struct.unpack("=IH", version[:6])
    document = version[4 : 14 + length]
    return document[10:].decode("ascii", "replace") if length and zlib.crc32(document) == crc else ""


def open_chunks(
    array: StoredObjects, versions: ObjectVersions, cache: BlockCache, source: Sequence[Any]
) -> CachedChunks | None:
    """Return the decoded chunks of an array in a cache; `None` if the folder cannot be used."""
    if not hasattr(os, "preadv") or not budget_of(cache).enabled:
        return None
    return CachedChunks(array, versions, cache, source)

"""Windows of Zarr arrays, read chunk by chunk through zarr, and decoded once for all windows that need a chunk."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from affine import Affine
from odc.geo import CRS
from odc.geo.geobox import GeoBox

from geoxt.errors import CatalogError, GeoxtError, ReadError
from geoxt.pixels import remote
from geoxt.pixels.chunk_cache import chunk_cache
from geoxt.pixels.credentials import redact_url
from geoxt.pixels.zarr_store import METADATA, StoreAddress, metadata_hash
from geoxt.types import Array
from geoxt.windows import Window

THREADS = 16
"""Separate selections of a remote array that a read requests at a time."""
MAX_OPEN = 512
"""Arrays that a process keeps open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZarrLevel:
    """One resolution of an array."""

    path: str
    """Path of the array in the store."""
    shape: tuple[int, int]
    """Rows and columns."""
    axes: tuple[int, int]
    """Positions of the y and x dimensions."""
    affine: tuple[float, ...]
    """Affine of its pixels: six coefficients."""
    metadata: str
    """Hash of the array's metadata."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZarrArray:
    """An array of a Zarr store, as planes of rows and columns: one for each index along its other dimensions."""

    address: StoreAddress
    """The store."""
    levels: tuple[ZarrLevel, ...]
    """The array, and its overviews from fine to coarse."""
    version: str
    """Version of the content, for dask tokens."""

    def overviews(self) -> list[float]:
        """Return the factor of each overview: full-resolution pixels per pixel, along the finer axis."""
        full = self.levels[0].affine
        return [min(abs(o.affine[0] / full[0]), abs(o.affine[4] / full[4])) for o in self.levels[1:]]

    def overview_grid(self, level: int, crs: CRS | None) -> GeoBox:
        """Return the grid of an overview."""
        stored = self.levels[level + 1]
        return GeoBox(stored.shape, Affine(*stored.affine), crs)

    def start_read(
        self, planes: Sequence[int], window: Window, *, level: int | None = None
    ) -> Callable[[], tuple[Array, None]]:
        """Start to read planes of a window; return a function that waits for the result of `read`, with `None`.

        Several remote arrays are thus read concurrently. A local array is read when the function is called.
        """
        if not self.address.remote:
            return lambda: (self.read(planes, window, level=level), None)
        future = remote.submit(lambda: self.read(planes, window, level=level))
        return lambda: (future.result(), None)

    def read(self, planes: Sequence[int], window: Window, *, level: int | None = None) -> Array:
        """Read planes of a window.

        Parameters
        ----------
        planes
            Numbers of planes, the first is 1: index along the dimensions beside y and x, in C order.
        window
            Window inside the array.
        level
            Overview to read, to whose pixels the window refers; `None` for the full resolution.

        Returns
        -------
        numpy.ndarray
            (plane, height, width) in the stored data type.

        Raises
        ------
        ReadError
            If a chunk cannot be read or decoded.
        CatalogError
            If the array was replaced by another one since the layer was opened.
        """
        stored = self.levels[0 if level is None else level + 1]
        try:
            return _open_array(self.address, stored).read(planes, window, self.version)
        except GeoxtError:
            raise
        except Exception as error:  # codecs and stores raise many classes
            bottom, right = window.stop
            where = f"rows {(window.row, bottom)} and columns {(window.col, right)}"
            problem = f"Cannot read {_name(self.address, stored.path)}, {where}: {error_text(error)}."
            raise ReadError(problem, remedy="Check that the store is complete.") from error


def error_text(error: BaseException) -> str:
    """Return the class and message of an error of zarr, without signatures of URLs."""
    lines = redact_url(str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.') if lines else ''}".rstrip(": ")


def _name(address: StoreAddress, path: str) -> str:
    return f"{address.name.rstrip('/')}/{path}"


class _OpenArray:
    """An open array and the arrangement of its chunks."""

    def __init__(self, address: StoreAddress, level: ZarrLevel) -> None:
        import zarr

        self._level, self._remote = level, address.remote
        self._files = self._metadata_files(address.folder, level.path)
        self._folder = address.folder
        self.stats = self._stat_metadata()
        self._array: Any = zarr.open_array(address.open(), path=level.path, mode="r")
        if metadata_hash(self._array.metadata) != level.metadata:
            problem = f"Cannot read {_name(address, level.path)}: it was replaced since the layer was opened."
            raise CatalogError(problem, remedy="Open the layer again.")
        self._others = tuple(a for a in range(self._array.ndim) if a not in level.axes)
        # The address of a Store in memory may be that of a former one: hence a number for each that is opened.
        self._key = (address.name if isinstance(address.store, str) else next(_numbers), level.path)
        self._chunks = tuple(self._array.chunks)
        self._file_chunks = tuple(self._array.shards or self._array.chunks)

    @staticmethod
    def _metadata_files(folder: str | None, path: str) -> tuple[str, ...]:
        return () if folder is None else tuple(os.path.join(folder, path, name) for name in METADATA)  # noqa: PTH118

    def _stat_metadata(self) -> tuple[Any, ...]:
        return tuple(_stat(path) for path in self._files)

    def is_current(self) -> bool:
        """Return whether the metadata of a local array are unchanged."""
        return self._stat_metadata() == self.stats

    def read(self, planes: Sequence[int], window: Window, version: str) -> Array:
        """Read planes of a window, (plane, height, width), of a version of the content."""
        others = [self._array.shape[a] for a in self._others]
        index = np.unravel_index([plane - 1 for plane in planes], others) if others else ()
        sizes = [self._chunks[a] for a in self._others]
        positions: dict[tuple[int, ...], list[tuple[int, tuple[int, ...]]]] = {}
        for position in range(len(planes)):
            steps = [int(i[position]) for i in index]
            chunk = tuple(s // n for s, n in zip(steps, sizes, strict=True))
            within = tuple(s % n for s, n in zip(steps, sizes, strict=True))
            positions.setdefault(chunk, []).append((position, within))
        (high, wide), (bottom, right) = (self._chunks[a] for a in self._level.axes), window.stop
        tiles = [
            (row, col)
            for row in range(window.row // high, (bottom - 1) // high + 1)
            for col in range(window.col // wide, (right - 1) // wide + 1)
        ]
        coords = [self._coords(chunk, tile) for chunk in positions for tile in tiles]
        keys = [(self._key, c, self._chunk_version(c, version)) for c in coords]
        chunks = iter(chunk_cache().load(keys, self._decode))
        out = np.empty((len(planes), *window.shape), self._array.dtype.newbyteorder("="))
        for members in positions.values():
            for row, col in tiles:
                pixels = next(chunks)
                tile = Window(row * high, col * wide, *pixels.shape[-2:])
                shared = tile.intersect(window)
                assert shared is not None
                source, target = shared.within(tile), shared.within(window)
                for position, within in members:
                    out[position][target] = pixels[within][source]
        return out

    def _coords(self, chunk: tuple[int, ...], tile: tuple[int, int]) -> tuple[int, ...]:
        """Return the position of a chunk along each dimension of the array."""
        by_axis = dict(zip((*self._others, *self._level.axes), (*chunk, *tile), strict=True))
        return tuple(by_axis[axis] for axis in range(self._array.ndim))

    def _chunk_version(self, coords: tuple[int, ...], version: str) -> Hashable:
        """Return size and times of a local chunk's file: a chunk that was written again is decoded again."""
        if self._folder is None:
            return version
        units = zip(coords, self._chunks, self._file_chunks, strict=True)
        key = self._array.metadata.encode_chunk_key(tuple(c * n // unit for c, n, unit in units))
        return _stat(f"{self._folder}/{self._level.path}/{key}")

    def _decode(self, keys: list[Hashable]) -> Mapping[Hashable, Array]:
        """Read chunks, adjacent ones in one call of zarr."""
        by_coords: dict[tuple[int, ...], Any] = {key[1]: key for key in keys}  # type: ignore[index]
        boxes = _boxes(list(by_coords), self._others)
        if self._remote and len(boxes) > 1:
            with ThreadPoolExecutor(min(len(boxes), THREADS)) as pool:
                parts = list(pool.map(lambda box: self._decode_box(*box), boxes))
        else:
            parts = [self._decode_box(*box) for box in boxes]
        return {by_coords[coords]: pixels for part in parts for coords, pixels in part.items()}

    def _decode_box(self, first: tuple[int, ...], last: tuple[int, ...]) -> dict[tuple[int, ...], Array]:
        """Return the chunks of a box with y and x as their last dimensions."""
        bounds = [
            (a * n, min((b + 1) * n, size))
            for a, b, n, size in zip(first, last, self._chunks, self._array.shape, strict=True)
        ]
        values = np.asarray(self._array[tuple(slice(*b) for b in bounds)])
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        decoded = {}
        for offset in np.ndindex(*(b - a + 1 for a, b in zip(first, last, strict=True))):
            part = values[tuple(slice(o * n, (o + 1) * n) for o, n in zip(offset, self._chunks, strict=True))]
            part = np.moveaxis(part, self._level.axes, (-2, -1))
            coords = tuple(a + o for a, o in zip(first, offset, strict=True))
            # A view would keep the whole box in memory.
            decoded[coords] = part if prod(part.shape) == prod(values.shape) else part.copy()
        return decoded


def _boxes(coords: list[tuple[int, ...]], others: tuple[int, ...]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return first and last positions of boxes that hold some chunks and no others."""
    grouped: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for chunk in coords:
        grouped.setdefault(tuple(chunk[a] for a in others), []).append(chunk)
    boxes = []
    for group in [coords] if _is_box(coords) else grouped.values():
        if _is_box(group):
            boxes.append((tuple(np.min(group, axis=0).tolist()), tuple(np.max(group, axis=0).tolist())))
        else:
            boxes += [(chunk, chunk) for chunk in group]
    return boxes


def _is_box(coords: list[tuple[int, ...]]) -> bool:
    return prod((np.ptp(coords, axis=0) + 1).tolist()) == len(coords)


def _stat(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 (called for every read)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


_numbers = itertools.count()
_open_arrays: dict[tuple[Any, ...], _OpenArray] = {}


def _store_key(address: StoreAddress) -> tuple[Any, ...]:
    return ("address", address.name) if isinstance(address.store, str) else ("store", id(address.store))


def forget_store(address: StoreAddress) -> None:
    """Drop open arrays and decoded chunks of a store that is opened again: it may hold other chunks by now."""
    key = _store_key(address)
    for other in [k for k in list(_open_arrays) if k[:2] == key]:
        _open_arrays.pop(other, None)
    if address.folder is None and isinstance(address.store, str):  # local chunks are told apart by their files
        chunk_cache().drop(lambda chunk: isinstance(chunk, tuple) and chunk[0][0] == address.name)


def _open_array(address: StoreAddress, level: ZarrLevel) -> _OpenArray:
    """Return an array that this process has open; opened again if its metadata changed."""
    key = (*_store_key(address), level, os.getpid())
    array = _open_arrays.get(key)
    if array is None or not array.is_current():
        while len(_open_arrays) >= MAX_OPEN:
            _open_arrays.pop(next(iter(_open_arrays)), None)
        array = _open_arrays[key] = _OpenArray(address, level)
    return array


__all__ = ["ZarrArray", "ZarrLevel", "error_text", "forget_store"]

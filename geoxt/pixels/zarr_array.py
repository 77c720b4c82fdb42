"""Windows of Zarr arrays, read chunk by chunk through zarr, and decoded once for all windows that need a chunk."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from odc.geo import CRS
from odc.geo.geobox import GeoBox

from geoxt.errors import CatalogError, GeoxtError, ReadError
from geoxt.pixels import remote
from geoxt.pixels.cached_chunks import CachedChunks, open_chunks
from geoxt.pixels.chunk_cache import chunk_cache
from geoxt.pixels.chunked_planes import read_planes
from geoxt.pixels.credentials import redact_url
from geoxt.pixels.object_versions import object_versions
from geoxt.pixels.zarr_store import METADATA, StoreAddress, metadata_hash
from geoxt.types import Array
from geoxt.windows import Window

MAX_OPEN = 512
"""Maximum number of arrays that a process keeps open."""


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
        opened = _open_arrays.get(_array_key(self.address, self._level(level)))
        if opened is not None and (values := opened.read_stored(planes, window)) is not None:
            return lambda: (values, None)
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
        stored = self._level(level)
        try:
            return self._read_planes(stored, planes, window)
        except GeoxtError:
            raise
        except Exception as error:  # codecs and stores raise many classes
            bottom, right = window.stop
            where = f"rows {(window.row, bottom)} and columns {(window.col, right)}"
            problem = f"Cannot read {_name(self.address, stored.path)}, {where}: {error_text(error)}."
            raise ReadError(problem, remedy="Check that the store is complete.") from error

    def _level(self, level: int | None) -> ZarrLevel:
        return self.levels[0 if level is None else level + 1]

    def _read_planes(self, level: ZarrLevel, planes: Sequence[int], window: Window) -> Array:
        """Read planes of a window; after an error, the URL is signed again, once, as signatures expire."""
        try:
            return _open_array(self.address, level).read(planes, window)
        except GeoxtError:
            raise
        except Exception:  # codecs and stores raise many classes
            if not self.address.signed:
                raise
            return _open_array(self.address, level, renew=True).read(planes, window)


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

        self._level, self._folder = level, address.folder
        self.axes, self.concurrent = level.axes, address.remote
        self._files = self._metadata_files(address.folder, level.path)
        self.stats = self._stat_metadata()
        store = address.open()
        versions = object_versions(store, address)
        self._array: Any = zarr.open_array(store, path=level.path, mode="r")
        if metadata_hash(self._array.metadata) != level.metadata:
            problem = f"Cannot read {_name(address, level.path)}: it was replaced since the layer was opened."
            raise CatalogError(problem, remedy="Open the layer again.")
        self.shape, self.dtype = tuple(self._array.shape), np.dtype(self._array.dtype)
        # The address of a Store in memory may be that of a former one: hence a number for each that is opened.
        self._key = (address.identity if isinstance(address.store, str) else next(_numbers), level.path)
        self.chunks = tuple(self._array.chunks)
        self.object_chunks = tuple(self._array.shards or self._array.chunks)
        self._cached: CachedChunks | None = None
        if versions is not None and address.block_cache is not None:
            name, *servers = address.cache_key()
            source = [name, level.path, level.metadata, *servers]
            self._cached = open_chunks(self, versions, address.block_cache, source)

    def read(self, planes: Sequence[int], window: Window) -> Array:
        """Return planes of a window."""
        values = self.read_stored(planes, window)
        if values is not None:
            return values
        return read_planes(self, planes, window, load=None if self._cached is None else self._cached.load)

    def read_stored(self, planes: Sequence[int], window: Window) -> Array | None:
        """Return planes of a window from the block cache, without a request; `None` if it lacks a chunk."""
        return None if self._cached is None else self._cached.read(planes, window)

    def object_key(self, coords: tuple[int, ...]) -> str:
        """Return the path of an object, which is a chunk or a shard, in the store."""
        return f"{self._level.path}/{self._array.metadata.encode_chunk_key(coords)}".lstrip("/")

    @staticmethod
    def _metadata_files(folder: str | None, path: str) -> tuple[str, ...]:
        return () if folder is None else tuple(os.path.join(folder, path, name) for name in METADATA)  # noqa: PTH118

    def _stat_metadata(self) -> tuple[Any, ...]:
        return tuple(_stat(path) for path in self._files)

    def is_current(self) -> bool:
        """Return whether the metadata of a local array are unchanged."""
        return self._stat_metadata() == self.stats

    def get(self, bounds: tuple[slice, ...]) -> Any:
        """Return part of the array."""
        return self._array[bounds]

    def chunk_key(self, coords: tuple[int, ...]) -> Hashable:
        """Return the address, with size and times of a local chunk's file: after a change, it is decoded again."""
        if self._folder is None:
            return self._key
        units = zip(coords, self.chunks, self.object_chunks, strict=True)
        key = self.object_key(tuple(c * n // unit for c, n, unit in units))
        return *self._key, _stat(f"{self._folder}/{key}")


def _stat(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 (called for every read)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


_numbers = itertools.count()
_open_arrays: dict[tuple[Any, ...], _OpenArray] = {}
_opening: dict[tuple[Any, ...], threading.Lock] = {}


def _store_key(address: StoreAddress) -> tuple[Any, ...]:
    return ("address", address.identity) if isinstance(address.store, str) else ("store", id(address.store))


def forget_store(address: StoreAddress) -> None:
    """Drop open arrays and decoded chunks of a store that is opened again: it may hold other chunks by now."""
    key = _store_key(address)
    for other in [k for k in list(_open_arrays) if k[:2] == key]:
        _open_arrays.pop(other, None)
    if address.folder is None and isinstance(address.store, str):  # local chunks are told apart by their files
        chunk_cache().drop(lambda chunk: isinstance(chunk, tuple) and chunk[0][0] == address.identity)


def _open_array(address: StoreAddress, level: ZarrLevel, *, renew: bool = False) -> _OpenArray:
    """Return an array that this process has open; opened again on demand, and if its metadata changed."""
    key = _array_key(address, level)
    array = _open_arrays.get(key)
    if array is not None and not renew and array.is_current():
        return array
    with _opening.setdefault(key, threading.Lock()):
        other = _open_arrays.get(key)
        if other is not None and other is not array and other.is_current():  # another thread opened it
            return other
        while len(_open_arrays) >= MAX_OPEN:
            _open_arrays.pop(next(iter(_open_arrays)), None)
        array = _open_arrays[key] = _OpenArray(address, level)
    return array


def _array_key(address: StoreAddress, level: ZarrLevel) -> tuple[Any, ...]:
    return *_store_key(address), address.block_cache, level, os.getpid()

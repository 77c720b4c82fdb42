"""An open raster file: its rasterio dataset, the version that was opened, and readers beside GDAL."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import rasterio

from geoxt.errors import GeoxtWarning
from geoxt.pixels.block_cache import BlockCache
from geoxt.pixels.cached_blocks import CachedBlocks, open_blocks
from geoxt.pixels.compressed_tiff import CompressedTiff, open_compressed
from geoxt.pixels.credentials import redact_url
from geoxt.pixels.file_version import FileVersion, this_batch
from geoxt.pixels.raw_tiff import RawTiff, open_raw
from geoxt.pixels.remote import is_remote
from geoxt.pixels.remote_version import RemoteVersion
from geoxt.types import Array
from geoxt.windows import Window

CHECKS = 8
"""Maximum number of passed checks that a handle records, one for each layer that reads its file."""


class FileCheck(Protocol):
    """Compares a file with its catalog or former header, before its first read."""

    def __call__(self, file: rasterio.DatasetReader) -> None:
        """Raise if the file differs from its description; called once for each handle of the full resolution."""

    def masked(self, file: rasterio.DatasetReader) -> bool:
        """Return whether to read the file's mask (internal mask or alpha band)."""


class Handle:
    """An open file: a rasterio dataset and, from the second read on, a reader of plain or compressed GeoTIFF blocks.

    The first read goes through GDAL: in a folder of small images every file is read once, and locating its blocks takes
    longer than that. All return the same bits.
    """

    __slots__ = (
        "_before_read", "_fixed", "address", "blocks", "checked", "compressed", "file", "full", "href", "options",
        "raw", "reads", "remote_version", "version",
    )  # fmt: skip

    def __init__(
        self,
        file: rasterio.DatasetReader,
        address: str,
        *,
        href: str = "",
        options: Mapping[str, Any],
        version: FileVersion | None = None,
        remote_version: RemoteVersion | None = None,
        before_read: Callable[[], None] | None = None,
    ) -> None:
        self.file, self.address, self.href, self.options = file, address, href or address, options
        self.version, self.remote_version = version, remote_version
        self._before_read = before_read  # once
        self.full = not options
        # connections of remote files belong to threads
        self._fixed = None if is_remote(address) else 1 + (0 if version is None else len(version.sidecars))
        self.raw: RawTiff | None = None
        self.compressed: CompressedTiff | None = None
        self.reads = 0
        self.blocks: dict[BlockCache, CachedBlocks | None] = {}
        self.checked: tuple[tuple[FileCheck, bool], ...] = ()

    @property
    def descriptors(self) -> int:
        """Number of file descriptors: of the dataset and its sidecars, other readers and entries of block caches."""
        if self._fixed is None:
            return 0
        count = self._fixed + (self.raw is not None or self.compressed is not None)
        for blocks in self.blocks.values():
            count += blocks is not None
        return count

    def is_current(self) -> bool:
        """Return whether the file is unchanged since it was opened; False if that is unknown, as in memory."""
        if self.version is None:
            return is_remote(self.address)
        batch = this_batch()
        return self.version.is_current() if batch is None else batch.is_current(self.version)

    def close(self) -> None:
        """Close the dataset and its readers beside GDAL."""
        self.raw = self.compressed = None
        self.blocks = {}
        self.file.close()

    def check(self, check: FileCheck) -> bool:
        """Call a check of the file unless it has passed already; return whether to read the file's mask."""
        if (known := self.known_mask(check)) is not None:
            return known
        if self.full:
            check(self.file)
        masked = check.masked(self.file)
        self.checked = ((check, masked), *self.checked[: CHECKS - 1])
        return masked

    def known_mask(self, check: FileCheck) -> bool | None:
        """Return whether to read the file's mask, or `None` if the check was not called lately."""
        for known, masked in self.checked:
            if known is check:
                return masked
        return None

    def read_raw(self, bands: Sequence[int], window: Window, out: Array | None) -> Array | None:
        """Return uncompressed pixels without GDAL; `None` for the first read, and for other files."""
        self.reads += 1
        if self.reads == 1 and self._before_read is not None:
            self._before_read()
        if self.reads == 2 and self.full and not self.blocks:
            self._open_readers()
        return None if self.raw is None else self.raw.read(bands, window, out)

    def read_compressed(self, bands: Sequence[int], window: Window, out: Array | None) -> Array | None:
        """Return compressed pixels without GDAL, after `read_raw`; `None` for the first read, and for other files."""
        return None if self.compressed is None else self.compressed.read(bands, window, out)

    def _open_readers(self) -> None:
        self.raw = open_raw(self.file, self.address)
        if self.raw is None:
            self.compressed = open_compressed(self.file, self.address, self.version)

    def cached_blocks(self, cache: BlockCache) -> CachedBlocks | None:
        """Return the decoded blocks of the file in a cache; `None` if they cannot be cached."""
        if cache not in self.blocks:
            self.blocks[cache] = None
            if self.reads < 2 and self.full:
                self._open_readers()
            source = self._identity() if self.raw is None else None
            if source is not None:
                key = [*source, sorted(self.options.items())]
                self.blocks[cache] = open_blocks(self.file, key, cache, compressed=self.compressed)
        return self.blocks[cache]

    def _identity(self) -> list[Any] | None:
        """Return the unsigned address and the version of the file; `None` if its version is unknown."""
        if self.version is not None:
            return [os.path.abspath(self.href), self.version.token]  # noqa: PTH100
        if self.remote_version is None or not self.remote_version.identity:
            _warn_uncached(self.href)
            return None
        identity = self.remote_version.identity
        # A query may be a signature, but without an ETag only the query distinguishes some files of a server.
        return [self.href if identity.startswith(" ") else self.href.partition("?")[0], identity]


_uncached_servers: set[str] = set()


def _warn_uncached(href: str) -> None:
    """Warn, once per process and server, that remote files of unknown version are not cached."""
    if not is_remote(href):
        return
    address = redact_url(href)
    server = "/".join(address.split("/")[:3])
    if server not in _uncached_servers:
        _uncached_servers.add(server)
        msg = (
            f"Files of {server} are read without the block cache: the server sent neither an ETag, nor a modification "
            f"time and size, for {address}. To cache them, download the files first."
        )
        warnings.warn(msg, GeoxtWarning, stacklevel=2)

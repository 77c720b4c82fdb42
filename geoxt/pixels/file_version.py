"""Versions of local files: whether a file, or a sidecar that GDAL reads with it, changed since it was opened."""

from __future__ import annotations

import html
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

from geoxt.pixels.remote import is_remote

Stat = tuple[int, int, int, int]
"""Size, modification and change time in nanoseconds, and inode."""
SIDECARS = (".aux.xml", ".msk", ".ovr", ".vat.dbf", "-wal")
"""Endings appended to the name of a file: metadata, mask, overviews, Esri's class names, changes of a GeoPackage."""
SIBLINGS = (".tfw", ".TFW", ".wld", ".WLD", ".prj", ".PRJ", ".hdr", ".HDR", ".aux", ".dbf", ".shx", ".cpg")
"""Extensions of sidecars that replace the file's extension: world files, CRS, headers of raw rasters, Shapefiles."""
TICK = 50_000_000
"""Nanoseconds: a file that changed this recently may change again without another modification time."""
_QUOTED = re.compile(r'"([^"]+)"')
_BRACES = re.compile(r"\{([^{}]+)\}")
_SCHEME = re.compile(
    r"^(?:[a-z0-9]+\+)?(?:file|zip|tar|gzip)://|^(?:/vsi(?:zip|tar|gzip|7z|rar|sparse)/)+", re.IGNORECASE
)
_MEMBER = re.compile(r"[/!:,?]")
_SOURCE = re.compile(
    r"<Source(?:Filename|Dataset)\b(?:[^>]*?\brelativeToVRT\s*=\s*[\"'](1)[\"'])?[^>]*>([^<]+)<", re.IGNORECASE
)
MAX_DEPTH = 8
"""Depth of VRTs that read other VRTs."""


@dataclass(frozen=True, slots=True)
class FileVersion:
    """Size, times and inode of a local file and of its sidecars, when they were read."""

    path: str
    """The file, or the archive or container that holds it."""
    main: Stat
    """Version of the file."""
    folder: int
    """Modification time of the folder: files were created, replaced or removed in it."""
    sidecars: tuple[tuple[str, Stat], ...]
    """Path and version of each sidecar, and of each file that a VRT reads, with its sidecars."""
    settled: bool = True
    """Whether a further change would show: it may not if the file had just been written."""

    @property
    def token(self) -> tuple[Stat, tuple[tuple[str, Stat], ...]]:
        """Sizes, times and inodes of the file and its sidecars, which identify the content."""
        return self.main, self.sidecars

    def is_of(self, status: os.stat_result) -> bool:
        """Return whether a file that was opened later has the size, times and inode of the main file."""
        return _main(status) == self.main

    def is_current(self) -> bool:
        """Return whether neither the file nor a sidecar changed, and a change would show."""
        return self.settled and self.is_unchanged()

    def is_unchanged(self) -> bool:
        """Return whether neither the file nor a sidecar changed visibly; in most cases by two calls of `stat`."""
        if _stat(self.path) != self.main:
            return False
        if self.sidecars and any(_stat(path) != stat for path, stat in self.sidecars):
            return False
        if _folder_time(self.path) == self.folder:
            return True
        return _sidecars(self.path) + _source_stats(self.path, self.main) == self.sidecars


_thread = threading.local()


class BatchVersions:
    """Versions of the local files of a batch of windows, compared with the disk once and not for each window.

    A context manager: within it, files that its thread reads belong to the batch. Several threads may enter it.
    """

    __slots__ = ("_versions",)

    def __init__(self) -> None:
        self._versions: dict[int, FileVersion] = {}

    def __enter__(self) -> None:
        _thread.batch = self

    def __exit__(self, *_: object) -> None:
        _thread.batch = None

    def is_current(self, version: FileVersion) -> bool:
        """Return whether an open file was read for the batch before, or is unchanged."""
        if version.settled and id(version) in self._versions:
            return True
        current = version.is_current()
        if current:
            self.add(version)
        return current

    def add(self, version: FileVersion) -> None:
        """Add a file that is read for the batch."""
        self._versions[id(version)] = version

    def changed(self) -> list[str]:
        """Return the files that changed since they were first read for the batch."""
        return [version.path for version in list(self._versions.values()) if not version.is_unchanged()]


def this_batch() -> BatchVersions | None:
    """Return the versions of the batch that this thread reads, or `None`."""
    batch: BatchVersions | None = getattr(_thread, "batch", None)
    return batch


@contextmanager
def used_versions() -> Iterator[list[FileVersion | None]]:
    """Collect the versions of the local files that this thread reads; `None` for a file whose version is unknown."""
    used: list[FileVersion | None] = []
    _thread.used = used
    try:
        yield used
    finally:
        _thread.used = None


def note_use(version: FileVersion | None) -> None:
    """Add a file to the list of `used_versions` in this thread."""
    used: list[FileVersion | None] | None = getattr(_thread, "used", None)
    if used is not None:
        used.append(version)


def file_version(href: str) -> FileVersion | None:
    """Return the version of a local file; of the archive or container that holds it; `None` for any other address.

    Parameters
    ----------
    href
        Path, or an address that GDAL resolves to a local file: "/vsizip/a.zip/b.tif", 'NETCDF:"a.nc":band'.
    """
    if is_remote(href):
        return None
    now = time.time_ns()
    path, main = href, _stat(href)
    if main is None:
        container = local_file(href)
        main = None if container is None else _stat(container)
        if container is None or main is None:
            return None
        path = container
    folder = _folder_time(path)
    sidecars = _sidecars(path) + _source_stats(path, main)
    latest = max(max(stat[1:3]) for stat in (main, *(stat for _, stat in sidecars)))
    return FileVersion(path, main, folder, sidecars, settled=abs(now - latest) > TICK)


def main_version(href: str) -> tuple[object, ...] | None:
    """Return size, times and inode of a local file, its external mask and the files of a VRT, for many scenes."""
    if is_remote(href):
        return None
    main = _stat(href)
    if main is None:
        container = local_file(href)
        main = None if container is None else _stat(container)
    return main, _stat(f"{href}.msk"), *(() if main is None else _source_stats(href, main))


def local_file(href: str) -> str | None:
    """Return the existing local file that an address of GDAL refers to: an archive, or the file of a subdataset."""
    path = _container(href)
    if path is not None and os.path.isfile(path):  # noqa: PTH113 (called for every read)
        return path
    _container.cache_clear()  # the file was removed or is new
    return _container(href)


@lru_cache(maxsize=1024)  # called for every read
def _container(href: str) -> str | None:
    bare = _SCHEME.sub("", href)
    nested = [match[1] for match in _BRACES.finditer(bare) if match[1] != bare]
    candidates = [match[1] for match in _QUOTED.finditer(bare)]
    ends = [match.start() for match in _MEMBER.finditer(bare)]
    starts = [0, *(match.end() for match in re.finditer(r"[:,]", bare))]
    candidates += [bare[start:end] for start in starts for end in (len(bare), *reversed(ends)) if end > start]
    candidates += [path for address in nested if (path := _container(address)) is not None]
    return next((path for path in candidates if os.path.isfile(path)), None)  # noqa: PTH113


def _source_stats(path: str, main: Stat, depth: int = 0) -> tuple[tuple[str, Stat], ...]:
    """Return the versions of the local files that a VRT reads, and of their sidecars."""
    if not path.lower().endswith(".vrt") or depth > MAX_DEPTH:
        return ()
    stats: list[tuple[str, Stat]] = []
    for source in _sources(path, main):
        file = local_file(source)
        stat = None if file is None else _stat(file)
        if file is not None and stat is not None:
            stats += [(file, stat), *_sidecars(file), *_source_stats(file, stat, depth + 1)]
    return tuple(dict.fromkeys(stats))


@lru_cache(maxsize=1024)
def _sources(path: str, _main: Stat) -> tuple[str, ...]:
    """Return the files that a version of a VRT names."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            matches = _SOURCE.findall(file.read())
    except OSError:
        return ()
    folder = _folder(path)
    names = ((relative, html.unescape(name).strip()) for relative, name in matches)
    return tuple(dict.fromkeys(os.path.join(folder, name) if relative else name for relative, name in names))  # noqa: PTH118


def _stat(path: str) -> Stat | None:
    try:
        status = os.stat(path)  # noqa: PTH116 (called for every read; URLs have no Path)
    except (OSError, ValueError):
        return None
    return _main(status)


def _main(status: os.stat_result) -> Stat:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _folder_time(path: str) -> int:
    try:
        return os.stat(_folder(path)).st_mtime_ns  # noqa: PTH116 (called for every read)
    except (OSError, ValueError):
        return 0


@lru_cache(maxsize=4096)  # called for every read
def _folder(path: str) -> str:
    return os.path.dirname(path) or "."  # noqa: PTH120


def _sidecars(path: str) -> tuple[tuple[str, Stat], ...]:
    stem, extension = os.path.splitext(path)  # noqa: PTH122
    world = f"{stem}.{extension[1]}{extension[-1]}w" if len(extension) > 2 else f"{path}w"
    names = dict.fromkeys((*(path + end for end in SIDECARS), *(stem + end for end in SIBLINGS), world, f"{path}w"))
    stats = ((name, _stat(name)) for name in names if name != path)
    return tuple((name, stat) for name, stat in stats if stat is not None)

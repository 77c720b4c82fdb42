"""Headers of many files, read in threads and cached per folder.

The cache of a folder is one JSON file in `storage.cache_folder("headers")`. An entry is valid while size, modification
time and inode of its file, and of the files beside it that share its name up to a dot (masks, world files, projections,
overviews, ENVI headers, `.aux.xml`), are unchanged.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from affine import Affine
from odc.geo.geobox import GeoBox

from geoxt.crs import parse_crs
from geoxt.pixels import remote
from geoxt.pixels.credentials import Credentials
from geoxt.pixels.reader import Header, read_header
from geoxt.storage import atomic_write, cache_folder
from geoxt.types import SomeCRS

FORMAT = 7
"""Version of the cache layout; caches of other versions are discarded."""
MIN_FILES = 16
"""Minimum number of files in a folder whose headers are cached."""
THREADS = 8
"""Local files read concurrently."""

Stamp = list[Any]
"""Size, modification time and inode of a file, and a hash of those of its sidecars."""


def headers(
    hrefs: Sequence[str],
    *,
    crs: SomeCRS | None = None,
    grid: GeoBox | None = None,
    credentials: Credentials | None = None,
) -> list[Header]:
    """Return the headers of files, from the cache if possible.

    Parameters
    ----------
    hrefs
        Paths or URLs; headers of URLs are not cached.
    crs
        CRS of files without one; with it, no cache is used.
    grid
        Grid of the pixels of files without a geotransform; their headers are not cached.
    credentials
        Credentials to open files with.

    Raises
    ------
    ReadError, CRSError, GridError
        If a file cannot be opened, has no CRS, or no geotransform and `grid` is not of its shape.
    """
    stamps = _stamps(hrefs) if crs is None else {}
    by_folder: dict[str, list[str]] = {}
    for href, stamp in stamps.items():
        if stamp is not None:
            by_folder.setdefault(os.path.dirname(os.path.abspath(href)), []).append(href)  # noqa: PTH100, PTH120
    cache_dir = cache_folder("headers")
    caches = {
        folder: _load(_cache_file(cache_dir, folder), folder)
        for folder, files in by_folder.items()
        if cache_dir is not None and len(files) >= MIN_FILES
    }
    result: dict[str, Header] = {}
    for folder, cache in caches.items():
        for href in by_folder[folder]:
            entry = cache.get(os.path.basename(href))  # noqa: PTH119
            if entry is not None and entry["stamp"] == stamps[href]:
                with suppress(LookupError, TypeError, ValueError):  # of another shape than `_encode` writes: read again
                    result[href] = _decode(href, entry["header"])
    missing = [href for href in hrefs if href not in result]
    if missing:
        threads = remote.THREADS if any(map(remote.is_remote, missing)) else THREADS
        options: dict[str, Any] = {"crs": crs}
        options |= {} if grid is None else {"grid": grid}
        options |= {} if credentials is None else {"credentials": credentials}
        with ThreadPoolExecutor(min(threads, len(missing))) as pool:
            result |= zip(missing, pool.map(lambda href: read_header(href, **options), missing), strict=True)
        for folder, cache in caches.items():
            read_hrefs = [href for href in by_folder[folder] if href in missing and result[href].grid is not grid]
            cache |= {Path(href).name: {"stamp": stamps[href], "header": _encode(result[href])} for href in read_hrefs}
            if read_hrefs and cache_dir is not None:
                _save(_cache_file(cache_dir, folder), folder, cache)
    return [result[href] for href in hrefs]


def _cache_file(cache_dir: Path, folder: str) -> Path:
    return cache_dir / f"{hashlib.sha256(folder.encode()).hexdigest()[:32]}.json"


def _stamps(hrefs: Sequence[str]) -> dict[str, Stamp | None]:
    """Return the stamp of each file; `None` for a file that is not local, or absent."""
    stamps: dict[str, Stamp | None] = {}
    listings: dict[str, dict[str, list[str]]] = {}
    for href in hrefs:
        try:
            status = os.stat(href)  # noqa: PTH116 (a thousand times, without making paths)
        except OSError:
            stamps[href] = None
            continue
        folder, name = os.path.split(href)
        if folder not in listings:
            listings[folder] = _names_by_prefix(folder)
        sidecars = [sidecar for sidecar in listings[folder].get(os.path.splitext(name)[0], []) if sidecar != name]  # noqa: PTH122
        beside = [(sidecar, _version(os.path.join(folder, sidecar))) for sidecar in sorted(sidecars)]  # noqa: PTH118
        stamps[href] = [
            status.st_size, status.st_mtime_ns, status.st_ino, hashlib.sha256(repr(beside).encode()).hexdigest()[:16]
        ]  # fmt: skip
    return stamps


def _names_by_prefix(folder: str) -> dict[str, list[str]]:
    """Return the names in a folder by each of their prefixes that end before a dot: "a.tif.msk" by "a" and "a.tif"."""
    by_prefix: dict[str, list[str]] = {}
    with suppress(OSError):  # files can be readable in a folder that is not
        for name in os.listdir(folder or "."):  # noqa: PTH208
            parts = name.split(".")
            for end in range(1, len(parts) + (len(parts) == 1)):
                by_prefix.setdefault(".".join(parts[:end]), []).append(name)
    return by_prefix


def _version(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


def _load(path: Path, folder: str) -> dict[str, Any]:
    """Return the cache of a folder; empty if it is missing or invalid."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    valid = isinstance(content, dict) and content.get("format") == FORMAT and content.get("folder") == folder
    files = content.get("files") if valid else None
    if not isinstance(files, dict):
        return {}
    return {name: e for name, e in files.items() if isinstance(e, dict) and {"stamp", "header"} <= e.keys()}


def _save(path: Path, folder: str, cache: dict[str, Any]) -> None:
    """Write the cache of a folder; headers are read again next time if that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, fsync=False) as temporary:
            temporary.write_text(json.dumps({"format": FORMAT, "folder": folder, "files": cache}), encoding="utf-8")
    except OSError:
        return


_NOT_CACHED = {"href", "grid", "planes"}


def _encode(header: Header) -> dict[str, Any]:
    content = {f.name: getattr(header, f.name) for f in dataclasses.fields(header) if f.name not in _NOT_CACHED}
    grid = header.grid
    assert grid.crs is not None
    content["grid"] = [list(grid.shape), list(grid.affine)[:6], str(grid.crs)]
    content["nodata"] = [None if n is None else str(n) for n in header.nodata]
    content["colors"] = None if header.colors is None else list(header.colors.items())
    return content


def _decode(href: str, content: dict[str, Any]) -> Header:
    shape, affine, crs = content["grid"]
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
    values["grid"] = GeoBox(tuple(shape), Affine(*affine), parse_crs(crs))
    values["nodata"] = tuple(None if n is None else _number(n) for n in content["nodata"])
    colors = content["colors"]
    values["colors"] = None if colors is None else {int(code): tuple(color) for code, color in colors}
    return Header(href=href, **values)


def _number(text: str) -> float:
    """Return an integer if the text is one: int64 nodata beyond 2**53 is not a float."""
    return int(text) if text.lstrip("-").isdigit() else float(text)

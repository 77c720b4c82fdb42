"""Headers of many files: read once in threads, then kept in an index beside other caches of the user.

The index of a folder is one JSON file, written to a temporary name and moved. An entry holds as long as the size and
the time of change of its file, and of the `.aux.xml` beside it, are what they were.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from affine import Affine
from odc.geo.geobox import GeoBox

from geoxt.grid import parse_crs
from geoxt.pixels import remote
from geoxt.pixels.credentials import Credentials
from geoxt.pixels.reader import Header, read_header
from geoxt.types import SomeCRS

FORMAT = 2
"""Number of the layout; an index of another is made anew."""
WORTHWHILE = 16
"""Files of one folder from which an index is kept."""
THREADS = 8

Stamp = list[int]


def headers(
    hrefs: Sequence[str], *, crs: SomeCRS | None = None, credentials: Credentials | None = None
) -> list[Header]:
    """Return the headers of files, from the index where it has them.

    Parameters
    ----------
    hrefs
        Paths or URLs; URLs are always read.
    crs
        CRS of files that have none; with it, no index is used.
    credentials
        How files are opened.

    Raises
    ------
    ReadError, CRSError
        Where a file cannot be opened or placed.
    """
    stamps = {href: _stamp(href) for href in hrefs} if crs is None else {}
    folders: dict[str, list[str]] = {}
    for href, stamp in stamps.items():
        if stamp is not None:
            folders.setdefault(os.path.dirname(os.path.abspath(href)), []).append(href)  # noqa: PTH100, PTH120
    indexes = {f: _load(f) for f, some in folders.items() if len(some) >= WORTHWHILE and _home() is not None}
    found: dict[str, Header] = {}
    for folder, index in indexes.items():
        for href in folders[folder]:
            entry = index.get(os.path.basename(href))  # noqa: PTH119
            if entry is not None and entry["stamp"] == stamps[href]:
                found[href] = _decode(href, entry["header"])
    missing = [href for href in hrefs if href not in found]
    if missing:
        most = remote.THREADS if any(map(remote.is_remote, missing)) else THREADS
        with ThreadPoolExecutor(min(most, len(missing))) as pool:
            options = {"crs": crs} if credentials is None else {"crs": crs, "credentials": credentials}
            found |= zip(missing, pool.map(lambda href: read_header(href, **options), missing), strict=True)
        for folder, index in indexes.items():
            fresh = [href for href in folders[folder] if href in missing]
            index |= {Path(h).name: {"stamp": stamps[h], "header": _encode(found[h])} for h in fresh}
            if fresh:
                _save(folder, index)
    return [found[href] for href in hrefs]


def _home() -> Path | None:
    """Return where indexes are kept: GEOXT_CACHE, or the user's cache folder; `None` where it is set to nothing."""
    given = os.environ.get("GEOXT_CACHE")
    if given is not None:
        return Path(given) / "headers" if given else None
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "geoxt" / "headers"


def _place(folder: str) -> Path:
    home = _home()
    assert home is not None
    return home / f"{hashlib.sha256(folder.encode()).hexdigest()[:32]}.json"


def _stamp(href: str) -> Stamp | None:
    """Return size and times of change, `None` for what is not a local file."""
    try:
        main = os.stat(href)  # noqa: PTH116 (a thousand times, without making paths)
    except OSError:
        return None
    try:
        beside = os.stat(f"{href}.aux.xml").st_mtime_ns  # noqa: PTH116
    except OSError:
        beside = 0
    return [main.st_size, main.st_mtime_ns, beside]


def _load(folder: str) -> dict[str, Any]:
    """Return the index of a folder, empty where there is none that can be read."""
    try:
        content = json.loads(_place(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    same = isinstance(content, dict) and content.get("format") == FORMAT and content.get("folder") == folder
    return dict(content["files"]) if same else {}


def _save(folder: str, index: dict[str, Any]) -> None:
    """Write an index whole; where that cannot be done the next opening reads headers again."""
    place = _place(folder)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=place.parent, delete=False) as file:
            json.dump({"format": FORMAT, "folder": folder, "files": index}, file)
        Path(file.name).replace(place)
    except OSError:
        return


def _encode(header: Header) -> dict[str, Any]:
    content = {f.name: getattr(header, f.name) for f in dataclasses.fields(header) if f.name not in {"href", "grid"}}
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
    values["nodata"] = tuple(None if n is None else float(n) for n in content["nodata"])
    colors = content["colors"]
    values["colors"] = None if colors is None else {int(code): tuple(color) for code, color in colors}
    return Header(href=href, **values)

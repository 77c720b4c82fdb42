"""Where samples lie on Earth: the outlines of their images on one equal-area grid, kept beside other caches."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import shapely

from geoxt.datasets.entries import Entry
from geoxt.datasets.spec import Spec
from geoxt.grid import parse_crs, transformer
from geoxt.layers.headers import headers
from geoxt.storage import atomic_write, cache_folder
from geoxt.types import Array

EQUAL_AREA = "EPSG:6933"
"""Metres east and north on the cylinder of EASE-Grid 2.0: equal areas between 86 degrees south and north."""
WORTHWHILE = 1000
"""Images from which outlines are kept."""


def outlines(spec: Spec, root: Path, entries: Sequence[Entry]) -> Array:
    """Return the outlines of the samples' images as polygons (sample,), in metres on the equal-area grid.

    The header of one file of each is read, or what was read of it before where the file has not changed since.
    """
    key, asset = next(iter(spec.assets.items()))
    paths = [str(root / next(iter(entry.paths(key, asset).values()))) for entry in entries]
    kept = _place(spec, paths) if len(paths) >= WORTHWHILE else None
    corners = _load(kept, len(paths)) if kept else None
    if corners is None:
        corners = _corners(paths, spec.crs)
        if kept:
            _save(kept, corners)
    return np.asarray(shapely.polygons(corners))


def _corners(paths: Sequence[str], crs: str | None) -> Array:
    """Return the four corners of images (image, 4, 2)."""
    grids = [header.grid for header in (headers(paths, crs=crs) if crs else headers(paths))]
    out = np.empty((len(grids), 4, 2))
    by_crs: dict[str, list[int]] = {}
    for at, grid in enumerate(grids):
        height, width = grid.shape.yx
        out[at] = [grid.affine * corner for corner in ((0, 0), (width, 0), (width, height), (0, height))]
        by_crs.setdefault(str(grid.crs), []).append(at)
    for rows in by_crs.values():
        move = transformer(grids[rows[0]].crs, parse_crs(EQUAL_AREA))
        out[rows] = np.stack(move.transform(out[rows, :, 0], out[rows, :, 1]), axis=-1)
    return out


def _place(spec: Spec, paths: Sequence[str]) -> Path | None:
    """Return where the outlines are kept, by the files and when they changed; `None` where nothing is to be kept."""
    folder = cache_folder("datasets")
    if folder is None:
        return None
    digest = hashlib.sha256(str(spec.crs).encode())
    try:
        for path in paths:
            digest.update(f"{path}:{os.stat(path).st_mtime_ns}\n".encode())  # noqa: PTH116 (very many)
    except OSError:  # reading the header tells what is wrong with the file
        return None
    return folder / f"{spec.name}-places-{digest.hexdigest()[:24]}.npy"


def _load(place: Path, count: int) -> Array | None:
    try:
        found: Array = np.load(place)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.shape == (count, 4, 2) else None


def _save(place: Path, corners: Array) -> None:
    """Write the outlines whole; where that cannot be done, they are read again the next time."""
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(place, fsync=False) as temporary:
            np.save(temporary, corners)

"""Footprints of the images of samples in an equal-area CRS, with a cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import shapely

from geoxt.crs import parse_crs, transformer
from geoxt.datasets.entries import Entry
from geoxt.datasets.spec import Spec
from geoxt.layers.headers import headers
from geoxt.storage import atomic_write, cache_folder
from geoxt.types import Array

EQUAL_AREA = "EPSG:6933"
"""WGS 84 / NSIDC EASE-Grid 2.0 Global: cylindrical equal-area, in meters, between 86°S and 86°N."""
MIN_IMAGES = 1000
"""Minimum number of images for which footprints are cached."""


def footprints(spec: Spec, root: Path, entries: Sequence[Entry]) -> Array:
    """Return the footprints of the samples' images as polygons (sample,), in meters of the equal-area CRS.

    The header of one file per sample is read, unless cached corners of unchanged files exist.
    """
    key, asset = next(iter(spec.assets.items()))
    paths = [str(root / next(iter(entry.paths(key, asset).values()))) for entry in entries]
    cache_path = _cache_path(spec, paths) if len(paths) >= MIN_IMAGES else None
    corners = _load(cache_path, len(paths)) if cache_path else None
    if corners is None:
        corners = _corners(paths, spec.crs)
        if cache_path:
            _save(cache_path, corners)
    return np.asarray(shapely.polygons(corners))


def _corners(paths: Sequence[str], crs: str | None) -> Array:
    """Return the corners of images (image, 4, 2) as x and y in the equal-area CRS."""
    grids = [header.grid for header in (headers(paths, crs=crs) if crs else headers(paths))]
    corners = np.empty((len(grids), 4, 2))
    by_crs: dict[str, list[int]] = {}
    for at, grid in enumerate(grids):
        height, width = grid.shape.yx
        corners[at] = [grid.affine * pixel for pixel in ((0, 0), (width, 0), (width, height), (0, height))]
        by_crs.setdefault(str(grid.crs), []).append(at)
    for rows in by_crs.values():
        to_equal_area = transformer(grids[rows[0]].crs, parse_crs(EQUAL_AREA))
        corners[rows] = np.stack(to_equal_area.transform(corners[rows, :, 0], corners[rows, :, 1]), axis=-1)
    return corners


def _cache_path(spec: Spec, paths: Sequence[str]) -> Path | None:
    """Return the path of the cached corners, or None without a cache folder; it depends on modification times."""
    folder = cache_folder("datasets")
    if folder is None:
        return None
    digest = hashlib.sha256(str(spec.crs).encode())
    try:
        for path in paths:
            digest.update(f"{path}:{os.stat(path).st_mtime_ns}\n".encode())  # noqa: PTH116 (many files: no Path objects)
    except OSError:  # reading the header raises a better error
        return None
    return folder / f"{spec.name}-footprints-{digest.hexdigest()[:24]}.npy"


def _load(path: Path, count: int) -> Array | None:
    try:
        corners: Array = np.load(path)
    except (OSError, ValueError, EOFError):
        return None
    return corners if corners.shape == (count, 4, 2) else None


def _save(path: Path, corners: Array) -> None:
    """Write the corners atomically; without write access, later calls read the headers again."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, fsync=False) as temporary:
            np.save(temporary, corners)

"""Features of a vector file on a grid: read once in a process, coded, ordered and indexed."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import shapely
from odc.geo.geobox import GeoBox

from geoxt.pixels.scanline import Ints, PixelGeometries
from geoxt.pixels.vector_file import Features, VectorHeader, read_features
from geoxt.source.project_geometries import bounds_in_crs, project_geometries
from geoxt.types import Array, Mask
from geoxt.windows import Window

Value = str | int | float | bool | None
"""A value of an attribute; `None` for a missing one."""
KEPT = 8
"""Indexes of files on grids that a process keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureIndex:
    """Features on a grid, in the order in which they are painted."""

    outlines: PixelGeometries
    """What they look like."""
    feature: Ints
    """(parts,): the feature of each part."""
    ids: Ints
    """(features,): the file's own number of each, plus one."""
    codes: Ints
    """(features,): class codes."""
    tree: shapely.STRtree
    """Of the parts' extents, in pixels."""

    def touching(self, window: Window) -> Ints:
        """Return the parts whose extent meets a window, in the order of painting."""
        bottom, right = window.stop
        box = shapely.box(window.col, window.row, right, bottom)
        return np.sort(self.tree.query(box).astype(np.int64))


def factorize(values: Array) -> tuple[Ints, list[Value]]:
    """Return each value's position among the distinct ones, -1 where it is missing, and these, sorted.

    Numbers that are whole become integers. A blank text counts as missing.
    """
    places, distinct = pd.factorize(values)
    found = [_plain(v) for v in distinct]
    kept = [i for i, v in enumerate(found) if v is not None]
    order = sorted(kept, key=lambda i: (isinstance(found[i], str), found[i]))
    rank = np.full(len(found) + 1, -1, np.int64)
    rank[order] = np.arange(len(order))
    return rank[places], [found[i] for i in order]


def _plain(value: Any) -> Value:
    if isinstance(value, str):
        return value if value.strip() else None
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, bool | int | float) else str(value)


_lock = threading.Lock()
_indexes: OrderedDict[Any, FeatureIndex] = OrderedDict()


def feature_index(
    file: VectorHeader, grid: GeoBox, *, column: str | None, classes: Sequence[tuple[Value, int]], by: str | None
) -> FeatureIndex:
    """Return the features of a file that touch a grid; a process reads them once, as long as the file is the same.

    Parameters
    ----------
    file
        The file.
    grid
        The grid.
    column, classes
        The attribute that gives the class, and the code of each of its values; features of others are left out. Where
        no attribute is given all have the first code.
    by
        The attribute that orders overlapping features, the largest last; `None`: their numbers in the file (FID).

    Raises
    ------
    ReadError, CRSError
        Where the file cannot be read, or a feature cannot be brought to the grid.
    """
    key = (_stamp(file.path), file.path, file.layer, str(file.crs), grid, column, tuple(classes), by)
    with _lock:
        found = _indexes.get(key)
        if found is None:
            found = _indexes[key] = _read(file, grid, column, dict(classes), by)
        _indexes.move_to_end(key)
        while len(_indexes) > KEPT:
            _indexes.popitem(last=False)
    return found


def _stamp(path: str) -> tuple[int, int] | None:
    """Return size and time of change, `None` for what is not a local file."""
    try:
        seen = os.stat(path)  # noqa: PTH116 (URLs have no Path)
    except OSError:
        return None
    return seen.st_size, seen.st_mtime_ns


def _unlock() -> None:
    """Give a forked process a lock of its own: the parent's may have been held."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # there is no fork on Windows
    os.register_at_fork(after_in_child=_unlock)


def _read(
    file: VectorHeader, grid: GeoBox, column: str | None, classes: Mapping[Value, int], by: str | None
) -> FeatureIndex:
    near = bounds_in_crs(grid, file.crs)
    if near is None:
        read = Features(ids=np.empty(0, np.int64), geometry=np.empty(0, object), columns={})
    else:
        read = read_features(file, columns=[name for name in (column, by) if name is not None], bounds=near)
    codes, known = _codes(None if column is None else read.columns.get(column), classes, len(read.ids))
    order = np.arange(len(codes))
    if by is not None and by in read.columns:
        order = np.argsort(factorize(read.columns[by])[0], kind="stable")
    order = order[known[order]]
    ids, codes, geometry = read.ids[order], codes[order], read.geometry[order]
    outlines, feature = project_geometries(geometry, file.crs, grid, path=file.path, ids=ids)
    left, top, right, bottom = outlines.bounds().T
    tree = shapely.STRtree(shapely.box(left, top, right, bottom))
    tree.query(shapely.box(0, 0, 1, 1))  # builds it, before threads ask
    return FeatureIndex(outlines=outlines, feature=feature, ids=ids + 1, codes=codes, tree=tree)


def _codes(values: Array | None, classes: Mapping[Value, int], count: int) -> tuple[Ints, Mask]:
    """Return the code of each feature, and whether it has one."""
    if values is None:
        return np.full(count, next(iter(classes.values())), np.int64), np.ones(count, bool)
    places, distinct = factorize(values)
    found = [classes.get(v) for v in (*distinct, None)]  # a missing value has place -1, the last
    codes = np.array([0 if c is None else c for c in found], np.int64)
    return codes[places], np.array([c is not None for c in found])[places]

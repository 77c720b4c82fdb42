"""Features of a vector file on a grid: read once per process, ordered, and indexed by an STRtree."""

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

from geoxt.pixels.file_version import file_version
from geoxt.pixels.scanline import Ints, PixelGeometries
from geoxt.pixels.vector_file import Features, VectorHeader, read_features
from geoxt.source.project_geometries import bounds_in_crs, project_geometries
from geoxt.types import Array, Mask
from geoxt.windows import Window

Value = str | int | float | bool | None
"""Attribute value; `None` if missing."""
MAX_CACHED = 8
"""Maximum number of indexes cached per process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureIndex:
    """Features on a grid, in the order in which they are burned."""

    geometries: PixelGeometries
    """Geometries in pixels of the grid."""
    feature: Ints
    """(parts,): index of each part's feature."""
    ids: Ints
    """(features,): feature id in the file plus one, as 0 is the background."""
    codes: Ints
    """(features,): class codes."""
    tree: shapely.STRtree
    """Spatial index of the parts' extents in pixels."""

    def touching(self, window: Window) -> Ints:
        """Return the indices of parts whose extent intersects a window, in burning order."""
        bottom, right = window.stop
        box = shapely.box(window.col, window.row, right, bottom)
        return np.sort(self.tree.query(box).astype(np.int64))


def factorize(values: Array) -> tuple[Ints, list[Value]]:
    """Return the index of each value among the sorted unique values (-1 if missing), and the unique values.

    Like `pandas.factorize`, with floats that are whole numbers as integers and blank strings as missing.
    """
    indices, uniques = pd.factorize(values)
    parsed = [_parse_value(v) for v in uniques]
    present = [i for i, v in enumerate(parsed) if v is not None]
    order = sorted(present, key=lambda i: (isinstance(parsed[i], str), parsed[i]))
    rank = np.full(len(parsed) + 1, -1, np.int64)  # the last entry serves pandas' -1 of missing values
    rank[order] = np.arange(len(order))
    return rank[indices], [parsed[i] for i in order]


def _parse_value(value: Any) -> Value:
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
    """Return the index of the features that touch a grid, cached per process until the file changes.

    Parameters
    ----------
    file
        Header of the file.
    grid
        Target grid.
    column, classes
        Attribute that gives the class, and the code of each of its values; features with other values are left out.
        Without an attribute all features have the first code.
    by
        Attribute that orders overlapping features, the largest on top; `None` for the feature id (FID).

    Raises
    ------
    ReadError
        If the file cannot be read.
    CRSError
        If a feature cannot be transformed to the grid's CRS.
    """
    version = file_version(file.path)
    key = (version and version.token, file.path, file.layer, str(file.crs), grid, column, tuple(classes), by)
    with _lock:
        index = _indexes.get(key)
        if index is None:
            index = _indexes[key] = _read(file, grid, column, dict(classes), by)
        _indexes.move_to_end(key)
        while len(_indexes) > MAX_CACHED:
            _indexes.popitem(last=False)
    return index


def _unlock() -> None:
    """Give a forked process a new lock: a thread of the parent may have held it."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_unlock)


def _read(
    file: VectorHeader, grid: GeoBox, column: str | None, classes: Mapping[Value, int], by: str | None
) -> FeatureIndex:
    bounds = bounds_in_crs(grid, file.crs)
    if bounds is None:
        features = Features(ids=np.empty(0, np.int64), geometry=np.empty(0, object), columns={})
    else:
        features = read_features(file, columns=[name for name in (column, by) if name is not None], bounds=bounds)
    values = None if column is None else features.columns.get(column)
    codes, has_class = _codes(values, classes, len(features.ids))
    order = np.arange(len(codes))
    if by is not None and by in features.columns:
        order = np.argsort(factorize(features.columns[by])[0], kind="stable")
    order = order[has_class[order]]
    ids, codes, geometry = features.ids[order], codes[order], features.geometry[order]
    geometries, feature = project_geometries(geometry, file.crs, grid, path=file.path, ids=ids)
    left, top, right, bottom = geometries.bounds().T
    tree = shapely.STRtree(shapely.box(left, top, right, bottom))
    tree.query(shapely.box(0, 0, 1, 1))  # builds the tree now: its lazy construction is not thread-safe
    return FeatureIndex(geometries=geometries, feature=feature, ids=ids + 1, codes=codes, tree=tree)


def _codes(values: Array | None, classes: Mapping[Value, int], count: int) -> tuple[Ints, Mask]:
    """Return the class code of each feature, and whether it has one."""
    if values is None:
        return np.full(count, next(iter(classes.values())), np.int64), np.ones(count, bool)
    indices, uniques = factorize(values)
    known_codes = [classes.get(v) for v in (*uniques, None)]  # index -1, of missing values, is the last
    codes = np.array([0 if c is None else c for c in known_codes], np.int64)
    return codes[indices], np.array([c is not None for c in known_codes])[indices]

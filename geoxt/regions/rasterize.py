"""Areas of any outline -> regions: the pixels whose centres lie in a geometry, as few rectangles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from odc.geo import CRS
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError, OverlapError
from geoxt.footprints import footprint, to_pixels
from geoxt.grid import crs_name, full_window, parse_crs, transformer
from geoxt.regions.region import Region
from geoxt.types import Array
from geoxt.windows import Window

SomeRegion = Any
"""A `Region`, a GeoDataFrame or GeoSeries, an odc-geo `Geometry` or `BoundingBox`, a shapely geometry or bounds (left,
bottom, right, top) in the CRS of the grid, or a pair of one of these two and its CRS."""
_NUDGE = 2.0**-20
"""Pixels: lines through pixel centres lie off by this, so that none runs along an edge that two areas share."""
_STEPS = 64
"""Points along the longest side of an area, at least, when it is brought to the CRS of a grid."""


def parse_region(region: SomeRegion | None, grid: GeoBox) -> Region:
    """Return a region on a grid; all of it where none is given.

    Raises
    ------
    InputError
        Where the value is none of `SomeRegion`.
    OverlapError
        Where an area holds the centre of no pixel of the grid.
    """
    if region is None:
        return Region(grid, (full_window(grid),))
    if isinstance(region, Region):
        return region.on(grid)
    return area(in_pixels(region, grid), grid, what=type(region).__name__)


def area(geometry: Any, grid: GeoBox, *, what: str = "geometry") -> Region:
    """Return the region of the pixels whose centres lie in a geometry (pixels: x is the column, y the row).

    Raises
    ------
    OverlapError
        Where there is no such pixel.
    """
    windows = rectangles(geometry, grid)
    if not windows:
        bounds = tuple(round(b, 1) for b in geometry.bounds)
        msg = f"Cannot sample in the region given as {what}: it lies at {bounds} in columns and rows of a grid of "
        raise OverlapError(msg + f"{grid.shape[0]} x {grid.shape[1]} pixels. Pass region=(geometry, crs) of the layer.")
    return Region(grid, windows, joined=len(windows) > 1)


def in_pixels(region: SomeRegion, grid: GeoBox) -> Any:
    """Return a geometry in pixels of a grid, its edges straight in their own CRS."""
    geometry, crs = _parse(region)
    if crs is not None and crs != grid.crs:
        given, geometry = geometry, _projected(geometry, crs, grid)
        if not np.isfinite(shapely.get_coordinates(geometry)).all():
            geometry = _projected(_near(given, crs, grid), crs, grid)
        if not np.isfinite(shapely.get_coordinates(geometry)).all():
            msg = f"Cannot bring a region from {crs_name(crs)} to {crs_name(grid.crs)}: points fall outside it."
            raise InputError(msg)
    return shapely.make_valid(shapely.transform(geometry, to_pixels(grid)))


def _projected(geometry: Any, crs: CRS, grid: GeoBox) -> Any:
    """Return a geometry in the CRS of a grid, where it can be said there; its edges are straight in their own."""
    left, bottom, right, top = geometry.bounds
    project = transformer(crs, grid.crs)
    dense = shapely.segmentize(geometry, max(right - left, top - bottom, 1e-9) / _STEPS)
    return shapely.transform(dense, lambda p: np.c_[project.transform(p[:, 0], p[:, 1])])


def _near(geometry: Any, crs: CRS, grid: GeoBox) -> Any:
    """Return the part of a geometry that lies on a grid or within its own size of it.

    Raises
    ------
    OverlapError
        Where there is none.
    """
    left, bottom, right, top = footprint(grid, crs).bounds
    wide, high = right - left, top - bottom
    found = shapely.intersection(geometry, shapely.box(left - wide, bottom - high, right + wide, top + high))
    if shapely.is_empty(found):
        msg = f"Cannot sample in the region: it lies far from the grid, which is at {left:.6g} to {right:.6g}, "
        raise OverlapError(
            msg + f"{bottom:.6g} to {top:.6g} in {crs_name(crs)}. Pass region=(geometry, crs) of the layer."
        )
    return found


def _parse(region: SomeRegion) -> tuple[Any, CRS | None]:
    """Return a geometry and its CRS, `None` for that of the grid."""
    if isinstance(region, shapely.Geometry):
        return region, None
    if hasattr(region, "geom") and hasattr(region, "crs"):
        return region.geom, _crs(region.crs)
    if hasattr(region, "polygon") and hasattr(region, "crs"):
        return region.polygon.geom, _crs(region.crs)
    if hasattr(region, "geometry") and hasattr(region, "crs"):
        return shapely.union_all(np.asarray(region.geometry)), _crs(region.crs)
    if isinstance(region, Sequence) and len(region) == 2 and not np.isscalar(region[0]):
        return _parse(region[0])[0], parse_crs(region[1])
    if isinstance(region, (Sequence, np.ndarray)) and len(region) == 4 and not isinstance(region, str):
        left, bottom, right, top = map(float, region)
        return shapely.box(left, bottom, right, top), None
    msg = f"Cannot take a region from {region!r:.80}: pass region= a Region, a GeoDataFrame, (geometry, crs) or bounds."
    raise InputError(msg)


def _crs(crs: Any) -> CRS | None:
    return None if crs is None else parse_crs(crs)


def states_crs(region: SomeRegion) -> bool:
    """Tell whether a region says where on Earth it is, whatever the grid."""
    if isinstance(region, Region):
        return True
    return _parse(region)[1] is not None


def rectangles(geometry: Any, grid: GeoBox) -> tuple[Window, ...]:
    """Return disjoint rectangles of the pixels whose centres lie in a geometry, cut to the grid.

    Geometries that share no more than edges share no pixel.
    """
    rows, cols = grid.shape
    if shapely.is_empty(geometry):
        return ()
    _, low, _, high = geometry.bounds
    top, bottom = max(int(np.floor(low)), 0), min(int(np.ceil(high)), rows)
    if bottom <= top:
        return ()
    row, left, right = _runs(geometry, np.arange(top, bottom), cols)
    return _stacked(row, left, right)


def _runs(geometry: Any, rows: Array, cols: int) -> tuple[Array, Array, Array]:
    """Return row, first and last column (past the end) of the runs of pixels in a geometry, in order."""
    y = rows + 0.5 + _NUDGE
    start, end = np.c_[np.full(len(y), -1.0), y], np.c_[np.full(len(y), cols + 1.0), y]
    shapely.prepare(geometry)
    lines = shapely.linestrings(np.stack((start, end), axis=1))
    pieces, which = shapely.get_parts(shapely.intersection(geometry, lines), return_index=True)
    nested = shapely.get_type_id(pieces) > 3
    if nested.any():
        pieces, inner = shapely.get_parts(pieces, return_index=True)
        which = which[inner]
    bounds = shapely.bounds(pieces)
    left = np.clip(np.ceil(bounds[:, 0] - 0.5), 0, cols)
    right = np.clip(np.ceil(bounds[:, 2] - 0.5), 0, cols)
    some = right > left
    which, left, right = which[some], left[some].astype("int64"), right[some].astype("int64")
    order = np.lexsort((left, which))
    row, left, right = rows[which[order]], left[order], right[order]
    first = np.ones(len(row), bool)
    first[1:] = (row[1:] != row[:-1]) | (left[1:] > right[:-1])
    return row[first], left[first], np.maximum.reduceat(right, np.flatnonzero(first)) if len(right) else right


def _stacked(row: Array, left: Array, right: Array) -> tuple[Window, ...]:
    """Return rectangles of runs that follow each other with the same columns."""
    open_runs: dict[tuple[int, int], list[int]] = {}
    done = []
    for r, a, b in zip(row.tolist(), left.tolist(), right.tolist(), strict=True):
        span = open_runs.get((a, b))
        if span is not None and span[1] == r:
            span[1] = r + 1
            continue
        if span is not None:
            done.append(Window(span[0], a, span[1] - span[0], b - a))
        open_runs[a, b] = [r, r + 1]
    done += [Window(low, a, high - low, b - a) for (a, b), (low, high) in open_runs.items()]
    return tuple(sorted(done))

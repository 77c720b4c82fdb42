"""Rasterized regions: the pixels whose centres lie in a geometry, as disjoint rectangles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from odc.geo import CRS
from odc.geo.geobox import GeoBox

from geoxt.crs import crs_name, parse_crs, transformer
from geoxt.errors import InputError, OverlapError
from geoxt.footprints import footprint, to_pixels
from geoxt.grid import full_window
from geoxt.regions.region import GridRegion, Region, only_node
from geoxt.types import Array
from geoxt.windows import Window

SomeRegion = Any
"""A `Region` or `GridRegion`, a GeoDataFrame or GeoSeries, an odc-geo `Geometry` or `BoundingBox`, a shapely geometry
or bounds (left, bottom, right, top) in the CRS of the grid, or a pair of one of these two and its CRS."""
_NUDGE = 2.0**-20
"""Offset of scanlines from pixel centres in pixels, so that no scanline runs along an edge of two geometries."""
_STEPS = 64
"""Minimum number of points along the longest side of a geometry before it is reprojected."""


def parse_region(region: SomeRegion | None, grid: GeoBox) -> GridRegion:
    """Return a region on a grid; by default the whole grid.

    Raises
    ------
    InputError
        If the value is none of `SomeRegion`.
    GridError
        If a `Region` has several nodes, or its pixels and those of the grid do not coincide.
    OverlapError
        If a geometry contains no pixel centre of the grid.
    """
    if region is None:
        return GridRegion(grid, (full_window(grid),))
    if isinstance(region, (Region, GridRegion)):
        return only_node(region).on(grid)
    return rasterize(in_pixels(region, grid), grid, name=type(region).__name__)


def rasterize(geometry: Any, grid: GeoBox, *, name: str = "geometry") -> GridRegion:
    """Return the region of the pixels whose centres lie in a geometry.

    Parameters
    ----------
    geometry
        In pixel coordinates (x is the column, y the row).
    grid
        The grid of the pixel coordinates.
    name
        Name of the geometry in error messages.

    Raises
    ------
    OverlapError
        If the geometry contains no pixel centre.
    """
    windows = rectangles(geometry, grid)
    if not windows:
        bounds = tuple(round(b, 1) for b in geometry.bounds)
        raise OverlapError(
            f"Cannot sample in the region given as {name}: it lies at {bounds} in columns and rows of a grid of "
            f"{grid.shape[0]} x {grid.shape[1]} pixels.",
            remedy="Pass {region:(geometry, crs)} of the layer.",
            argument="region",
        )
    return GridRegion(grid, windows, joined=len(windows) > 1)


def in_pixels(region: SomeRegion, grid: GeoBox) -> Any:
    """Return a region as a valid shapely geometry in pixel coordinates of a grid.

    Edges are straight in the CRS of the region, not in that of the grid.
    """
    geometry, crs = _parse(region)
    if crs is not None and crs != grid.crs:
        projected = _project(geometry, crs, grid)
        if not np.isfinite(shapely.get_coordinates(projected)).all():
            # such as a UTM grid and a polygon of a continent: only the part near the grid has finite coordinates
            projected = _project(_clip_to_surroundings(geometry, crs, grid), crs, grid)
        if not np.isfinite(shapely.get_coordinates(projected)).all():
            raise InputError(
                f"Cannot reproject a region from {crs_name(crs)} to {crs_name(grid.crs)}: points lie outside it.",
                remedy="Cut the region to the layer's surroundings first.",
                argument="region",
            )
        geometry = projected
    return shapely.make_valid(shapely.transform(geometry, to_pixels(grid)))


def _project(geometry: Any, crs: CRS, grid: GeoBox) -> Any:
    """Return a geometry in the CRS of a grid, with points added along its edges; infinite outside PROJ's domain."""
    left, bottom, right, top = geometry.bounds
    project = transformer(crs, grid.crs)
    dense = shapely.segmentize(geometry, max(right - left, top - bottom, 1e-9) / _STEPS)
    return shapely.transform(dense, lambda p: np.c_[project.transform(p[:, 0], p[:, 1])])


def _clip_to_surroundings(geometry: Any, crs: CRS, grid: GeoBox) -> Any:
    """Return the part of a geometry within three times the extent of a grid.

    Raises
    ------
    OverlapError
        If that part is empty.
    """
    left, bottom, right, top = footprint(grid, crs).bounds
    width, height = right - left, top - bottom
    clipped = shapely.intersection(geometry, shapely.box(left - width, bottom - height, right + width, top + height))
    if shapely.is_empty(clipped):
        raise OverlapError(
            f"Cannot sample in the region: it lies far from the grid, which is at {left:.6g} to {right:.6g}, "
            f"{bottom:.6g} to {top:.6g} in {crs_name(crs)}.",
            remedy="Pass {region:(geometry, crs)} of the layer.",
            argument="region",
        )
    return clipped


def _parse(region: SomeRegion) -> tuple[Any, CRS | None]:
    """Return a shapely geometry and its CRS, `None` for the CRS of the grid."""
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
    remedy = "Pass {region} a Region, a GeoDataFrame, (geometry, crs) or bounds."
    if hasattr(region, "train"):
        remedy = "Pass {region} a part of the split, such as split.train."
    raise InputError(
        f"Cannot take a region from {type(region).__name__ if hasattr(region, 'train') else repr(region):.80}.",
        remedy=remedy,
        argument="region",
    )


def _crs(crs: Any) -> CRS | None:
    return None if crs is None else parse_crs(crs)


def has_crs(region: SomeRegion) -> bool:
    """Return whether a region states its CRS, so that it can be placed on any grid."""
    if isinstance(region, (Region, GridRegion)):
        return True
    return _parse(region)[1] is not None


def rectangles(geometry: Any, grid: GeoBox) -> tuple[Window, ...]:
    """Return disjoint rectangles of the pixels of a grid whose centres lie in a geometry (pixel coordinates).

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
    return _stack_runs(row, left, right)


def _runs(geometry: Any, rows: Array, cols: int) -> tuple[Array, Array, Array]:
    """Return row, first column and stop column of each run of pixels in a geometry, sorted."""
    y = rows + 0.5 + _NUDGE
    start, end = np.c_[np.full(len(y), -1.0), y], np.c_[np.full(len(y), cols + 1.0), y]
    shapely.prepare(geometry)
    scanlines = shapely.linestrings(np.stack((start, end), axis=1))
    segments, line = shapely.get_parts(shapely.intersection(geometry, scanlines), return_index=True)
    nested = shapely.get_type_id(segments) > 3  # collections of lines and points: a scanline through a vertex
    if nested.any():
        segments, outer = shapely.get_parts(segments, return_index=True)
        line = line[outer]
    bounds = shapely.bounds(segments)
    # pixel j has its centre at j + 0.5: the first one at or right of an edge x is ceil(x - 0.5)
    left = np.clip(np.ceil(bounds[:, 0] - 0.5), 0, cols)
    right = np.clip(np.ceil(bounds[:, 2] - 0.5), 0, cols)
    nonempty = right > left
    line, left, right = line[nonempty], left[nonempty].astype("int64"), right[nonempty].astype("int64")
    order = np.lexsort((left, line))
    row, left, right = rows[line[order]], left[order], right[order]
    first = np.ones(len(row), bool)  # of runs that touch or overlap, which merge into one
    first[1:] = (row[1:] != row[:-1]) | (left[1:] > right[:-1])
    return row[first], left[first], np.maximum.reduceat(right, np.flatnonzero(first)) if len(right) else right


def _stack_runs(row: Array, left: Array, right: Array) -> tuple[Window, ...]:
    """Return rectangles that merge runs of consecutive rows with equal columns."""
    open_runs: dict[tuple[int, int], list[int]] = {}
    windows = []
    for r, a, b in zip(row.tolist(), left.tolist(), right.tolist(), strict=True):
        span = open_runs.get((a, b))
        if span is not None and span[1] == r:
            span[1] = r + 1
            continue
        if span is not None:
            windows.append(Window(span[0], a, span[1] - span[0], b - a))
        open_runs[a, b] = [r, r + 1]
    windows += [Window(top, a, bottom - top, b - a) for (a, b), (top, bottom) in open_runs.items()]
    return tuple(sorted(windows))

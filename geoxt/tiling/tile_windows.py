"""Windows of polygons on the grid of a map, and outlines of windows in degrees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from geoxt.crs import transformer
from geoxt.grid import full_window
from geoxt.types import Array, Floats
from geoxt.windows import Window

CRS84 = CRS("OGC:CRS84")
"""Longitude and latitude in degrees, the CRS of manifests and of STAC."""
_SEGMENTS = 32
"""Segments per side of an outline before it is projected."""
_MAP_SEGMENTS = 256
"""Segments per side of the outline of a map."""
_FEW_SEGMENTS = 4
"""Segments per side of an outline in a manifest."""
EPSILON = 1e-6
"""Pixels: rounding errors of a tile's edge."""


def windows_of(polygons: Array, crs: CRS, grid: GeoBox, node: str) -> list[Window | None]:
    """Return the window of the pixels whose centers lie in the bounds of each polygon; `None` without such pixels.

    Windows of adjacent squares in the CRS of the grid are disjoint; others may overlap.
    """
    projected = project_polygons(polygons, crs, grid.crs)
    projected = np.where(np.isfinite(shapely.bounds(projected)).all(axis=1), projected, shapely.Polygon())
    if crs != grid.crs and grid.crs is not None and grid.crs.geographic:
        center = grid.affine @ (grid.shape[1] / 2, grid.shape[0] / 2)
        bounds = np.array([degree_bounds(polygon, center[0]) for polygon in projected]).reshape(-1, 4)
        empty = shapely.is_empty(projected)[:, None]
        projected = np.where(empty[:, 0], projected, shapely.box(*np.where(empty, 0, bounds).T))
    windows: list[Window | None] = []
    for left, top, right, bottom in shapely.bounds(shapely.transform(projected, lambda xy: _to_pixels(xy, grid))):
        window = None
        if np.isfinite([left, top, right, bottom]).all():
            col, row, stop_col, stop_row = (
                int(np.ceil(edge - 0.5 - EPSILON)) for edge in np.clip((left, top, right, bottom), -1e9, 1e9)
            )
            if stop_row > row and stop_col > col:
                window = Window(row, col, stop_row - row, stop_col - col, node=node).intersect(full_window(grid))
        windows.append(window)
    return windows


def map_bounds(grid: GeoBox, crs: CRS) -> Floats:
    """Return left, bottom, right and top of a grid in a CRS, not finite if its outline has no coordinates there.

    In degrees, the right is above 180 if the grid crosses the antimeridian; a grid around a pole has all longitudes.
    """
    outline = shapely.polygons(corners(full_window(grid), grid))
    (projected,) = project_polygons([outline], grid.crs, crs, segments=_MAP_SEGMENTS)
    return degree_bounds(projected, 0) if crs.geographic and crs != grid.crs else np.asarray(shapely.bounds(projected))


def degree_bounds(polygon: shapely.Geometry, center: float) -> Floats:
    """Return west, south, east and north of a polygon in degrees, with longitudes around a center.

    The longitudes along an outline around a pole change by 360 degrees: its bounds hold all longitudes, and the pole.
    """
    bounds = np.full((0, 4), np.nan)
    for part in shapely.get_parts(polygon):
        x, y = shapely.get_coordinates(part.exterior).T
        if not (x.size and np.isfinite([x, y]).all()):
            return np.full(4, np.nan)
        x = np.unwrap(x, period=360)
        west, south, east, north = x.min(), y.min(), x.max(), y.max()
        if abs(x[-1] - x[0]) > 180:
            west, east = center - 180, center + 180
            south, north = (south, 90.0) if y.mean() > 0 else (-90.0, north)
        turns = 360 * np.round((center - (west + east) / 2) / 360)
        bounds = np.vstack([bounds, [west + turns, south, east + turns, north]])
    return np.concatenate([bounds[:, :2].min(0, initial=np.inf), bounds[:, 2:].max(0, initial=-np.inf)])


def clip_polygons(polygons: Array, crs: CRS, grid: GeoBox) -> Array:
    """Return the parts of polygons near a map: a projection has no coordinates of the far side of the Earth.

    In degrees, polygons are moved by multiples of 360 degrees to the longitudes of the map.
    """
    bounds = map_bounds(grid, crs)
    if not np.isfinite(bounds).all():
        return polygons
    margin = max(bounds[2] - bounds[0], bounds[3] - bounds[1])
    if not crs.geographic:
        return np.asarray(shapely.clip_by_rect(polygons, *bounds + np.array([-margin, -margin, margin, margin])))
    margin = min(margin, (360 - bounds[2] + bounds[0]) / 2)
    box = bounds + np.array([-margin, -margin, margin, margin])
    box[1::2] = np.clip(box[1::2], -90, 90)
    west, east = shapely.bounds(polygons)[:, ::2].T
    first, last = np.ceil((box[0] - np.nanmax(east)) / 360), np.floor((box[2] - np.nanmin(west)) / 360)
    moved = [shapely.clip_by_rect(_moved(polygons, 360 * turns), *box) for turns in np.arange(first, last + 1)]
    return np.asarray(shapely.union_all(moved, axis=0)) if len(moved) > 1 else np.asarray(*moved)


def _moved(polygons: Any, degrees: float) -> Any:
    """Return polygons at other longitudes."""
    return shapely.transform(polygons, lambda points: points + np.array([degrees, 0]))


def outlines_of(windows: Sequence[Window], grid: GeoBox) -> list[shapely.Geometry]:
    """Return the outlines of windows in degrees, cut at the antimeridian."""
    if not windows:
        return []
    polygons = shapely.polygons([corners(window, grid) for window in windows])
    return [_cut(polygon) for polygon in project_polygons(polygons, grid.crs, CRS84, segments=_FEW_SEGMENTS)]


def _cut(polygon: shapely.Geometry) -> shapely.Geometry:
    """Return a polygon in degrees in parts if it crosses the antimeridian (RFC 7946, section 3.1.9).

    A polygon around a pole extends to the pole.
    """
    x, y = shapely.get_coordinates(polygon).T
    if not np.isfinite([x, y]).all():
        return polygon
    x = np.unwrap(x, period=360)
    if abs(x[-1] - x[0]) > 180:
        pole = 90 if y.mean() > 0 else -90
        x, y = np.append(x, [x[-1], x[0]]), np.append(y, [pole, pole])
    elif x.min() >= -180 and x.max() <= 180:
        return polygon
    region = shapely.make_valid(shapely.Polygon(np.stack([x, y], axis=1)))
    turns = np.arange(np.floor((x.min() + 180) / 360), np.ceil((x.max() - 180) / 360) + 1) * 360
    parts = shapely.intersection(region, shapely.box(turns - 180, -90, turns + 180, 90))
    return shapely.union_all([_moved(part, -degrees) for part, degrees in zip(parts, turns, strict=True)])


def corners(window: Window, grid: GeoBox) -> list[tuple[float, float]]:
    """Return the corners of a window in the CRS of the grid."""
    bottom, right = window.stop
    pixels = [(window.col, window.row), (window.col, bottom), (right, bottom), (right, window.row)]
    return [grid.affine @ point for point in pixels]


def _to_pixels(points: Floats, grid: GeoBox) -> Floats:
    inverse = ~grid.affine
    x, y = points.T
    return np.stack([inverse.a * x + inverse.b * y + inverse.c, inverse.d * x + inverse.e * y + inverse.f], axis=1)


def project_polygons(polygons: Any, source: CRS | None, target: CRS | None, *, segments: int = _SEGMENTS) -> Array:
    """Return polygons in another CRS, with points along their edges, which are straight in the source."""
    polygons = np.asarray(polygons)
    bounds = shapely.bounds(polygons)
    lengths = np.maximum(bounds[:, 2] - bounds[:, 0], bounds[:, 3] - bounds[:, 1]) / segments
    dense = shapely.segmentize(polygons, np.where(lengths > 0, lengths, 1.0))
    if source == target:
        return np.asarray(dense)
    project = transformer(source, target)
    return np.asarray(shapely.transform(dense, lambda points: np.stack(project.transform(*points.T), axis=1)))

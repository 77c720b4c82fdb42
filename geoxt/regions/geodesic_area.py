"""Area on the ground: how much of the Earth some pixels of a grid cover, whatever their CRS."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyproj
import shapely
from odc.geo.geobox import GeoBox

from geoxt.grid import full_window, parse_crs, transformer

_GEOD = pyproj.Geod(ellps="WGS84")
_STEPS = 64
"""Points along the longest side of an outline, at least."""


def ground_area(geometry: shapely.Geometry, grid: GeoBox) -> float:
    """Return the area of a geometry in pixels of a grid (x is the column, y the row), square metres of the ellipsoid.

    References
    ----------
    Karney 2013, Algorithms for geodesics, https://doi.org/10.1007/s00190-012-0578-z
    """
    rows, cols = grid.shape
    dense = shapely.segmentize(geometry, max(rows, cols) / _STEPS)
    project, a = transformer(grid.crs, parse_crs("EPSG:4326")), grid.affine
    total = 0.0
    for polygon in shapely.get_parts(dense):
        for ring, sign in _rings(polygon):
            col, row = shapely.get_coordinates(ring).T
            lon, lat = project.transform(a.a * col + a.b * row + a.c, a.d * col + a.e * row + a.f)
            fine = np.isfinite(lon) & np.isfinite(lat)
            total += sign * abs(_GEOD.polygon_area_perimeter(lon[fine], lat[fine])[0])
    return total


def pixel_area(grid: GeoBox) -> float:
    """Return the mean area of a pixel, square metres."""
    rows, cols = grid.shape
    window = full_window(grid)
    return ground_area(shapely.box(0, 0, *window.stop[::-1]), grid) / (rows * cols)


def _rings(polygon: Any) -> list[tuple[Any, int]]:
    """Return the outline of a polygon and, with a minus, its holes; nothing for lines and points."""
    if shapely.get_type_id(polygon) != shapely.GeometryType.POLYGON or polygon.is_empty:
        return []
    return [(polygon.exterior, 1), *((hole, -1) for hole in polygon.interiors)]

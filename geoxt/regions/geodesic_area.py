"""Geodesic area of pixels: square metres on the ellipsoid, in any CRS."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyproj
import shapely
from odc.geo.geobox import GeoBox

from geoxt.grid import full_window, parse_crs, transformer

_GEOD = pyproj.Geod(ellps="WGS84")
_STEPS = 64
"""Least number of points along the longest side of a ring, so that reprojected edges follow geodesics closely."""


def ground_area(geometry: shapely.Geometry, grid: GeoBox) -> float:
    """Return the area on the WGS 84 ellipsoid of a geometry given in pixel coordinates, in square metres.

    Parameters
    ----------
    geometry
        Polygons in pixel coordinates (x is the column, y the row); lines and points have no area.
    grid
        The grid of the pixel coordinates.

    References
    ----------
    Karney 2013, Algorithms for geodesics, implemented by `pyproj.Geod.polygon_area_perimeter`. https://doi.org/10.1007/s00190-012-0578-z
    """
    rows, cols = grid.shape
    dense = shapely.segmentize(geometry, max(rows, cols) / _STEPS)
    project, a = transformer(grid.crs, parse_crs("EPSG:4326")), grid.affine
    total = 0.0
    for polygon in shapely.get_parts(dense):
        for ring, sign in _rings(polygon):
            col, row = shapely.get_coordinates(ring).T
            lon, lat = project.transform(a.a * col + a.b * row + a.c, a.d * col + a.e * row + a.f)
            finite = np.isfinite(lon) & np.isfinite(lat)  # PROJ returns inf for points outside a CRS's domain
            total += sign * abs(_GEOD.polygon_area_perimeter(lon[finite], lat[finite])[0])
    return total


def pixel_area(grid: GeoBox) -> float:
    """Return the mean area of a pixel of a grid in square metres."""
    rows, cols = grid.shape
    window = full_window(grid)
    return ground_area(shapely.box(0, 0, *window.stop[::-1]), grid) / (rows * cols)


def _rings(polygon: Any) -> list[tuple[Any, int]]:
    """Return the exterior ring with sign 1 and the holes with -1."""
    if shapely.get_type_id(polygon) != shapely.GeometryType.POLYGON or polygon.is_empty:
        return []
    return [(polygon.exterior, 1), *((hole, -1) for hole in polygon.interiors)]

"""Geodesic area of pixels: square metres on the ellipsoid, in any CRS."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyproj
import shapely
from odc.geo.geobox import GeoBox

from geoxt.crs import parse_crs, transformer
from geoxt.grid import full_window
from geoxt.types import Floats
from geoxt.windows import Window

_GEOD = pyproj.Geod(ellps="WGS84")
CELL = 64
"""Side in pixels of the cells whose pixels are taken for equally large."""
HECTARE = 1e4
"""Square metres."""
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


def cell_areas(grid: GeoBox, window: Window, size: int) -> Floats:
    """Return the mean ground area of the pixels of square cells of a window, in square metres.

    Parameters
    ----------
    grid
        Grid of the pixels, in any CRS.
    window
        Window of the grid.
    size
        Side of a cell in pixels; those at the lower and right edges are cut.

    Returns
    -------
    numpy.ndarray
        Area of a pixel at the centre of each cell. Shape (cell rows, cell columns). NaN outside the domain of the CRS.

    Notes
    -----
    Jacobian of longitude and latitude by row and column, times the radii of curvature of the WGS 84 ellipsoid.
    """
    rows = [(start + min(start + size, window.height)) / 2 for start in range(0, window.height, size)]
    cols = [(start + min(start + size, window.width)) / 2 for start in range(0, window.width, size)]
    row, col = np.meshgrid(window.row + np.array(rows), window.col + np.array(cols), indexing="ij")
    return point_areas(grid, row, col)


def pixel_hectares(grid: GeoBox, window: Window) -> Floats:
    """Return the ground area of each pixel of a window in hectares; pixels of a cell of 64 px are equally large.

    Parameters
    ----------
    grid
        Grid of the pixels, in any CRS.
    window
        Window of the grid.

    Returns
    -------
    numpy.ndarray
        float64 (height, width).
    """
    cells = cell_areas(grid, window, CELL) / HECTARE
    return np.repeat(np.repeat(cells, CELL, 0)[: window.height], CELL, 1)[:, : window.width]


def point_areas(grid: GeoBox, row: Floats, col: Floats) -> Floats:
    """Return the ground area in square metres that a pixel would have around positions of a grid.

    Parameters
    ----------
    grid
        Grid of the positions, in any CRS.
    row, col
        Positions in pixels; 0.5 is the centre of the first pixel. Any shape.
    """
    project, a = transformer(grid.crs, parse_crs("EPSG:4326")), grid.affine
    half = 0.5

    def to_degrees(row: Floats, col: Floats) -> tuple[Floats, Floats]:
        lon, lat = project.transform(a.a * col + a.b * row + a.c, a.d * col + a.e * row + a.f)
        return np.where(np.isfinite(lon), lon, np.nan), np.where(np.isfinite(lat), lat, np.nan)

    (west, lat_west), (east, lat_east) = to_degrees(row, col - half), to_degrees(row, col + half)
    (north, lat_north), (south, lat_south) = to_degrees(row - half, col), to_degrees(row + half, col)
    across, down = ((stop - start + 180) % 360 - 180 for start, stop in ((west, east), (north, south)))
    jacobian = np.abs(across * (lat_south - lat_north) - down * (lat_east - lat_west)) * (np.pi / 180) ** 2
    lat = np.deg2rad((lat_north + lat_south) / 2)
    curvature = 1 - _GEOD.es * np.sin(lat) ** 2
    radii = (
        _GEOD.a**2 * (1 - _GEOD.es) / curvature**2
    )  # product of the radii of curvature, meridional and prime vertical
    return jacobian * radii * np.cos(lat)

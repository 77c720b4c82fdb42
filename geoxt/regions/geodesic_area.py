"""Geodesic area of pixels: square metres on the ellipsoid, in any CRS."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pyproj
import shapely
from odc.geo.geobox import GeoBox

from geoxt.crs import parse_crs, transformer
from geoxt.grid import full_window, pix2wld
from geoxt.types import Floats
from geoxt.windows import Window

_GEOD = pyproj.Geod(ellps="WGS84")
_SIDES = (1024, 128)
"""Maximum sides in pixels of square cells: whole blocks of a map, else cells whose rows are counted in bytes."""
_TOLERANCE = 5e-4
"""Relative difference in area between the centre of a square cell and its edges."""
_SAME = 1e-7
"""Relative difference up to which areas are equal; differences of coordinates are exact to 1e-9 for pixels of 1 m."""
HECTARE = 1e4
"""Square metres of a hectare."""
_STEPS = 64
"""Minimum number of points along the longest side of a ring, so that reprojected edges follow geodesics closely."""


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
    project = transformer(grid.crs, parse_crs("EPSG:4326"))
    total = 0.0
    for polygon in shapely.get_parts(dense):
        for ring, sign in _rings(polygon):
            lon, lat = project.transform(*(grid.affine @ shapely.get_coordinates(ring).T))
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


def cell_shape(grid: GeoBox, window: Window) -> tuple[int, int]:
    """Return height and width in pixels of cells of a window whose pixels have nearly the same ground area.

    Cells are rows if areas differ between rows only: in geographic grids, Mercator and equal-area projections. Else
    they are squares of 1024 or up to 128 pixels, in which areas differ from that of the centre by at most about 0.05 %.
    """
    side = _cell_side(grid)
    return (1, window.width) if side is None else (side, side)


@lru_cache(64)
def _cell_side(grid: GeoBox) -> int | None:
    """Return the side of square cells of a grid, `None` if all pixels of a row have one area."""
    rows, cols = (np.linspace(0.5, size - 0.5, 9) for size in grid.shape)
    areas = point_areas(grid, *np.meshgrid(rows, cols, indexing="ij"))
    if np.allclose(areas, areas[:, 4:5], rtol=_SAME, atol=0):
        return None
    changes = [np.abs(np.diff(np.log(areas), axis=k)) / (size / 8) for k, size in enumerate(grid.shape)]
    change = max(float(np.nanmax(part, initial=0)) for part in changes)
    side = 2 * _TOLERANCE / max(change, 1e-12)
    return _SIDES[0] if side >= _SIDES[0] else int(np.clip(side, 1, _SIDES[1]))


def cell_areas(grid: GeoBox, window: Window, shape: tuple[int, int]) -> Floats:
    """Return the mean ground area of the pixels of cells of a window, in square metres.

    Parameters
    ----------
    grid
        Grid of the pixels, in any CRS.
    window
        Window of the grid.
    shape
        Height and width of a cell in pixels; those at the lower and right edges are cut.

    Returns
    -------
    numpy.ndarray
        Area of a pixel at the centre of each cell. Shape (cell rows, cell columns). NaN outside the domain of the CRS.

    Notes
    -----
    Jacobian of longitude and latitude by row and column, times the radii of curvature of the WGS 84 ellipsoid.
    """
    starts = [np.arange(0, side, step) for side, step in zip(window.shape, shape, strict=True)]
    row, col = (
        first + (start + np.minimum(start + step, side)) / 2
        for first, start, step, side in zip((window.row, window.col), starts, shape, window.shape, strict=True)
    )
    return point_areas(grid, *np.meshgrid(row, col, indexing="ij"))


def pixel_hectares(grid: GeoBox, window: Window) -> Floats:
    """Return the ground area of each pixel of a window in hectares; pixels of a cell are equally large.

    Returns
    -------
    numpy.ndarray
        float64 (height, width).
    """
    rows, cols = cell_shape(grid, window)
    cells = cell_areas(grid, window, (rows, cols)) / HECTARE
    return np.repeat(np.repeat(cells, rows, 0)[: window.height], cols, 1)[:, : window.width]


def point_areas(grid: GeoBox, row: Floats, col: Floats) -> Floats:
    """Return the ground area in square metres of pixels centred at positions of a grid.

    `row` and `col` may have any shape; 0.5 is the centre of the first pixel.
    """
    # the middles of the left, right, upper and lower edge, in one call of PROJ
    cols, rows = np.stack([col - 0.5, col + 0.5, col, col]), np.stack([row, row, row - 0.5, row + 0.5])
    project = transformer(grid.crs, parse_crs("EPSG:4326"))
    degrees = np.stack(project.transform(*pix2wld(grid, cols, rows)))
    degrees[~np.isfinite(degrees)] = np.nan
    (west, east, north, south), (lat_west, lat_east, lat_north, lat_south) = degrees
    across, down = ((stop - start + 180) % 360 - 180 for start, stop in ((west, east), (north, south)))
    jacobian = np.abs(across * (lat_south - lat_north) - down * (lat_east - lat_west)) * (np.pi / 180) ** 2
    lat = np.deg2rad((lat_north + lat_south) / 2)
    curvature = 1 - _GEOD.es * np.sin(lat) ** 2
    radii = (
        _GEOD.a**2 * (1 - _GEOD.es) / curvature**2
    )  # product of the radii of curvature, meridional and prime vertical
    return jacobian * radii * np.cos(lat)

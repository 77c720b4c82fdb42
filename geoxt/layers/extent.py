"""Bounds of many grids in one CRS, and their center longitudes; one transformation per CRS."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyproj
import shapely
from odc.geo import CRS
from odc.geo.geobox import GeoBox

from geoxt.crs import crs_name, parse_crs, transformer
from geoxt.errors import GridError
from geoxt.footprints import footprint, outside_error, project_rings, to_pixels, winds
from geoxt.grid import window_grid
from geoxt.types import Floats, Mask
from geoxt.windows import Window

_DEGREES = parse_crs("EPSG:4326")
_LATTICE = 129
"""Points along each side of the lattice that bounds a grid across a seam."""
_T = np.linspace(0, 1, 17)[:-1]
_EDGE = np.concatenate([np.c_[_T, 0 * _T], np.c_[1 + 0 * _T, _T], np.c_[1 - _T, 1 + 0 * _T], np.c_[0 * _T, 1 - _T]])
_INNER = np.stack(np.meshgrid(np.linspace(0.15, 0.85, 4), np.linspace(0.15, 0.85, 4)), axis=-1).reshape(-1, 2)


def bounds_in(grids: Sequence[GeoBox], crs: CRS) -> Floats:
    """Return left, bottom, right and top of grids in a CRS, (n, 4); longitudes of one grid are contiguous.

    Raises
    ------
    CRSError
        If a grid reaches beyond the domain of the CRS.
    """
    out = np.empty((len(grids), 4))
    for grid_crs, indices in _by_crs(grids).items():
        points = np.array([_points(grids[i], _EDGE) for i in indices])
        if grid_crs != crs:
            points = project_rings(points, grid_crs, crs)
        bad = np.flatnonzero(~np.isfinite(points).all((1, 2)))
        if bad.size:
            footprint(grids[indices[int(bad[0])]], crs)  # raises CRSError with the reason
        out[indices] = np.concatenate((points.min(1), points.max(1)), axis=1)
        if grid_crs != crs:
            inner = np.array([_points(grids[i], _INNER) for i in indices])
            for row in np.flatnonzero(
                winds(points) if crs.geographic else _is_open_ring(points, project_rings(inner, grid_crs, crs))
            ):
                i = indices[row]
                out[i] = (_around_pole if crs.geographic else _across_seam)(grids[i], crs, out[i])
    return out


def _poles_in(grid: GeoBox) -> list[int]:
    """Return the latitudes of the poles that a grid contains."""
    x, y = transformer(_DEGREES, grid.crs).transform([0, 0], [-90, 90])
    pixels = to_pixels(grid)(np.c_[x, y])
    with np.errstate(invalid="ignore"):
        inside = ((pixels >= 0) & (pixels <= grid.shape[::-1])).all(1)
    return [pole for pole, contained in zip((-90, 90), inside, strict=True) if contained]


def _around_pole(grid: GeoBox, crs: CRS, bounds: Floats) -> tuple[float, float, float, float]:
    """Return the bounds in degrees of a grid whose edge circles the Earth, up to the poles that it contains."""
    del crs
    poles = _poles_in(grid)
    return -180, min([bounds[1], *poles]), 180, max([bounds[3], *poles])


def _is_open_ring(rings: Floats, inner: Floats) -> Mask:
    """Return which rings (ring, point, 2) do not bound their inner points, or have a jump, as at the antimeridian."""
    outside = (inner < rings.min(1, keepdims=True)) | (inner > rings.max(1, keepdims=True))
    sides = rings.reshape(len(rings), 4, -1, 2)
    steps = np.hypot(*np.moveaxis(np.diff(sides, axis=2), -1, 0))
    with np.errstate(invalid="ignore"):
        typical = np.median(steps, axis=2, keepdims=True) + 1e-6 * steps.max((1, 2), keepdims=True)
        return np.asarray((steps > 8 * typical).any((1, 2)) | outside.any((1, 2)))


def _across_seam(grid: GeoBox, crs: CRS, bounds: Floats) -> Floats:
    """Return bounds that contain a grid across a seam of a CRS, of a lattice of points; too wide by about one step."""
    unit = np.linspace(0, 1, _LATTICE)
    points = _points(grid, np.stack(np.meshgrid(unit, unit), axis=-1).reshape(-1, 2))
    projected = project_rings(points[None], grid.crs, crs)[0].reshape(_LATTICE, _LATTICE, 2)
    if not np.isfinite(projected).all():
        raise outside_error(grid, crs)
    margin = np.max([np.median(np.abs(np.diff(projected, axis=axis)), axis=(0, 1)) for axis in (0, 1)], axis=0)
    flat = projected.reshape(-1, 2)
    low, high = np.minimum(bounds[:2], flat.min(0) - margin), np.maximum(bounds[2:], flat.max(0) + margin)
    for pole in [] if grid.crs is not None and grid.crs.geographic else _poles_in(grid):
        _, y = transformer(_DEGREES, crs).transform(0, pole)
        low[1], high[1] = min(low[1], y), max(high[1], y)
    return np.concatenate((low, high))


def pixel_size_in(grid: GeoBox, crs: CRS) -> tuple[float, float]:
    """Return width and height of a grid's pixels in a CRS, as `odc.geo` chooses them: of its central pixel.

    If that pixel contains a pole or a seam of the CRS, they are those of other pixels.
    """
    sizes = [_size_of_pixel(grid, crs, fraction) for fraction in _PROBES]
    finite = [size for size in sizes if size is not None and np.isfinite(size).all() and min(size) > 0]
    if not finite:
        footprint(grid, crs)  # raises CRSError with the reason
        problem = f"Cannot find a pixel size for {grid.boundingbox} in {crs_name(crs)}."
        raise GridError(problem, remedy="Pass {resolution} or {grid}.", argument="resolution")
    typical = np.median(finite, axis=0)
    plausible = [size for size in finite if (np.abs(np.log(np.array(size) / typical)) < np.log(PLAUSIBLE)).all()]
    if plausible[0] == sizes[0] or not crs.geographic:
        return plausible[0]
    degrees = _ground_degrees(grid)
    return degrees, degrees


def _ground_degrees(grid: GeoBox) -> float:
    """Return the side of a pixel on the ground in degrees of latitude, away from the centre of the grid."""
    corners = _points(grid, np.array([[0.3, 0.3]]) + np.array([[0, 0], [1, 0], [0, 1]]) / grid.shape[::-1])
    longitude, latitude = np.radians(transformer(grid.crs, _DEGREES).transform(*corners.T))
    east = (longitude[1:] - longitude[0] + np.pi) % (2 * np.pi) - np.pi
    sides = np.hypot(latitude[1:] - latitude[0], east * np.cos(latitude[0]))
    return float(np.degrees(np.sqrt(sides.prod())))


_PROBES = ((0.5, 0.5), (0.31, 0.37), (0.67, 0.41), (0.37, 0.71), (0.73, 0.63))
"""Positions in a grid, as fractions of its rows and columns, of pixels whose size is tested; the central one first."""
PLAUSIBLE = 3.0
"""Ratio to the median of the probes above which a pixel size is due to a singular point."""


def _size_of_pixel(grid: GeoBox, crs: CRS, fraction: tuple[float, float]) -> tuple[float, float] | None:
    """Return the size that odc-geo chooses for one pixel; `None` if it cannot be projected."""
    rows, cols = grid.shape
    window = Window(min(int(fraction[0] * rows), rows - 1), min(int(fraction[1] * cols), cols - 1), 1, 1)
    try:
        with np.errstate(invalid="ignore"):
            resolution = window_grid(grid, window).to_crs(crs).resolution
    except (ValueError, AssertionError, ArithmeticError, shapely.errors.ShapelyError, pyproj.exceptions.ProjError):
        return None
    return abs(float(resolution.x)), abs(float(resolution.y))


def longitudes(grids: Sequence[GeoBox]) -> Floats:
    """Return the center longitude of each grid, -180 to 180; NaN if it is undefined."""
    out = np.empty(len(grids))
    for grid_crs, indices in _by_crs(grids).items():
        points = np.array([_points(grids[i], np.array([[0.5, 0.5]]))[0] for i in indices])
        longitude, _ = transformer(grid_crs, parse_crs("EPSG:4326")).transform(points[:, 0], points[:, 1])
        out[indices] = np.where(np.isfinite(longitude), (np.asarray(longitude) + 180) % 360 - 180, np.nan)
    return out


def _by_crs(grids: Sequence[GeoBox]) -> dict[CRS | None, list[int]]:
    groups: dict[CRS | None, list[int]] = {}
    for i, grid in enumerate(grids):
        groups.setdefault(grid.crs, []).append(i)
    return groups


def _points(grid: GeoBox, unit: Floats) -> Floats:
    """Return points of the unit square, scaled to a grid, in its CRS."""
    return np.stack(grid.affine @ (unit * grid.shape[::-1]).T, axis=1)

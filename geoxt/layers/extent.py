"""Bounds of many grids in one CRS, and their center longitudes; one transformation per CRS."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from odc.geo import CRS
from odc.geo.geobox import GeoBox

from geoxt.footprints import footprint
from geoxt.grid import parse_crs, transformer
from geoxt.types import Floats

_T = np.linspace(0, 1, 17)[:-1]
_EDGE = np.concatenate([np.c_[_T, 0 * _T], np.c_[1 + 0 * _T, _T], np.c_[1 - _T, 1 + 0 * _T], np.c_[0 * _T, 1 - _T]])


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
            points = np.stack(transformer(grid_crs, crs).transform(points[..., 0], points[..., 1]), axis=-1)
            if crs.geographic:
                with np.errstate(invalid="ignore"):
                    points[..., 0] += 360 * np.rint((points[:, :1, 0] - points[..., 0]) / 360)
        bad = np.flatnonzero(~np.isfinite(points).all((1, 2)))
        if bad.size:
            footprint(grids[indices[int(bad[0])]], crs)  # raises CRSError with the reason
        out[indices] = np.concatenate((points.min(1), points.max(1)), axis=1)
    return out


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
    a, (cols, rows) = grid.affine, (unit * (grid.shape[1], grid.shape[0])).T
    return np.asarray(np.c_[a.a * cols + a.b * rows + a.c, a.d * cols + a.e * rows + a.f])

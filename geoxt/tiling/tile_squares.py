"""Squares of a CRS, and of the Military Grid Reference System (MGRS), that cover a map."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import shapely
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from geoxt.crs import parse_crs
from geoxt.errors import CRSError, InputError
from geoxt.tiling.tile_windows import CRS84, EPSILON, map_bounds, project_polygons
from geoxt.types import Array, Floats

MAX_TILES = 1_000_000
"""Map tiles of one map: each has a state file."""
_SIDE = 100_000
"""Side of the squares of MGRS, m."""
_BANDS = "CDEFGHJKLMNPQRSTUVWX"
"""Letters of the latitude bands of MGRS, from 80 degrees south on, 8 degrees each, the last 12 degrees."""
_COLUMNS = ("STUVWXYZ", "ABCDEFGH", "JKLMNPQR")
"""Letters of the columns from 100 km easting on, by the zone modulo 3."""
_ROWS = "ABCDEFGHJKLMNPQRSTUV"
"""Letters of the rows, which repeat every 2,000 km from the equator; in even zones they start five rows below."""
_ZONES: Mapping[str, Mapping[int, tuple[int, int] | None]] = {
    "V": {31: (0, 3), 32: (3, 12)},
    "X": {31: (0, 9), 32: None, 33: (9, 21), 34: None, 35: (21, 33), 36: None, 37: (33, 42)},
}
"""West and east of the irregular zones of Norway and Svalbard by latitude band; `None` for a zone without area."""


def crs_squares(grid: GeoBox, side: float, crs: CRS) -> tuple[Array, list[str]]:
    """Return the squares of a CRS in the bounds of a map, and their names, row by row from the top.

    Corners are multiples of the side.

    Raises
    ------
    CRSError
        If the outline of the map has no coordinates in the CRS.
    """
    bounds = map_bounds(grid, crs)
    if not np.isfinite(bounds).all():
        raise CRSError(
            f"Cannot divide the map into squares of {crs}: its outline has no coordinates there.",
            remedy="Pass another {tile_crs}.",
            argument="tile_crs",
        )
    x, y = _indices(bounds, side)
    polygons = shapely.clip_by_rect(shapely.box(x * side, y * side, (x + 1) * side, (y + 1) * side), *bounds)
    turn = 360 / side
    if crs.geographic and turn == round(turn):  # squares beyond 180 degrees have the names of those 360 degrees west
        x = (x + turn // 2) % turn - turn // 2
    return polygons, [f"x{x:.0f}y{y:.0f}" for x, y in zip(x, y, strict=True)]


def mgrs_squares(grid: GeoBox) -> Iterator[tuple[Array, CRS, list[str]]]:
    """Yield the 100 km squares of MGRS in the bounds of a map, their CRS and names, by zone and latitude band."""
    bounds = map_bounds(grid, CRS84)
    if not np.isfinite(bounds).all():
        raise CRSError(
            "Cannot divide the map into squares of MGRS: its outline has no coordinates in degrees.",
            remedy="Pass {tiles} in pixels.",
            argument="tiles",
        )
    area = shapely.box(*bounds)
    for row, band in enumerate(_BANDS):
        south = 8 * row - 80
        for zone in range(1, 61):
            limits = _ZONES.get(band, {}).get(zone, (6 * zone - 186, 6 * zone - 180))
            if limits is None:
                continue
            west, east = limits
            turns = 360 * np.round((bounds[[0, 2]].mean() - (west + east) / 2) / 360 + [-1, 0, 1])
            zones = shapely.intersection(
                shapely.box(west + turns, south, east + turns, 84 if band == "X" else south + 8), area
            )
            for part in zones[shapely.area(zones) > 0]:
                yield _squares_of_zone(part, zone, band)


def _squares_of_zone(area: shapely.Geometry, zone: int, band: str) -> tuple[Array, CRS, list[str]]:
    """Return the parts of squares in an area of one zone and latitude band, their CRS and names."""
    crs = parse_crs(f"EPSG:{32600 + zone if band >= 'N' else 32700 + zone}")
    (projected,) = project_polygons([area], CRS84, crs)
    x, y = _indices(np.asarray(shapely.bounds(projected)), _SIDE)
    parts = shapely.intersection(shapely.box(x * _SIDE, y * _SIDE, (x + 1) * _SIDE, (y + 1) * _SIDE), projected)
    names = [
        f"{zone:02d}{band}{_COLUMNS[zone % 3][int(x) - 1]}{_ROWS[int(y + (0 if zone % 2 else 5)) % 20]}"
        for x, y in zip(x, y, strict=True)
    ]
    inside = np.flatnonzero(shapely.area(parts) > 0)
    return parts[inside], crs, [names[i] for i in inside]


def _indices(bounds: Floats, side: float) -> tuple[Floats, Floats]:
    """Return column and row of the squares in bounds, row by row from the top."""
    left, bottom = np.floor(bounds[:2] / side + EPSILON)
    right, top = np.ceil(bounds[2:] / side - EPSILON)
    require_few((right - left) * (top - bottom))
    x, y = np.meshgrid(np.arange(left, right), np.arange(top - 1, bottom - 1, -1))
    return x.ravel(), y.ravel()


def require_few(count: float) -> None:
    """Raise if a tiling has too many tiles."""
    if count > MAX_TILES:
        raise InputError(
            f"Cannot make {count:,.0f} map tiles: a map can have {MAX_TILES:,}.",
            remedy="Pass larger {tiles}.",
            value=count,
            argument="tiles",
        )

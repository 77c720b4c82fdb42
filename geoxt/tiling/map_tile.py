"""Map tiles: windows of a map from a tiling, by equal squares or by polygons."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from geoxt.crs import parse_crs, transformer
from geoxt.errors import CRSError, InputError, ReadError, optional_import
from geoxt.grid import full_window
from geoxt.types import Array, Floats, SomeCRS, SomePath
from geoxt.windows import Window, is_whole, parse_size

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

SomeTiles = Any
"""Side of square map tiles or (height, width), or their polygons: a GeoDataFrame or the path of a vector file."""
CRS84 = CRS("OGC:CRS84")
"""Longitude and latitude in degrees, the CRS of manifests and of STAC."""
_NAMES = ("tile", "name", "Name", "id")
"""Columns of a vector file that name its polygons, in this order."""
_SEGMENTS = 32
"""Segments per side of an outline before it is projected."""
_FEW_SEGMENTS = 4
"""Segments per side of an outline in a manifest."""
_EPSILON = 1e-6
"""Pixels: rounding errors of a tile's edge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapTile:
    """Map tile: a window of a map, which is written as one file."""

    name: str
    """Name of the file, without extension."""
    window: Window | None
    """Pixels of the map, with the node of a tree; `None` outside the map."""
    geometry: shapely.Geometry
    """Outline in degrees (OGC:CRS84)."""


def make_tiles(grids: Mapping[str, GeoBox], tiles: SomeTiles, crs: SomeCRS | None) -> list[MapTile]:
    """Return the map tiles of maps.

    Parameters
    ----------
    grids
        Grid of the map of each node; "" for a single map.
    tiles
        Side of square map tiles in pixels, or polygons, see `geoxt.to_tiles`.
    crs
        CRS of `tiles` as a side in its units.

    Raises
    ------
    InputError
        If no tiling can be made of the arguments, or names of polygons repeat.
    """
    if isinstance(tiles, (str, os.PathLike)) or hasattr(tiles, "geometry"):
        if crs is not None:
            raise InputError(
                "Cannot apply a CRS to polygons.",
                remedy="Leave {tile_crs} out: polygons have one.",
                argument="tile_crs",
            )
        return _from_polygons(grids, *_polygons(tiles))
    if crs is not None:
        side = float(tiles) if np.ndim(tiles) == 0 else np.nan
        if not (np.isfinite(side) and side > 0):
            raise InputError(f"Cannot make map tiles of {tiles!r} units.", remedy="Pass {tiles} above 0.", value=tiles)
        return list(_from_squares(grids, side, parse_crs(crs)))
    if not all(is_whole(length, minimum=1) for length in np.atleast_1d(tiles)):
        raise InputError(
            f"Cannot make map tiles of {tiles!r} pixels.",
            remedy="Pass {tiles} whole pixels of 1 or more. Or pass {tile_crs} for a side in its units.",
            value=tiles,
            argument="tiles",
        )
    height, width = parse_size(tiles, argument="tiles")
    return [tile for node, grid in grids.items() for tile in _from_pixels(node, grid, height, width)]


def _from_pixels(node: str, grid: GeoBox, height: int, width: int) -> Iterator[MapTile]:
    """Yield windows of equal size from the upper left corner of a grid, row by row."""
    rows, cols = grid.shape
    origins = [(row, col) for row in range(0, rows, height) for col in range(0, cols, width)]
    windows = [Window(r, c, min(height, rows - r), min(width, cols - c), node=node) for r, c in origins]
    digits = len(str(max(rows // height, cols // width)))
    for window, outline in zip(windows, outlines_of(windows, grid), strict=True):
        name = f"r{window.row // height:0{digits}}c{window.col // width:0{digits}}"
        yield MapTile(name=f"{node}-{name}" if node else name, window=window, geometry=outline)


def _from_squares(grids: Mapping[str, GeoBox], side: float, crs: CRS) -> Iterator[MapTile]:
    """Yield the windows in squares of a CRS, whose corners are multiples of the side, row by row from the top."""
    for node, grid in grids.items():
        (outline,) = _project_polygons(shapely.polygons([_corners(full_window(grid), grid)]), grid.crs, crs)
        left, bottom, right, top = np.asarray(shapely.bounds(outline)) / side
        if not np.isfinite([left, bottom, right, top]).all():
            raise CRSError(
                f"Cannot divide the map into squares of {crs}: its outline has no coordinates there.",
                remedy="Pass another {tile_crs}.",
                argument="tile_crs",
            )
        indices = [
            (x, y)
            for y in range(int(np.ceil(top - _EPSILON)) - 1, int(np.floor(bottom + _EPSILON)) - 1, -1)
            for x in range(int(np.floor(left + _EPSILON)), int(np.ceil(right - _EPSILON)))
        ]
        x, y = np.array(indices, float).reshape(-1, 2).T * side
        names = [f"x{x}y{y}" for x, y in indices]
        for tile in _windows(node, grid, shapely.box(x, y, x + side, y + side), crs, names):
            if tile.window is not None:
                yield tile


def _from_polygons(grids: Mapping[str, GeoBox], polygons: Array, crs: CRS, names: list[str]) -> list[MapTile]:
    """Return the windows of polygons, and polygons outside all grids without a window."""
    tiles = [tile for node, grid in grids.items() for tile in _windows(node, grid, polygons, crs, names)]
    inside = [tile for tile in tiles if tile.window is not None]
    prefixed = {tile.name for tile in inside}
    outside = [
        MapTile(name=name, window=None, geometry=geometry)
        for name, geometry in zip(names, _project_polygons(polygons, crs, CRS84), strict=True)
        if not any(f"{node}-{name}" in prefixed if node else name in prefixed for node in grids)
    ]
    return inside + outside


def _windows(node: str, grid: GeoBox, polygons: Array, crs: CRS, names: list[str]) -> Iterator[MapTile]:
    """Yield the window of the pixels whose centres lie in the bounds of each polygon.

    Windows of adjacent squares in the CRS of the grid are disjoint; others may overlap.
    """
    pixels = shapely.transform(_project_polygons(polygons, crs, grid.crs), lambda points: _to_pixels(points, grid))
    bounds = shapely.bounds(pixels)
    windows: list[Window | None] = []
    for left, top, right, bottom in bounds:
        window = None
        if np.isfinite([left, top, right, bottom]).all():
            col, row, stop_col, stop_row = (
                int(np.ceil(edge - 0.5 - _EPSILON)) for edge in np.clip((left, top, right, bottom), -1e9, 1e9)
            )
            if stop_row > row and stop_col > col:
                window = Window(row, col, stop_row - row, stop_col - col, node=node).intersect(full_window(grid))
        windows.append(window)
    outlines = iter(outlines_of([window for window in windows if window is not None], grid))
    for name, window, polygon in zip(names, windows, polygons, strict=True):
        geometry = polygon if window is None else next(outlines)
        yield MapTile(name=f"{node}-{name}" if node else name, window=window, geometry=geometry)


def outlines_of(windows: list[Window], grid: GeoBox) -> list[shapely.Geometry]:
    """Return the outlines of windows in degrees, cut at the antimeridian."""
    if not windows:
        return []
    corners = shapely.polygons([_corners(window, grid) for window in windows])
    return [_cut(polygon) for polygon in _project_polygons(corners, grid.crs, CRS84, segments=_FEW_SEGMENTS)]


def _cut(polygon: shapely.Geometry) -> shapely.Geometry:
    """Return a polygon in degrees in two parts if it crosses the antimeridian (RFC 7946, section 3.1.9)."""
    west, _, east, _ = shapely.bounds(polygon)
    if not east - west > 180:
        return polygon
    eastern = shapely.transform(polygon, lambda points: np.stack([points[:, 0] % 360, points[:, 1]], axis=1))
    halves = [shapely.intersection(eastern, shapely.box(west, -90, west + 180, 90)) for west in (0, 180)]
    return shapely.union_all([halves[0], shapely.transform(halves[1], lambda points: points - [360, 0])])


def _corners(window: Window, grid: GeoBox) -> list[tuple[float, float]]:
    bottom, right = window.stop
    pixels = [(window.col, window.row), (window.col, bottom), (right, bottom), (right, window.row)]
    return [grid.affine @ point for point in pixels]


def _to_pixels(points: Floats, grid: GeoBox) -> Floats:
    inverse = ~grid.affine
    x, y = points.T
    return np.stack([inverse.a * x + inverse.b * y + inverse.c, inverse.d * x + inverse.e * y + inverse.f], axis=1)


def _project_polygons(polygons: Any, source: CRS | None, target: CRS | None, *, segments: int = _SEGMENTS) -> Array:
    """Return polygons in another CRS, with points along their edges, which are straight in the source."""
    polygons = np.asarray(polygons)
    if source == target:
        return polygons
    bounds = shapely.bounds(polygons)
    lengths = np.maximum(bounds[:, 2] - bounds[:, 0], bounds[:, 3] - bounds[:, 1]) / segments
    dense = shapely.segmentize(polygons, np.where(lengths > 0, lengths, 1.0))
    project = transformer(source, target)
    return np.asarray(shapely.transform(dense, lambda points: np.stack(project.transform(*points.T), axis=1)))


def _polygons(tiles: SomePath | GeoDataFrame) -> tuple[Array, CRS, list[str]]:
    """Return the polygons of a GeoDataFrame or a vector file, their CRS and their names."""
    table: Any = _read(Path(tiles)) if isinstance(tiles, (str, os.PathLike)) else tiles
    if table.crs is None:
        raise CRSError("Cannot place the polygons of the tiling: they have no CRS.", remedy="Set it with set_crs().")
    polygons = np.asarray(table.geometry.values)
    if not len(polygons) or not np.isin(shapely.get_type_id(polygons), (3, 6)).all():
        raise InputError(
            "Cannot make map tiles: the tiling has no geometries, or others than polygons.",
            remedy="Pass {tiles} polygons.",
            argument="tiles",
        )
    column = next((name for name in _NAMES if name in table), None)
    labels = table.index if column is None else table[column]
    names = [re.sub(r"[^\w.-]+", "_", str(label)) for label in labels]
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if repeated:
        raise InputError(
            f"Cannot name the map tiles: {repeated[0]!r} is the name of several polygons (column {column!r}).",
            remedy=f"Pass {{tiles}} with distinct names in the column {column or 'name'!r}.",
            argument="tiles",
        )
    return polygons, parse_crs(table.crs), names


def _read(path: Path) -> GeoDataFrame:
    with optional_import("geopandas", "vector", "read polygons"):
        import geopandas
    try:
        return geopandas.read_parquet(path) if path.suffix.lower() == ".parquet" else geopandas.read_file(path)
    except Exception as error:
        raise ReadError(
            f"Cannot read the tiling {str(path)!r}: {error}.", remedy="Pass {tiles} a vector file."
        ) from error

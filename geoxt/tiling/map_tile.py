"""Map tiles: windows of a map from a tiling, by equal squares or by polygons."""

from __future__ import annotations

import math
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

from geoxt.crs import parse_crs
from geoxt.errors import CRSError, InputError, ReadError, optional_import
from geoxt.tiling.tile_squares import crs_squares, mgrs_squares, require_few
from geoxt.tiling.tile_windows import CRS84, clip_polygons, outlines_of, project_polygons, windows_of
from geoxt.types import Array, SomeCRS, SomePath
from geoxt.windows import Window, is_whole, parse_size

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

SomeTiles = Any
"""Side of square map tiles or (height, width), "MGRS", or polygons: a GeoDataFrame or the path of a vector file."""
MGRS = "MGRS"
"""Military Grid Reference System: tiling by its 100 km squares, which are named as the tiles of Sentinel-2."""
_NAMES = ("tile", "name", "Name", "id")
"""Columns of a vector file that name its polygons, in this order."""


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
        Side of square map tiles in pixels, "MGRS", or polygons, see `geoxt.to_tiles`.
    crs
        CRS of `tiles` as a side in its units.

    Raises
    ------
    InputError
        If no tiling can be made of the arguments, names of polygons repeat, or there are too many tiles.
    CRSError
        If pixels of a map are in none of the squares.
    """
    if isinstance(tiles, str) and tiles.upper() == MGRS and crs is None:
        return list(_from_mgrs(grids))
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
    require_few(sum(math.ceil(grid.shape[0] / height) * math.ceil(grid.shape[1] / width) for grid in grids.values()))
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
        squares, names = crs_squares(grid, side, crs)
        tiles = [tile for tile in _windows(node, grid, squares, crs, names) if tile.window is not None]
        if crs != grid.crs:
            _require_all_pixels(tiles, grid, f"squares of {crs}", "Pass another {tile_crs}, or {tiles} in pixels.")
        yield from tiles


def _from_mgrs(grids: Mapping[str, GeoBox]) -> Iterator[MapTile]:
    """Yield the windows in the 100 km squares of MGRS."""
    for node, grid in grids.items():
        all_tiles = [tile for squares_of_zone in mgrs_squares(grid) for tile in _windows(node, grid, *squares_of_zone)]
        tiles = [tile for tile in all_tiles if tile.window is not None]
        squares = "squares of MGRS, which end at 80 degrees south and 84 degrees north"
        _require_all_pixels(tiles, grid, squares, "Pass {tiles} in pixels.")
        yield from tiles


def _require_all_pixels(tiles: list[MapTile], grid: GeoBox, squares: str, remedy: str) -> None:
    """Raise if pixels of a map are in no tile, such as those around a pole."""
    windows = [tile.window for tile in tiles if tile.window is not None]
    edges = np.array([(w.col, w.row, w.stop[1], w.stop[0]) for w in windows], float).reshape(-1, 4)
    covered = float(shapely.union_all(shapely.box(*edges.T)).area)
    count = grid.shape[0] * grid.shape[1]
    if round(covered) < count:
        raise CRSError(
            f"Cannot divide the map into {squares}: {count - round(covered):,} of its {count:,} pixels are in none.",
            remedy=remedy,
            argument="tiles",
        )


def _from_polygons(grids: Mapping[str, GeoBox], polygons: Array, crs: CRS, names: list[str]) -> list[MapTile]:
    """Return the windows of polygons, and polygons outside all grids without a window."""
    tiles = [
        tile
        for node, grid in grids.items()
        for tile in _windows(node, grid, clip_polygons(polygons, crs, grid), crs, names)
    ]
    inside = [tile for tile in tiles if tile.window is not None]
    prefixed = {tile.name for tile in inside}
    outside = [
        MapTile(name=name, window=None, geometry=geometry)
        for name, geometry in zip(names, project_polygons(polygons, crs, CRS84), strict=True)
        if not any(f"{node}-{name}" in prefixed if node else name in prefixed for node in grids)
    ]
    return inside + outside


def _windows(node: str, grid: GeoBox, polygons: Array, crs: CRS, names: list[str]) -> Iterator[MapTile]:
    """Yield the map tile of each polygon."""
    windows = windows_of(polygons, crs, grid, node)
    outlines = iter(outlines_of([window for window in windows if window is not None], grid))
    for name, window, polygon in zip(names, windows, polygons, strict=True):
        geometry = polygon if window is None else next(outlines)
        yield MapTile(name=f"{node}-{name}" if node else name, window=window, geometry=geometry)


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

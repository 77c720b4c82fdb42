"""Grids (odc-geo `GeoBox`): the one way a place on Earth is passed inside the package."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pyproj
import shapely
import xarray as xr
from affine import Affine
from odc.geo import CRS
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from geoxt.errors import CRSError, GridError
from geoxt.types import Floats, SomeCRS
from geoxt.windows import Window

COINCIDE = 1e-3
"""Pixels: two grids coincide where their pixels are nowhere further apart than this from a whole-pixel shift."""


def parse_crs(crs: SomeCRS) -> CRS:
    """Return an odc-geo CRS from an EPSG code, WKT, PROJ string or CRS object.

    Raises
    ------
    CRSError
        Where the value names no coordinate reference system.
    """
    try:
        return _parsed(crs.to_wkt() if hasattr(crs, "to_wkt") else crs)
    except Exception as error:
        msg = f"Cannot read a coordinate reference system from {crs!r}: pass crs= an EPSG code such as 'EPSG:32615'."
        raise CRSError(msg) from error


@lru_cache(256)
def _parsed(crs: SomeCRS) -> CRS:
    parsed = CRS(crs)
    epsg = parsed.to_epsg()
    return CRS(f"EPSG:{epsg}") if epsg is not None else parsed


def grid_of(layer: xr.DataArray | xr.Dataset | GeoBox) -> GeoBox:
    """Return the grid a layer lies on.

    Parameters
    ----------
    layer
        A layer with regular `y` and `x` coordinates and a CRS (`spatial_ref`, CF grid mapping), or a grid.

    Raises
    ------
    CRSError
        Where the layer has no CRS.
    GridError
        Where it has no `y` and `x` dimensions, or these are not regular.
    """
    if isinstance(layer, GeoBox):
        return layer
    name = getattr(layer, "name", None) or type(layer).__name__
    if not {"y", "x"} <= set(layer.dims):
        found = tuple(map(str, layer.dims))
        msg = (
            f"Cannot find the grid of {name!r}: its dimensions are {found}, not ('y', 'x'). Rename them with rename()."
        )
        raise GridError(msg)
    grid = layer.odc.geobox
    if not isinstance(grid, GeoBox):
        msg = f"Cannot find the grid of {name!r}: its y and x coordinates are missing or not regular."
        raise GridError(msg)
    _require_regular(name, layer, grid)
    if grid.crs is None:
        msg = f"Cannot place {name!r} on Earth: it has no CRS. Give it one, e.g. layer.odc.assign_crs('EPSG:32615')."
        raise CRSError(msg)
    return GeoBox(grid.shape, grid.affine, parse_crs(grid.crs))


def _require_regular(name: Hashable, layer: xr.DataArray | xr.Dataset, grid: GeoBox) -> None:
    """Check that coordinates are there, and evenly spaced."""
    for axis, dim in enumerate(("y", "x")):
        if dim not in layer.coords:
            msg = f"Cannot find the grid of {name!r}: not regular, as it has no {dim} coordinates. Assign them."
            raise GridError(msg)
        places = layer[dim].to_numpy()
        steps = np.diff(places)
        if len(steps) and np.abs(places - np.linspace(places[0], places[-1], len(places))).max() > abs(steps[0]) / 100:
            worst = int(np.argmax(np.abs(steps - np.median(steps))))
            msg = f"Cannot find the grid of {name!r}: {dim} is not regular, it steps by {steps[worst]:g} at {worst}."
            raise GridError(msg + f" Others are {np.median(steps):g}. Choose {dim} by slices.")
        if len(places) != grid.shape[axis]:
            msg = f"Cannot find the grid of {name!r}: {len(places)} {dim} coordinates for {grid.shape[axis]} pixels."
            raise GridError(msg)


def coordinates(grid: GeoBox) -> Mapping[Hashable, xr.DataArray]:
    """Return the `y`, `x` and `spatial_ref` coordinates of a layer on a grid (pixel centres, CF grid mapping)."""
    return xr_coords(grid, dims=("y", "x"))


def part(grid: GeoBox, window: Window) -> GeoBox:
    """Return the grid of a window of a grid; the window may reach over the edge."""
    return GeoBox(window.shape, grid.affine @ Affine.translation(window.col, window.row), grid.crs)


def to_rasterio(grid: GeoBox) -> dict[str, Any]:
    """Return a grid as rasterio's profiles spell it: `crs` and `transform`."""
    assert grid.crs is not None
    return {"crs": grid.crs.to_wkt(), "transform": grid.affine}


def whole(grid: GeoBox) -> Window:
    """Return the window that covers a grid."""
    return Window(0, 0, grid.shape[0], grid.shape[1])


def offset(grid: GeoBox, base: GeoBox) -> tuple[int, int] | None:
    """Return the rows and columns by which `grid` is shifted in `base`, or `None` where they do not coincide."""
    if grid.crs != base.crs:
        return None
    pixels = ~base.affine @ grid.affine
    corners = np.array([pixels @ c for c in ((0, 0), (0, grid.shape[0]), (grid.shape[1], 0))], dtype="float64")
    col, row = np.rint(corners[0])
    expected = np.array([(col, row), (col, row + grid.shape[0]), (col + grid.shape[1], row)])
    if np.abs(corners - expected).max() > COINCIDE:
        return None
    return int(row), int(col)


def require_one_crs(crs: Iterable[tuple[str, CRS]]) -> CRS:
    """Return the CRS that all named parts share.

    Raises
    ------
    CRSError
        Where they disagree; the message names one part of each.
    """
    seen: dict[CRS, str] = {}
    for name, one in crs:
        seen.setdefault(one, name)
    if len(seen) > 1:
        (first, a), (second, b) = list(seen.items())[:2]
        msg = f"Cannot choose one CRS: {a!r} is in {label(first)}, {b!r} in {label(second)}. Pass crs=…"
        raise CRSError(msg)
    return next(iter(seen))


def label(crs: CRS | None) -> str:
    """Return a short name for a CRS: its EPSG code where it has one."""
    if crs is None:
        return "no CRS"
    epsg = crs.to_epsg()
    return f"EPSG:{epsg}" if epsg else str(crs.proj.name)


def footprint(grid: GeoBox, crs: CRS) -> shapely.Polygon:
    """Return the outline of a grid in a CRS, 16 points an edge; longitudes are kept together at the antimeridian."""
    t = np.linspace(0, 1, 17)[:-1]
    edge = np.concatenate([np.c_[t, 0 * t], np.c_[1 + 0 * t, t], np.c_[1 - t, 1 + 0 * t], np.c_[0 * t, 1 - t]])
    rows, cols = grid.shape
    a = grid.affine
    x = a.a * edge[:, 0] * cols + a.b * edge[:, 1] * rows + a.c
    y = a.d * edge[:, 0] * cols + a.e * edge[:, 1] * rows + a.f
    if grid.crs != crs:
        x, y = transformer(grid.crs, crs).transform(x, y)
        if crs.geographic:
            with np.errstate(invalid="ignore"):
                x = x[0] + (x - x[0] + 180) % 360 - 180
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        msg = f"Cannot bring {grid.boundingbox} from {label(grid.crs)} to {label(crs)}: points fall outside it."
        raise CRSError(msg + " Pass another crs=…")
    return shapely.Polygon(np.c_[x, y])


def outline(grid: GeoBox, base: GeoBox) -> shapely.Polygon | None:
    """Return the outline of a grid in pixels of another (x is the column, y the row), at the nearest turn of 360.

    It is `None` where there is no such outline: for grids that hold a pole, go round the Earth, or reach beyond
    what the other's CRS can say. They may touch any part of the base.
    """
    assert base.crs is not None
    try:
        found = footprint(grid, base.crs)
    except CRSError:
        return None
    if base.crs.geographic:
        middle = base.affine.c + base.affine.a * base.shape[1] / 2
        turns = np.rint((middle - found.centroid.x) / 360) * 360
        found = shapely.transform(found, lambda p: p + np.array((turns, 0)))
    found = shapely.transform(found, to_pixels(base))
    if grid.crs == base.crs:
        return found
    return found if found.is_valid and _holds(found, grid, base) else None


def _holds(found: shapely.Polygon, grid: GeoBox, base: GeoBox) -> bool:
    """Tell whether an outline holds what lies inside the grid, as it does where its CRS is smooth there."""
    t = np.linspace(0.05, 0.95, 7)
    cols, rows = (g.ravel() for g in np.meshgrid(t * grid.shape[1], t * grid.shape[0]))
    a = grid.affine
    x, y = transformer(grid.crs, base.crs).transform(a.a * cols + a.b * rows + a.c, a.d * cols + a.e * rows + a.f)
    points = to_pixels(base)(np.c_[x, y])
    if base.crs is not None and base.crs.geographic:
        turn = abs(360 / base.affine.a)
        points[:, 0] += np.rint((found.centroid.x - points[:, 0]) / turn) * turn
    return bool(np.isfinite(points).all() and shapely.contains_xy(found.buffer(1), points).all())


def transformer(source: CRS | None, target: CRS | None) -> pyproj.Transformer:
    """Return the pyproj transformer from one CRS to another, x before y."""
    assert source is not None
    assert target is not None
    return pyproj.Transformer.from_crs(source.proj, target.proj, always_xy=True)


def snap(
    bounds: tuple[float, float, float, float], resolution: tuple[float, float], anchor: Affine, crs: CRS
) -> GeoBox:
    """Return the smallest grid that covers `bounds`, on the lattice of `anchor`.

    Parameters
    ----------
    bounds
        Left, bottom, right, top in the CRS.
    resolution
        Pixel width and height in CRS units, both positive.
    anchor
        A pixel corner of the lattice is this affine's origin.
    crs
        Coordinate reference system of the result, which is north-up.
    """
    left, bottom, right, top = bounds
    rx, ry = resolution
    tolerance = 1e-6
    c0 = np.floor((left - anchor.c) / rx + tolerance)
    c1 = np.ceil((right - anchor.c) / rx - tolerance)
    r0 = np.floor((anchor.f - top) / ry + tolerance)
    r1 = np.ceil((anchor.f - bottom) / ry - tolerance)
    affine = Affine(rx, 0, anchor.c + c0 * rx, 0, -ry, anchor.f - r0 * ry)
    return GeoBox((max(int(r1 - r0), 1), max(int(c1 - c0), 1)), affine, crs)


def overlap(grid: GeoBox, other: GeoBox) -> Window | None:
    """Return the window of `grid` that holds every one of its pixels the other grid touches, or `None`."""
    found = outline(other, grid)
    if found is None:
        return _overlap_by_points(grid, other)
    left, top, right, bottom = found.bounds
    row, col = int(np.floor(top + COINCIDE)), int(np.floor(left + COINCIDE))
    height, width = int(np.ceil(bottom - COINCIDE)) - row, int(np.ceil(right - COINCIDE)) - col
    return Window(row, col, max(height, 1), max(width, 1)).intersect(whole(grid))


def _overlap_by_points(grid: GeoBox, other: GeoBox) -> Window | None:
    """Return the overlap to a 64th of the grid, from points of the grid that lie on the other."""
    rows, cols = (np.linspace(0, n, 65) for n in grid.shape)
    a = grid.affine
    x = a.a * cols + a.b * rows[:, None] + a.c
    y = a.d * cols + a.e * rows[:, None] + a.f
    x, y = transformer(grid.crs, other.crs).transform(x, y)
    if other.crs is not None and other.crs.geographic:
        middle = (other.affine @ (other.shape[1] / 2, other.shape[0] / 2))[0]
        x = x - 360 * np.rint((x - middle) / 360)
    points = to_pixels(other)(np.c_[x.ravel(), y.ravel()])
    with np.errstate(invalid="ignore"):
        inside = ((points >= 0) & (points <= (other.shape[1], other.shape[0]))).all(1).reshape(x.shape)
    if not inside.any():
        return None
    spans = []
    for edges, hit in ((rows, inside.any(1)), (cols, inside.any(0))):
        first, last = np.flatnonzero(hit)[[0, -1]]
        low, high = edges[max(first - 1, 0)], edges[min(last + 1, 64)]
        spans.append((int(np.floor(low)), int(np.ceil(high))))
    (top, bottom), (left, right) = spans
    return Window(top, left, bottom - top, right - left).intersect(whole(grid))


def to_pixels(grid: GeoBox) -> Callable[[Floats], Floats]:
    """Return what turns points (n, 2) in the CRS into (column, row) of a grid, 0 at its corner."""
    inverse = ~grid.affine

    def convert(points: Floats) -> Floats:
        x, y = points[:, 0], points[:, 1]
        return np.c_[inverse.a * x + inverse.b * y + inverse.c, inverse.d * x + inverse.e * y + inverse.f]

    return convert

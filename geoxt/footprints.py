"""Footprints: where a grid lies in another CRS or on another grid, poles and antimeridian included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import shapely
from odc.geo import CRS
from odc.geo.geobox import GeoBox

from geoxt.errors import CRSError
from geoxt.grid import COINCIDE, crs_name, full_window, parse_crs, transformer
from geoxt.types import Array, Floats, Mask
from geoxt.windows import Window


def footprint(grid: GeoBox, crs: CRS) -> shapely.Polygon:
    """Return the outline of a grid in a CRS, 16 points an edge; longitudes are kept together at the antimeridian."""
    x, y = _spread(_EDGE, np.array([grid.affine[:6]]), np.array([grid.shape]))[0].T
    if grid.crs != crs:
        x, y = transformer(grid.crs, crs).transform(x, y)
        if crs.geographic:
            with np.errstate(invalid="ignore"):
                x = _turned(x, x[0])
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        msg = f"Cannot bring {grid.boundingbox} from {crs_name(grid.crs)} to {crs_name(crs)}: points fall outside it."
        raise CRSError(msg + " Pass another crs=…")
    return shapely.Polygon(np.c_[x, y])


def outline(grid: GeoBox, base: GeoBox) -> shapely.Polygon | None:
    """Return the outline of a grid in pixels of another; see `outlines`."""
    return outlines([grid], base)[0]


def outlines(grids: Sequence[GeoBox], base: GeoBox) -> list[shapely.Polygon | None]:
    """Return the outlines of grids in pixels of another (x is the column, y the row), at the nearest turn of 360.

    One is `None` where there is no such outline: for grids that hold a pole, go round the Earth, or reach beyond what
    the other's CRS can say. They may touch any part of the base.
    """
    found: list[shapely.Polygon | None] = [None] * len(grids)
    named: dict[int, list[int]] = {}
    for place, grid in enumerate(grids):  # by the object first: a CRS takes long to hash
        named.setdefault(id(grid.crs), []).append(place)
    groups: dict[CRS | None, list[int]] = {}
    for places in named.values():
        groups.setdefault(grids[places[0]].crs, []).extend(places)
    for crs, places in groups.items():
        affines = np.array([grids[p].affine[:6] for p in places])
        shapes = np.array([grids[p].shape for p in places])
        points = _spread(_EDGE, affines, shapes)
        if crs == base.crs:
            points[..., 0] += _turns(points, base)[:, None]
            polygons = shapely.polygons(to_pixels(base)(points.reshape(-1, 2)).reshape(points.shape))
            good = np.ones(len(places), bool)
        else:
            polygons, good = _projected(points, _spread(_INNER, affines, shapes), crs, base)
        for p, polygon, holds in zip(places, np.atleast_1d(np.asarray(polygons)), good, strict=True):
            found[p] = polygon if holds else None
    return found


def clip_to_footprints(outlines: Sequence[shapely.Geometry], places: Array, base: GeoBox) -> list[Any]:
    """Return outlines in pixels of a grid without what lies clearly outside of places, longitudes and latitudes.

    Catalogs round such places, thin them out, and leave open whether their edges are straight on the map or in degrees.
    So a place is taken both ways and widened by `SLACK` of the outline's longer side and `LEAST` pixels. An outline
    that it does not touch, or on whose grid it cannot be drawn, is left as it is: it can only be of something else.
    """
    shapes: Array = np.asarray(outlines, object)
    said: Array = shapely.force_2d(np.asarray(places, object))
    straight, bent = _drawn(said, base), _drawn(shapely.segmentize(said, _STEP), base)
    bounds = shapely.bounds(shapes)
    margin = SLACK * (bounds[:, 2:] - bounds[:, :2]).max(1) + LEAST
    wide: Array = np.asarray(shapely.buffer(shapely.union(straight, bent), margin, quad_segs=2))
    use: Mask = ~np.asarray(shapely.is_missing(wide)) & ~np.asarray(shapely.covers(wide, shapes))
    inside = shapely.intersection(shapes[use], wide[use])
    shapes[use] = np.where(shapely.is_empty(inside), shapes[use], inside)
    return shapes.tolist()


def _drawn(shapes: Array, base: GeoBox) -> Array:
    """Return polygons of longitudes and latitudes in pixels of a grid; `None` where they have no place on it."""
    degrees = parse_crs("EPSG:4326")
    points, owner = shapely.get_coordinates(shapes, return_index=True)
    x, y = points.T if base.crs == degrees else transformer(degrees, base.crs).transform(*points.T)
    moved = to_pixels(base)(np.c_[x, y])
    good = np.asarray(np.isfinite(moved).all(1))
    out = shapely.set_coordinates(shapes.copy(), np.where(good[:, None], moved, 0))
    lost = np.union1d(owner[~good], np.flatnonzero(shapely.is_empty(shapes)))
    out[lost.astype(int)] = None
    out = shapely.make_valid(out)
    if base.crs is None or not base.crs.geographic:
        return out
    turn = np.array([360 / abs(base.affine.a), 0])
    east, west = shapely.transform(out, lambda p: p + turn), shapely.transform(out, lambda p: p - turn)
    return np.asarray(shapely.union(shapely.union(out, east), west))


SLACK, LEAST = 0.01, 8.0
"""By how much a place that is said may be wrong: a share of the longer side, and pixels beside."""
_STEP = 0.05
"""Degrees between points of an edge that is straight in degrees."""
_T = np.linspace(0, 1, 17)[:-1]
_EDGE = np.concatenate([np.c_[_T, 0 * _T], np.c_[1 + 0 * _T, _T], np.c_[1 - _T, 1 + 0 * _T], np.c_[0 * _T, 1 - _T]])
_INNER = np.stack(np.meshgrid(np.linspace(0.05, 0.95, 7), np.linspace(0.05, 0.95, 7)), axis=-1).reshape(-1, 2)


def _spread(unit: Floats, affines: Floats, shapes: Array) -> Floats:
    """Return points of the unit square on each of several grids, in their CRS: (grid, point, 2)."""
    cols, rows = unit[:, 0] * shapes[:, 1:2], unit[:, 1] * shapes[:, 0:1]
    a, b, c, d, e, f = affines.T[..., None]
    return np.stack((a * cols + b * rows + c, d * cols + e * rows + f), axis=-1)


def _projected(edges: Floats, inner: Floats, crs: CRS | None, base: GeoBox) -> tuple[Array, Mask]:
    """Return polygons in pixels of the base, and which of them hold what lies inside their grids.

    They do where the CRS is smooth there; not where the grid holds a pole or an edge of the CRS.
    """
    project = transformer(crs, base.crs)
    places = [np.stack(project.transform(p[..., 0], p[..., 1]), axis=-1) for p in (edges, inner)]
    if base.crs is not None and base.crs.geographic:
        with np.errstate(invalid="ignore"):
            for p in places:
                p[..., 0] = _turned(p[..., 0], places[0][:, :1, 0])
        turn = _turns(places[0], base)
        for p in places:
            p[..., 0] += turn[:, None]
    finite = np.isfinite(places[0]).all((1, 2)) & np.isfinite(places[1]).all((1, 2))
    to = to_pixels(base)
    edge, inside = (to(np.where(finite[:, None, None], p, 0).reshape(-1, 2)).reshape(p.shape) for p in places)
    polygons: Array = np.asarray(shapely.polygons(edge))
    good = finite & shapely.is_valid(polygons)
    wide: Array = np.asarray(shapely.buffer(polygons[good], 1))
    held = np.asarray(shapely.contains_xy(wide[:, None], inside[good][..., 0], inside[good][..., 1]))
    good[good] = held.all(1)
    return polygons, good


def _turns(points: Floats, base: GeoBox) -> Floats:
    """Return the degrees by which outlines (grid, point, 2) lie next to the base; 0 where it is not in degrees."""
    if base.crs is None or not base.crs.geographic:
        return np.zeros(len(points))
    middle = (base.affine @ (base.shape[1] / 2, base.shape[0] / 2))[0]
    with np.errstate(invalid="ignore"):
        return np.asarray(360 * np.rint((middle - points[..., 0].mean(1)) / 360))


def _turned(longitude: Floats, first: Floats) -> Floats:
    """Return longitudes within half a turn of the first."""
    return first + (longitude - first + 180) % 360 - 180


def overlap(grid: GeoBox, other: GeoBox) -> Window | None:
    """Return the window of `grid` that holds every one of its pixels the other grid touches, or `None`."""
    found = outline(other, grid)
    if found is None:
        return _overlap_by_points(grid, other)
    left, top, right, bottom = found.bounds
    row, col = int(np.floor(top + COINCIDE)), int(np.floor(left + COINCIDE))
    height, width = int(np.ceil(bottom - COINCIDE)) - row, int(np.ceil(right - COINCIDE)) - col
    return Window(row, col, max(height, 1), max(width, 1)).intersect(full_window(grid))


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
    return Window(top, left, bottom - top, right - left).intersect(full_window(grid))


def to_pixels(grid: GeoBox) -> Callable[[Floats], Floats]:
    """Return what turns points (n, 2) in the CRS into (column, row) of a grid, 0 at its corner."""
    inverse = ~grid.affine

    def convert(points: Floats) -> Floats:
        x, y = points[:, 0], points[:, 1]
        return np.c_[inverse.a * x + inverse.b * y + inverse.c, inverse.d * x + inverse.e * y + inverse.f]

    return convert

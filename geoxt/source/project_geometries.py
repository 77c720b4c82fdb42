"""Geometries of a file -> outlines on a grid: mended, projected, split where they would bend, rounded to the lattice.

An edge is straight in the file's CRS. On a grid of another CRS it is halved until its middle and its quarters lie
within 1/64 pixel of where they belong (edges under 4 pixels are left straight). Halving starts from the same end
whichever way an edge was drawn, so neighbours that share it still do.
"""

from __future__ import annotations

import numpy as np
import pyproj
import shapely
from odc.geo import CRS
from odc.geo.geobox import GeoBox

from geoxt.errors import CRSError
from geoxt.footprints import to_pixels
from geoxt.grid import crs_name, transformer
from geoxt.pixels.scanline import QUANTUM, Ints, PixelGeometries
from geoxt.pixels.vector_file import Bounds
from geoxt.types import Array, Floats, Mask

TOLERANCE = 2.0**-6
"""Pixels: how far the middle and the quarters of an edge may lie from where they belong."""
STRAIGHT = 4.0
"""Pixels: shorter edges are not looked at, unless they are long in the file's CRS."""
ROUNDS = 12
"""Times an edge may be halved."""
SAMPLES = 33
"""Points along each side of a grid that say where it lies in a file."""
MARGIN = 0.05
"""Share of its own size by which that place is widened, as sides bend between points."""
FAR = 1.0
"""Share of its size beyond which geometries are cut off before they are projected."""


def bounds_in_crs(grid: GeoBox, crs: CRS) -> Bounds | None:
    """Return a rectangle in a CRS that holds a grid; `None` where no point of the grid has a place there."""
    side = np.linspace(0, 1, SAMPLES)
    cols, rows = (g.ravel() for g in np.meshgrid(side * grid.shape[1], side * grid.shape[0]))
    a = grid.affine
    x, y = a.a * cols + a.b * rows + a.c, a.d * cols + a.e * rows + a.f
    if grid.crs != crs:
        x, y = transformer(grid.crs, crs).transform(x, y)
    good = np.isfinite(x) & np.isfinite(y)
    if not good.any():
        return None
    left, bottom, right, top = x[good].min(), y[good].min(), x[good].max(), y[good].max()
    wide, high = MARGIN * (right - left), MARGIN * (top - bottom)
    left, bottom, right, top = left - wide, bottom - high, right + wide, top + high
    if crs.geographic:
        places = x.reshape(SAMPLES, SAMPLES)
        with np.errstate(invalid="ignore"):
            jumps = max(np.nanmax(np.abs(np.diff(places, axis=axis)), initial=0) for axis in (0, 1))
        if jumps > 180 or left < -180 or right > 180 or not good.all():  # over a pole or the antimeridian
            left, right = min(left, -360.0), max(right, 360.0)
    return float(left), float(bottom), float(right), float(top)


def project_geometries(
    geometry: Array, crs: CRS, grid: GeoBox, *, path: str, ids: Array
) -> tuple[PixelGeometries, Ints]:
    """Return geometries as outlines on a grid, those alone that touch it, and the position of each part's geometry.

    Parameters
    ----------
    geometry
        (features,): shapely geometries of any kind; `None` for none. Polygons that are not valid are mended by
        `shapely.make_valid`; what is no area then is left out.
    crs
        Their CRS.
    grid
        The grid.
    path, ids
        Where they are from, for messages.

    Raises
    ------
    CRSError
        Where a vertex has no place in the grid's CRS.
    """
    parts, feature = _parts(geometry)
    if crs != grid.crs:
        parts, feature = _cut(parts, feature, crs, grid)
    points, rings, first_rings, areas = _vertices(parts)
    if crs != grid.crs:
        points, rings = _projected(points, rings, crs, grid)
        lost = ~np.isfinite(points).all(1)
        if lost.any():
            ring = int(np.searchsorted(rings, np.flatnonzero(lost)[0], "right")) - 1
            which = ids[feature[int(np.searchsorted(first_rings, ring, "right")) - 1]]
            msg = f"Cannot bring feature {which} of {path!r} from {crs_name(crs)} to {crs_name(grid.crs)}: it reaches "
            raise CRSError(msg + "beyond it. Pass a grid in a CRS that holds all of it.")
    pixels = to_pixels(grid)(points)
    whole = PixelGeometries.of(pixels, rings, first_rings, areas)
    return _placed(whole, feature, grid)


def _parts(geometry: Array) -> tuple[Array, Ints]:
    """Return valid polygons, lines and points, and the position of each one's geometry."""
    parts, feature = geometry, np.arange(len(geometry))
    while (shapely.get_type_id(parts) >= 4).any():  # collections hold collections
        parts, inner = shapely.get_parts(parts, return_index=True)
        feature = feature[inner]
    keep = (shapely.get_type_id(parts) >= 0) & ~shapely.is_empty(parts)
    parts, feature = parts[keep], feature[keep]
    wrong = (shapely.get_type_id(parts) == 3) & ~shapely.is_valid(parts)
    if wrong.any():
        mended, inner = shapely.get_parts(shapely.make_valid(parts[wrong]), return_index=True)
        mended, again = shapely.get_parts(mended, return_index=True)
        origin = feature[wrong][inner[again]]
        areas = shapely.get_type_id(mended) == 3
        parts = np.concatenate((parts[~wrong], mended[areas]))
        feature = np.concatenate((feature[~wrong], origin[areas]))
        order = np.argsort(feature, kind="stable")
        parts, feature = parts[order], feature[order]
    return parts, feature


def _cut(parts: Array, feature: Ints, crs: CRS, grid: GeoBox) -> tuple[Array, Ints]:
    """Cut off what lies far from the grid, where its CRS may have no place for it."""
    near = bounds_in_crs(grid, crs)
    if near is None or not len(parts):
        return parts, feature
    left, bottom, right, top = near
    wide, high = FAR * (right - left), FAR * (top - bottom)
    box = shapely.box(left - wide, bottom - high, right + wide, top + high)
    bounds = shapely.bounds(parts)
    over = (bounds[:, :2] < box.bounds[:2]).any(1) | (bounds[:, 2:] > box.bounds[2:]).any(1)
    if not over.any():
        return parts, feature
    kinds = shapely.get_type_id(parts)
    pieces, inner = shapely.get_parts(shapely.intersection(parts[over], box), return_index=True)
    origin = np.flatnonzero(over)[inner]
    same = ((shapely.get_type_id(pieces) == 3) == (kinds[origin] == 3)) & ~shapely.is_empty(pieces)
    places = np.concatenate((np.flatnonzero(~over), origin[same]))
    order = np.argsort(places, kind="stable")
    return np.concatenate((parts[~over], pieces[same]))[order], feature[places[order]]


def _vertices(parts: Array) -> tuple[Floats, Ints, Ints, Mask]:
    """Return vertices, the first of each ring, the first ring of each part, and which parts are polygons."""
    areas = shapely.get_type_id(parts) == 3
    outer, part = shapely.get_rings(parts[areas], return_index=True)
    owner = np.concatenate((np.flatnonzero(areas)[part], np.flatnonzero(~areas)))
    order = np.argsort(owner, kind="stable")
    lines, owner = np.concatenate((outer, parts[~areas]))[order], owner[order]
    points, line = shapely.get_coordinates(lines, return_index=True)
    counts = np.bincount(line, minlength=len(lines))
    single = (counts == 1)[line]  # a point is an edge of no length
    points = np.repeat(points, np.where(single, 2, 1), axis=0)
    rings = _starts(np.where(counts == 1, 2, counts))
    return points, rings, _starts(np.bincount(owner, minlength=len(parts))), areas


def _starts(counts: Ints) -> Ints:
    return np.concatenate(([0], np.cumsum(counts)))


def _projected(points: Floats, rings: Ints, crs: CRS, grid: GeoBox) -> tuple[Floats, Ints]:
    """Return vertices in the grid's CRS and the first of each ring, with vertices put in where edges bend."""
    project = transformer(crs, grid.crs)
    degrees = grid.crs is not None and grid.crs.geographic
    placed = _transform(project, points)
    if degrees and len(points):
        first = placed[np.repeat(rings[:-1], np.diff(rings)), 0]
        placed[:, 0] = _beside(placed[:, 0], first)
    ring = np.repeat(np.arange(len(rings) - 1), np.diff(rings))
    fresh = np.ones(len(points), bool)
    near = bounds_in_crs(grid, crs)
    reach = (
        np.inf if near is None else np.hypot(near[2] - near[0], near[3] - near[1]) / 8
    )  # a circle ends where it began
    for _ in range(ROUNDS):
        edge = np.flatnonzero((ring[1:] == ring[:-1]) & (fresh[1:] | fresh[:-1]))
        edge = edge[_bent(points, placed, edge, project, grid, reach=reach)]
        if not len(edge):
            break
        middle = (points[edge] + points[edge + 1]) / 2
        seen = _transform(project, middle)
        if degrees:
            seen[:, 0] = _beside(seen[:, 0], placed[edge, 0])
        points, placed = np.insert(points, edge + 1, middle, axis=0), np.insert(placed, edge + 1, seen, axis=0)
        ring = np.insert(ring, edge + 1, ring[edge])
        fresh = np.zeros(len(points), bool)
        fresh[edge + 1 + np.arange(len(edge))] = True
    return placed, _starts(np.bincount(ring, minlength=len(rings) - 1))


def _bent(
    points: Floats, placed: Floats, edge: Ints, project: pyproj.Transformer, grid: GeoBox, *, reach: float
) -> Mask:
    """Return which edges leave the straight line between their ends."""
    inverse, degrees = ~grid.affine, grid.crs is not None and grid.crs.geographic
    scale = np.array([[inverse.a, inverse.d], [inverse.b, inverse.e]])
    with np.errstate(invalid="ignore"):
        long = np.hypot(*((placed[edge + 1] - placed[edge]) @ scale).T) > STRAIGHT
    long |= np.hypot(*(points[edge + 1] - points[edge]).T) > reach
    bent = np.zeros(len(edge), bool)
    some = edge[long & np.isfinite(placed[edge] + placed[edge + 1]).all(1)]
    turn = (points[some] > points[some + 1])[:, 0] | (
        (points[some, 0] == points[some + 1, 0]) & (points[some, 1] > points[some + 1, 1])
    )
    start, end = np.where(turn, some + 1, some), np.where(turn, some, some + 1)
    worst = np.zeros(len(some))
    for t in (0.25, 0.5, 0.75):
        seen = _transform(project, points[start] + t * (points[end] - points[start]))
        if degrees:
            seen[:, 0] = _beside(seen[:, 0], placed[start, 0])
        straight = placed[start] + t * (placed[end] - placed[start])
        away = np.where(np.isfinite(seen), seen - straight, 0)
        worst = np.maximum(worst, np.hypot(*(away @ scale).T))
    bent[np.searchsorted(edge, some)] = worst > TOLERANCE
    return bent


def _transform(project: pyproj.Transformer, points: Floats) -> Floats:
    return np.column_stack(project.transform(points[:, 0], points[:, 1]))


def _beside(longitude: Floats, other: Floats) -> Floats:
    """Return longitudes within half a turn of others."""
    with np.errstate(invalid="ignore"):
        return np.asarray(longitude - 360 * np.rint((longitude - other) / 360))


def _placed(found: PixelGeometries, feature: Ints, grid: GeoBox) -> tuple[PixelGeometries, Ints]:
    """Return the parts that touch the grid, rounded to its lattice; in degrees at every turn at which they do."""
    bounds, (rows, cols) = found.bounds(), grid.shape
    geographic = grid.crs is not None and grid.crs.geographic
    turn = abs(360 / grid.affine.a) if geographic and not grid.affine.b else 0.0
    pieces, kept = [], []
    for turns in _turns(bounds, cols, turn):
        shift = turns * turn
        left, top, right, bottom = (bounds + np.array((shift, 0, shift, 0))).T
        which = np.flatnonzero((right >= 0) & (left <= cols) & (bottom >= 0) & (top <= rows))
        pieces.append(found.take(which, shift))
        kept.append(which)
    points, rings, parts, areas = (np.concatenate(p) for p in zip(*_joined(pieces), strict=True))
    points = np.rint(points / QUANTUM) * QUANTUM
    out = PixelGeometries.of(points, np.append(rings, len(points)), np.append(parts, len(rings)), areas)
    owner = feature[np.concatenate(kept)]
    if len(pieces) == 1:
        return out, owner
    order = np.argsort(owner, kind="stable")
    return PixelGeometries.of(*out.take(order)), owner[order]


def _turns(bounds: Floats, cols: int, turn: float) -> range:
    """Return the turns of 360 degrees at which any part may touch the grid."""
    if not turn or not len(bounds):
        return range(1)
    first, last = int(np.ceil(-bounds[:, 2].max() / turn)), int(np.floor((cols - bounds[:, 0].min()) / turn))
    return range(first, max(first, last) + 1)


def _joined(pieces: list[tuple[Floats, Ints, Ints, Mask]]) -> list[tuple[Floats, Ints, Ints, Mask]]:
    """Return pieces whose counts go on from one to the next, without the last count of each."""
    out, vertices, lines = [], 0, 0
    for points, rings, parts, areas in pieces:
        out.append((points, rings[:-1] + vertices, parts[:-1] + lines, areas))
        vertices, lines = vertices + len(points), lines + len(rings) - 1
    return out

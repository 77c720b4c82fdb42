"""Projection of geometries to the pixels of a grid: made valid, transformed, densified, rounded to 2**-16 pixel.

An edge is straight in the file's CRS, and a curve in another. It is bisected until its midpoint and quarter points
lie within 1/64 pixel of the exactly projected ones (edges shorter than 4 pixels are not tested). Points between the
ends are computed from the same end whichever way the edge was digitized, so that polygons that share an edge still
share it afterwards. GDAL's rasterizer projects vertices only.
"""

from __future__ import annotations

import numpy as np
import pyproj
import shapely
from odc.geo import CRS
from odc.geo.geobox import GeoBox

from geoxt.crs import crs_name, transformer
from geoxt.errors import CRSError
from geoxt.footprints import to_pixels
from geoxt.pixels.scanline import QUANTUM, Ints, PixelGeometries
from geoxt.pixels.vector_file import Bounds
from geoxt.types import Array, Floats, Mask

TOLERANCE = 2.0**-6
"""Pixels: allowed distance of an edge's midpoint and quarter points from the exactly projected ones."""
STRAIGHT = 4.0
"""Pixels: shorter edges are not tested, unless they are long in the file's CRS."""
ROUNDS = 12
"""Maximum number of bisections of an edge."""
SAMPLES = 33
"""Points along each side of a grid by which its extent in another CRS is estimated."""
MARGIN = 0.05
"""Fraction of its size by which this extent is widened, as sides bend between the points."""
FAR = 1.0
"""Margin around this extent, as a fraction of its size, outside which geometries are clipped before projection."""


def bounds_in_crs(grid: GeoBox, crs: CRS) -> Bounds | None:
    """Return a rectangle in a CRS that contains a grid; `None` if no point of the grid can be transformed to it."""
    side = np.linspace(0, 1, SAMPLES)
    cols, rows = (g.ravel() for g in np.meshgrid(side * grid.shape[1], side * grid.shape[0]))
    a = grid.affine
    x, y = a.a * cols + a.b * rows + a.c, a.d * cols + a.e * rows + a.f
    if grid.crs != crs:
        x, y = transformer(grid.crs, crs).transform(x, y)
    finite = np.isfinite(x) & np.isfinite(y)
    if not finite.any():
        return None
    left, bottom, right, top = x[finite].min(), y[finite].min(), x[finite].max(), y[finite].max()
    x_margin, y_margin = MARGIN * (right - left), MARGIN * (top - bottom)
    left, bottom, right, top = left - x_margin, bottom - y_margin, right + x_margin, top + y_margin
    if crs.geographic:
        longitudes = x.reshape(SAMPLES, SAMPLES)
        with np.errstate(invalid="ignore"):
            jumps = max(np.nanmax(np.abs(np.diff(longitudes, axis=axis)), initial=0) for axis in (0, 1))
        if jumps > 180 or left < -180 or right > 180 or not finite.all():  # a pole or the antimeridian
            left, right = min(left, -360.0), max(right, 360.0)
    return float(left), float(bottom), float(right), float(top)


def project_geometries(
    geometry: Array, crs: CRS, grid: GeoBox, *, path: str, ids: Array
) -> tuple[PixelGeometries, Ints]:
    """Return the geometries that intersect a grid, in its pixels, and the index of each part's geometry.

    Parameters
    ----------
    geometry
        (features,): shapely geometries of any type, or `None`. Invalid polygons are repaired by `shapely.make_valid`,
        of whose result only polygons are kept.
    crs
        CRS of the geometries.
    grid
        Target grid.
    path, ids
        File and feature ids, for messages.

    Raises
    ------
    CRSError
        If a vertex cannot be transformed to the grid's CRS.
    """
    parts, feature = _valid_parts(geometry)
    if crs != grid.crs:
        parts, feature = _clip(parts, feature, crs, grid)
    points, rings, first_rings, areas = _vertices(parts)
    if crs != grid.crs:
        points, rings = _project(points, rings, crs, grid)
        failed = ~np.isfinite(points).all(1)
        if failed.any():
            ring = int(np.searchsorted(rings, np.flatnonzero(failed)[0], "right")) - 1
            feature_id = ids[feature[int(np.searchsorted(first_rings, ring, "right")) - 1]]
            problem = f"Cannot transform feature {feature_id} of {path!r} from {crs_name(crs)} to {crs_name(grid.crs)}"
            raise CRSError(f"{problem}: it reaches outside that CRS.", remedy="Pass {grid} in a CRS that contains it.")
    pixels = to_pixels(grid)(points)
    return _intersecting(PixelGeometries.of(pixels, rings, first_rings, areas), feature, grid)


def _valid_parts(geometry: Array) -> tuple[Array, Ints]:
    """Return valid polygons, lines and points, and the index of the geometry of each."""
    parts, feature = geometry, np.arange(len(geometry))
    while (shapely.get_type_id(parts) >= 4).any():  # collections may be nested
        parts, inner = shapely.get_parts(parts, return_index=True)
        feature = feature[inner]
    exists = (shapely.get_type_id(parts) >= 0) & ~shapely.is_empty(parts)  # the type of None is -1
    parts, feature = parts[exists], feature[exists]
    invalid = (shapely.get_type_id(parts) == 3) & ~shapely.is_valid(parts)
    if invalid.any():
        repaired, inner = shapely.get_parts(shapely.make_valid(parts[invalid]), return_index=True)
        repaired, nested = shapely.get_parts(repaired, return_index=True)
        origin = feature[invalid][inner[nested]]
        areas = shapely.get_type_id(repaired) == 3
        parts = np.concatenate((parts[~invalid], repaired[areas]))
        feature = np.concatenate((feature[~invalid], origin[areas]))
        order = np.argsort(feature, kind="stable")
        parts, feature = parts[order], feature[order]
    return parts, feature


def _clip(parts: Array, feature: Ints, crs: CRS, grid: GeoBox) -> tuple[Array, Ints]:
    """Clip parts that reach far from the grid, where its projection may be undefined."""
    extent = bounds_in_crs(grid, crs)
    if extent is None or not len(parts):
        return parts, feature
    left, bottom, right, top = extent
    x_margin, y_margin = FAR * (right - left), FAR * (top - bottom)
    box = shapely.box(left - x_margin, bottom - y_margin, right + x_margin, top + y_margin)
    bounds = shapely.bounds(parts)
    outside = (bounds[:, :2] < box.bounds[:2]).any(1) | (bounds[:, 2:] > box.bounds[2:]).any(1)
    if not outside.any():
        return parts, feature
    types = shapely.get_type_id(parts)
    clipped, inner = shapely.get_parts(shapely.intersection(parts[outside], box), return_index=True)
    origin = np.flatnonzero(outside)[inner]
    # a polygon that only touches the box is clipped to a line or point
    same_type = ((shapely.get_type_id(clipped) == 3) == (types[origin] == 3)) & ~shapely.is_empty(clipped)
    index = np.concatenate((np.flatnonzero(~outside), origin[same_type]))
    order = np.argsort(index, kind="stable")
    return np.concatenate((parts[~outside], clipped[same_type]))[order], feature[index[order]]


def _vertices(parts: Array) -> tuple[Floats, Ints, Ints, Mask]:
    """Return vertices, ring offsets, part offsets, and whether parts are polygons; see `PixelGeometries`."""
    areas = shapely.get_type_id(parts) == 3
    outer, part = shapely.get_rings(parts[areas], return_index=True)
    owner = np.concatenate((np.flatnonzero(areas)[part], np.flatnonzero(~areas)))
    order = np.argsort(owner, kind="stable")
    lines, owner = np.concatenate((outer, parts[~areas]))[order], owner[order]
    points, line = shapely.get_coordinates(lines, return_index=True)
    counts = np.bincount(line, minlength=len(lines))
    single = (counts == 1)[line]  # a point becomes an edge of length zero
    points = np.repeat(points, np.where(single, 2, 1), axis=0)
    rings = _starts(np.where(counts == 1, 2, counts))
    return points, rings, _starts(np.bincount(owner, minlength=len(parts))), areas


def _starts(counts: Ints) -> Ints:
    return np.concatenate(([0], np.cumsum(counts)))


def _project(points: Floats, rings: Ints, crs: CRS, grid: GeoBox) -> tuple[Floats, Ints]:
    """Return vertices in the grid's CRS and ring offsets; edges that bend have additional vertices."""
    project = transformer(crs, grid.crs)
    geographic = grid.crs is not None and grid.crs.geographic
    projected = _transform(project, points)
    if geographic and len(points):  # rings across the antimeridian are kept together
        first = projected[np.repeat(rings[:-1], np.diff(rings)), 0]
        projected[:, 0] = _unwrap(projected[:, 0], first)
    ring = np.repeat(np.arange(len(rings) - 1), np.diff(rings))
    new = np.ones(len(points), bool)
    extent = bounds_in_crs(grid, crs)
    # Edges longer than this in the file's CRS are tested too: projected, a parallel of latitude may be a closed circle.
    long_edge = np.inf if extent is None else np.hypot(extent[2] - extent[0], extent[3] - extent[1]) / 8
    for _ in range(ROUNDS):
        edge = np.flatnonzero((ring[1:] == ring[:-1]) & (new[1:] | new[:-1]))
        edge = edge[_is_bent(points, projected, edge, project, grid, long_edge=long_edge)]
        if not len(edge):
            break
        middle = (points[edge] + points[edge + 1]) / 2
        middle_projected = _transform(project, middle)
        if geographic:
            middle_projected[:, 0] = _unwrap(middle_projected[:, 0], projected[edge, 0])
        points = np.insert(points, edge + 1, middle, axis=0)
        projected = np.insert(projected, edge + 1, middle_projected, axis=0)
        ring = np.insert(ring, edge + 1, ring[edge])
        new = np.zeros(len(points), bool)
        new[edge + 1 + np.arange(len(edge))] = True
    return projected, _starts(np.bincount(ring, minlength=len(rings) - 1))


def _is_bent(
    points: Floats, projected: Floats, edge: Ints, project: pyproj.Transformer, grid: GeoBox, *, long_edge: float
) -> Mask:
    """Return which projected edges deviate from a straight line by more than the tolerance."""
    inverse, geographic = ~grid.affine, grid.crs is not None and grid.crs.geographic
    scale = np.array([[inverse.a, inverse.d], [inverse.b, inverse.e]])
    with np.errstate(invalid="ignore"):
        long = np.hypot(*((projected[edge + 1] - projected[edge]) @ scale).T) > STRAIGHT
    long |= np.hypot(*(points[edge + 1] - points[edge]).T) > long_edge
    bent = np.zeros(len(edge), bool)
    tested = edge[long & np.isfinite(projected[edge] + projected[edge + 1]).all(1)]
    # the same start for both polygons that share the edge: its left, then its lower end
    swap = (points[tested] > points[tested + 1])[:, 0] | (
        (points[tested, 0] == points[tested + 1, 0]) & (points[tested, 1] > points[tested + 1, 1])
    )
    start, end = np.where(swap, tested + 1, tested), np.where(swap, tested, tested + 1)
    deviation = np.zeros(len(tested))
    for t in (0.25, 0.5, 0.75):
        exact = _transform(project, points[start] + t * (points[end] - points[start]))
        if geographic:
            exact[:, 0] = _unwrap(exact[:, 0], projected[start, 0])
        straight = projected[start] + t * (projected[end] - projected[start])
        difference = np.where(np.isfinite(exact), exact - straight, 0)
        deviation = np.maximum(deviation, np.hypot(*(difference @ scale).T))
    bent[np.searchsorted(edge, tested)] = deviation > TOLERANCE
    return bent


def _transform(project: pyproj.Transformer, points: Floats) -> Floats:
    return np.column_stack(project.transform(points[:, 0], points[:, 1]))


def _unwrap(longitude: Floats, other: Floats) -> Floats:
    """Return longitudes moved by turns of 360 degrees to within 180 degrees of others."""
    with np.errstate(invalid="ignore"):
        return np.asarray(longitude - 360 * np.rint((longitude - other) / 360))


def _intersecting(geometries: PixelGeometries, feature: Ints, grid: GeoBox) -> tuple[PixelGeometries, Ints]:
    """Return the parts that intersect the grid, rounded to 2**-16 pixel; in degrees, also those 360 degrees away."""
    bounds, (rows, cols) = geometries.bounds(), grid.shape
    geographic = grid.crs is not None and grid.crs.geographic
    turn = abs(360 / grid.affine.a) if geographic and not grid.affine.b else 0.0
    copies, selected = [], []
    for turns in _turns(bounds, cols, turn):
        shift = turns * turn
        left, top, right, bottom = (bounds + np.array((shift, 0, shift, 0))).T
        indices = np.flatnonzero((right >= 0) & (left <= cols) & (bottom >= 0) & (top <= rows))
        copies.append(geometries.take(indices, shift))
        selected.append(indices)
    points, rings, parts, areas = (np.concatenate(p) for p in zip(*_rebase_offsets(copies), strict=True))
    points = np.rint(points / QUANTUM) * QUANTUM
    out = PixelGeometries.of(points, np.append(rings, len(points)), np.append(parts, len(rings)), areas)
    owner = feature[np.concatenate(selected)]
    if len(copies) == 1:
        return out, owner
    order = np.argsort(owner, kind="stable")
    return PixelGeometries.of(*out.take(order)), owner[order]


def _turns(bounds: Floats, cols: int, turn: float) -> range:
    """Return the multiples of 360 degrees at which any part may intersect the grid."""
    if not turn or not len(bounds):
        return range(1)
    first, last = int(np.ceil(-bounds[:, 2].max() / turn)), int(np.floor((cols - bounds[:, 0].min()) / turn))
    return range(first, max(first, last) + 1)


def _rebase_offsets(copies: list[tuple[Floats, Ints, Ints, Mask]]) -> list[tuple[Floats, Ints, Ints, Mask]]:
    """Return arrays whose offsets continue from one copy to the next, without the last offset of each."""
    out, vertices, lines = [], 0, 0
    for points, rings, parts, areas in copies:
        out.append((points, rings[:-1] + vertices, parts[:-1] + lines, areas))
        vertices, lines = vertices + len(points), lines + len(rings) - 1
    return out

"""Outlines of grids in another CRS or in pixels of another grid, including poles and the antimeridian."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import shapely
from odc.geo import CRS
from odc.geo.geobox import GeoBox

from geoxt.crs import crs_name, has_several_operations, parse_crs, transformer, transformer_to
from geoxt.errors import CRSError
from geoxt.grid import COINCIDE, full_window, window_grid
from geoxt.types import Array, Floats, Mask
from geoxt.windows import Window


def footprint(grid: GeoBox, crs: CRS) -> shapely.Polygon:
    """Return the outline of a grid in a CRS, with 16 points per edge; longitudes may exceed 180 at the antimeridian.

    Raises
    ------
    CRSError
        If a point cannot be transformed.
    """
    points = _spread(_EDGE, np.array([grid.affine[:6]]), np.array([grid.shape]))
    x, y = (points if grid.crs == crs else project_rings(points, grid.crs, crs))[0].T
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise outside_error(grid, crs)
    return shapely.Polygon(np.c_[x, y])


def bounds_near(grid: GeoBox, base: GeoBox) -> tuple[float, float, float, float]:
    """Return left, bottom, right and top of a grid in the CRS of another; in degrees, at the turn nearest to it.

    A grid that contains a pole has all longitudes, and reaches to the pole.

    Raises
    ------
    CRSError
        If a point cannot be transformed.
    """
    assert base.crs is not None
    ring = footprint(grid, base.crs)
    left, bottom, right, top = ring.bounds
    if not base.crs.geographic:
        return left, bottom, right, top
    if grid.crs != base.crs and winds(shapely.get_coordinates(ring)[None, :-1])[0]:
        pole = 90 if bottom + top > 0 else -90
        return -180, min(bottom, pole), 180, max(top, pole)
    turn = 360 * round((_middle(base) - (left + right) / 2) / 360)
    return left + turn, bottom, right + turn, top


def outside_error(grid: GeoBox, crs: CRS) -> CRSError:
    """Return the error of a grid that reaches outside the domain of a CRS."""
    problem = f"Cannot transform {grid.boundingbox} from {crs_name(grid.crs)} to {crs_name(crs)}"
    return CRSError(f"{problem}: points fall outside it.", remedy="Pass another {crs}.", argument="crs")


def project_rings(points: Floats, source: CRS | None, target: CRS) -> Floats:
    """Return rings of points (ring, point, 2) in another CRS; in degrees, longitudes are continuous along each.

    Latitudes beyond 90 degrees, of grids whose pixels are centred on a pole, are those of the pole.
    """
    x, y = points[..., 0], points[..., 1]
    if source is not None and source.geographic:
        y = np.clip(y, -90, 90)
    projected = np.stack(transformer(source, target).transform(x, y), axis=-1)
    if target.geographic:
        with np.errstate(invalid="ignore"):
            longitude = np.unwrap(projected[..., 0], axis=1, period=360)
            low, high = longitude.min(1, keepdims=True), longitude.max(1, keepdims=True)
            # a ring keeps its first longitude, unless it is so wide that -180 and 180 may be confused
            turns = np.where(high - low > 180, np.rint((low + high) / 720), 0)
        projected[..., 0] = longitude - 360 * turns
        return projected
    # PROJ returns huge numbers near singular points
    return np.where(np.abs(projected) < FARTHEST / _metres(target), projected, np.nan)


FARTHEST = 1.5e8
"""Metres: above the coordinates of all projected CRSs, false eastings with zone numbers included."""


def _metres(crs: CRS) -> float:
    """Return the metres of a unit of a projected CRS."""
    axes = crs.proj.axis_info
    return float(axes[0].unit_conversion_factor) if axes else 1.0


def winds(rings: Floats) -> Mask:
    """Return which rings of points (ring, point, 2) in degrees circle the Earth, and thus contain a pole."""
    with np.errstate(invalid="ignore"):
        closing = (rings[:, 0, 0] - rings[:, -1, 0] + 180) % 360 - 180
        return np.asarray(np.abs(rings[:, -1, 0] + closing - rings[:, 0, 0]) > 180)


def outline(grid: GeoBox, base: GeoBox) -> shapely.Polygon | shapely.MultiPolygon | None:
    """Return the outline of a grid in pixels of another; see `outlines`."""
    return outlines([grid], base)[0]


def outlines(grids: Sequence[GeoBox], base: GeoBox) -> list[shapely.Polygon | shapely.MultiPolygon | None]:
    """Return the outlines of grids in pixels of another grid (x is the column, y the row).

    In degrees, each outline is moved by turns of 360 degrees next to the base; it has a part for each turn at which it
    intersects the base. It is `None` if there is none, for grids that contain a pole, circle the Earth or reach outside
    the area of the base's CRS; these may touch any part of it.
    """
    result: list[shapely.Polygon | shapely.MultiPolygon | None] = [None] * len(grids)
    by_id: dict[int, list[int]] = {}
    for index, grid in enumerate(grids):  # by identity first, as hashing a CRS is slow
        by_id.setdefault(id(grid.crs), []).append(index)
    groups: dict[CRS | None, list[int]] = {}
    for indices in by_id.values():
        groups.setdefault(grids[indices[0]].crs, []).extend(indices)
    for crs, project, members in _by_operation(grids, groups, base):
        indices = list(members)
        affines = np.array([grids[i].affine[:6] for i in indices])
        shapes = np.array([grids[i].shape for i in indices])
        points = _spread(_EDGE, affines, shapes)
        if crs == base.crs:
            points[..., 0] += _turns(points, base)[:, None]
            polygons = shapely.polygons(to_pixels(base)(points.reshape(-1, 2)).reshape(points.shape))
            exists = np.ones(len(indices), bool)
        else:
            polygons, exists = _project_outlines(points, _spread(_INNER, affines, shapes), project, base)
        if base.crs is not None and base.crs.geographic:
            polygons = _at_turns(np.atleast_1d(np.asarray(polygons)), base)
        for i, polygon, is_outline in zip(indices, np.atleast_1d(np.asarray(polygons)), exists, strict=True):
            result[i] = polygon if is_outline else None
    return result


def clip_to_footprints(outlines: Sequence[shapely.Geometry], footprints: Array, base: GeoBox) -> list[Any]:
    """Return outlines in pixels of a grid, clipped to footprints that a catalog gives in longitude and latitude.

    Catalogs round and simplify footprints, and do not say whether edges are straight in degrees or in the image's CRS
    (GeoJSON, RFC 7946, says degrees). So both are united, and buffered by `RELATIVE_BUFFER` of the outline's longer
    side plus `BUFFER` pixels. An outline that its footprint does not intersect, or whose footprint cannot be projected,
    is not clipped: such a footprint is wrong.
    """
    clipped: Array = np.asarray(outlines, object)
    polygons: Array = shapely.force_2d(np.asarray(footprints, object))
    straight, curved = _to_grid_pixels(polygons, base), _to_grid_pixels(shapely.segmentize(polygons, _STEP), base)
    bounds = shapely.bounds(clipped)
    margin = RELATIVE_BUFFER * (bounds[:, 2:] - bounds[:, :2]).max(1) + BUFFER
    buffered: Array = np.asarray(shapely.buffer(shapely.union(straight, curved), margin, quad_segs=2))
    clips: Mask = ~np.asarray(shapely.is_missing(buffered)) & ~np.asarray(shapely.covers(buffered, clipped))
    inside = shapely.intersection(clipped[clips], buffered[clips])
    clipped[clips] = np.where(shapely.is_empty(inside), clipped[clips], inside)
    return clipped.tolist()


def _to_grid_pixels(polygons: Array, base: GeoBox) -> Array:
    """Return polygons in longitude and latitude in pixels of a grid; `None` if they cannot be projected."""
    degrees = parse_crs("EPSG:4326")
    points, owner = shapely.get_coordinates(polygons, return_index=True)
    x, y = points.T if base.crs == degrees else transformer(degrees, base.crs).transform(*points.T)
    pixels = to_pixels(base)(np.c_[x, y])
    finite = np.asarray(np.isfinite(pixels).all(1))
    out = shapely.set_coordinates(polygons.copy(), np.where(finite[:, None], pixels, 0))
    failed = np.union1d(owner[~finite], np.flatnonzero(shapely.is_empty(polygons)))
    out[failed.astype(int)] = None
    out = shapely.make_valid(out)
    if base.crs is None or not base.crs.geographic:
        return out
    turn = np.array([360 / abs(base.affine.a), 0])
    east, west = shapely.transform(out, lambda p: p + turn), shapely.transform(out, lambda p: p - turn)
    return np.asarray(shapely.union(shapely.union(out, east), west))


RELATIVE_BUFFER, BUFFER = 0.01, 8.0
"""Assumed error of a catalog's footprint: a fraction of its longer side, plus pixels."""
_STEP = 0.05
"""Degrees between the points into which an edge that is straight in degrees is divided."""
_T = np.linspace(0, 1, 17)[:-1]
_EDGE = np.concatenate([np.c_[_T, 0 * _T], np.c_[1 + 0 * _T, _T], np.c_[1 - _T, 1 + 0 * _T], np.c_[0 * _T, 1 - _T]])
_INNER = np.stack(np.meshgrid(np.linspace(0.05, 0.95, 7), np.linspace(0.05, 0.95, 7)), axis=-1).reshape(-1, 2)


def _spread(unit: Floats, affines: Floats, shapes: Array) -> Floats:
    """Return points of the unit square, mapped to each of several grids, in their CRS: (grid, point, 2)."""
    cols, rows = unit[:, 0] * shapes[:, 1:2], unit[:, 1] * shapes[:, 0:1]
    a, b, c, d, e, f = affines.T[..., None]
    return np.stack((a * cols + b * rows + c, d * cols + e * rows + f), axis=-1)


Project = Callable[[Floats, Floats], tuple[Floats, Floats]]
"""Transforms x and y from one CRS to another."""


def _by_operation(
    grids: Sequence[GeoBox], groups: Mapping[CRS | None, Sequence[int]], base: GeoBox
) -> Iterator[tuple[CRS | None, Project, Sequence[int]]]:
    """Yield the CRS, the operation to the base's CRS and the indices of grids, as `PixelTransform` transforms them."""
    for crs, indices in groups.items():
        project = transformer(crs, base.crs)
        if crs == base.crs or not has_several_operations(project):
            yield crs, project.transform, indices
            continue
        by_operation: dict[int, tuple[Project, list[int]]] = {}
        for index in indices:
            operation = transformer_to(grids[index], base.crs)
            inverse = partial(operation.transform, direction="INVERSE")
            by_operation.setdefault(id(operation), (inverse, []))[1].append(index)
        for from_base, part in by_operation.values():
            yield crs, from_base, part


def _project_outlines(edges: Floats, inner: Floats, project: Project, base: GeoBox) -> tuple[Array, Mask]:
    """Return polygons in pixels of the base, and whether they contain the interior of their grids.

    They do if the projection is continuous there, and not if the grid contains a pole or a boundary of the CRS.
    """
    projected = [np.stack(project(p[..., 0], p[..., 1]), axis=-1) for p in (edges, inner)]
    if base.crs is not None and base.crs.geographic:
        with np.errstate(invalid="ignore"):
            for p in projected:
                p[..., 0] = _unwrap(p[..., 0], projected[0][:, :1, 0])
        turn = _turns(projected[0], base)
        for p in projected:
            p[..., 0] += turn[:, None]
    finite = np.asarray(np.isfinite(projected[0]).all((1, 2)) & np.isfinite(projected[1]).all((1, 2)))
    to = to_pixels(base)
    edge, inside = (to(np.where(finite[:, None, None], p, 0).reshape(-1, 2)).reshape(p.shape) for p in projected)
    polygons: Array = np.asarray(shapely.polygons(edge))
    exists = finite & shapely.is_valid(polygons)
    buffered: Array = np.asarray(shapely.buffer(polygons[exists], 1))
    contained = np.asarray(shapely.contains_xy(buffered[:, None], inside[exists][..., 0], inside[exists][..., 1]))
    exists[exists] = contained.all(1)
    return polygons, exists


def _turns(points: Floats, base: GeoBox) -> Floats:
    """Return the multiple of 360 that moves each outline (grid, point, 2) next to the base; 0 if not in degrees."""
    if base.crs is None or not base.crs.geographic:
        return np.zeros(len(points))
    middle = _middle(base)
    with np.errstate(invalid="ignore"):
        return np.asarray(360 * np.rint((middle - points[..., 0].mean(1)) / 360))


def _at_turns(polygons: Array, base: GeoBox) -> Array:
    """Return outlines in pixels of a grid in degrees, at every turn of 360 degrees at which they intersect it."""
    bounds, (rows, cols) = shapely.bounds(polygons), base.shape
    turn = to_pixels(base)(np.array([[360.0, 0], [0, 0]]))
    step = turn[0] - turn[1]  # along a row, unless the grid is rotated
    moved = [
        (turns, (bounds[:, 2] + turns * step[0] > COINCIDE) & (bounds[:, 0] + turns * step[0] < cols - COINCIDE)
        & (bounds[:, 3] + turns * step[1] > 0) & (bounds[:, 1] + turns * step[1] < rows))
        for turns in (-1, 0, 1)
    ]  # fmt: skip
    out = polygons.copy()
    for i in np.flatnonzero(np.asarray(moved[0][1] | moved[2][1])):
        parts = [
            shapely.transform(polygons[i], lambda p, t=t: p + t * step) for t, hits in moved if np.asarray(hits)[i]
        ]
        out[i] = parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
    return out


def _unwrap(longitude: Floats, first: Floats) -> Floats:
    """Return longitudes moved by turns of 360 degrees to within 180 degrees of the first."""
    return first + (longitude - first + 180) % 360 - 180


def overlap(grid: GeoBox, other: GeoBox) -> Window | None:
    """Return the window of `grid` that contains all pixels which another grid intersects, or `None`."""
    other_outline = outline(other, grid)
    if other_outline is None:
        return _overlap_by_points(grid, other)
    return _pixels_in(other_outline.bounds).intersect(full_window(grid))


def wrapped_overlap(grid: GeoBox, other: GeoBox) -> Window | None:
    """Return the overlap of grids as `overlap`, contiguous where it crosses the ends of a grid in degrees.

    The columns may then lie beyond those of the grid, on its pixel lattice, near the longitudes of the other grid.
    """
    other_outline = outline(other, grid)
    window = overlap(grid, other)
    if window is None or other_outline is None or other_outline.geom_type == "Polygon":
        return window
    cols, turn = grid.shape[1], 360 / abs(grid.affine.a)
    spans = [_pixels_in(part.bounds) for part in shapely.get_parts(other_outline)]
    span = min(spans, key=lambda w: abs(_middle(window_grid(grid, w)) - _middle(other)))
    edges = [
        (max(span.col, low), min(span.stop[1], low + cols))
        for low in (round(turns * turn) for turns in (-1, 0, 1))
        if max(span.col, low) < min(span.stop[1], low + cols)
    ]
    first, last = min(start for start, _ in edges), max(stop for _, stop in edges)
    return window if last - first >= cols else Window(window.row, first, window.height, last - first)


def _middle(grid: GeoBox) -> float:
    """Return the x coordinate of the centre of a grid."""
    return float((grid.affine @ (grid.shape[1] / 2, grid.shape[0] / 2))[0])


def _pixels_in(bounds: Sequence[float]) -> Window:
    """Return the window of the pixels that bounds (left, top, right, bottom) intersect."""
    left, top, right, bottom = bounds
    row, col = int(np.floor(top + COINCIDE)), int(np.floor(left + COINCIDE))
    height, width = int(np.ceil(bottom - COINCIDE)) - row, int(np.ceil(right - COINCIDE)) - col
    return Window(row, col, max(height, 1), max(width, 1))


def _overlap_by_points(grid: GeoBox, other: GeoBox) -> Window | None:
    """Return the overlap to 1/64 of the grid, from the points of a lattice that lie on the other grid."""
    rows, cols = (np.linspace(0, n, 65) for n in grid.shape)
    pixels: Any = np.meshgrid(cols, rows)
    x, y = transformer(grid.crs, other.crs).transform(*(grid.affine @ pixels))
    if other.crs is not None and other.crs.geographic:
        x = x - 360 * np.rint((x - _middle(other)) / 360)
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
    """Return a function from points (n, 2) in the CRS to (column, row) in pixels of a grid, 0 at its corner."""
    inverse = ~grid.affine

    def convert(points: Floats) -> Floats:
        x, y = points[:, 0], points[:, 1]
        with np.errstate(invalid="ignore"):  # inf, where PROJ cannot transform
            return np.c_[inverse.a * x + inverse.b * y + inverse.c, inverse.d * x + inverse.e * y + inverse.f]

    return convert

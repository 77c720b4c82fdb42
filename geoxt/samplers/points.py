"""Windows around points: field plots, cities, ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.crs import parse_crs, transformer
from geoxt.errors import InputError, OverlapError
from geoxt.footprints import to_pixels
from geoxt.samplers.constraints import Constraints, NodeOptions, Options, parse_constraints, require_margin
from geoxt.samplers.node_samplers import sampler_per_node
from geoxt.samplers.sequence import Drawn, SeededSampler, Table, gather, parse_length
from geoxt.trees import SomeData, nodes_of
from geoxt.types import Array, Floats, Mask, SomeSize
from geoxt.windows import Window, parse_size

SomePoints = Any
"""A GeoDataFrame or GeoSeries (geometries other than points are replaced by a point inside them), an array (n, 2) of x
and y in the CRS of the grid, or a pair of such an array and its CRS."""


class PointSampler(SeededSampler):
    """Windows around points: each point once and in order, or `length` points drawn at random.

    Parameters
    ----------
    data
        A layer, a Dataset of layers on one grid, or a tree of these: a point belongs to the first node that has a
        window for it.
    points
        A GeoDataFrame or GeoSeries, (x and y (n, 2), crs), or x and y (n, 2) in the CRS of the layer.
    size
        Pixels: one number, or (height, width). The point lies in the pixel at (height // 2, width // 2).
    length
        Number of windows in an epoch, drawn from the points. By default each point has one window, with `times` one
        for every group of time steps.
    weights
        Relative probability of each point, (n,); only with `length`.
    jitter
        Maximum random shift of a window along each axis in pixels, drawn again in every epoch.
    seed, **options
        As for `RandomSampler`, but `placement` is "centred" by default: windows extend beyond the edge of the grid,
        where pixels are invalid. "inside" shifts them into the region. Points outside the region, and windows that
        violate the constraints, are left out; so are shifts that would violate them.

    Attributes
    ----------
    index : numpy.ndarray
        (n,) of int64: the position of each window's point in `points`.

    Raises
    ------
    OverlapError
        If no point has a window.
    """

    index: npt.NDArray[np.int64]

    def __init__(
        self,
        data: SomeData,
        *,
        points: SomePoints,
        size: SomeSize,
        length: int | None = None,
        weights: Array | None = None,
        jitter: int = 0,
        seed: int = 0,
        **options: Unpack[Options],
    ) -> None:
        self.length = None if length is None else parse_length(length)
        xy, crs = parse_points(points)
        if crs is None and list(nodes_of(data)) != [""]:
            raise InputError(
                f"Cannot place {len(xy)} points in a tree: its nodes have several CRSs, and the points state none.",
                remedy="Pass {points:(x and y, crs)}, or a GeoDataFrame with a CRS.",
                argument="points",
            )
        point_weights = _parse_weights(weights, len(xy), jitter, length)
        remaining = np.arange(len(xy))

        def make(node: str, ds: xr.Dataset, node_options: NodeOptions) -> _PointWindows:
            nonlocal remaining
            constraints = parse_constraints(ds, size, **{"placement": "centred", **node_options})
            index = _projectable(xy, crs, constraints.grid, remaining) if node else remaining
            sampler = _point_windows(constraints, xy[index], crs, index, jitter)
            remaining = np.setdiff1d(remaining, sampler.index)
            return sampler

        self.samplers = sampler_per_node(data, options, make)
        samplers = self.samplers.values()
        index, group = (np.concatenate(a) for a in zip(*((s.index, s.group) for s in samplers), strict=True))
        order = np.lexsort((index, group))  # the order of the points, for each group of time steps
        self._point = index[order]
        self._node = np.repeat(np.arange(len(samplers)), [len(s.index) for s in samplers])[order]
        self._row = np.concatenate([np.arange(len(s.index)) for s in samplers])[order]
        self._probability = _probabilities(point_weights, self._point)
        self._start(seed)

    def _draw(self, rng: np.random.Generator) -> tuple[Table, Table | None, Table]:
        """Return windows around points of all nodes."""
        selected = np.arange(len(self._point))
        if self.length is not None:
            selected = np.asarray(rng.choice(len(self._point), self.length, p=self._probability))
        self.index, node_index = self._point[selected], self._node[selected]

        def draw(sampler: _PointWindows, index: Table) -> Drawn:
            return sampler.draw_rows(rng, self._row[selected[index]])

        return *gather(node_index, list(self.samplers.values()), draw), node_index


@dataclass(frozen=True, slots=True, kw_only=True)
class _PointWindows:
    """Windows around the points of one node that fulfil the constraints."""

    constraints: Constraints
    index: npt.NDArray[np.int64]
    """(n,): position of each window's point among all points."""
    group: npt.NDArray[np.int64]
    """(n,): group of time steps."""
    table: Table
    """(n, 4): the window without jitter."""
    outer: Table
    """(n, 4): top, left, bottom, right of the rectangle in which the window must lie."""
    jitter: int
    """Pixels."""

    @property
    def grid(self) -> GeoBox:
        """The grid of the windows."""
        return self.constraints.grid

    def draw_rows(self, rng: np.random.Generator, rows: npt.NDArray[np.int64]) -> Drawn:
        """Return the windows at `rows`, shifted at random, and their time steps."""
        group, table = self.group[rows], self.table[rows]
        if self.jitter:
            shifted = table.copy()
            shifted[:, :2] += rng.integers(-self.jitter, self.jitter + 1, (len(table), 2))
            accepted = _lie_within(shifted, self.constraints, self.outer[rows])
            accepted = accepted & self.constraints.accepts(shifted, group)
            table = np.where(accepted[:, None], shifted, table)
        return table, self.constraints.steps(rng, group)


def _point_windows(
    constraints: Constraints, xy: Floats, crs: Any, index: npt.NDArray[np.int64], jitter: int
) -> _PointWindows:
    """Return the windows around points of one node.

    Raises
    ------
    OverlapError
        If no point has a window.
    """
    pixels = pixels_of((xy, crs), constraints.grid) if len(index) else np.empty((0, 2), "int64")
    require_margin(constraints.region, max(map(max, constraints.reach)) + jitter * (constraints.placement != "inside"))
    outer = _rectangles_of(pixels, constraints)
    in_region = np.flatnonzero(outer[:, 2] > outer[:, 0])
    selected = np.tile(in_region, constraints.groups)
    group = np.repeat(np.arange(constraints.groups), len(in_region))
    table = _windows_around(pixels[selected], constraints, outer[selected])
    accepted = _lie_within(table, constraints, outer[selected]) & constraints.accepts(table, group)
    if not accepted.any():
        raise OverlapError(
            f"Cannot find a window around any of {len(index)} points: {len(in_region)} lie in the region, none is "
            "covered.",
            remedy="Pass {points:(x and y, crs)}, or a smaller {size} or {min_covered}.",
            argument="points",
        )
    selected = selected[accepted]
    return _PointWindows(
        constraints=constraints,
        index=index[selected],
        group=group[accepted],
        table=table[accepted],
        outer=outer[selected],
        jitter=jitter,
    )


def _projectable(xy: Floats, crs: Any, grid: GeoBox, index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the positions among `index` of points with finite coordinates in the CRS of a grid."""
    return index[np.isfinite(_project(xy[index], crs, grid)).all(1)] if len(index) else index


def _parse_weights(weights: Array | None, count: int, jitter: int, length: int | None) -> Floats | None:
    """Return one weight per point, if given."""
    array = None if weights is None else np.asarray(weights, "float64")
    if jitter < 0 or (array is not None and (length is None or array.shape != (count,))):
        shape = None if array is None else array.shape
        raise InputError(
            f"Cannot draw among {count} points with jitter={jitter} and weights of shape {shape}.",
            remedy="Pass {jitter:0} or more, {weights} with one number a point, and {length}.",
        )
    return array


def _probabilities(weights: Floats | None, index: npt.NDArray[np.int64]) -> Floats:
    """Return the probability of each window by the weight of its point."""
    weight = np.ones(len(index)) if weights is None else weights[index]
    if not (weight.min() >= 0 and weight.sum() > 0):
        raise InputError(
            f"Cannot draw by weights from {weight.min():g} to {weight.max():g}.",
            remedy="Pass {weights} of 0 or more, some above 0.",
            argument="weights",
        )
    return np.asarray(weight / weight.sum())


def _windows_around(pixels: Table, constraints: Constraints, outer: Table) -> Table:
    """Return windows around pixels; with placement="inside", shifted into their rectangles."""
    size = np.array(constraints.size)
    corners = pixels - size // 2
    if constraints.placement == "inside":
        corners = np.clip(corners, outer[:, :2], np.maximum(outer[:, 2:] - size, outer[:, :2]))
    return np.concatenate((corners, np.broadcast_to(size, corners.shape)), axis=1).astype("int64")


def _lie_within(table: Table, constraints: Constraints, outer: Table) -> Mask:
    """Return which windows lie in their rectangles; with another placement than "inside", all."""
    low, high = table[:, :2], table[:, :2] + table[:, 2:]
    unbounded = constraints.placement != "inside"
    return np.asarray(unbounded | ((low >= outer[:, :2]) & (high <= outer[:, 2:])).all(1))


def pixels_of(points: SomePoints, grid: GeoBox) -> npt.NDArray[np.int64]:
    """Return (n, 2): row and column of the pixel that contains each point.

    Raises
    ------
    InputError
        If the points are not an array (n, 2), or one has no finite coordinates in the CRS of the grid.
    """
    pixels = to_pixels(grid)(_project(*parse_points(points), grid))
    finite = np.isfinite(pixels).all(1)
    if not finite.all():
        raise InputError(
            f"Cannot place point {int(np.flatnonzero(~finite)[0])} on the grid: its coordinates are not finite there.",
            remedy="Leave it out of {points}.",
            argument="points",
        )
    return np.floor(pixels[:, ::-1]).astype("int64")


def block_windows(pixels: Array, size: SomeSize) -> list[tuple[Array, Window]]:
    """Return the indices of the pixels (n, 2) in each block of a grid that holds any, and their bounding window."""
    if not len(pixels):
        return []
    blocks, block_of = np.unique(pixels // np.array(parse_size(size)), axis=0, return_inverse=True)
    order = np.argsort(block_of.ravel(), kind="stable")
    counts = np.bincount(block_of.ravel(), minlength=len(blocks))
    windows = []
    for in_block in np.split(order, np.cumsum(counts)[:-1]):
        (top, left), (bottom, right) = pixels[in_block].min(0).tolist(), pixels[in_block].max(0).tolist()
        windows.append((in_block, Window(top, left, bottom - top + 1, right - left + 1)))
    return windows


def _project(xy: Floats, crs: Any, grid: GeoBox) -> Floats:
    """Return points in the CRS of a grid."""
    if crs is None or parse_crs(crs) == grid.crs:
        return xy
    project = transformer(parse_crs(crs), grid.crs)
    return np.asarray(np.c_[project.transform(xy[:, 0], xy[:, 1])])


def parse_points(points: SomePoints) -> tuple[Floats, Any]:
    """Return x and y (n, 2) of points and their CRS, `None` for that of the grid."""
    crs = None
    if hasattr(points, "geometry") and hasattr(points, "crs"):
        geometries, crs = np.asarray(points.geometry), points.crs
        inner = np.where(shapely.get_type_id(geometries) == 0, geometries, shapely.point_on_surface(geometries))
        xy: Floats = shapely.get_coordinates(inner)
    elif isinstance(points, tuple) and len(points) == 2 and np.ndim(points[0]) == 2:
        xy, crs = np.asarray(points[0], "float64"), points[1]
    else:
        xy = np.asarray(points, "float64")
    if xy.ndim != 2 or xy.shape[1] != 2 or not len(xy):
        raise InputError(
            f"Cannot take points from an array of shape {xy.shape}.",
            remedy="Pass {points} x and y (n, 2), n of 1 or more.",
            argument="points",
        )
    return xy, crs


def _rectangles_of(pixels: Table, constraints: Constraints) -> Table:
    """Return (n, 4): top, left, bottom, right of the rectangle of the region in which a window around a pixel must lie.

    In a rasterized geometry that is the bounding rectangle. Empty for pixels outside the region.
    """
    outer = np.zeros((len(pixels), 4), "int64")
    for window in constraints.region:
        low, high = (window.row, window.col), window.stop
        outer[((pixels >= low) & (pixels < high)).all(1)] = (*low, *high)
    if constraints.region.joined:
        corners = np.array([(w.row, w.col, *w.stop) for w in constraints.region])
        outer[outer[:, 2] > outer[:, 0]] = (*corners[:, :2].min(0), *corners[:, 2:].max(0))
    return outer

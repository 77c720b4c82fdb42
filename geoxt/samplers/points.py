"""Windows around given points: field plots, cities, ground truth."""

from __future__ import annotations

from typing import Any, Self, Unpack

import numpy as np
import numpy.typing as npt
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError, OverlapError
from geoxt.footprints import to_pixels
from geoxt.grid import grid_of, parse_crs, transformer
from geoxt.samplers.constraints import Options, Scope, require_margin, scope_of
from geoxt.samplers.node_samplers import sampler_per_node
from geoxt.samplers.sequence import Seeded, Table, gathered, parse_length
from geoxt.types import Array, Floats, Mask, SomeSize

SomePoints = Any
"""A GeoDataFrame or GeoSeries (other geometries count by a point inside them), an array (n, 2) of x and y in the CRS of
the grid, or a pair of such an array and its CRS."""


class PointSampler(Seeded):
    """Windows around points: each point once and in order, or as many as asked at random.

    Parameters
    ----------
    data
        A layer, a Dataset of layers on one grid, or a tree of these: a point is of the first child that has a window
        for it.
    points
        A GeoDataFrame or GeoSeries, (x and y (n, 2), crs), or x and y (n, 2) in the CRS of the layer.
    size
        Pixels: one number, or (height, width). The point lies in the pixel at (height // 2, width // 2).
    length
        Number of windows in an epoch, drawn from the points. By default each point is taken once, and with times once
        with every group of them.
    weights
        How likely each point is to be drawn, (n,); only with a length.
    jitter
        Pixels by which a window is shifted at random, at most, along each axis, anew in every epoch.
    seed, **options
        As for `RandomSampler`, but `placement` is "centred" by default: windows reach over the edge, and beyond the
        grid nothing is valid. "inside" shifts them to lie within the region. Points outside the region and windows
        that do not hold what they must are left out; a shift that would make them so is not made.

    Raises
    ------
    OverlapError
        Where no point is left.

    Notes
    -----
    `sampler.index` says which point each window stands for, by its position among those given.
    """

    index: npt.NDArray[np.int64]
    scope: Scope

    def __init__(
        self,
        data: xr.DataArray | xr.Dataset | xr.DataTree,
        *,
        points: SomePoints,
        size: SomeSize,
        length: int | None = None,
        weights: Array | None = None,
        jitter: int = 0,
        seed: int = 0,
        **options: Unpack[Options],
    ) -> None:
        self.jitter = jitter
        self.length = None if length is None else parse_length(length)
        if isinstance(data, xr.DataTree):
            self._plant(data, points, weights, options, size=size, jitter=jitter, seed=seed)
            self._start({node: part.grid for node, part in (self.parts or {}).items()}, seed)
            return
        self.scope = scope_of(data, size, **{"placement": "centred", **options})  # type: ignore[arg-type]
        self.size = self.scope.size
        places = pixels_of(points, self.scope.grid)
        given = _weights(weights, len(places), jitter, length)
        require_margin(self.scope.region, max(map(max, self.scope.reach)) + jitter * (self.scope.placement != "inside"))
        outer = _rectangles(places, self.scope)
        own = np.flatnonzero(outer[:, 2] > outer[:, 0])
        chosen, group = np.tile(own, self.scope.groups), np.repeat(np.arange(self.scope.groups), len(own))
        table = _around(places[chosen], self.scope, outer[chosen])
        good = _within(table, self.scope, outer[chosen]) & self.scope.accepts(table, group)
        if not good.any():
            msg = f"Cannot find a window around any of {len(places)} points: {len(own)} lie in the region, none is "
            raise OverlapError(msg + "covered. Pass points=(x and y, crs), or a smaller size or min_covered.")
        self.chosen, self.group, self.around = chosen[good], group[good], table[good]
        self.outer = outer[self.chosen]
        self.weights = _shares(given, self.chosen)
        self._start({"": self.scope.grid}, seed)

    def _plant(
        self,
        tree: xr.DataTree,
        points: SomePoints,
        weights: Array | None,
        options: Options,
        *,
        size: SomeSize,
        jitter: int,
        seed: int,
    ) -> None:
        """Make the samplers of a tree's children, each of the points that no child before it has."""
        places, crs = _parse(points)
        if crs is None:
            msg = f"Cannot place {len(places)} points in a tree: its children have several CRSs, and they state none."
            raise InputError(msg + " Pass points=(x and y, crs), or a GeoDataFrame with a CRS.")
        given = _weights(weights, len(places), jitter, self.length)
        left = np.arange(len(places))

        def make(_: str, child: xr.Dataset, own: Options) -> PointSampler:
            nonlocal left
            on = left[np.isfinite(_project(places[left], crs, grid_of(child))).all(1)] if len(left) else left
            if not len(on):
                msg = f"Cannot find a window around any of {len(places)} points. Pass points=(x and y, crs)."
                raise OverlapError(msg)
            part = PointSampler(child, points=(places[on], crs), size=size, jitter=jitter, seed=seed, **own)
            part.chosen = on[part.chosen]
            left = np.setdiff1d(left, part.chosen)
            return part

        self.parts = sampler_per_node(tree, options, make)
        parts = self.parts.values()
        chosen, group = (np.concatenate(a) for a in zip(*((p.chosen, p.group) for p in parts), strict=True))
        child = np.repeat(np.arange(len(parts)), [len(p.chosen) for p in parts])
        row = np.concatenate([np.arange(len(p.chosen)) for p in parts])
        order = np.lexsort((chosen, group))
        self.chosen, self.group, self.child, self.row = chosen[order], group[order], child[order], row[order]
        self.weights = _shares(given, self.chosen)

    def _chosen(self, rng: np.random.Generator, length: int | None) -> npt.NDArray[np.int64]:
        """Return which of the possible windows are taken."""
        if length is None:
            return np.arange(len(self.chosen))
        return np.asarray(rng.choice(len(self.chosen), length, p=self.weights))

    def _draw_tree(self, rng: np.random.Generator, parts: list[Self]) -> tuple[Table, Table | None, Table]:
        """Return windows around points of all children, and the child of each."""
        taken = self._chosen(rng, self.length)
        self.index, which = self.chosen[taken], self.child[taken]
        found = []
        for number, part in enumerate(parts):
            slots = np.flatnonzero(which == number)
            if len(slots):
                found.append((slots, *part._windows(rng, self.row[taken[slots]])))  # noqa: SLF001 (of its own kind)
        return *gathered(len(taken), found), which

    def _draw(self, rng: np.random.Generator, length: int | None) -> tuple[Table, Table | None]:
        which = self._chosen(rng, length)
        self.index = self.chosen[which]
        return self._windows(rng, which)

    def _windows(self, rng: np.random.Generator, which: npt.NDArray[np.int64]) -> tuple[Table, Table | None]:
        """Return some of the possible windows, shifted where that is asked for."""
        group, table = self.group[which], self.around[which]
        if self.jitter:
            moved = table.copy()
            moved[:, :2] += rng.integers(-self.jitter, self.jitter + 1, (len(table), 2))
            good = _within(moved, self.scope, self.outer[which]) & self.scope.accepts(moved, group)
            table = np.where(good[:, None], moved, table)
        return table, self.scope.steps(rng, group)


def _weights(weights: Array | None, count: int, jitter: int, length: int | None) -> Floats | None:
    """Return one weight for each point, where they are given."""
    given = None if weights is None else np.asarray(weights, "float64")
    if jitter < 0 or (given is not None and (length is None or given.shape != (count,))):
        shape = None if given is None else given.shape
        msg = f"Cannot draw among {count} points with jitter={jitter} and weights of shape {shape}: pass "
        raise InputError(msg + "pixels of 0 or more, one weight a point, and a length=.")
    return given


def _shares(given: Floats | None, chosen: npt.NDArray[np.int64]) -> Floats:
    """Return how likely each possible window is, by the weight of its point."""
    weight = np.ones(len(chosen)) if given is None else given[chosen]
    if not (weight.min() >= 0 and weight.sum() > 0):
        msg = f"Cannot draw by weights from {weight.min():g} to {weight.max():g}: pass 0 or more, some above 0."
        raise InputError(msg)
    return np.asarray(weight / weight.sum())


def _around(places: Table, scope: Scope, outer: Table) -> Table:
    """Return windows whose middle pixels are given; those that lie inside are shifted into their rectangles."""
    size = np.array(scope.size)
    corners = places - size // 2
    if scope.placement == "inside":
        corners = np.clip(corners, outer[:, :2], np.maximum(outer[:, 2:] - size, outer[:, :2]))
    return np.concatenate((corners, np.broadcast_to(size, corners.shape)), axis=1).astype("int64")


def _within(table: Table, scope: Scope, outer: Table) -> Mask:
    """Tell which windows lie in their rectangles, where they must."""
    low, high = table[:, :2], table[:, :2] + table[:, 2:]
    free = scope.placement != "inside"
    return np.asarray(free | ((low >= outer[:, :2]) & (high <= outer[:, 2:])).all(1))


def pixels_of(points: SomePoints, grid: GeoBox) -> npt.NDArray[np.int64]:
    """Return (n, 2): the row and column of the pixel that holds each point.

    Raises
    ------
    InputError
        Where they are not points, or not finite in the CRS of the grid.
    """
    places, crs = _parse(points)
    if places.ndim != 2 or places.shape[1] != 2 or not len(places):
        msg = f"Cannot take points from an array of shape {places.shape}: pass x and y (n, 2), n of 1 or more."
        raise InputError(msg)
    found = to_pixels(grid)(_project(places, crs, grid))
    if not np.isfinite(found).all():
        bad = int(np.flatnonzero(~np.isfinite(found).all(1))[0])
        msg = f"Cannot place point {bad} on the grid: its coordinates are not finite there. Leave it out."
        raise InputError(msg)
    return np.floor(found[:, ::-1]).astype("int64")


def _project(places: Floats, crs: Any, grid: GeoBox) -> Floats:
    """Return points in the CRS of a grid."""
    if crs is None or parse_crs(crs) == grid.crs:
        return places
    project = transformer(parse_crs(crs), grid.crs)
    return np.asarray(np.c_[project.transform(places[:, 0], places[:, 1])])


def _parse(points: SomePoints) -> tuple[Floats, Any]:
    if hasattr(points, "geometry") and hasattr(points, "crs"):
        geometries = np.asarray(points.geometry)
        inner = np.where(shapely.get_type_id(geometries) == 0, geometries, shapely.point_on_surface(geometries))
        return shapely.get_coordinates(inner), points.crs
    if isinstance(points, tuple) and len(points) == 2 and np.ndim(points[0]) == 2:
        return np.asarray(points[0], "float64"), points[1]
    return np.asarray(points, "float64"), None


def _rectangles(places: Table, scope: Scope) -> Table:
    """Return (n, 4): first and last row and column of what a window must lie in: (top, left, bottom, right).

    That is the rectangle of the region in which a pixel lies, or all of it for an area of any outline; empty for a
    pixel outside the region.
    """
    outer = np.zeros((len(places), 4), "int64")
    for window in scope.region:
        low, high = (window.row, window.col), window.stop
        outer[((places >= low) & (places < high)).all(1)] = (*low, *high)
    if scope.region.joined:
        corners = np.array([(w.row, w.col, *w.stop) for w in scope.region])
        outer[outer[:, 2] > outer[:, 0]] = (*corners[:, :2].min(0), *corners[:, 2:].max(0))
    return outer

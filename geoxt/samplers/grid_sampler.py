"""Windows on a regular lattice: each pixel of the region at least once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, Unpack

import numpy as np
import xarray as xr

from geoxt.errors import InputError, OverlapError
from geoxt.regions.region import Region
from geoxt.samplers.constraints import Options, Scope, pixels, require_margin, scope_of
from geoxt.samplers.node_samplers import sampler_per_node
from geoxt.samplers.sequence import Table, WindowSequence, gathered
from geoxt.types import SomeSize
from geoxt.windows import Window

Edge = Literal["shift", "pad", "drop"]


class GridSampler(WindowSequence):
    """Windows on a lattice over each rectangle of a region.

    Parameters
    ----------
    data
        A layer, a Dataset of layers on one grid, or a tree of these: then one child's windows after the other's.
    size
        Pixels: one number, or (height, width).
    stride
        From one window to the next, in the units of `size`; the size by default, so that windows touch.
    edge
        At the end of a rectangle: "shift" moves the last window back inside, "pad" lets it reach over the edge (what
        lies beyond the grid is invalid), "drop" leaves it out. An area of any outline takes one lattice over its
        bounds: with "shift" and "pad" the windows that hold some of it, with "drop", and in a part of a split, those
        wholly inside.
    **options
        `region`, `units`, `times`, `min_covered` (0 by default) and `min_valid`; see `geoxt.samplers.Options`. With
        times, every window comes with every group of them that is covered, one group after the other.

    Raises
    ------
    InputError
        Where no window fits.
    """

    def __init__(
        self,
        data: xr.DataArray | xr.Dataset | xr.DataTree,
        *,
        size: SomeSize,
        stride: SomeSize | None = None,
        edge: Edge = "shift",
        **options: Unpack[Options],
    ) -> None:
        if options.get("placement", "inside") != "inside":
            msg = (
                f"Cannot lay a lattice with placement={options['placement']!r}: pass edge='pad' to reach over the edge."
            )
            raise InputError(msg)
        if isinstance(data, xr.DataTree):
            parts = sampler_per_node(
                data, options, lambda _, child, own: GridSampler(child, size=size, stride=stride, edge=edge, **own)
            )
            _join(self, parts)
            return
        scope = scope_of(data, size, **{"min_covered": 0.0, **options})  # type: ignore[arg-type]
        units = options.get("units", "pixels")
        self.size, self.region, self.edge = scope.size, scope.region, edge
        self.stride = self.size if stride is None else pixels(stride, scope.grid, units, what="stride")
        outers = [_hull(self.region)] if self.region.joined else list(self.region)
        tables = [_lattice(w, self.size, self.stride, edge) for w in outers]
        if edge == "pad" and not self.region.joined:
            require_margin(self.region, max(_overreach(t, w) for t, w in zip(tables, outers, strict=True)))
        table = np.concatenate([t for t in tables if len(t)] or [np.empty((0, 4), "int64")])
        if edge != "drop" and self.region.margin is None:
            scope = replace(scope, placement="touching")
        table, steps = _at_times(table, scope)
        if not len(table):
            msg = f"Cannot place any window of {self.size[0]} x {self.size[1]} pixels with edge={edge!r}. "
            raise OverlapError(msg + "Pass a smaller size, or edge='pad'.")
        super().__init__({"": scope.grid}, table, steps)


def _join(plan: WindowSequence, parts: Mapping[str, WindowSequence]) -> None:
    """Make a plan that of a tree: the windows of each child, one child after the other."""
    which = np.repeat(np.arange(len(parts)), [len(part) for part in parts.values()])
    found = [(np.flatnonzero(which == n), p.table, p.steps) for n, p in enumerate(parts.values())]
    table, steps = gathered(len(which), found)
    WindowSequence.__init__(plan, {node: part.grid for node, part in parts.items()}, table, steps, node_index=which)


def _at_times(table: Table, scope: Scope) -> tuple[Table, Table | None]:
    """Return the windows that hold what they must, for each group of time steps."""
    if scope.times is not None and scope.times.take is not None:
        msg = f"Cannot take {scope.times.take} random steps on a lattice: make times= without take."
        raise InputError(msg)
    found, groups = [], []
    for group in range(scope.groups):
        good = scope.accepts(table, np.full(len(table), group))
        found.append(table[good])
        groups.append(np.full(int(good.sum()), group))
    return np.concatenate(found), scope.steps(np.random.default_rng(0), np.concatenate(groups))


def _hull(region: Region) -> Window:
    """Return the smallest window that holds a region."""
    low, high = np.min([(w.row, w.col) for w in region], 0), np.max([w.stop for w in region], 0)
    return Window(*low.tolist(), *(high - low).tolist())


def _overreach(table: Table, outer: Window) -> int:
    """Return by how many pixels windows reach over the end of a rectangle."""
    return int((table[:, :2] + table[:, 2:] - outer.stop).max(initial=0))


def _lattice(outer: Window, size: tuple[int, int], stride: tuple[int, int], edge: Edge) -> Table:
    """Return the windows over one rectangle, row by row."""
    rows = outer.row + positions(outer.height, size[0], stride[0], edge)
    cols = outer.col + positions(outer.width, size[1], stride[1], edge)
    corners = np.stack(np.meshgrid(rows, cols, indexing="ij"), axis=-1).reshape(-1, 2)
    return np.concatenate((corners, np.broadcast_to(size, corners.shape)), axis=1).astype("int64")


def positions(length: int, size: int, stride: int, edge: Edge) -> Table:
    """Return where windows start along one axis of a length, so that they cover it ("drop": as far as they fit)."""
    match edge:
        case "drop":
            return np.arange(0, length - size + 1, stride)
        case "pad":
            last = max(-(-(length - size) // stride), 0)
            return np.arange(last + 1) * stride
        case "shift":
            if length < size:
                return np.empty(0, "int64")
            return np.unique(np.minimum(np.arange(0, length - size + stride, stride), length - size))
        case _:
            msg = f"Cannot end a lattice by edge={edge!r}: pass 'shift', 'pad' or 'drop'."
            raise InputError(msg)

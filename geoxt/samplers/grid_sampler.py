"""Windows on a regular lattice that covers every pixel of a region."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Unpack

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError, OverlapError
from geoxt.regions.region import GridRegion
from geoxt.samplers.constraints import (
    Constraints,
    NodeOptions,
    Options,
    parse_constraints,
    require_margin,
    size_in_pixels,
)
from geoxt.samplers.node_samplers import sampler_per_node
from geoxt.samplers.sequence import Drawn, Table, WindowSequence, gather
from geoxt.trees import SomeData
from geoxt.types import SomeSize
from geoxt.windows import Window

Edge = Literal["shift", "pad", "drop"]


class GridSampler(WindowSequence):
    """Windows on a regular lattice over each rectangle of a region.

    Parameters
    ----------
    data
        A layer, a Dataset of layers on one grid, or a tree of these: then the windows of one node after the other.
    size
        Pixels: one number, or (height, width).
    stride
        Distance from one window to the next, in the units of `size`; by default the size. Windows then do not overlap,
        except the last ones of rows and columns with `edge="shift"`, if the size does not divide the region.
    edge
        Windows at the end of a rectangle: "shift" moves the last window back inside, "pad" lets it extend beyond the
        edge (pixels outside the grid are invalid), "drop" leaves it out. A rasterized geometry has one lattice over its
        bounds: with "shift" and "pad" the windows that touch the region, with "drop", and in a part of a split, those
        entirely inside.
    **options
        `region`, `units`, `times`, `min_covered` (0 by default) and `min_valid`; see `geoxt.samplers.Options`. With
        `times`, the lattice is repeated for every group of time steps.

    Raises
    ------
    InputError
        If no window fits.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> layer = make_layer(np.zeros((60, 80)))
    >>> len(GridSampler(layer, size=20)), len(GridSampler(layer, size=30, edge="drop"))
    (12, 4)
    """

    def __init__(
        self,
        data: SomeData,
        *,
        size: SomeSize,
        stride: SomeSize | None = None,
        edge: Edge = "shift",
        **options: Unpack[Options],
    ) -> None:
        if options.get("placement", "inside") != "inside":
            raise InputError(
                f"Cannot sample on a lattice with placement={options['placement']!r}.",
                remedy="Pass {edge:'pad'} for windows that extend beyond the region.",
                argument="placement",
            )

        def make(_: str, ds: xr.Dataset, node_options: NodeOptions) -> _NodeWindows:
            return _node_windows(ds, size, stride, edge, node_options)

        samplers = sampler_per_node(data, options, make)
        node_index = np.repeat(np.arange(len(samplers)), [len(s.table) for s in samplers.values()])
        table, steps = gather(node_index, list(samplers.values()), lambda sampler, _: (sampler.table, sampler.steps))
        super().__init__({node: s.grid for node, s in samplers.items()}, table, steps, node_index=node_index)


@dataclass(frozen=True, slots=True, kw_only=True)
class _NodeWindows:
    """Windows on the grid of one node."""

    grid: GeoBox
    table: Table
    steps: Table | None


def _node_windows(
    ds: xr.Dataset, size: SomeSize, stride: SomeSize | None, edge: Edge, options: NodeOptions
) -> _NodeWindows:
    """Return the lattice of windows over one grid."""
    constraints = parse_constraints(ds, size, **{"min_covered": 0.0, **options})
    size, region, units = constraints.size, constraints.region, options.get("units", "pixels")
    step = size if stride is None else size_in_pixels(stride, constraints.grid, units, argument="stride")
    outers = [_bounding_window(region)] if region.joined else list(region)
    tables = [_lattice(w, size, step, edge) for w in outers]
    if edge == "pad" and not region.joined:
        require_margin(region, max(_overhang(t, w) for t, w in zip(tables, outers, strict=True)))
    table = np.concatenate([t for t in tables if len(t)] or [np.empty((0, 4), "int64")])
    if edge != "drop" and region.margin is None:
        constraints = replace(constraints, placement="touching")
    table, steps = _repeat_for_times(table, constraints)
    if not len(table):
        raise OverlapError(
            f"Cannot place any window of {size[0]} x {size[1]} pixels with edge={edge!r}.",
            remedy="Pass a smaller {size}, or {edge:'pad'}.",
            argument="size",
        )
    return _NodeWindows(grid=constraints.grid, table=table, steps=steps)


def _repeat_for_times(table: Table, constraints: Constraints) -> Drawn:
    """Return the windows that fulfil the constraints, for each group of time steps."""
    if constraints.times is not None and constraints.times.take is not None:
        raise InputError(
            f"Cannot sample {constraints.times.take} random time steps on a lattice.",
            remedy="Pass {times} without take.",
            argument="times",
        )
    tables, groups = [], []
    for group in range(constraints.groups):
        accepted = constraints.accepts(table, np.full(len(table), group))
        tables.append(table[accepted])
        groups.append(np.full(int(accepted.sum()), group))
    return np.concatenate(tables), constraints.steps(np.random.default_rng(0), np.concatenate(groups))


def _bounding_window(region: GridRegion) -> Window:
    """Return the smallest window that contains a region."""
    low, high = np.min([(w.row, w.col) for w in region], 0), np.max([w.stop for w in region], 0)
    return Window(*low.tolist(), *(high - low).tolist())


def _overhang(table: Table, outer: Window) -> int:
    """Return the largest number of pixels by which windows extend beyond the end of a rectangle."""
    return int((table[:, :2] + table[:, 2:] - outer.stop).max(initial=0))


def _lattice(outer: Window, size: tuple[int, int], stride: tuple[int, int], edge: Edge) -> Table:
    """Return the windows over one rectangle in row-major order."""
    rows = outer.row + positions(outer.height, size[0], stride[0], edge)
    cols = outer.col + positions(outer.width, size[1], stride[1], edge)
    corners = np.stack(np.meshgrid(rows, cols, indexing="ij"), axis=-1).reshape(-1, 2)
    return np.concatenate((corners, np.broadcast_to(size, corners.shape)), axis=1).astype("int64")


def positions(length: int, size: int, stride: int, edge: Edge) -> Table:
    """Return the start positions of windows along an axis.

    Parameters
    ----------
    length
        Length of the axis in pixels.
    size, stride
        Size and stride of the windows in pixels.
    edge
        As for `GridSampler`.

    Examples
    --------
    >>> positions(10, 4, 4, "shift").tolist(), positions(10, 4, 4, "pad").tolist(), positions(10, 4, 4, "drop").tolist()
    ([0, 4, 6], [0, 4, 8], [0, 4])
    """
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
            raise InputError(
                f"Cannot sample on a lattice with edge={edge!r}.",
                remedy="Pass {edge} 'shift', 'pad' or 'drop'.",
                argument="edge",
            )

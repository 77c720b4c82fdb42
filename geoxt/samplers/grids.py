"""Windows on a regular lattice: each pixel of the region at least once."""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr

from geoxt.errors import InputError
from geoxt.samplers.plans import Plan, Table
from geoxt.samplers.random import covered
from geoxt.samplers.regions import Region, footprint_of, region_of
from geoxt.types import SomeSize
from geoxt.windows import Window, parse_size

Edge = Literal["shift", "pad", "drop"]


class GridSampler(Plan):
    """Windows on a lattice over each rectangle of a region.

    Parameters
    ----------
    data
        A layer, or a Dataset of layers on one grid.
    size
        Pixels: one number, or (height, width).
    stride
        Pixels from one window to the next; the size by default, so that windows touch.
    region
        Where windows lie; the whole grid by default.
    edge
        At the end of a rectangle: "shift" moves the last window back inside, "pad" lets it reach over the edge (what
        lies beyond is invalid, or belongs to another part of a split), "drop" leaves it out.
    min_covered
        Least share of a window that lies in the footprints of all layers. At 0, any overlap will do.

    Raises
    ------
    InputError
        Where no window fits.
    """

    def __init__(
        self,
        data: xr.DataArray | xr.Dataset,
        *,
        size: SomeSize,
        stride: SomeSize | None = None,
        region: Region | None = None,
        edge: Edge = "shift",
        min_covered: float = 0.0,
    ) -> None:
        self.size = parse_size(size)
        self.stride = self.size if stride is None else parse_size(stride, what="stride")
        self.region = region_of(data, region)
        self.edge = edge
        tables = [_lattice(w, self.size, self.stride, edge) for w in self.region]
        table = np.concatenate([t for t in tables if len(t)] or [np.empty((0, 4), "int64")])
        if len(table):
            table = table[covered(table, footprint_of(data), min_covered)]
        if not len(table):
            msg = f"Cannot place any window of {self.size[0]} x {self.size[1]} pixels with edge={edge!r}. "
            raise InputError(msg + "Pass a smaller size, or edge='pad'.")
        super().__init__(self.region.grid, table)


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

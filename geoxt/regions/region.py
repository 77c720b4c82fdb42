"""Regions: where windows may lie, as rectangles of a grid that share no pixel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import GridError
from geoxt.grid import full_window, grid_of, pixel_offset
from geoxt.source import View, view_of
from geoxt.types import Floats
from geoxt.windows import Window


@dataclass(frozen=True, slots=True)
class Region:
    """Rectangles of one grid that share no pixel."""

    grid: GeoBox
    """The grid that the rectangles refer to."""
    windows: tuple[Window, ...]
    """The rectangles, in pixels of the grid."""
    joined: bool = False
    """Whether a window may lie across several rectangles, as in an area of any outline; else it lies within one."""
    margin: int | None = None
    """Pixels by which windows may reach over the rectangles without touching another part of a split; `None`: any."""
    times: tuple[np.datetime64, ...] | None = None
    """Time steps that belong to the region (datetime64[ns]); `None`: all."""

    def __iter__(self) -> Iterator[Window]:
        return iter(self.windows)

    def __len__(self) -> int:
        return len(self.windows)

    @property
    def pixels(self) -> int:
        """Pixels in all of the rectangles."""
        return sum(w.height * w.width for w in self.windows)

    @property
    def geometry(self) -> shapely.Geometry:
        """The region in pixels of the grid (x is the column, y the row)."""
        return shapely.union_all([box(w) for w in self.windows])

    def on(self, grid: GeoBox) -> Region:
        """Return the region on another grid of the same pixels, cut to its extent.

        Raises
        ------
        GridError
            Where the grids do not coincide.
        """
        place = pixel_offset(self.grid, grid)
        if place is None:
            msg = "Cannot use a region of one grid on another whose pixels do not coincide. Split the layer you sample."
            raise GridError(msg)
        moved = (w.shift(*place).intersect(full_window(grid)) for w in self.windows)
        return replace(self, grid=grid, windows=tuple(w for w in moved if w is not None))


@dataclass(frozen=True, slots=True)
class TreeRegion:
    """Regions of a tree's children, such as a part of a split."""

    parts: Mapping[str, Region]
    """The region of each child, by node; on the ground, those of several children may overlap."""

    def __len__(self) -> int:
        return sum(map(len, self.parts.values()))

    @property
    def pixels(self) -> int:
        """Pixels in all of the children's rectangles."""
        return sum(region.pixels for region in self.parts.values())


def box(window: Window) -> shapely.Polygon:
    """Return a window as a polygon (x is the column, y the row)."""
    bottom, right = window.stop
    return shapely.box(window.col, window.row, right, bottom)


def layers_in(data: xr.DataArray | xr.Dataset) -> list[xr.DataArray]:
    """Return the layers of a Dataset, or the one layer itself: all that have y and x."""
    if isinstance(data, xr.DataArray):
        return [data]
    return [layer for layer in data.data_vars.values() if {"y", "x"} <= set(layer.dims)]


def views_in(data: xr.DataArray | xr.Dataset) -> list[View]:
    """Return the views of all layers."""
    return [view_of(layer) for layer in layers_in(data)]


def region_of(data: xr.DataArray | xr.Dataset, region: Region | None) -> Region:
    """Return the region on the grid of the data; the whole grid where none is given."""
    grid = grid_of(data)
    return Region(grid, (full_window(grid),)) if region is None else region.on(grid)


def shares(windows: Iterable[Window] | Floats, footprint: shapely.Geometry) -> Floats:
    """Return the share of each window that lies in a footprint (pixels), 0 to 1."""
    if isinstance(windows, np.ndarray):
        row, col, height, width = windows.T
        boxes = shapely.box(col, row, col + width, row + height)
    else:
        boxes = np.array([box(w) for w in windows])
    shapely.prepare(footprint)
    inside = shapely.covers(footprint, boxes)
    out: Floats = inside.astype("float64")
    rest = np.flatnonzero(~inside)
    out[rest] = shapely.area(shapely.intersection(boxes[rest], footprint)) / shapely.area(boxes[rest])
    return out

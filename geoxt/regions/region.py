"""Regions: disjoint rectangles of a grid, or of the grids of a tree, in which windows may lie."""

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
from geoxt.trees import layers_by_name
from geoxt.types import Floats
from geoxt.windows import Window


@dataclass(frozen=True, slots=True)
class GridRegion:
    """Disjoint rectangles of one grid."""

    grid: GeoBox
    """The grid of the rectangles."""
    windows: tuple[Window, ...]
    """The rectangles, in pixels of the grid."""
    joined: bool = False
    """Whether a window may span several rectangles, as in a rasterized geometry; otherwise it lies within one."""
    margin: int | None = None
    """Pixels by which windows may reach beyond the rectangles without touching another part of a split; `None`: no
    limit."""
    times: tuple[np.datetime64, ...] | None = None
    """Time steps of the region, datetime64[ns]; `None`: all."""

    def __iter__(self) -> Iterator[Window]:
        return iter(self.windows)

    def __len__(self) -> int:
        return len(self.windows)

    @property
    def pixels(self) -> int:
        """Number of pixels in the rectangles."""
        return sum(w.height * w.width for w in self.windows)

    @property
    def geometry(self) -> shapely.Geometry:
        """The union of the rectangles in pixel coordinates (x is the column, y the row)."""
        return shapely.union_all([box(w) for w in self.windows])

    def on(self, grid: GeoBox) -> GridRegion:
        """Return the region on another grid with the same pixels, cut to its extent.

        Raises
        ------
        GridError
            If the pixels of the grids do not coincide.
        """
        offset = pixel_offset(self.grid, grid)
        if offset is None:
            raise GridError(
                "Cannot use a region of one grid on another whose pixels do not coincide.",
                remedy="Split the layer you sample.",
            )
        shifted = (w.shift(*offset).intersect(full_window(grid)) for w in self.windows)
        return replace(self, grid=grid, windows=tuple(w for w in shifted if w is not None))


@dataclass(frozen=True, slots=True)
class Region:
    """Regions by node, such as one part of a split.

    Iterating yields the rectangles of all nodes, each with the name of its node.
    """

    nodes: Mapping[str, GridRegion]
    """The region of each node of a tree, {"": region} for data on one grid. Regions of nodes may overlap on the ground.
    """

    def __iter__(self) -> Iterator[Window]:
        return iter(self.windows)

    def __len__(self) -> int:
        return sum(map(len, self.nodes.values()))

    @property
    def windows(self) -> tuple[Window, ...]:
        """The rectangles of all nodes."""
        return tuple(replace(w, node=node) for node, region in self.nodes.items() for w in region)

    @property
    def pixels(self) -> int:
        """Number of pixels in the rectangles of all nodes."""
        return sum(region.pixels for region in self.nodes.values())

    @property
    def grids(self) -> dict[str, GeoBox]:
        """The grid of each node."""
        return {node: region.grid for node, region in self.nodes.items()}


def box(window: Window) -> shapely.Polygon:
    """Return a window as a polygon in pixel coordinates (x is the column, y the row)."""
    bottom, right = window.stop
    return shapely.box(window.col, window.row, right, bottom)


def layers_in(data: xr.DataArray | xr.Dataset) -> list[xr.DataArray]:
    """Return the layers (variables with y and x) of a Dataset, or the DataArray itself."""
    if isinstance(data, xr.DataArray):
        return [data]
    return list(layers_by_name(data).values())


def views_in(data: xr.DataArray | xr.Dataset) -> list[View]:
    """Return the source views of all layers of a Dataset."""
    return [view_of(layer) for layer in layers_in(data)]


def region_of(data: xr.DataArray | xr.Dataset, region: Region | GridRegion | None) -> GridRegion:
    """Return a region on the grid of a layer or Dataset; by default the whole grid.

    Raises
    ------
    GridError
        If the region has several grids, or its pixels and those of the data do not coincide.
    """
    grid = grid_of(data)
    if region is None:
        return GridRegion(grid, (full_window(grid),))
    return only_node(region).on(grid)


def only_node(region: Region | GridRegion) -> GridRegion:
    """Return the region of the only node.

    Raises
    ------
    GridError
        If there are several nodes.
    """
    if isinstance(region, GridRegion):
        return region
    if len(region.nodes) != 1:
        raise GridError(
            f"Cannot use a region of the nodes {list(region.nodes)} on one grid.",
            remedy="Take the region of one node, region.nodes[name].",
        )
    return next(iter(region.nodes.values()))


def covered_fractions(windows: Iterable[Window] | Floats, footprint: shapely.Geometry) -> Floats:
    """Return the fraction of each window's area inside a footprint, 0 to 1.

    Parameters
    ----------
    windows
        Windows, or an array (n, 4) of row, column, height and width.
    footprint
        In pixel coordinates (x is the column, y the row).
    """
    if isinstance(windows, np.ndarray):
        row, col, height, width = windows.T
        boxes = shapely.box(col, row, col + width, row + height)
    else:
        boxes = np.array([box(w) for w in windows])
    shapely.prepare(footprint)
    inside = shapely.covers(footprint, boxes)
    fractions: Floats = inside.astype("float64")
    partial = np.flatnonzero(~inside)  # intersections are slow: only for windows across the edge
    fractions[partial] = shapely.area(shapely.intersection(boxes[partial], footprint)) / shapely.area(boxes[partial])
    return fractions

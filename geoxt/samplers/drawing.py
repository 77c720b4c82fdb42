"""Figures of windows and regions over a layer. matplotlib objects are used by their methods, never imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import GridError
from geoxt.grid import coordinates, grid_of, pixel_offset
from geoxt.plot import compare
from geoxt.regions.region import GridRegion, Region
from geoxt.trees import SomeData, layers_of
from geoxt.types import Array
from geoxt.windows import Window

Figure = Any
"""A `matplotlib.figure.Figure`."""
COLORS = {"train": "#1b9e77", "val": "#e6ab02", "test": "#d95f02"}
"""Color of each part of a split."""
_UNIT_COLORS = ("#d7301f", "#2b8cbe", "#238b45", "#6a51a3", "#e6ab02", "#e7298a", "#00868b", "#8c510a")


class Windows(Protocol):
    """Windows with their grids, as a `WindowSequence`."""

    unit: int
    """Number of consecutive windows that stay together."""
    grids: dict[str, GeoBox]
    """The grid of each node."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Window: ...


def draw_windows(windows: Windows, layer: SomeData | None, *, max_windows: int, title: str) -> Figure:
    """Draw the outlines of windows over a layer, one color per unit."""
    figure = canvas(windows.grids, layer, title)
    panels: dict[str, Any] = dict(zip(windows.grids, figure.axes, strict=False))
    units = -(-len(windows) // windows.unit)
    drawn_units = np.unique(np.linspace(0, units - 1, min(units, max(max_windows // windows.unit, 1))).astype(int))
    for index in (u * windows.unit + i for u in drawn_units.tolist() for i in range(windows.unit)):
        if index >= len(windows):
            break
        color = _UNIT_COLORS[index // windows.unit % len(_UNIT_COLORS)] if windows.unit > 1 else _UNIT_COLORS[0]
        axes = panels[windows[index].node]
        xs, ys = _ring(windows[index])
        axes.plot(xs, ys, color="white", linewidth=1.8, alpha=0.8)
        axes.plot(xs, ys, color=color, linewidth=0.9)
    return figure


def draw_regions(parts: Mapping[str, Region], layer: SomeData | None, title: str) -> Figure:
    """Draw regions over a layer, filled in one color per name, with a legend."""
    grids = {node: grid for region in parts.values() for node, grid in region.grids.items()}
    figure = canvas(grids, layer, title)
    handles: dict[str, Any] = {}
    for axes, node in zip(figure.axes, grids, strict=False):
        axes.title.set_fontsize(9)  # the numbers of pixels of three parts fit above one panel
        for name, region in parts.items():
            line = _fill(axes, name, region.nodes[node])
            if line is not None:
                handles[name] = line
    loc = "outside upper center" if list(grids) == [""] else "outside lower center"  # trees have a title above
    figure.legend(handles=list(handles.values()), loc=loc, ncols=max(len(handles), 1), frameon=False)
    return figure


def _fill(axes: Any, name: str, region: GridRegion) -> Any:
    """Fill a region; returns its outline for the legend, `None` for an empty region."""
    rings = _outlines(region)
    if not rings:
        return None
    color = COLORS.get(name, _UNIT_COLORS[0])
    gap = np.full((1, 2), np.nan)  # matplotlib lifts the pen at NaN: one line draws all rings
    path = np.concatenate([np.concatenate((ring, gap)) for ring in rings])
    for ring in rings:
        axes.fill(ring[:, 0], ring[:, 1], color=color, alpha=0.45, linewidth=0)
    (line,) = axes.plot(path[:, 0], path[:, 1], color=color, linewidth=0.8, label=name)
    return line


def canvas(grids: Mapping[str, GeoBox], layer: SomeData | None, title: str) -> Figure:
    """Return a figure of a layer, or of empty grids, in pixel coordinates; one panel per node."""
    single = list(grids) == [""]
    layers = {} if layer is None else layers_of(layer)
    panels = {}
    for node, grid in grids.items():
        panel = layers.get(node) if layer is not None else _empty_layer(grid)
        same_grid = panel is not None and pixel_offset(grid_of(panel), grid) == (0, 0)
        if panel is None or not same_grid or grid_of(panel).shape != grid.shape:
            name = panel.name if panel is not None else getattr(layer, "name", None)
            expected = "a layer" if single else "a tree with a layer for each node"
            raise GridError(
                f"Cannot draw over {name!r}: it lies on another grid.",
                remedy=f"Pass {{layer}} {expected} on the sampled grid.",
                argument="layer",
            )
        panels[node] = panel
    figure = compare({title: panels[""]}) if single else compare(panels, title=title)
    for axes, grid in zip(figure.axes, grids.values(), strict=False):
        axes.set_xlim(0, grid.shape[1])
        axes.set_ylim(grid.shape[0], 0)
        for side in axes.spines.values():
            side.set_visible(True)
    return figure


def _empty_layer(grid: GeoBox) -> xr.DataArray:
    """Return a layer of nodata that takes no memory: a broadcast scalar."""
    zeros = np.broadcast_to(np.zeros((), "uint8"), grid.shape)
    return xr.DataArray(zeros, dims=("y", "x"), coords=coordinates(grid), attrs={"_FillValue": 0})


def _outlines(region: GridRegion) -> list[Array]:
    """Return the outline (n, 2) of each rectangle, or of each polygon of a rasterized geometry, without holes."""
    if not region.joined:
        return [np.array(_ring(w), "float64").T for w in region]
    polygons: Array = shapely.get_parts(region.geometry)
    return [shapely.get_coordinates(shapely.get_exterior_ring(polygon)) for polygon in polygons]


def _ring(window: Window) -> tuple[Sequence[int], Sequence[int]]:
    bottom, right = window.stop
    return (window.col, right, right, window.col, window.col), (window.row, window.row, bottom, bottom, window.row)

"""Windows and regions drawn over a layer; matplotlib's objects are only met by their methods."""

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
from geoxt.regions.region import Region
from geoxt.trees import layers_of
from geoxt.types import Array
from geoxt.windows import Window

Figure = Any
"""A `matplotlib.figure.Figure`."""
COLORS = {"train": "#1b9e77", "val": "#e6ab02", "test": "#d95f02"}
"""Colour of each part of a split."""
_UNITS = ("#d7301f", "#2b8cbe", "#238b45", "#6a51a3", "#e6ab02", "#e7298a", "#00868b", "#8c510a")


class Windows(Protocol):
    """Windows of one grid, or of the grids of a tree."""

    unit: int
    """How many of them belong together."""

    @property
    def grids(self) -> Mapping[str, GeoBox]:
        """The grid of each child of a tree by node; of one grid, it alone."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Window: ...


def draw_windows(windows: Windows, layer: xr.DataArray | xr.DataTree | None, *, most: int, title: str) -> Figure:
    """Draw the outlines of windows over a layer, those of a batch or a triplet in one colour."""
    figure = canvas(windows.grids, layer, title)
    panels: dict[str, Any] = dict(zip(windows.grids, figure.axes, strict=False))
    units = -(-len(windows) // windows.unit)
    chosen = np.unique(np.linspace(0, units - 1, min(units, max(most // windows.unit, 1))).astype(int))
    for index in (u * windows.unit + i for u in chosen.tolist() for i in range(windows.unit)):
        if index >= len(windows):
            break
        color = _UNITS[index // windows.unit % len(_UNITS)] if windows.unit > 1 else _UNITS[0]
        axes = panels[windows[index].node]
        xs, ys = _ring(windows[index])
        axes.plot(xs, ys, color="white", linewidth=1.8, alpha=0.8)
        axes.plot(xs, ys, color=color, linewidth=0.9)
    return figure


def draw_parts(
    grids: Mapping[str, GeoBox],
    parts: Mapping[str, Mapping[str, Region]],
    layer: xr.DataArray | xr.DataTree | None,
    title: str,
) -> Figure:
    """Draw the regions of each grid over a layer, filled in a colour each, with a legend."""
    figure = canvas(grids, layer, title)
    handles: dict[str, Any] = {}
    for axes, node in zip(figure.axes, grids, strict=False):
        axes.title.set_fontsize(9)  # millions of pixels of three parts fit over one panel
        for name, region in parts[node].items():
            found = _filled(axes, name, region)
            if found is not None:
                handles[name] = found
    loc = "outside upper center" if list(grids) == [""] else "outside lower center"  # the title stands above
    figure.legend(handles=list(handles.values()), loc=loc, ncols=max(len(handles), 1), frameon=False)
    return figure


def _filled(axes: Any, name: str, region: Region) -> Any:
    """Fill a region in the colour of its part; returns its outline for the legend, `None` where it is empty."""
    rings = _outlines(region)
    if not rings:
        return None
    color = COLORS.get(name, _UNITS[0])
    gap = np.full((1, 2), np.nan)
    path = np.concatenate([np.concatenate((ring, gap)) for ring in rings])
    for ring in rings:
        axes.fill(ring[:, 0], ring[:, 1], color=color, alpha=0.45, linewidth=0)
    (line,) = axes.plot(path[:, 0], path[:, 1], color=color, linewidth=0.8, label=name)
    return line


def canvas(grids: Mapping[str, GeoBox], layer: xr.DataArray | xr.DataTree | None, title: str) -> Figure:
    """Return a figure of a layer, or of the bare grid, whose axes count pixels; a panel for each child of a tree."""
    lone = list(grids) == [""]
    given = layers_of(layer) if isinstance(layer, xr.DataTree) else {"": layer}
    panels = {}
    for node, grid in grids.items():
        found = given.get(node) if layer is not None else _bare(grid)
        place = None if found is None else pixel_offset(grid_of(found), grid)
        if found is None or place != (0, 0) or grid_of(found).shape != grid.shape:
            name = found.name if found is not None else getattr(layer, "name", None)
            what = "a layer" if lone else "a tree with a layer for each child"
            msg = f"Cannot draw over {name!r}: it lies on another grid. Pass {what} on the sampled grid."
            raise GridError(msg)
        panels[node] = found
    figure = compare({title: panels[""]}) if lone else compare(panels, title=title)
    for axes, grid in zip(figure.axes, grids.values(), strict=False):
        axes.set_xlim(0, grid.shape[1])
        axes.set_ylim(grid.shape[0], 0)
        for side in axes.spines.values():
            side.set_visible(True)
    return figure


def _bare(grid: GeoBox) -> xr.DataArray:
    """Return an empty layer of a grid that takes no memory."""
    zeros = np.broadcast_to(np.zeros((), "uint8"), grid.shape)
    return xr.DataArray(zeros, dims=("y", "x"), coords=coordinates(grid), attrs={"_FillValue": 0})


def _outlines(region: Region) -> list[Array]:
    """Return the outline of each rectangle (n, 2), or of each piece of an area; holes are left out."""
    if not region.joined:
        return [np.array(_ring(w), "float64").T for w in region]
    pieces: Array = shapely.get_parts(region.geometry)
    return [shapely.get_coordinates(shapely.get_exterior_ring(piece)) for piece in pieces]


def _ring(window: Window) -> tuple[Sequence[int], Sequence[int]]:
    bottom, right = window.stop
    return (window.col, right, right, window.col, window.col), (window.row, window.row, bottom, bottom, window.row)

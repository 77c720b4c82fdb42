"""Windows and regions drawn over a layer; matplotlib's objects are only met by their methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import GridError
from geoxt.grid import coordinates, grid_of, offset
from geoxt.plot import compare
from geoxt.samplers.regions import Region
from geoxt.types import Array
from geoxt.windows import Window

Figure = Any
"""A `matplotlib.figure.Figure`."""
COLORS = {"train": "#1b9e77", "val": "#e6ab02", "test": "#d95f02"}
"""Colour of each part of a split."""
_UNITS = ("#d7301f", "#2b8cbe", "#238b45", "#6a51a3", "#e6ab02", "#e7298a", "#00868b", "#8c510a")


class Windows(Protocol):
    """Windows of one grid."""

    grid: GeoBox
    """The grid that they refer to."""
    unit: int
    """How many of them belong together."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Window: ...


def draw_windows(windows: Windows, layer: xr.DataArray | None, *, most: int, title: str) -> Figure:
    """Draw the outlines of windows over a layer, those of a batch or a triplet in one colour."""
    figure = canvas(windows.grid, layer, title)
    axes = figure.axes[0]
    units = -(-len(windows) // windows.unit)
    chosen = np.unique(np.linspace(0, units - 1, min(units, max(most // windows.unit, 1))).astype(int))
    for index in (u * windows.unit + i for u in chosen.tolist() for i in range(windows.unit)):
        if index >= len(windows):
            break
        color = _UNITS[index // windows.unit % len(_UNITS)] if windows.unit > 1 else _UNITS[0]
        xs, ys = _ring(windows[index])
        axes.plot(xs, ys, color="white", linewidth=1.8, alpha=0.8)
        axes.plot(xs, ys, color=color, linewidth=0.9)
    return figure


def draw_parts(grid: GeoBox, parts: Mapping[str, Region], layer: xr.DataArray | None, title: str) -> Figure:
    """Draw regions over a layer, filled in a colour each, with a legend."""
    figure = canvas(grid, layer, title)
    axes = figure.axes[0]
    handles = []
    for name, region in parts.items():
        rings = _outlines(region)
        if not rings:
            continue
        color = COLORS.get(name, _UNITS[0])
        gap = np.full((1, 2), np.nan)
        path = np.concatenate([np.concatenate((ring, gap)) for ring in rings])
        for ring in rings:
            axes.fill(ring[:, 0], ring[:, 1], color=color, alpha=0.45, linewidth=0)
        handles += axes.plot(path[:, 0], path[:, 1], color=color, linewidth=0.8, label=name)
    figure.legend(handles=handles, loc="outside upper center", ncols=max(len(handles), 1), frameon=False)
    return figure


def canvas(grid: GeoBox, layer: xr.DataArray | None, title: str) -> Figure:
    """Return a figure of a layer, or of the bare grid, whose axes count pixels."""
    if layer is None:
        figure = compare({title: _bare(grid)})
    else:
        place = offset(grid_of(layer), grid)
        if place != (0, 0) or grid_of(layer).shape != grid.shape:
            msg = f"Cannot draw over {layer.name!r}: it lies on another grid. Pass a layer on the sampled grid."
            raise GridError(msg)
        figure = compare({title: layer})
    axes = figure.axes[0]
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

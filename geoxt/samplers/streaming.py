"""Reading a layer once, block by block, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import GridError, InputError
from geoxt.grid import full_window, grid_of, pixel_offset
from geoxt.regions.region import GridRegion
from geoxt.source import View, view_of
from geoxt.types import Array, Mask
from geoxt.windows import Window

BLOCK = 1024
"""Side in pixels of the blocks in which layers are read."""


def view_on_grid(layer: xr.DataArray, grid: GeoBox, *, argument: str) -> View:
    """Return the view of a layer with one band and one time step on a grid.

    Parameters
    ----------
    layer
        (y, x).
    grid
        Grid on which the layer must lie.
    argument
        Name of the argument, for errors.

    Raises
    ------
    GridError
        If the layer lies on another grid.
    InputError
        If it has several bands or time steps.
    """
    layer_grid = grid_of(layer)
    if layer_grid.shape != grid.shape or pixel_offset(layer_grid, grid) != (0, 0):
        raise GridError(
            f"Cannot use {layer.name!r} as {argument}: it lies on another grid.",
            remedy="Bring it there with layer.geoml.align(…).",
            argument=argument,
        )
    view = view_of(layer)
    if view.shape[:2] != (1, 1):
        raise InputError(
            f"Cannot use {layer.name!r} as {argument}: it has {view.shape[0]} time steps and {view.shape[1]} bands.",
            remedy="Choose one of each with isel().",
            argument=argument,
        )
    return view


def stream(view: View, region: GridRegion | None = None, *, block: int = BLOCK) -> Iterator[tuple[Window, Array, Mask]]:
    """Yield the window, values (y, x) and valid mask of each block; pixels outside the region are invalid."""
    outer = full_window(view.grid)
    rectangles = None if region is None else np.array([(w.row, w.col, *w.stop) for w in region]).reshape(-1, 4)
    for row in range(0, outer.height, block):
        for col in range(0, outer.width, block):
            window = Window(row, col, min(block, outer.height - row), min(block, outer.width - col))
            in_region = None if rectangles is None else inside(rectangles, window)
            if in_region is not None and not in_region.any():
                continue
            values, valid = (part[0, 0] for part in view.read(window))
            yield window, values, valid if in_region is None else valid & in_region


def inside(rectangles: Array, window: Window) -> Mask:
    """Return which pixels of a window lie in rectangles, given as (n, 4): top, left, bottom, right."""
    bottom, right = window.stop
    tops, lefts, bottoms, rights = rectangles.T
    overlapping = (tops < bottom) & (bottoms > window.row) & (lefts < right) & (rights > window.col)
    mask = np.zeros(window.shape, bool)
    for top, left, low, far in rectangles[overlapping].tolist():
        mask[max(top - window.row, 0) : low - window.row, max(left - window.col, 0) : far - window.col] = True
    return mask

"""A layer read once, block by block, in bounded memory, however large it is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import GridError, InputError
from geoxt.grid import full_window, grid_of, pixel_offset
from geoxt.regions.region import Region
from geoxt.source import View, view_of
from geoxt.types import Array, Mask
from geoxt.windows import Window

BLOCK = 1024
"""Pixels: side of the blocks in which layers are read."""


def plane_of(layer: xr.DataArray, grid: GeoBox, *, what: str) -> View:
    """Return the view of a layer of one band and time step, which must lie on a grid.

    Raises
    ------
    GridError
        Where it lies on another grid.
    InputError
        Where it has several bands or time steps.
    """
    own = grid_of(layer)
    if own.shape != grid.shape or pixel_offset(own, grid) != (0, 0):
        msg = f"Cannot use {layer.name!r} as {what}: it lies on another grid. Bring it there with layer.geoml.align(…)."
        raise GridError(msg)
    view = view_of(layer)
    if view.shape[:2] != (1, 1):
        msg = f"Cannot use {layer.name!r} as {what}: it has {view.shape[0]} time steps and {view.shape[1]} bands. "
        raise InputError(msg + "Choose one of each with isel().")
    return view


def stream(view: View, region: Region | None = None, *, block: int = BLOCK) -> Iterator[tuple[Window, Array, Mask]]:
    """Yield each block of a layer once: its window, its values (y, x), and where they are valid and in the region."""
    outer = full_window(view.grid)
    within = None if region is None else np.array([(w.row, w.col, *w.stop) for w in region]).reshape(-1, 4)
    for row in range(0, outer.height, block):
        for col in range(0, outer.width, block):
            window = Window(row, col, min(block, outer.height - row), min(block, outer.width - col))
            own = None if within is None else inside(within, window)
            if own is not None and not own.any():
                continue
            values, valid = (part[0, 0] for part in view.read(window))
            yield window, values, valid if own is None else valid & own


def inside(rectangles: Array, window: Window) -> Mask:
    """Return which pixels of a window lie in some rectangles (top, left, bottom, right)."""
    bottom, right = window.stop
    top_, left_, bottom_, right_ = rectangles.T
    hit = (top_ < bottom) & (bottom_ > window.row) & (left_ < right) & (right_ > window.col)
    out = np.zeros(window.shape, bool)
    for top, left, low, far in rectangles[hit].tolist():
        out[max(top - window.row, 0) : low - window.row, max(left - window.col, 0) : far - window.col] = True
    return out

"""One source raster onto one window of a target grid: copied where the grids coincide, else resampled once."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np

from geoxt.errors import InputError
from geoxt.pixels import gdal_warp, kernels
from geoxt.pixels.transform import ControlGrid, PixelTransform
from geoxt.types import Array, Floats, Mask, Resampling
from geoxt.windows import Window

FetchWindow = Callable[[Window], tuple[Array, Mask | None]]
"""Reads a window that lies inside the source: values (band, height, width), and which are valid (`None`: all)."""


LARGEST = 1 << 24
"""Source pixels: a window that needs more of one band is sampled in parts."""
SMALLEST = 64
"""Pixels: no part is smaller than this."""


def resample(
    fetch: FetchWindow, mapping: PixelTransform, window: Window, resampling: Resampling
) -> tuple[Array, Mask | None] | None:
    """Return a source raster at the pixels of a window of the target grid.

    Parameters
    ----------
    fetch
        Reads a window of the source.
    mapping
        From the target grid to the source grid.
    window
        Rectangle of the target grid.
    resampling
        How; "nearest" and "bilinear" by geoxt's own kernel, the others by GDAL's.

    Returns
    -------
    values : (band, height, width); floating point for "bilinear" where anything was resampled
    valid : (band, height, width) or `None` where all are valid
        The whole result is `None` where the source does not touch the window. Invalid values are arbitrary.
    """
    raster = Window(0, 0, *mapping.source.shape)
    if mapping.shift is not None:
        return _copy(fetch, raster, window.shift(*mapping.shift))
    patch = mapping.patch(window)
    if patch.extent is None:
        return None
    need = source_window(mapping, patch.extent, resampling).intersect(raster)
    if need is None:
        return None
    if need.height * need.width > LARGEST and max(window.shape) > SMALLEST:
        return _quarters(fetch, mapping, window, resampling)
    values, valid = fetch(need)
    match resampling:
        case "nearest":
            return kernels.nearest(values, valid, (need.row, need.col), patch)
        case "bilinear":
            return _bilinear(values, valid, need, patch)
        case "average" | "mode" | "min" | "max" | "cubic" | "lanczos":
            valid = _finite(values, valid)
            return gdal_warp.warp(values, valid, need, mapping.source, mapping, window, resampling)
        case _:
            msg = f"Cannot resample by {resampling!r}: pass resampling= one of {', '.join(get_args(Resampling))}."
            raise InputError(msg)


def source_window(mapping: PixelTransform, extent: tuple[Floats, Floats], resampling: Resampling) -> Window:
    """Return the window of the source, perhaps beyond its edge, that an extent of coordinates needs."""
    if resampling in gdal_warp.METHODS:
        return gdal_warp.source_window(mapping, extent, resampling)
    return kernels.source_window(mapping, extent, linear=resampling != "nearest")


def _quarters(
    fetch: FetchWindow, mapping: PixelTransform, window: Window, resampling: Resampling
) -> tuple[Array, Mask | None] | None:
    """Sample a window part by part, so that no part needs too much of the source at once."""
    half = max(window.height // 2, 1), max(window.width // 2, 1)
    bottom, right = window.stop
    parts = [
        Window(row, col, min(half[0], bottom - row), min(half[1], right - col))
        for row in range(window.row, bottom, half[0])
        for col in range(window.col, right, half[1])
    ]
    out: Array | None = None
    flags: Mask | None = None
    for piece in parts:
        found = resample(fetch, mapping, piece, resampling)
        if found is None:
            continue
        if out is None:
            out = np.zeros((len(found[0]), *window.shape), found[0].dtype)
            flags = np.zeros(out.shape, bool)
        assert flags is not None
        here = piece.within(window)
        out[:, *here] = found[0]
        flags[:, *here] = True if found[1] is None else found[1]
    return None if out is None else (out, flags)


def _copy(fetch: FetchWindow, raster: Window, wanted: Window) -> tuple[Array, Mask | None] | None:
    inside = wanted.intersect(raster)
    if inside is None:
        return None
    values, valid = fetch(inside)
    if inside.shape == wanted.shape:
        return values, valid
    out = np.zeros((len(values), *wanted.shape), values.dtype)
    flags = np.zeros(out.shape, bool)
    here = inside.within(wanted)
    out[:, *here] = values
    flags[:, *here] = True if valid is None else valid
    return out, flags


def _bilinear(values: Array, valid: Mask | None, need: Window, patch: ControlGrid) -> tuple[Array, Mask | None]:
    return kernels.bilinear(values, _finite(values, valid), (need.row, need.col), patch)


def _finite(values: Array, valid: Mask | None) -> Mask | None:
    """Return which values can be computed with; `None` where all can."""
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        if not finite.all():
            valid = finite if valid is None else valid & finite
    return None if valid is None or valid.all() else valid

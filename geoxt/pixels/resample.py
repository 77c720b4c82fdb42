"""A source raster in a window of a target grid: copied if the grids coincide, else resampled once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

import numpy as np

from geoxt.errors import InputError
from geoxt.pixels import gdal_warp, kernels
from geoxt.pixels.transform import PixelTransform
from geoxt.types import Array, Floats, Mask, Resampling
from geoxt.windows import Window

FetchWindow = Callable[[Window], tuple[Array, Mask | None]]
"""Reads a window inside the source: values (band, height, width) and their valid mask (`None`: all valid)."""
MAX_SOURCE_PIXELS = 1 << 24
"""Source pixels of one band above which a window is resampled in quarters, to bound memory."""
MIN_SIDE = 64
"""Target pixels: windows of this size are not divided further."""


def resample(
    fetch: FetchWindow, transform: PixelTransform, window: Window, resampling: Resampling
) -> tuple[Array, Mask | None] | None:
    """Return a source raster at the pixels of a target window.

    Parameters
    ----------
    fetch
        Reads a window of the source.
    transform
        From the target grid to the source grid.
    window
        Window of the target grid.
    resampling
        Method: "nearest" and "bilinear" by geoxt's kernels, the others by GDAL's.

    Returns
    -------
    values : (band, height, width); floating point for "bilinear" unless copied
    valid : (band, height, width) or `None` if all are valid
        The whole result is `None` if the source does not touch the window. Invalid values are arbitrary.

    Raises
    ------
    InputError
        If the method is unknown.
    """
    if transform.parts:
        return _merge([resample(fetch, part, window, resampling) for part in transform.parts])
    raster = Window(0, 0, *transform.source.shape)
    if (copied := transform.copied(window)) is not None:
        return _copy(fetch, raster, copied, transform)
    control = transform.control_grid(window)
    if control.extent is None:
        return None
    needed = source_window(transform, control.extent, resampling).intersect(raster)
    if needed is None:
        return None
    if needed.height * needed.width > MAX_SOURCE_PIXELS and max(window.shape) > MIN_SIDE:
        return _quarters(fetch, transform, window, resampling)
    values, valid = fetch(needed)
    match resampling:
        case "nearest":
            return kernels.nearest(values, valid, (needed.row, needed.col), control)
        case "bilinear":
            return kernels.bilinear(values, _finite(values, valid), (needed.row, needed.col), control)
        case "average" | "mode" | "min" | "max" | "cubic" | "lanczos":
            valid = _finite(values, valid)
            return gdal_warp.warp(values, valid, needed, transform.source, transform, window, resampling)
        case _:
            methods = ", ".join(get_args(Resampling))
            msg = f"Cannot resample by {resampling!r}."
            raise InputError(msg, remedy=f"Pass {{resampling}}, one of {methods}.", argument="resampling")


def source_window(transform: PixelTransform, extent: tuple[Floats, Floats], resampling: Resampling) -> Window:
    """Return the source window that an extent of coordinates needs; it may reach over the source's edge."""
    if resampling in gdal_warp.METHODS:
        return gdal_warp.source_window(transform, extent, resampling)
    return kernels.source_window(transform, extent, linear=resampling != "nearest")


def _quarters(
    fetch: FetchWindow, transform: PixelTransform, window: Window, resampling: Resampling
) -> tuple[Array, Mask | None] | None:
    """Resample a window quarter by quarter; a window has the same values in any division."""
    half = max(window.height // 2, 1), max(window.width // 2, 1)
    bottom, right = window.stop
    quarters = [
        Window(row, col, min(half[0], bottom - row), min(half[1], right - col))
        for row in range(window.row, bottom, half[0])
        for col in range(window.col, right, half[1])
    ]
    out: Array | None = None
    out_valid: Mask | None = None
    for quarter in quarters:
        resampled = resample(fetch, transform, quarter, resampling)
        if resampled is None:
            continue
        values, valid = resampled
        if out is None:
            out = np.zeros((len(values), *window.shape), values.dtype)
            out_valid = np.zeros(out.shape, bool)
        assert out_valid is not None
        target = quarter.within(window)
        out[:, *target] = values
        out_valid[:, *target] = True if valid is None else valid
    return None if out is None else (out, out_valid)


def needed_window(transform: PixelTransform, window: Window, resampling: Resampling) -> Window | None:
    """Return the window of the source that `resample` reads from for a target window; `None` if it reads nothing."""
    if transform.parts:
        windows = [needed_window(part, window, resampling) for part in transform.parts]
        return bounding_window([part for part in windows if part is not None])
    needed = transform.copied(window)
    if needed is None:
        extent = transform.control_grid(window).extent
        needed = None if extent is None else source_window(transform, extent, resampling)
    return None if needed is None else needed.intersect(Window(0, 0, *transform.source.shape))


def bounding_window(windows: Sequence[Window]) -> Window | None:
    """Return the smallest window that contains several; `None` for an empty list."""
    if not windows:
        return None
    row, col = min(w.row for w in windows), min(w.col for w in windows)
    return Window(row, col, max(w.stop[0] for w in windows) - row, max(w.stop[1] for w in windows) - col)


def _merge(images: Sequence[tuple[Array, Mask | None] | None]) -> tuple[Array, Mask | None] | None:
    """Return the first valid pixel of the parts of a source; in the dtype of the copied parts, if any."""
    parts = [image for image in images if image is not None]
    if len(parts) < 2:
        return parts[0] if parts else None
    copied = [values.dtype for values, _ in parts if values.dtype.kind in "iub"]
    dtype = copied[0] if copied else np.result_type(*(values.dtype for values, _ in parts))
    merged: tuple[Array, Mask] | None = None
    for values, valid in parts:
        inside = np.ones(values.shape, bool) if valid is None else valid
        rounded = values.dtype.kind == "f" and dtype.kind != "f"
        pixels = (np.rint(np.where(inside, values, 0)) if rounded else values).astype(dtype)
        if merged is None:
            merged = pixels, inside.copy()
            continue
        fills = inside & ~merged[1]
        merged[0][fills] = pixels[fills]
        merged[1][fills] = True
    assert merged is not None
    return merged[0], None if merged[1].all() else merged[1]


def _copy(
    fetch: FetchWindow, raster: Window, copied: Window, transform: PixelTransform
) -> tuple[Array, Mask | None] | None:
    inside = copied.intersect(raster)
    if inside is None:
        return None
    values, valid = fetch(inside)
    if inside.shape == copied.shape:
        return transform.oriented(values), None if valid is None else transform.oriented(valid)
    out = np.zeros((len(values), *copied.shape), values.dtype)
    out_valid = np.zeros(out.shape, bool)
    target = inside.within(copied)
    out[:, *target] = values
    out_valid[:, *target] = True if valid is None else valid
    return transform.oriented(out), transform.oriented(out_valid)


def _finite(values: Array, valid: Mask | None) -> Mask | None:
    """Return the valid mask without NaN and infinity, which a weight of 0 would not remove; `None` if all are valid."""
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        if not finite.all():
            valid = finite if valid is None else valid & finite
    return None if valid is None or valid.all() else valid

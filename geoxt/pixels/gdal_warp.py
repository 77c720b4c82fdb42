"""Resampling by GDAL's warper: average, mode, min, max, cubic and lanczos, exact and independent of windows.

GDAL estimates the width of its kernels, and approximates coordinates, from the window that it is given. Here both are
fixed: the ratio of the pixels comes from the whole grids (`XSCALE`, `YSCALE`), and the transformer is exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling as Method
from rasterio.io import MemoryFile
from rasterio.vrt import WarpedVRT

from geoxt.grid import to_rasterio, window_grid
from geoxt.pixels.transform import PixelTransform
from geoxt.types import Array, Mask, Resampling
from geoxt.windows import Window

METHODS = {name: Method[name] for name in ("average", "mode", "min", "max", "cubic", "lanczos")}
RADIUS = {"cubic": 2, "lanczos": 3}
"""Source pixels that a kernel reaches to each side, at a ratio of one; 1 for all others."""
EXACT = 1e-9
"""Pixels: the tolerance given to GDAL's transformer, which takes 0 as "work it out"."""


def source_window(mapping: PixelTransform, extent: tuple[Array, Array], resampling: Resampling) -> Window:
    """Return the window of the source, perhaps beyond its edge, that a method needs for an extent of coordinates."""
    margin = np.ceil(RADIUS.get(resampling, 1) * np.maximum(mapping.scale, 1)) + 2
    low, high = np.floor(extent[0] - margin), np.ceil(extent[1] + margin) + 1
    return Window(int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))


def warp(
    values: Array,
    valid: Mask | None,
    need: Window,
    source: GeoBox,
    mapping: PixelTransform,
    window: Window,
    how: Resampling,
) -> tuple[Array, Mask | None]:
    """Return a source raster at the pixels of a window of the target grid.

    Parameters
    ----------
    values
        (band, rows, cols) of a window of the source.
    valid
        Which of them are valid; `None` for all.
    need
        The window of the source that they are.
    source
        The whole source grid.
    mapping
        From the target grid to the source grid.
    window
        Rectangle of the target grid.
    how
        One of `METHODS`.

    Returns
    -------
    values : (band, height, width), in the type of the source
    valid : (band, height, width) or `None` where all are valid
    """
    if valid is not None and len(values) > 1 and not (valid == valid[:1]).all():
        bands = [warp(values[[b]], valid[[b]], need, source, mapping, window, how) for b in range(len(values))]
        flags = [np.ones_like(v, bool) if good is None else good for v, good in bands]
        return np.concatenate([v for v, _ in bands]), np.concatenate(flags)
    profile: dict[str, Any] = {
        "driver": "GTiff", "count": len(values), "height": need.height, "width": need.width,
        "dtype": values.dtype, **to_rasterio(window_grid(source, need)),
    }  # fmt: skip
    target = to_rasterio(window_grid(mapping.target, window))
    scale_y, scale_x = mapping.scale
    options = {
        "resampling": METHODS[how], "tolerance": EXACT, "add_alpha": True, "width": window.width,
        "height": window.height, "XSCALE": str(1 / scale_x), "YSCALE": str(1 / scale_y), **target,
    }  # fmt: skip
    with MemoryFile() as memory:
        with memory.open(**profile) as file:
            file.write(values if valid is None else np.where(valid, values, 0))
            if valid is not None:
                file.write_mask(valid[0])
        with memory.open() as file, WarpedVRT(file, **options) as warped:
            found = warped.read()
    good = found[-1] > 0
    return found[:-1], None if good.all() else np.broadcast_to(good, found[:-1].shape)

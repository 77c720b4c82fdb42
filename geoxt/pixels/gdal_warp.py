"""Resampling by GDAL's warper (average, mode, min, max, cubic, lanczos), made independent of the window.

By default GDAL estimates the kernel width from the window that it warps, and approximates coordinates along its
scanlines, so that two windows differ in shared pixels. Here both are fixed: the ratio of pixel sizes comes from the
whole grids (warp options `XSCALE` and `YSCALE`), and every pixel is transformed exactly (`warp_vrt`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.io import MemoryFile

from geoxt.pixels.transform import PixelTransform
from geoxt.pixels.warp_vrt import pixel_pipeline, warp_vrt
from geoxt.types import Array, Mask, Resampling
from geoxt.windows import Window

METHODS = {
    "average": "Average", "mode": "Mode", "min": "Minimum", "max": "Maximum", "cubic": "Cubic", "lanczos": "Lanczos",
}  # fmt: skip
"""GDAL's names of the methods."""
RADIUS = {"cubic": 2, "lanczos": 3}
"""Kernel radius in source pixels at equal resolution (`GWKGetFilterRadius` of GDAL); 1 for the other methods."""
UNPLACED = Affine(1, 0, 1, 0, -1, 1)
"""Affine transform of the file with the source pixels; rasterio warns of the identity and of mirrored ones."""


def source_window(transform: PixelTransform, extent: tuple[Array, Array], resampling: Resampling) -> Window:
    """Return the source window that a method needs for an extent of coordinates; it may reach over the edge."""
    margin = np.ceil(RADIUS.get(resampling, 1) * np.maximum(transform.scale, 1)) + 2
    low, high = np.floor(extent[0] - margin), np.ceil(extent[1] + margin) + 1
    return Window(int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))


def warp(
    values: Array,
    valid: Mask | None,
    values_window: Window,
    source: GeoBox,
    transform: PixelTransform,
    window: Window,
    resampling: Resampling,
) -> tuple[Array, Mask | None]:
    """Return a source raster at the pixels of a target window.

    Parameters
    ----------
    values
        (band, rows, cols) of a window of the source.
    valid
        Valid mask of `values`; `None` if all are valid.
    values_window
        The window of the source that `values` covers.
    source
        The whole source grid.
    transform
        From the target grid to the source grid.
    window
        Window of the target grid.
    resampling
        One of `METHODS`.

    Returns
    -------
    values : (band, height, width), in the type of the source
    valid : (band, height, width) or `None` if all are valid
    """
    if valid is not None and len(values) > 1 and not (valid == valid[:1]).all():
        # A GeoTIFF has one mask for all bands: bands whose masks differ are warped one by one.
        bands = [
            warp(values[[b]], valid[[b]], values_window, source, transform, window, resampling)
            for b in range(len(values))
        ]
        masks = [np.ones_like(v, bool) if mask is None else mask for v, mask in bands]
        return np.concatenate([v for v, _ in bands]), np.concatenate(masks)
    profile: dict[str, Any] = {
        "driver": "GTiff", "count": len(values), "height": values_window.height, "width": values_window.width,
        "dtype": values.dtype, "transform": UNPLACED,
    }  # fmt: skip
    pipeline = pixel_pipeline(source, transform.target, resampling)
    with MemoryFile() as memory:
        with memory.open(**profile) as file:
            file.write(values if valid is None else np.where(valid, values, 0))
            if valid is not None:
                file.write_mask(valid[0])
        text = warp_vrt(
            memory.name, len(values), values.dtype.name, windows=(values_window, window), pipeline=pipeline,
            algorithm=METHODS[resampling], scale=transform.scale,
        )  # fmt: skip
        with rasterio.open(text) as vrt:
            warped = vrt.read()
    warped_valid = warped[-1] > 0  # the alpha band
    return warped[:-1], None if warped_valid.all() else np.broadcast_to(warped_valid, warped[:-1].shape)

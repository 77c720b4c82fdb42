"""Interpolated integers: layers whose class codes, if they hold any, are blends of several classes.

An encoding marks them, which xarray keeps when it selects or computes, and drops when it calculates. The sources in a
dask graph are also compared with the grids of their files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dask.array
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.grid import pixel_offset
from geoxt.source.array_source import ArraySource
from geoxt.source.mosaic import Mosaic
from geoxt.source.protocol import Source
from geoxt.source.source_uses import find_uses
from geoxt.types import Resampling

_ENCODING = "geoxt_interpolated"
_UNCHANGED: tuple[Resampling, ...] = ("nearest", "mode")
"""Resampling methods whose results are values of the source."""


def mark_interpolated(layer: xr.DataArray) -> xr.DataArray:
    """Return a layer whose encoding states that its pixels were interpolated, if they are integers."""
    if layer.dtype.kind in "iu":
        layer = layer.copy(deep=False)
        layer.encoding = {**layer.encoding, _ENCODING: True}
    return layer


def is_interpolated(layer: xr.DataArray) -> bool:
    """Return whether the integers of a layer were computed by interpolation between pixels of their source."""
    if layer.dtype.kind not in "iu":
        return False
    if layer.encoding.get(_ENCODING):
        return True
    if not isinstance(layer.variable._data, dask.array.Array):  # noqa: SLF001 (.data would load a lazy array)
        return False
    uses = find_uses(layer.data)
    return uses.copied and any(source_interpolates(use.base.source) for use in uses.uses)


def interpolates(resampling: Resampling) -> bool:
    """Return whether a resampling method computes new values."""
    return resampling not in _UNCHANGED


def source_interpolates(source: Source) -> bool:
    """Return whether a source computes new values, as its pixels do not coincide with those of its files or array."""
    if not interpolates(getattr(source, "resampling", "nearest")):
        return False
    match source:
        case ArraySource():
            return pixel_offset(source.grid, source.array_grid) is None
        case Mosaic():
            return any(pixel_offset(source.grid, grid) is None for grid in _grids(source))
        case _:
            return False


def _grids(mosaic: Mosaic) -> Iterator[GeoBox]:
    """Yield one grid for each CRS, pixel size and offset in pixels: thousands of scenes share them."""
    known: set[Any] = set()
    inverse = ~mosaic.grid.affine
    for scene in mosaic.scenes:
        for grid in {id(asset.grid): asset.grid for asset in scene.assets if asset is not None}.values():
            pixels = inverse @ grid.affine
            key = id(grid.crs), *pixels[:2], *pixels[3:5], pixels.c % 1, pixels.f % 1, *grid.shape
            if key not in known:
                known.add(key)
                yield grid

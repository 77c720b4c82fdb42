"""Quality: which pixels of a scene a quality band leaves, told on the grid of the scene's own bands."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from odc.geo.geobox import GeoBox

from geoxt.pixels import reader
from geoxt.pixels.credentials import Credentials
from geoxt.pixels.resample import resample
from geoxt.pixels.transform import PixelTransform
from geoxt.source.array_source import valid_mask
from geoxt.source.scene_assets import QualityBand
from geoxt.types import Array, Mask
from geoxt.windows import Window


class QualityMask:
    """Tells which pixels of a grid a quality band leaves.

    It is read in its own grid. Each pixel of the other grid has the quality of the nearest pixel, so it is decided
    before any resampling: what is taken out never enters the value of a neighbour.

    Parameters
    ----------
    quality
        The band, and what it takes out. Where it has no pixel, nothing is left.
    grid
        The grid of the bands that it is about.
    credentials
        How its file is opened.
    """

    __slots__ = ("_credentials", "_mapping", "_quality")

    def __init__(self, quality: QualityBand, grid: GeoBox, credentials: Credentials | None) -> None:
        self._quality, self._credentials = quality, credentials
        self._mapping = PixelTransform(grid, quality.asset.grid)

    def read(self, window: Window) -> Mask | None:
        """Return which pixels (height, width) of a window of the grid are left; `None` where all are."""
        found = resample(self._fetch, self._mapping, window, "nearest")
        if found is None:
            return np.zeros(window.shape, bool)
        values, inside = found
        good = not_excluded(values[0], self._quality.out)
        if inside is not None:
            good &= inside[0]
        return None if good.all() else good

    def _fetch(self, window: Window) -> tuple[Array, Mask | None]:
        asset = self._quality.asset
        values, valid = reader.read(asset.href, [asset.band], window, masks=asset.masked, credentials=self._credentials)
        missing = valid_mask(values, asset.nodata)
        return values, missing if valid is None else valid if missing is None else valid & missing


def not_excluded(values: Array, out: tuple[tuple[int, int, int], ...]) -> Mask:
    """Return which numbers are none of those taken out."""
    kind = values.dtype
    if kind.kind == "u" and kind.itemsize <= 2:
        return _table(out, str(kind)).take(values)
    return _left(values.astype("int64", copy=False), out)


@lru_cache(64)
def _table(out: tuple[tuple[int, int, int], ...], dtype: str) -> Mask:
    return _left(np.arange(np.iinfo(dtype).max + 1), out)


def _left(numbers: Array, out: tuple[tuple[int, int, int], ...]) -> Mask:
    good = np.ones(numbers.shape, bool)
    for bit, mask, value in out:
        good &= (numbers >> bit) & mask != value
    return good

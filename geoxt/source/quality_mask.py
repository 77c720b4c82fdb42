"""Valid masks of scenes from their quality bands, on the grid of the other bands."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from odc.geo.geobox import GeoBox

from geoxt.pixels import reader
from geoxt.pixels.credentials import Credentials
from geoxt.pixels.resample import resample
from geoxt.pixels.transform import PixelTransform
from geoxt.source.array_source import valid_mask
from geoxt.source.catalog_check import check_of
from geoxt.source.scene_assets import QualityBand
from geoxt.types import Array, Mask
from geoxt.windows import Window


class QualityMask:
    """Reads the valid mask of a scene's bands from a quality band on another grid.

    The quality band is resampled by nearest to the grid of the stored bands, before these are resampled: excluded
    pixels never contribute to a neighbour's value.

    Parameters
    ----------
    quality
        Quality band and excluded values. Outside its extent all pixels are invalid, but valid if `excluded` is `None`.
    grid
        Grid of the bands that it applies to.
    credentials
        URL signer and GDAL options to open its file with.
    """

    __slots__ = ("_check", "_credentials", "_quality", "_transform")

    def __init__(self, quality: QualityBand, grid: GeoBox, credentials: Credentials | None) -> None:
        self._quality, self._credentials = quality, credentials
        self._check = check_of([quality.asset])
        self._transform = PixelTransform(grid, quality.asset.grid)

    def read(self, window: Window) -> Mask | None:
        """Return the valid mask (height, width) of a window; `None` if all pixels are valid."""
        resampled = resample(self._fetch, self._transform, window, "nearest")
        if resampled is None:
            return None if self._quality.excluded is None else np.zeros(window.shape, bool)
        values, inside = resampled
        if self._quality.excluded is None:
            masked = values[0] != 0 if inside is None else (values[0] != 0) & inside[0]
            return ~masked if masked.any() else None
        valid = not_excluded(values[0], self._quality.excluded)
        if inside is not None:
            valid &= inside[0]
        return None if valid.all() else valid

    def _fetch(self, window: Window) -> tuple[Array, Mask | None]:
        asset, masks = self._quality.asset, bool(self._quality.asset.masked)
        if asset.array is not None:
            values = asset.array.read([asset.band], window)
            return values, valid_mask(values, asset.nodata)
        values, valid = reader.read(
            asset.href, [asset.band], window, masks=masks, credentials=self._credentials, check=self._check
        )
        has_data = valid_mask(values, asset.nodata)
        return values, has_data if valid is None else valid if has_data is None else valid & has_data


def not_excluded(values: Array, excluded: tuple[tuple[int, int, int], ...]) -> Mask:
    """Return which values match none of the triples (bit, mask, value); see `QualityBand`."""
    dtype = values.dtype
    if dtype.kind == "u" and dtype.itemsize <= 2:
        return _lookup_table(excluded, str(dtype)).take(values)
    return _test_bits(values.astype("int64", copy=False), excluded)


@lru_cache(64)
def _lookup_table(excluded: tuple[tuple[int, int, int], ...], dtype: str) -> Mask:
    return _test_bits(np.arange(np.iinfo(dtype).max + 1), excluded)


def _test_bits(values: Array, excluded: tuple[tuple[int, int, int], ...]) -> Mask:
    valid = np.ones(values.shape, bool)
    for bit, mask, value in excluded:
        valid &= (values >> bit) & mask != value
    return valid

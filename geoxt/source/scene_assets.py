"""Scenes: what is known of each acquisition before any pixel is read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from dask.base import tokenize
from odc.geo.geobox import GeoBox


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One band of one scene: a band of a raster file."""

    href: str
    """Path or URL that GDAL can open, not signed."""
    band: int
    """Number of the band in the file; the first is 1."""
    grid: GeoBox
    """The file's own grid."""
    dtype: str
    """Stored data type."""
    nodata: float | None = None
    """Stored value that marks missing pixels."""
    unlabelled: tuple[int, ...] = ()
    """Further stored values of missing pixels, such as codes that mean that nobody knows."""
    masked: bool = False
    """Whether the file keeps a mask or an alpha band of its own."""
    scale: float = 1.0
    """Physical units per stored unit."""
    offset: float = 0.0
    """Physical value of a stored 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityBand:
    """A quality band of a scene, and what it takes out."""

    asset: Asset
    """The band: whole numbers."""
    out: tuple[tuple[int, int, int], ...]
    """Triples (bit, mask, value); pixels are taken out where `(number >> bit) & mask == value` for any of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One acquisition of one raster product."""

    id: str
    """Name, for messages and attributes."""
    assets: tuple[Asset | None, ...]
    """One for each band of the mosaic; `None` where the scene lacks it."""
    start: np.datetime64 | None = None
    """Beginning of the interval in which it was acquired (UTC)."""
    end: np.datetime64 | None = None
    """End of that interval (UTC)."""
    cloud_cover: float | None = None
    """Share of its pixels that clouds cover, in percent."""
    quality: tuple[QualityBand, ...] = ()
    """What says which of its pixels are taken out; they are as missing ones in every band."""
    place: bytes | None = None
    """Where it has data, about: polygons of longitudes and latitudes, WKB. It decides no pixel, and serves to leave out
    places without data; `None` where nobody says it."""

    @property
    def marks(self) -> bool:
        """Whether the files of all its bands tell which pixels are missing."""
        return all(a.nodata is not None or a.masked for a in self.assets if a is not None)

    @property
    def grid(self) -> GeoBox:
        """The grid of the scene's first band."""
        return next(a.grid for a in self.assets if a is not None)


_tokens: dict[int, tuple[tuple[Scene, ...], str]] = {}
KEPT = 32
"""Sets of scenes whose tokens are remembered."""


def token_of(scenes: tuple[Scene, ...]) -> str:
    """Return dask's token of scenes, worked out once: aligning a hundred thousand of them names them again."""
    found = _tokens.get(id(scenes))
    if found is None or found[0] is not scenes:
        while len(_tokens) >= KEPT:
            _tokens.pop(next(iter(_tokens)), None)
        found = _tokens[id(scenes)] = scenes, tokenize(scenes)
    return found[1]

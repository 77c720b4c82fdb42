"""Metadata of scenes and their assets, known before any pixel is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields

import numpy as np
from odc.geo.geobox import GeoBox

from geoxt.pixels.file_version import main_version
from geoxt.pixels.scaled_array import ScaledArray
from geoxt.pixels.xarray_planes import XarrayPlanes
from geoxt.pixels.zarr_array import ZarrArray
from geoxt.types import Quantization

PlaneArray = ZarrArray | XarrayPlanes | ScaledArray
"""An array that is read plane by plane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One band of one scene: a band of a raster file."""

    href: str
    """Path or unsigned URL that GDAL can open."""
    band: int
    """Number of the band in the file; the first is 1."""
    grid: GeoBox
    """Grid of the file."""
    dtype: str
    """Stored data type."""
    nodata: float | None = None
    """Stored nodata value."""
    extra_nodata: tuple[float, ...] = ()
    """Further stored values of invalid pixels, such as class codes for "unlabeled"."""
    masked: bool | None = False
    """Whether the file has an internal mask or an alpha band; `None` if no catalog states it."""
    data_bands: tuple[int, ...] = ()
    """Numbers of bands that the catalog names: none of them is an alpha band, even if the file declares it."""
    band_names: tuple[tuple[str, str], ...] = ()
    """Name and common name of each band of the file as the catalog states them, for files of several bands."""
    assumed_single: bool = False
    """Whether a catalog names no band of the file, so that it must have no other band."""
    nodata_assumed: bool = False
    """Whether nodata is that of another file of the collection, so that the file's own nodata decides."""
    scale_assumed: bool = False
    """Whether scale and offset are those of another file of the collection, or none, so that the file must have the
    same."""
    stated: bool = False
    """Whether a catalog states grid, data type and nodata; they are compared with the file when it is read."""
    scale: float = 1.0
    """Physical units per stored unit."""
    offset: float = 0.0
    """Physical value of a stored 0."""
    scale_unknown: bool = False
    """Whether scale and offset depend on metadata of the scene that are not known."""
    header: tuple[float | None, float, float, bool] | None = None
    """Nodata value, scale and offset of the band and whether the file has an internal mask, as its header stated them
    when the layer was opened; `None` if a catalog states the asset."""
    quantization: Quantization | None = None
    """How stored integers are converted to numbers before they are resampled; `None` for stored numbers."""
    array: PlaneArray | None = None
    """Array that pixels are read from, whose planes are the bands; `None` for a file that GDAL reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityBand:
    """A quality band of a scene, and the values that make pixels invalid."""

    asset: Asset
    """The band, of integers unless `excluded` is `None`."""
    excluded: tuple[tuple[int, int, int], ...] | None
    """Triples (bit, mask, value): pixels with `(number >> bit) & mask == value` for any triple are invalid, and so are
    pixels that the band lacks. `None`: pixels with a number other than 0 are invalid, all others are valid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One acquisition of one raster product."""

    id: str
    """Scene id, for messages and attributes."""
    assets: tuple[Asset | None, ...]
    """One asset per band of the mosaic; `None` for bands that the scene lacks."""
    start: np.datetime64 | None = None
    """Beginning of the interval in which it was acquired (UTC)."""
    end: np.datetime64 | None = None
    """End of that interval (UTC)."""
    cloud_cover: float | None = None
    """Cloud cover of the STAC item in percent."""
    quality: tuple[QualityBand, ...] = ()
    """Quality bands; pixels that they exclude are invalid in every band."""
    geometry: bytes | None = None
    """Approximate footprint from the catalog (WKB polygons in longitude and latitude); `None` if unknown. It serves to
    avoid windows without data, and changes no pixel."""

    @property
    def has_valid_mask(self) -> bool:
        """Whether the files of all bands have a nodata value or a mask."""
        return all(a.nodata is not None or a.masked for a in self.assets if a is not None)

    @property
    def grid(self) -> GeoBox:
        """Grid of the scene's first band."""
        return next(a.grid for a in self.assets if a is not None)


_tokens: dict[int, tuple[tuple[Scene, ...], str]] = {}
CACHED_TOKENS = 32
"""Maximum number of sets of scenes whose tokens are cached."""


_MISSING = (None, None)
"""Version of a local file that is missing."""
_assumed_missing: ContextVar[frozenset[str]] = ContextVar("assumed_missing", default=frozenset())


@contextmanager
def assume_missing(hrefs: Iterable[str]) -> Iterator[None]:
    """Compute tokens as if local files were missing, to recognize work that began before they were there."""
    reset = _assumed_missing.set(frozenset(hrefs))
    try:
        yield
    finally:
        _assumed_missing.reset(reset)


def missing_files(scenes: tuple[Scene, ...]) -> list[str]:
    """Return the local files of scenes that are missing now."""
    return [href for href in _hrefs(scenes) if main_version(href) == _MISSING]


def token_of(scenes: tuple[Scene, ...]) -> str:
    """Return the dask token of scenes and of the present versions of local files.

    A cluster does not reuse results of files that were replaced since. Tokens are cached, as hashing 100,000 scenes
    again for every aligned layer takes seconds.
    """
    if missing := _assumed_missing.get():
        return _hash(scenes, [_MISSING if href in missing else main_version(href) for href in _hrefs(scenes)])
    cached = _tokens.get(id(scenes))
    if cached is None or cached[0] is not scenes:
        while len(_tokens) >= CACHED_TOKENS:
            _tokens.pop(next(iter(_tokens)), None)
        cached = _tokens[id(scenes)] = scenes, _hash(scenes, [main_version(href) for href in _hrefs(scenes)])
    return cached[1]


def _hrefs(scenes: tuple[Scene, ...]) -> list[str]:
    """Return the addresses of all files of scenes, each once."""
    assets = (asset for scene in scenes for asset in (*scene.assets, *(q.asset for q in scene.quality)))
    return list(dict.fromkeys(asset.href for asset in assets if asset is not None))


def _hash(scenes: tuple[Scene, ...], versions: Sequence[object]) -> str:
    """Return a hash of all fields by their text: ten times as fast as dask's tokens of dataclasses."""
    digest = hashlib.blake2b(repr(versions).encode(), digest_size=16)
    grids: dict[int, str] = {}
    for scene in scenes:
        values = [getattr(scene, name) for name in _SCENE_FIELDS]
        assets = [None if asset is None else _asset_text(asset, grids) for asset in scene.assets]
        quality = [(_asset_text(band.asset, grids), band.excluded) for band in scene.quality]
        digest.update(repr((values, assets, quality)).encode())
    return digest.hexdigest()


def _asset_text(asset: Asset, grids: dict[int, str]) -> tuple[str, list[object]]:
    """Return the fields of an asset as values with a complete `repr`; `grids` caches the texts of grids by identity."""
    grid = asset.grid
    if id(grid) not in grids:
        grids[id(grid)] = repr((tuple(grid.shape), tuple(grid.affine), str(grid.crs)))
    return grids[id(grid)], [getattr(asset, name) for name in _ASSET_FIELDS]


_SCENE_FIELDS = tuple(f.name for f in fields(Scene) if f.name not in {"assets", "quality"})
_ASSET_FIELDS = tuple(f.name for f in fields(Asset) if f.name != "grid")

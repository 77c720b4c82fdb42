"""Bands of one scene that share a grid: reads from their files, and the transform from the mosaic's grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from geoxt.pixels import reader
from geoxt.pixels.credentials import Credentials
from geoxt.pixels.transform import PixelTransform
from geoxt.source.array_source import valid_mask
from geoxt.source.catalog_check import HeaderCheck, check_of
from geoxt.source.dequantize import dequantize
from geoxt.source.quality_mask import QualityMask
from geoxt.source.scene_assets import Asset, QualityBand
from geoxt.types import Array, Floats, Mask, Resampling
from geoxt.windows import Window

AVERAGING = {"bilinear", "cubic", "lanczos", "average"}
"""Methods that may read overviews; the others select or count original pixels, which overviews do not hold."""
COARSER = 1.9
"""Source pixels per target pixel above which overviews are used."""


class AssetGroup:
    """The assets of one scene that share a grid.

    Parameters
    ----------
    assets
        Assets of the bands.
    target, source
        Target grid, and grid of the assets.
    resampling
        Resampling method.
    quality
        Quality bands, applied on the assets' grid before resampling. With them no overview is read, as its pixels are
        averages that include excluded pixels.
    credentials
        URL signer and GDAL options to open files with.
    """

    __slots__ = (
        "_arrays",
        "_assumed",
        "_checks",
        "_credentials",
        "_dtype",
        "_extra_nodata",
        "_files",
        "_masks",
        "_nodata",
        "_nodata_in_files",
        "_quantization",
        "_scales",
        "extreme_nodata",
        "level",
        "transform",
    )

    def __init__(
        self,
        assets: list[Asset],
        target: GeoBox,
        source: GeoBox,
        resampling: Resampling,
        *,
        quality: tuple[QualityBand, ...] = (),
        credentials: Credentials | None = None,
    ) -> None:
        self.transform = PixelTransform(target, source)
        self.level: int | None = None
        self._credentials = credentials
        self._masks = [QualityMask(band, source, credentials) for band in quality]
        scales: Floats = np.array([(a.scale, a.offset) for a in assets], "float64").T[:, :, None, None]
        self._scales = None if (scales[0] == 1).all() and (scales[1] == 0).all() else scales
        files: dict[str, list[tuple[int, Asset]]] = {}
        for index, asset in enumerate(assets):
            files.setdefault(asset.href, []).append((index, asset))
        self._arrays = {href: array for href, group in files.items() if (array := group[0][1].array) is not None}
        self._checks = {href: check_of([asset for _, asset in group]) for href, group in files.items()}
        # Overviews of quantized numbers are averages of these, and not of the numbers.
        self._quantization = assets[0].quantization
        if not quality and not self._quantization and resampling in AVERAGING and min(self.transform.scale) >= COARSER:
            self._choose_overview(files)
        self._dtype = np.result_type(*{a.dtype for a in assets})
        self._nodata = [a.nodata for a in assets]
        self._assumed = [a.nodata_assumed for a in assets]
        self.extreme_nodata = _extreme(set(self._nodata), self._dtype) if True not in self._assumed else None
        """Nodata value of all bands if it is the end of the range of integers of up to 16 bits, else `None`."""
        self._nodata_in_files = any(not isinstance(check, HeaderCheck) for check in self._checks.values())
        extra = [tuple(code for code in a.extra_nodata if code != a.nodata) for a in assets]
        self._extra_nodata = [(index, codes) for index, codes in enumerate(extra) if codes]
        self._files = [
            (href, [i for i, _ in group], [a.band for _, a in group], bool(group[0][1].masked))
            for href, group in files.items()
        ]

    def _choose_overview(self, hrefs: Iterable[str]) -> None:
        """Read from an overview if the target is coarse enough and all files have the same one."""
        if self._arrays:
            self._choose_level(hrefs)
            return
        ratio, credentials = min(self.transform.scale), self._credentials
        overviews = {
            reader.choose_overview(href, ratio=ratio, credentials=credentials, check=self._checks.get(href))
            for href in hrefs
        }
        overview = overviews.pop() if len(overviews) == 1 else None
        if overview is None:
            return
        self.level, shape = overview
        full = self.transform.source
        zoom = Affine.scale(full.shape[1] / shape[1], full.shape[0] / shape[0])
        self.transform = PixelTransform(self.transform.target, GeoBox(shape, full.affine @ zoom, full.crs))

    def _choose_level(self, hrefs: Iterable[str]) -> None:
        """Read from an overview of arrays if all of them have it."""
        full, ratio = self.transform.source, min(self.transform.scale)
        levels: set[tuple[int, GeoBox] | None] = set()
        for href in hrefs:
            array = self._arrays.get(href)
            level = None if array is None else reader.fitting_overview(array.overviews(), ratio)
            levels.add(None if array is None or level is None else (level, array.overview_grid(level, full.crs)))
        chosen = levels.pop() if len(levels) == 1 else None
        if chosen is not None:
            self.level = chosen[0]
            self.transform = PixelTransform(self.transform.target, chosen[1])

    def fetch(self, window: Window) -> tuple[Array, Mask | None]:
        """Read a window of the assets' grid; pixels that a quality band excludes are invalid."""
        values, valid = self._fetch(window)
        for band, codes in self._extra_nodata:
            valid = _exclude_codes(values, valid, band, codes)
        for band, codes in self._nodata_of_files() if self._nodata_in_files else ():
            valid = _exclude_codes(values, valid, band, codes)
        for mask in self._masks:
            clear = mask.read(window)
            if clear is not None:
                valid = np.broadcast_to(clear, values.shape) if valid is None else valid & clear
        return (dequantize(values, self._quantization) if self._quantization else values), valid

    def fetch_float(self, window: Window) -> tuple[Array, Mask | None]:
        """Read a window as `fetch` does, in float32 or, for integers of 32 bits and more, float64."""
        values, valid = self.fetch(window)
        return values.astype(np.result_type(values.dtype, "float32"), copy=False), valid

    def _nodata_of_files(self) -> Iterator[tuple[int, tuple[float, ...]]]:
        """Yield the nodata values that only the files state, with the indices of their bands."""
        stored = self._stored_nodata()
        for href, indices, *_ in self._files:
            check = self._checks.get(href)
            for index, nodata in zip(indices, check.nodata if check is not None else (), strict=False):
                if nodata is not None and nodata == nodata and nodata != stored[index]:  # noqa: PLR0124 (NaN)
                    yield index, (nodata,)

    def _stored_nodata(self) -> list[float | None]:
        """Return the nodata value of each band: that of the file if the catalog states the value of another file."""
        if True not in self._assumed:
            return self._nodata
        stored = list(self._nodata)
        for href, indices, *_ in self._files:
            for index, nodata in zip(indices, self._checks[href].nodata, strict=True):
                stored[index] = nodata if self._assumed[index] else stored[index]
        return stored

    def physical(self, values: Array) -> Array:
        """Return physical values of stored ones: value * scale + offset of each band, in float32 or wider."""
        if self._scales is None:
            return values
        dtype = np.result_type(values.dtype, "float32")
        scale, offset = self._scales.astype(dtype)
        return values.astype(dtype, copy=False) * scale + offset

    def _fetch(self, window: Window) -> tuple[Array, Mask | None]:
        if len(self._files) == 1:
            href, _, bands, masked = self._files[0]
            values, valid = self._start(href, bands, window, masked)()
            values = values.astype(self._dtype, copy=False)
            return values, _valid(values, valid, self._stored_nodata())
        out = np.empty((len(self._nodata), *window.shape), self._dtype)
        out_valid: Mask | None = None
        started = []
        for href, indices, bands, masked in self._files:
            target = out[indices[0] : indices[0] + 1] if len(indices) == 1 else None  # a view: read without a copy
            started.append((indices, target, self._start(href, bands, window, masked, target)))
        for indices, target, wait in started:
            values, valid = wait()
            if values is not target:
                out[indices] = values
            if valid is not None:
                out_valid = np.ones(out.shape, bool) if out_valid is None else out_valid
                out_valid[indices] = valid
        return out, _valid(out, out_valid, self._stored_nodata())

    def _start(
        self,
        href: str,
        bands: list[int],
        window: Window,
        masked: bool,  # noqa: FBT001
        out: Array | None = None,
    ) -> Callable[[], tuple[Array, Mask | None]]:
        """Start to read the bands of one file; several remote files are read concurrently."""
        array = self._arrays.get(href)
        if array is not None:
            return array.start_read(bands, window, level=self.level)
        check = self._checks.get(href)
        return reader.start_read(
            href, bands, window, masks=masked, level=self.level, credentials=self._credentials, out=out, check=check
        )


def _extreme(nodata: set[float | None], dtype: np.dtype[Any]) -> float | None:
    """Return the only nodata value if it is the smallest or largest integer of up to 16 bits, else `None`."""
    small = dtype.kind in "iu" and dtype.itemsize <= 2 and len(nodata) == 1
    value = next(iter(nodata)) if small else None
    return value if small and value in {np.iinfo(dtype).min, np.iinfo(dtype).max} else None


def _exclude_codes(values: Array, valid: Mask | None, band: int, codes: tuple[float, ...]) -> Mask | None:
    """Return the valid mask without some values of one band; `None` if all are valid."""
    differs = np.logical_and.reduce([values[band] != code for code in codes])
    if differs.all():
        return valid
    valid = np.ones(values.shape, bool) if valid is None else valid.copy()
    valid[band] &= differs
    return valid


def _valid(values: Array, valid: Mask | None, nodata: list[float | None]) -> Mask | None:
    """Return the valid mask without nodata and NaN; `None` if all are valid."""
    if valid is None and len(set(nodata)) == 1:
        return valid_mask(values, nodata[0])
    for band, value in enumerate(nodata):
        band_valid: Mask | None = None
        if values.dtype.kind == "f":
            band_valid = ~np.isnan(values[band])
        if value is not None and not np.isnan(value):
            differs = values[band] != np.asarray(value).astype(values.dtype)
            band_valid = differs if band_valid is None else band_valid & differs
        if band_valid is not None and not band_valid.all():
            valid = np.ones(values.shape, bool) if valid is None else valid
            valid[band] &= band_valid
    return None if valid is not None and valid.all() else valid

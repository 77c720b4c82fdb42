"""Part: the bands of one scene that share a grid, read from its files, and the way there from the mosaic's grid."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from geoxt.pixels import reader
from geoxt.pixels.credentials import Credentials
from geoxt.pixels.transform import PixelTransform
from geoxt.source.array_source import valid_mask
from geoxt.source.quality_mask import QualityMask
from geoxt.source.scene_assets import Asset, QualityBand
from geoxt.types import Array, Floats, Mask, Resampling
from geoxt.windows import Window

AVERAGING = {"bilinear", "cubic", "lanczos", "average"}
"""Methods that may read overviews; the others choose or count pixels, which an overview has averaged away."""
COARSER = 1.9
"""Source pixels for one target pixel from which overviews are looked for."""


class AssetGroup:
    """The assets of one scene that share a grid.

    Parameters
    ----------
    assets
        The bands.
    target, own
        The grid that is wanted, and that of the assets.
    resampling
        How pixels come onto the target.
    quality
        What takes pixels out, in the assets' own grid, before they are resampled. With it no overview is read: its
        pixels are averages of those taken out, too.
    credentials
        How files are opened.
    """

    __slots__ = ("_clear", "_credentials", "_dtype", "_files", "_nodata", "_scales", "_unlabelled", "level", "mapping")

    def __init__(
        self,
        assets: list[Asset],
        target: GeoBox,
        own: GeoBox,
        resampling: Resampling,
        *,
        quality: tuple[QualityBand, ...] = (),
        credentials: Credentials | None = None,
    ) -> None:
        self.mapping = PixelTransform(target, own)
        self.level: int | None = None
        self._credentials = credentials
        self._clear = [QualityMask(one, own, credentials) for one in quality]
        scales: Floats = np.array([(a.scale, a.offset) for a in assets], "float64").T[:, :, None, None]
        self._scales = None if (scales[0] == 1).all() and (scales[1] == 0).all() else scales
        if not quality and resampling in AVERAGING and min(self.mapping.scale) >= COARSER:
            self._choose_overview({a.href for a in assets})
        self._dtype = np.result_type(*{a.dtype for a in assets})
        self._nodata = [a.nodata for a in assets]
        further = [tuple(code for code in a.unlabelled if code != a.nodata) for a in assets]
        self._unlabelled = [(place, codes) for place, codes in enumerate(further) if codes]
        files: dict[str, list[tuple[int, Asset]]] = {}
        for place, asset in enumerate(assets):
            files.setdefault(asset.href, []).append((place, asset))
        self._files = [
            (href, [p for p, _ in some], [a.band for _, a in some], [a.nodata for _, a in some], some[0][1].masked)
            for href, some in files.items()
        ]

    def _choose_overview(self, hrefs: set[str]) -> None:
        """Read from an overview where the target is coarse enough and all files have the same one."""
        found = {
            reader.choose_overview(href, ratio=min(self.mapping.scale), credentials=self._credentials) for href in hrefs
        }
        one = found.pop() if len(found) == 1 else None
        if one is None:
            return
        self.level, shape = one
        own = self.mapping.source
        zoom = Affine.scale(own.shape[1] / shape[1], own.shape[0] / shape[0])
        self.mapping = PixelTransform(self.mapping.target, GeoBox(shape, own.affine @ zoom, own.crs))

    def fetch(self, window: Window) -> tuple[Array, Mask | None]:
        """Read a window of the assets' own grid; what a quality band takes out is not valid."""
        values, valid = self._fetch(window)
        for place, codes in self._unlabelled:
            valid = _without(values, valid, place, codes)
        for one in self._clear:
            good = one.read(window)
            if good is not None:
                valid = np.broadcast_to(good, values.shape) if valid is None else valid & good
        return values, valid

    def physical(self, values: Array) -> Array:
        """Return stored numbers as physical values, scaled band by band."""
        if self._scales is None:
            return values
        kind = np.result_type(values.dtype, "float32")
        scale, offset = self._scales.astype(kind)
        return values.astype(kind, copy=False) * scale + offset

    def _fetch(self, window: Window) -> tuple[Array, Mask | None]:
        if len(self._files) == 1:
            href, _, bands, nodata, masked = self._files[0]
            values, valid = self._start(href, bands, window, masked)()
            return values, _valid(values, valid, nodata)
        out = np.empty((len(self._nodata), *window.shape), self._dtype)
        flags: Mask | None = None
        begun = []
        for href, places, bands, _, masked in self._files:
            here = out[places[0] : places[0] + 1] if len(places) == 1 else None
            begun.append((places, here, self._start(href, bands, window, masked, here)))
        for places, here, wait in begun:
            values, valid = wait()
            if values is not here:
                out[places] = values
            if valid is not None:
                flags = np.ones(out.shape, bool) if flags is None else flags
                flags[places] = valid
        return out, _valid(out, flags, self._nodata)

    def _start(
        self,
        href: str,
        bands: list[int],
        window: Window,
        masked: bool,  # noqa: FBT001
        out: Array | None = None,
    ) -> Callable[[], tuple[Array, Mask | None]]:
        """Begin to read the bands of one file: those of several remote ones arrive together."""
        return reader.start_read(
            href, bands, window, masks=masked, level=self.level, credentials=self._credentials, out=out
        )


def _without(values: Array, valid: Mask | None, place: int, codes: tuple[int, ...]) -> Mask | None:
    """Return which values are valid where some numbers of one band are not; `None` where all are."""
    good = np.logical_and.reduce([values[place] != code for code in codes])
    if good.all():
        return valid
    valid = np.ones(values.shape, bool) if valid is None else valid.copy()
    valid[place] &= good
    return valid


def _valid(values: Array, valid: Mask | None, nodata: list[float | None]) -> Mask | None:
    """Return which values are valid, `None` where all are."""
    if valid is None and len(set(nodata)) == 1:
        return valid_mask(values, nodata[0])
    for place, mark in enumerate(nodata):
        good: Mask | None = None
        if values.dtype.kind == "f":
            good = ~np.isnan(values[place])
        if mark is not None and not np.isnan(mark):
            differs = values[place] != np.asarray(mark).astype(values.dtype)
            good = differs if good is None else good & differs
        if good is not None and not good.all():
            valid = np.ones(values.shape, bool) if valid is None else valid
            valid[place] &= good
    return None if valid is not None and valid.all() else valid

"""Comparison of a file with its catalog when the file is first read; the file takes precedence."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from odc.geo import CRS
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, MaskFlags

from geoxt.crs import crs_name, parse_crs, transformer
from geoxt.errors import CatalogError
from geoxt.pixels.credentials import redact_url
from geoxt.pixels.reader import has_internal_mask, header_nodata
from geoxt.source.scene_assets import Asset

TOLERANCE = 0.01
"""Maximum distance of the corners of the grids in the catalog and in the file, in pixels; catalogs round transforms."""
_HEADER_NAMES = ("the nodata value", "the scale", "the offset", "an internal mask:")
_REMEDY = "Pass {headers:'all'} to take grids and data types from the files. Or correct the item."


class CatalogCheck:
    """Compares the assets of one file with the file, once for each handle.

    Parameters
    ----------
    assets
        Bands of one file on one grid, as the catalog states them.
    """

    __slots__ = ("_assets", "nodata")

    def __init__(self, assets: Sequence[Asset]) -> None:
        self._assets = tuple(assets)
        self.nodata: tuple[float | None, ...] = (None,) * len(self._assets)
        """Nodata value of each band in the file, from the first call on."""

    def __call__(self, file: rasterio.DatasetReader) -> None:
        """Compare the assets with an open file.

        Raises
        ------
        CatalogError
            If size, bands, their order, data types, scales, CRS or transform of the file differ from the catalog.
        """
        first = self._assets[0]
        name, grid = redact_url(first.href), first.grid
        if file.shape != grid.shape:
            stated, size = (f"{rows} x {cols} pixels" for rows, cols in (grid.shape, file.shape))
            raise _error(name, stated, size)
        for asset in self._assets:
            if asset.band > file.count:
                raise _error(name, f"a band {asset.band}", f"{file.count} bands")
            dtype = file.dtypes[asset.band - 1]
            if not _holds(asset.dtype, dtype):
                raise _error(name, f"pixels of {asset.dtype}", dtype)
            if asset.assumed_single and file.count > 1:
                _require_single(file, name)
            if asset.scale_assumed:
                _compare_scale(file, asset, name)
            if asset.band_names:
                _compare_names(file, asset, name)
        self._compare_position(file, name)
        self.nodata = tuple(_marker(file.nodatavals[asset.band - 1], file.dtypes[0]) for asset in self._assets)

    def masked(self, file: rasterio.DatasetReader) -> bool:
        """Return whether the file has an internal mask, or an alpha band that the catalog does not name as data."""
        if any(asset.masked is not None for asset in self._assets):
            return bool(self._assets[0].masked)
        flags = file.mask_flag_enums[self._assets[0].band - 1]
        if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
            return True
        alpha = [i + 1 for i, color in enumerate(file.colorinterp) if color == ColorInterp.alpha]
        return bool(alpha) and alpha[0] not in self._assets[0].data_bands

    def _compare_position(self, file: rasterio.DatasetReader, name: str) -> None:
        grid, file_crs, transform = self._assets[0].grid, file.crs, file.transform
        if transform == Affine.identity():
            if file.gcps[0] or file.rpcs is not None:
                points = "ground control points" if file.gcps[0] else "RPCs"
                raise _error(name, "an affine transform", f"only {points}")
            return  # a file without georeference: the catalog places it
        assert grid.crs is not None
        stated_crs, file_wkt = str(grid.crs), "" if file_crs is None else file_crs.to_wkt()
        real_crs = grid.crs if file_crs is None else parse_crs(file_wkt)
        equal = file_crs is None or _equal(stated_crs, file_wkt)
        distance = _distance(grid, transform, None if equal else real_crs)
        if not distance <= TOLERANCE:
            if not equal:
                raise _error(name, crs_name(grid.crs), crs_name(real_crs))
            stated, real = (tuple(round(n, 9) for n in affine[:6]) for affine in (grid.affine, transform))
            raise _error(name, f"the transform {stated}", f"{real}, up to {distance:.4g} pixels apart")
        if not equal and not _same_datum(stated_crs, file_wkt):
            raise _error(name, crs_name(grid.crs), crs_name(real_crs))


class HeaderCheck(CatalogCheck):
    """Compares assets from the header of a file with the file: it may have been replaced since the layer was opened."""

    __slots__ = ()

    def __call__(self, file: rasterio.DatasetReader) -> None:
        """Compare the assets with an open file.

        Raises
        ------
        CatalogError
            If size, bands, data types, CRS, transform, nodata values, scales or internal masks changed.
        """
        first = self._assets[0]
        if (
            file.shape == first.grid.shape
            and file.transform[:6] == first.grid.affine[:6]
            and all(a.band <= file.count and file.dtypes[a.band - 1] == a.dtype for a in self._assets)
            and file.crs is not None
            and _equal(str(first.grid.crs), file.crs.to_wkt())
        ):  # the usual case, without projecting corners
            self._compare_header(file)
            self.nodata = ()
            return
        try:
            super().__call__(file)
        except CatalogError as error:
            problem = error.problem.replace("its catalog states", "when the layer was opened it had", 1)
            raise CatalogError(problem, remedy="Open the layer again.") from None
        self._compare_header(file)
        self.nodata = ()  # the caller may have replaced it

    def _compare_header(self, file: rasterio.DatasetReader) -> None:
        """Raise if the nodata values, scales or internal masks changed, which sidecars can change too."""
        nodata, _ = header_nodata(file)
        masked = has_internal_mask(file)
        for asset in self._assets:
            if asset.header is None:
                continue
            at = asset.band - 1
            real = (nodata[at], file.scales[at], file.offsets[at], masked)
            for name, before, now in zip(_HEADER_NAMES, asset.header, real, strict=True):
                if before != now and not (before != before and now != now):  # noqa: PLR0124 (NaN)
                    stated, present = (f"{name} {value}" for value in (before, now))
                    problem = _error(redact_url(asset.href), stated, present).problem
                    problem = problem.replace("its catalog states", "when the layer was opened it had", 1)
                    raise CatalogError(problem, remedy="Open the layer again.")


def check_of(assets: Sequence[Asset]) -> CatalogCheck:
    """Return the check of the bands of one file on one grid."""
    return CatalogCheck(assets) if assets[0].stated else HeaderCheck(assets)


def _compare_scale(file: rasterio.DatasetReader, asset: Asset, name: str) -> None:
    stated = (asset.scale, asset.offset)
    real = (float(file.scales[asset.band - 1]), float(file.offsets[asset.band - 1]))
    if stated != real:
        other = "" if stated == (1.0, 0.0) else f", another file of its collection has {stated}"
        raise _error(name, f"no scale and offset{other}", f"{real}")


def _compare_names(file: rasterio.DatasetReader, asset: Asset, name: str) -> None:
    """Raise if the file describes its bands by the names in the catalog, in another order."""
    described = [str(text or "").strip().lower() for text in file.descriptions[: len(asset.band_names)]]
    for names in zip(*asset.band_names, strict=True):  # names, then common names
        stated = [text.lower() for text in names]
        permuted = len(set(stated)) == len(stated) and sorted(described) == sorted(stated)
        if permuted and described[asset.band - 1] != stated[asset.band - 1]:
            problem = f"Cannot read {name}: its catalog states the bands {list(names)}, the file has them in the order"
            problem += f" {list(file.descriptions[: len(names)])}."
            raise CatalogError(problem, remedy="Correct the item. Or open the file with geoxt.open_cogs.")


def _require_single(file: rasterio.DatasetReader, name: str) -> None:
    count = sum(color != ColorInterp.alpha for color in file.colorinterp)
    if count > 1:
        problem = f"Cannot read {name}: its catalog names no bands, the file has {count}."
        remedy = "Pass {headers:'all'} to open all of them. Or pass {bands} with their numbers, such as 'image_1'."
        raise CatalogError(problem, remedy=remedy)


def _error(name: str, stated: str, real: str) -> CatalogError:
    return CatalogError(f"Cannot read {name}: its catalog states {stated}, the file has {real}.", remedy=_REMEDY)


def _holds(stated: str, real: str) -> bool:
    """Return whether the data type in the catalog holds all values of the file's data type."""
    return stated == real or (real != "complex_int16" and np.can_cast(real, stated, "safe"))


def _marker(nodata: float | None, dtype: str) -> float | None:
    """Return a nodata value of the file, or `None` if no pixel can have it."""
    kind: np.dtype[Any] = np.dtype(dtype if dtype != "complex_int16" else "complex64")
    if nodata is None or kind.kind not in "iu":
        return nodata
    limits = np.iinfo(kind)
    return nodata if limits.min <= nodata <= limits.max and nodata == int(nodata) else None


def _distance(grid: GeoBox, transform: Affine, crs: CRS | None) -> float:
    """Return the maximum distance between the corners of the catalog's grid and of the file's, in pixels of the file.

    `crs` is that of the file, or `None` if it equals that of the grid.
    """
    (rows, cols), stated, to_pixels = grid.shape, grid.affine, ~transform
    distance = 0.0
    for corner in ((0, 0), (cols, 0), (0, rows), (cols, rows)):
        x, y = stated @ corner
        if crs is not None:
            x, y = transformer(grid.crs, crs).transform(x, y)
        col, row = to_pixels @ (x, y)
        distance = max(distance, abs(col - corner[0]), abs(row - corner[1]), key=lambda d: d if d == d else np.inf)  # noqa: PLR0124 (NaN)
    return distance


@lru_cache(256)
def _equal(a: str, b: str) -> bool:
    """Return whether two CRSs differ in names or the order of axes only."""
    first, second = parse_crs(a), parse_crs(b)
    return first == second or bool(first.proj.equals(second.proj, ignore_axis_order=True))


@lru_cache(256)
def _same_datum(a: str, b: str) -> bool:
    """Return whether the datums of two CRSs have the same name, or the name of one is unknown."""
    datums = (parse_crs(crs).proj.datum for crs in (a, b))
    first, second = ("".join(filter(str.isalnum, "" if d is None else d.name.lower())) for d in datums)
    unknown = any(name.startswith("unknown") or name in {"", "none", "notspecified"} for name in (first, second))
    return unknown or first.startswith(second) or second.startswith(first)

"""Headers of Zarr arrays and groups that are assets of STAC items, in the form of raster headers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from geoxt.errors import GeoxtError, InputError
from geoxt.grid import same_grids
from geoxt.layers.cubes.planes import Band, bands_of
from geoxt.layers.cubes.scenes import assets_of
from geoxt.layers.cubes.zarr_variables import address_of, locate, open_pyramids
from geoxt.pixels.credentials import Credentials
from geoxt.pixels.reader import Header
from geoxt.pixels.zarr_array import forget_store
from geoxt.pixels.zarr_store import store_version
from geoxt.source import Asset
from geoxt.types import SomeCRS

_MEDIA_TYPE = re.compile(r"^application/(?:vnd[.+])?(?:x-)?zarr\b", re.IGNORECASE)
_NAME = re.compile(r"\.zarr(?:$|[/?#])")
_OPTIONS = ("xarray:open_kwargs", "xarray:open_dataset_kwargs", "xarray:open_datatree_kwargs")
"""Fields of the STAC extension xarray-assets, with their names in EOPF's catalogs."""


def is_zarr(media_type: str, href: str) -> bool:
    """Return whether an asset is a Zarr store, or a group or an array of one: by its media type, else by its name."""
    return bool(_MEDIA_TYPE.match(media_type) or (not media_type and _NAME.search(href)))


def group_of(fields: Mapping[str, Any]) -> str | None:
    """Return the group that the fields of an asset state for xarray."""
    option_sets = (fields.get(name) for name in _OPTIONS)
    return next(
        (str(options["group"]) for options in option_sets if isinstance(options, Mapping) and "group" in options), None
    )


def read_zarr_header(
    href: str,
    *,
    group: str | None = None,
    options: Mapping[str, Any] | None = None,
    crs: SomeCRS | None = None,
    credentials: Credentials | None = None,
) -> Header:
    """Return the header of a group or an array of a Zarr store, with one band for each of its bands.

    Parameters
    ----------
    href
        Address of a store, or of a group or an array in it.
    group
        Path of the group below it.
    options
        Options of fsspec.
    crs
        CRS of variables that state none.
    credentials
        URL signer and GDAL options.

    Raises
    ------
    InputError
        If it has bands on several grids, or several time steps.
    ReadError
        If it cannot be opened.
    """
    try:
        address, path = address_of(href, group, options, credentials)
        forget_store(address)
        version = store_version(address)
        pyramids = {id(p.variable): p for p in open_pyramids(address, path, None)}
        bands = [band for p in pyramids.values() for band in bands_of(p.variable, {})]
        assets = [_asset(band, locate(address, pyramids[id(band.variable)], crs, version)) for band in bands]
    except GeoxtError as error:
        if error.argument not in {"group", "select", "source_crs"}:
            raise
        remedy = "Pass other {bands}. Or open the store by geoxt.open_zarr."
        raise type(error)(error.problem, remedy=remedy) from error
    grids = same_grids(asset.grid for asset in assets)
    if len(set(map(id, grids))) > 1:
        problem = f"Cannot open {href}: its bands are on several grids."
        raise InputError(problem, remedy="Pass {bands} of single arrays or groups.")
    return _header(href, bands, assets)


def _asset(band: Band, located: Any) -> Asset:
    if len(band.planes) > 1:
        problem = f"Cannot open {band.variable.path!r} as an asset of one item: it has {len(band.planes)} time steps."
        raise InputError(problem, remedy="Open the store by geoxt.open_zarr.")
    return assets_of(band, located, None, None, None)[0]


def _header(href: str, bands: Sequence[Band], assets: Sequence[Asset]) -> Header:
    count = len(assets)
    return Header(
        href=href,
        grid=assets[0].grid,
        dtypes=tuple(asset.dtype for asset in assets),
        nodata=tuple(asset.nodata for asset in assets),
        masked=(False,) * count,
        alpha=(False,) * count,
        internal_mask=False,
        scales=tuple(asset.scale for asset in assets),
        offsets=tuple(asset.offset for asset in assets),
        names=tuple(band.name for band in bands),
        colors=None,
        tags={},
        extra_nodata=tuple(asset.extra_nodata for asset in assets),
        planes=tuple((asset.href, asset.band, asset.array) for asset in assets if asset.array is not None),
    )

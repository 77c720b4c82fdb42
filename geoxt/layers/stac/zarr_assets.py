"""Assets of STAC items in Zarr stores: their headers, and the bands that they hold."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pystac

from geoxt.errors import CatalogError
from geoxt.layers.cubes.zarr_header import group_of, read_zarr_header
from geoxt.layers.stac.layouts import ItemBand
from geoxt.pixels.credentials import Credentials, redact_url
from geoxt.pixels.reader import Header
from geoxt.source import Asset
from geoxt.types import SomeCRS

STORES = 16
"""Stores whose metadata are read at a time."""


def read_stores(
    assets: Mapping[str, pystac.Asset], crs: SomeCRS | None, credentials: Credentials | None = None
) -> dict[str, Header]:
    """Return the headers of Zarr groups and arrays by href, read concurrently.

    Parameters
    ----------
    assets
        Assets by href; the group and options for fsspec are those of the STAC extension xarray-assets.
    crs
        CRS of arrays that state none.
    credentials
        URL signer and GDAL options.
    """

    def read(href: str) -> Header:
        fields = assets[href].extra_fields
        options = fields.get("xarray:storage_options")
        return read_zarr_header(href, group=group_of(fields), options=options, crs=crs, credentials=credentials)

    with ThreadPoolExecutor(STORES) as pool:
        return dict(zip(assets, pool.map(read, assets), strict=True))


def zarr_band(item: str, band: ItemBand, header: Header) -> Asset:
    """Return a band of a Zarr group, by name, else by its number.

    Raises
    ------
    CatalogError
        If the group lacks the band.
    """
    names = {name.lower() for name in band.names}
    positions = [i for i, name in enumerate(header.names) if str(name).lower() in names]
    if not positions and (band.index > 1 or len(header.planes) > 1):
        problem = f"Cannot open band {band.name!r} of item {item!r}: {redact_url(header.href)} has the bands "
        raise CatalogError(f"{problem}{list(header.names)}.", remedy="Pass other {bands}.")
    position = positions[0] if positions else 0
    href, plane, array = header.planes[position]
    return Asset(
        href=href,
        band=plane,
        grid=header.grid,
        dtype=header.dtypes[position],
        nodata=header.nodata[position],
        extra_nodata=header.extra_nodata[position],
        scale=header.scales[position],
        offset=header.offsets[position],
        array=array,
    )

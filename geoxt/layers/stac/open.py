"""STAC items -> layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Unpack, overload

import numpy as np
import numpy.typing as npt
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.layers import products
from geoxt.layers.area import SomeBounds, SomeGeometry, area_of
from geoxt.layers.assemble import LayerMetadata, Placement, assemble
from geoxt.layers.exclude import SomeFlags
from geoxt.layers.native import assemble_native, is_native
from geoxt.layers.options import StacOptions
from geoxt.layers.products import Product
from geoxt.layers.stac.bands import choose_bands, legend_of
from geoxt.layers.stac.filters import Selection, SomeTimes, parse_times
from geoxt.layers.stac.layouts import StacConfig, layouts_of
from geoxt.layers.stac.match_products import match_products
from geoxt.layers.stac.scenes import Choice, OpenItem, scenes_of, units_of
from geoxt.layers.stac.sources import SomeItems, read_items
from geoxt.layers.time import Composite, GroupBy
from geoxt.pixels.credentials import Sign, make_credentials
from geoxt.types import Resampling, SomeCRS


@overload
def open_stac(source: SomeItems, *, crs: Literal["native"], **options: Unpack[StacOptions]) -> xr.DataTree: ...
@overload
def open_stac(source: SomeItems, *, crs: SomeCRS | None = None, **options: Unpack[StacOptions]) -> xr.DataArray: ...
def open_stac(
    source: SomeItems,
    *,
    collections: str | Sequence[str] | None = None,
    bbox: SomeBounds | None = None,
    intersects: SomeGeometry | None = None,
    datetime: SomeTimes | None = None,
    query: str | Mapping[str, object] | None = None,
    limit: int | None = None,
    product: str | Product | None = None,
    bands: str | Sequence[str] | None = None,
    crs: SomeCRS | None = None,
    resolution: float | tuple[float, float] | None = None,
    grid: GeoBox | None = None,
    groupby: GroupBy = "mosaic",
    composite: Composite = "first",
    exclude: SomeFlags = (),
    rescale: bool = False,
    nodata: float | None = None,
    stac_cfg: StacConfig | None = None,
    dtype: npt.DTypeLike | None = None,
    resampling: Resampling | None = None,
    chunks: Mapping[str, int] | int | None = None,
    errors: Literal["raise", "nodata"] = "raise",
    sign: Sign | None = None,
    env: Mapping[str, object] | None = None,
    name: str | None = None,
) -> xr.DataArray | xr.DataTree:
    """Open STAC items as one lazy layer, or as a tree with a layer for each CRS.

    No pixel is read. Grids come from the projection extension, types and missing pixels from the raster extension or
    from what is known of the sensor; a header is read only where these do not tell.

    Parameters
    ----------
    source
        URL of a STAC API or of one collection of it, a client of one, a static catalog, an ItemCollection or an item
        (a file, a URL, a pystac object or a dict), a list of items, or a stac-geoparquet file.
    collections
        Take items of these collections only.
    bbox, intersects
        Take items that touch this place only, and cut the layer to it: west, south, east and north in degrees (west
        greater than east across the antimeridian), or a geometry of longitudes and latitudes, whose bounds count.
    datetime
        Take items of this time only: "2020-06", "2020-06-01/2020-08-31", "2020-06-01/..", or a pair.
    query
        A CQL2 filter, as text or JSON; for a STAC API.
    limit
        The most items to take.
    product
        Name of a known product (`geoxt.layers.products.names()`). By default matched by each
        item's collection, platform and instruments, else by file names.
    bands
        Bands to open, in this order: asset keys ("B04"), common names ("red"), the sensor's own names ("SR_B4"), or the
        names of bands within an asset. By default those that the layer opens by itself, else all raster assets that
        hold data; as far as every item has them.
    crs, resolution, grid
        Where the layer shall lie. By default the CRS and resolution that all items share. "native" for the CRS leaves
        every item in its own, and its pixels as they are; bands of several pixel sizes then need a resolution, onto
        which the others are resampled.
    groupby
        Which items share a time step. "mosaic": all, no time dimension. `None`: one step an item. "time", "day" (UTC),
        "solar_day" (by the sun at the item's centre), or a frequency of pandas such as "MS" or "7D".
    composite
        How the items of a step become one image: by the "first" valid pixel (in order of time; of a mosaic, as they
        are given), the "latest" or the "least cloudy" item's (`eo:cloud_cover`); or by the "median", "mean", "min" or
        "max" of the valid pixels, rounded to the layer's type.
    exclude
        What is taken out, by name: "clouds", "shadows", "snow", … or a list of these, as the quality band of the
        sensor tells (Landsat QA_PIXEL, Sentinel-2 SCL). It is read in its own grid, and decided on the grid of each
        band, by its nearest pixel, before that band is resampled: nothing of a cloud enters its neighbours.
    rescale
        Give physical values, number * scale + offset of each item and band, as float32 with NaN where there are none.
        Scale and offset come from the item, else from what is known of the sensor and processing baseline, else from
        the file. Class codes are not rescaled.
    nodata
        Stored value of missing pixels, where items and files do not say.
    stac_cfg
        Metadata that a catalog lacks or states wrongly, in the form of odc-stac: per collection, `assets` with
        `data_type`, `nodata` and `unit` by asset key ("*" for those of assets that state none), and `aliases` of bands:
        `{"s2": {"assets": {"B04": {"data_type": "uint16", "nodata": 0}}, "aliases": {"red": "B04"}}}`.
    dtype
        Stored data type, where items do not say; without it a header is read.
    resampling
        How pixels come onto the grid: by default "nearest" for class codes, else "bilinear".
    chunks
        Dask chunk sizes: one number for y and x, or by dimension.
    errors
        "nodata": a file that cannot be read later gives nodata and one warning, instead of an error.
    sign
        Called with an asset's href each time that its file is opened, returns the address to open; called again where
        reading fails, as signatures expire. It is no part of the graph, and has to pickle to go to other processes.
    env
        GDAL's configuration options, as {"AWS_REQUEST_PAYER": "requester"}, in place whenever a file is opened, in
        workers too; above those of an enclosing `rasterio.Env`, of which secrets are left out.
    name
        Name of the layer; by default its collection.

    Returns
    -------
    xarray.DataArray
        Dimensions (time, band, y, x); time is absent for a mosaic, band for class codes (an asset with
        `classification:classes`, or labels of a known layer). Dask-backed, in the stored type unless rescaled. `time`
        is when the first item of each step begins, UTC; for a frequency, the label of its bin. `attrs` tells what the
        numbers are (`radiometry`, and `scales` and `offsets` of the bands where numbers are as stored).
    xarray.DataTree
        For `crs="native"`: a child for each CRS, named by it ("epsg_32615"), a Dataset of the layer under its name,
        with the times of its own items. Items of one CRS whose pixels do not coincide have a child each
        ("epsg_32615_2"); one that lies beyond the box is left out.

    Raises
    ------
    InputError
        Where no item is left, a band is not there, or it is not known what is masked or how numbers are scaled.
    CRSError, GridError
        Where items disagree and no choice was given.
    ReadError
        Where a catalog, or a header that is needed, cannot be read.
    MissingDependency
        Where an API takes pystac-client, or a parquet file pyarrow (`pip install 'geoxt[stac]'`).

    References
    ----------
    STAC 1.1 (https://stacspec.org), extensions projection, eo, raster and classification; older versions are read too.
    """
    area = area_of(bbox, intersects)
    wanted = (collections,) if isinstance(collections, str) else collections
    selection = Selection(
        collections=None if wanted is None else tuple(wanted), area=area, times=parse_times(datetime), query=query,
        limit=limit,
    )  # fmt: skip
    found = read_items(source, selection)
    if isinstance(product, str):
        product = products.get(product)
    item_products = match_products(found) if product is None else [product] * len(found)
    layouts = layouts_of(found, item_products, stac_cfg)
    distinct = list(dict.fromkeys(layouts))
    bands_of = dict(zip(distinct, choose_bands(distinct, [bands] if isinstance(bands, str) else bands), strict=True))
    items = [OpenItem(item=i, layout=own, bands=bands_of[own]) for i, own in zip(found, layouts, strict=True)]
    credentials = make_credentials(sign, env)
    choice = Choice(
        dtype=None if dtype is None else str(np.dtype(dtype)), nodata=nodata, rescale=rescale, exclude=exclude,
        credentials=credentials,
    )  # fmt: skip
    placement = Placement(
        crs=crs, resolution=resolution, grid=grid, area=area, groupby=groupby, composite=composite, rescale=rescale,
        nodata=nodata, resampling=resampling, chunks=chunks, errors=errors, credentials=credentials,
        name=name or found[0].collection_id,
    )  # fmt: skip
    scenes, metadata = scenes_of(items, choice), _metadata_of(items, choice)
    return assemble_native(scenes, metadata, placement) if is_native(crs) else assemble(scenes, metadata, placement)


def _metadata_of(items: Sequence[OpenItem], choice: Choice) -> LayerMetadata:
    """Return the bands, classes and attributes that the scenes of items share."""
    first = items[0]
    bands, product = first.bands, first.product
    legend = legend_of(bands[0], product) if len(bands) == 1 else None
    titles = {item.product.title for item in items if item.product is not None}
    return LayerMetadata(
        bands=tuple(band.name for band in bands),
        legend=legend,
        attrs={"long_name": titles.pop()} if len(titles) == 1 else {},
        coords={
            "common_name": tuple(band.common or "" for band in bands),
            "wavelength": tuple(np.nan if band.wavelength is None else band.wavelength for band in bands),
        },
        categorical=legend is not None or _is_bit_field(first),
        units=units_of(first, choice),
    )


def _is_bit_field(item: OpenItem) -> bool:
    """Return whether the layer is one quality band of bit flags, which is never interpolated."""
    names = {qa.band for qa in item.product.qa} if item.product is not None else set()
    (band, *others) = item.bands
    return not others and band.band is not None and band.band.name in names

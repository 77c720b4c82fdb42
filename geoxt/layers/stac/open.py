"""Open STAC items as a lazy layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Unpack, overload

import numpy as np
import numpy.typing as npt
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError
from geoxt.layers import products
from geoxt.layers.area import SomeBounds, SomeGeometry, area_of
from geoxt.layers.assemble import LayerMetadata, LayerOptions
from geoxt.layers.exclusion_masks import SomeExclude, split_exclude, with_masks
from geoxt.layers.native import assemble_layer
from geoxt.layers.options import StacOptions
from geoxt.layers.products import Product
from geoxt.layers.radiometry import check_baseline
from geoxt.layers.stac.bands import choose_bands, legend_of
from geoxt.layers.stac.duplicates import newest_first
from geoxt.layers.stac.filters import Selection, SomeTimes, parse_times
from geoxt.layers.stac.item_bands import OpenItem, PixelOptions
from geoxt.layers.stac.layouts import layouts_of
from geoxt.layers.stac.match_products import match_products
from geoxt.layers.stac.odc_config import StacConfig
from geoxt.layers.stac.scenes import count_bands, scenes_of, units_of
from geoxt.layers.stac.sources import SomeItems, read_items
from geoxt.layers.time import Composite, GroupBy
from geoxt.pixels.block_cache import SomeCache
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
    deduplicate: bool = False,
    product: str | Product | None = None,
    bands: str | Sequence[str] | None = None,
    crs: SomeCRS | None = None,
    resolution: float | tuple[float, float] | None = None,
    grid: GeoBox | None = None,
    groupby: GroupBy = "mosaic",
    composite: Composite = "first",
    exclude: SomeExclude = (),
    rescale: bool = False,
    baseline: str | None = None,
    nodata: float | None = None,
    stac_cfg: StacConfig | None = None,
    dtype: npt.DTypeLike | None = None,
    headers: Literal["missing", "all"] = "missing",
    trust: bool = False,
    source_crs: SomeCRS | None = None,
    resampling: Resampling | None = None,
    chunks: Mapping[str, int] | int | None = None,
    errors: Literal["raise", "nodata"] = "raise",
    sign: Sign | None = None,
    env: Mapping[str, object] | None = None,
    cache: SomeCache = None,
    name: str | None = None,
) -> xr.DataArray | xr.DataTree:
    """Open STAC items as one lazy layer, or as a tree with a layer for each CRS.

    No pixel is read. Grids are taken from the projection extension, data types and nodata from the raster extension or
    the product; a header is read only if they are incomplete. The metadata of Zarr assets (`application/vnd+zarr`) are
    always read; their grid, scale and nodata take precedence over the item's. Most calls pass `collections`, `bbox`,
    `datetime`, `bands` and `groupby`.

    Parameters
    ----------
    source
        URL of a STAC API or of one of its collections, a pystac-client Client, a static catalog, an ItemCollection or
        an item (a file, a URL, a pystac object or a dict), a list of items, or a stac-geoparquet file.
    collections
        Ids of collections; by default all.
    bbox, intersects
        Area to open: west, south, east and north in degrees (west greater than east across the antimeridian), or a
        geometry in degrees, also with longitudes of 0 to 360. A polygon with longitudes of both signs crosses the
        antimeridian if it is then less than 60 degrees wide, else Greenwich. Only items that intersect the area are
        opened, and the layer is cropped to its bounds.
    datetime
        Time interval: "2020-06", "2020-06-01/2020-08-31", "2020-06-01/..", or a pair.
    query
        CQL2 filter of a STAC API, as text (`"eo:cloud_cover < 20"`) or JSON. Lists of items are filtered in Python.
    limit
        Maximum number of items.
    deduplicate
        Whether to open only the newest of several items of one acquisition, such as a Sentinel-2 scene in two
        processing baselines: equal collection, platform, grid cell and time, and nearly the same footprint. By default
        all are opened, the newest processing before the others. The processing time is `processing:datetime`, else the
        processing baseline, the last date of the product id, `updated` or `created`.
    product
        Name of a known product (`geoxt.layers.products.names()`). By default matched by each item's collection,
        platform and instruments, else by file names.
    bands
        Bands to open, in this order: asset keys ("B04"), common names ("red"), names of the product ("SR_B4"), names of
        bands within an asset, or asset key and band number ("image_4"). The key of an asset of several bands opens all
        of them; an asset of any media type and role is opened by its key. By default the product's default bands, else
        the data assets, as far as all items have them. Bands without a name in the items are named by the files.
    crs, resolution, grid
        Grid of the layer: a CRS, a pixel size in CRS units, or a GeoBox. By default the CRS and resolution that all
        items share. `crs="native"` returns a tree without reprojection; bands of several pixel sizes then require a
        resolution, to which the others are resampled.
    groupby
        Grouping of items into time steps. "mosaic": all items, without a time dimension. `None`: one step per item.
        "time", "day" (UTC), "solar_day" (solar time at the item's center), or a pandas frequency such as "MS" or "7D".
    composite
        Reduction of the items of a step: "first" valid pixel (in order of time; for a mosaic, in the given order; of
        one acquisition, the newest processing first), "latest" or "least cloudy" item (`eo:cloud_cover`), or "median",
        "mean", "min" or "max" of the valid pixels, rounded to the data type of the layer.
    exclude
        Quality flags of pixels to exclude: "clouds", "shadows", "snow", … or a list of them, by the quality band of the
        product (Landsat QA_PIXEL, Sentinel-2 SCL). Or a mask: a layer, or the path of a raster file, of one band in any
        CRS; pixels where it is valid and not 0 are excluded. Or a list of flags and masks. Each pixel of a band is
        tested by the nearest pixel of the quality band or mask, before the band is resampled, so that excluded pixels
        do not enter the values of their neighbours.
    rescale
        Whether to return physical values (stored * scale + offset, by item and band) as float32, NaN if missing. Scale
        and offset are taken from the item, else from the product and processing baseline, else from the file; a file
        whose header was not read, and whose scale no other source states, raises CatalogError at its first read if it
        has one. Class codes are not rescaled.
    baseline
        Processing baseline of Sentinel-2 items that state none by `s2:processing_baseline`, `processing:version` or
        their product id, as "05.09", "0509" or "N0509".
    nodata
        Stored value of missing pixels, if items and files state none.
    stac_cfg
        Metadata that a catalog lacks or states wrongly, in the form of odc-stac: per collection, `assets` with
        `data_type`, `nodata` and `unit` by asset key ("*" for assets that state none), and `aliases` of bands:
        `{"s2": {"assets": {"B04": {"data_type": "uint16", "nodata": 0}}, "aliases": {"red": "B04"}}}`.
    dtype
        Stored data type, if items state none; by default read from a header.
    headers
        "missing": read headers only where items lack a grid or data type; every file is compared with its item at its
        first read, and a contradiction raises CatalogError. "all": read the header of every file at opening, for
        catalogs with wrong metadata: grids and data types then are those of the files.
    trust
        Whether items of a remote catalog, or with a remote self link, may refer to local files, and to VRTs, whose
        sources may be local files. By default they raise InputError.
    source_crs
        CRS of files without one, if their items state none either; never overrides another.
    resampling, chunks, errors, env, cache
        See `open_cogs`.
    sign
        Function from an asset's href to the URL to open, called each time that the file is opened, and again if reading
        fails, as signatures expire. It is not stored in the graph, and must be picklable for use in other processes.
    name
        Name of the layer; by default its collection.

    Returns
    -------
    xarray.DataArray
        Dimensions (time, band, y, x); without time for a mosaic, without band for class codes (an asset with
        `classification:classes`, or a label product). Dask-backed, in the stored data type unless rescaled. `time` is
        the start of the first item of each step (UTC); for a frequency, the label of its bin. `attrs` has `radiometry`
        and, for stored values, `scales` and `offsets` of the bands.
    xarray.DataTree
        For `crs="native"`: a child per CRS, named by it ("epsg_32615"), with the layer as a Dataset and the times of
        its items. Items of one CRS on different pixel lattices are in separate children ("epsg_32615_2"). Children
        outside the area are left out.

    Raises
    ------
    InputError
        If no item matches, a band is missing, quality flags or scales of the items are unknown, or an item of a remote
        catalog refers to a local file or a VRT without `trust`.
    CRSError, GridError
        If items disagree in CRS or resolution and none is given.
    ReadError
        If a catalog or a required header cannot be read.
    MissingDependency
        If pystac-client (for an API) or pyarrow (for parquet) is not installed: `pip install 'geoxt[stac]'`.

    Examples
    --------
    >>> import geoxt
    >>> summer = geoxt.open_stac(
    ...     "https://earth-search.aws.element84.com/v1",
    ...     collections="sentinel-2-l2a",
    ...     bbox=(11.4, 46.4, 11.6, 46.6),
    ...     datetime="2023-06/2023-08",
    ...     bands=["red", "nir"],
    ...     groupby="solar_day",
    ...     exclude=("clouds", "shadows"),
    ... )  # doctest: +SKIP

    References
    ----------
    STAC 1.1 (https://stacspec.org), extensions projection, eo, raster and classification, or earlier versions.
    """
    area = area_of(bbox, intersects)
    collection_ids = (collections,) if isinstance(collections, str) else collections
    selection = Selection(
        collections=None if collection_ids is None else tuple(collection_ids), area=area, times=parse_times(datetime),
        query=query, limit=limit,
    )  # fmt: skip
    stac_items = newest_first(read_items(source, selection), deduplicate=deduplicate)
    product = products.resolve(product)
    item_products = match_products(stac_items) if product is None else [product] * len(stac_items)
    check_baseline(item_products, baseline)
    layouts = layouts_of(stac_items, item_products, stac_cfg)
    distinct = list(dict.fromkeys(layouts))
    bands_of = dict(zip(distinct, choose_bands(distinct, [bands] if isinstance(bands, str) else bands), strict=True))
    items = [
        OpenItem(item=item, layout=layout, bands=bands_of[layout], baseline=baseline)
        for item, layout in zip(stac_items, layouts, strict=True)
    ]
    credentials = make_credentials(sign, env, cache)
    exclude, masks = split_exclude(exclude)
    pixel_options = PixelOptions(
        dtype=None if dtype is None else str(np.dtype(dtype)), nodata=nodata, rescale=rescale, exclude=exclude,
        headers=_headers(headers), credentials=credentials, trust=trust, source_crs=source_crs,
    )  # fmt: skip
    options = LayerOptions(
        crs=crs, resolution=resolution, grid=grid, area=area, groupby=groupby, composite=composite, rescale=rescale,
        nodata=nodata, resampling=resampling, chunks=chunks, errors=errors, credentials=credentials,
        name=name or stac_items[0].collection_id,
    )  # fmt: skip
    items, known_headers = count_bands(items, pixel_options)
    scenes, metadata = scenes_of(items, pixel_options, known_headers), _metadata_of(items, pixel_options)
    scenes = with_masks(scenes, masks, credentials) if masks else scenes
    return assemble_layer(scenes, metadata, options)


def _headers(headers: Literal["missing", "all"]) -> Literal["missing", "all"]:
    if headers not in {"missing", "all"}:
        problem = f"Cannot read the headers {headers!r}."
        raise InputError(problem, remedy="Pass {headers:'missing'} or 'all'.", value=headers, argument="headers")
    return headers


def _metadata_of(items: Sequence[OpenItem], pixel_options: PixelOptions) -> LayerMetadata:
    """Return the bands, classes and attributes that the scenes of items share."""
    first = items[0]
    bands, product = first.bands, first.product
    legend = legend_of(bands[0], product) if len(bands) == 1 else None
    titles = {item.product.title for item in items if item.product is not None}
    return LayerMetadata(
        bands=tuple(band.name for band in bands),
        legend=legend,
        attrs=product.attrs if product is not None and len(titles) == 1 else {},
        coords={
            "common_name": tuple(band.common or "" for band in bands),
            "wavelength": tuple(np.nan if band.wavelength is None else band.wavelength for band in bands),
        },
        categorical=legend is not None or _is_bit_field(first),
        units=units_of(first, pixel_options),
        unit_length=product.unit_length if product is not None else 0,
    )


def _is_bit_field(item: OpenItem) -> bool:
    """Return whether the layer is one quality band of bit flags, which is never interpolated."""
    names = {qa.band for qa in item.product.qa} if item.product is not None else set()
    (band, *others) = item.bands
    return not others and band.band is not None and band.band.name in names

"""Open Zarr stores as lazy layers whose windows read chunks directly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Unpack, overload

import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.layers import products
from geoxt.layers.area import SomeBounds, SomeGeometry, area_of
from geoxt.layers.assemble import LayerOptions, requested_grid
from geoxt.layers.cubes.assemble_cube import BandOptions, assemble_cube
from geoxt.layers.cubes.planes import Select, bands_of
from geoxt.layers.cubes.stac_store import store_of
from geoxt.layers.cubes.zarr_variables import address_of, locate, open_pyramids, open_quality
from geoxt.layers.exclude import SomeFlags
from geoxt.layers.options import ZarrOptions
from geoxt.layers.products import Product
from geoxt.layers.radiometry import check_baseline, usable_baseline
from geoxt.layers.time import Composite, GroupBy
from geoxt.pixels.block_cache import SomeCache
from geoxt.pixels.credentials import Sign, make_credentials
from geoxt.pixels.zarr_array import forget_store
from geoxt.pixels.zarr_store import store_version
from geoxt.types import Resampling, SomeCRS


@overload
def open_zarr(store: Any, *, crs: Literal["native"], **options: Unpack[ZarrOptions]) -> xr.DataTree: ...
@overload
def open_zarr(store: Any, *, crs: SomeCRS | None = None, **options: Unpack[ZarrOptions]) -> xr.DataArray: ...
def open_zarr(
    store: Any,
    *,
    group: str | None = None,
    product: str | Product | None = None,
    bands: str | Sequence[str] | None = None,
    select: Select | None = None,
    bbox: SomeBounds | None = None,
    intersects: SomeGeometry | None = None,
    crs: SomeCRS | None = None,
    resolution: float | tuple[float, float] | None = None,
    grid: GeoBox | None = None,
    like: xr.DataArray | xr.Dataset | None = None,
    groupby: GroupBy = None,
    composite: Composite = "first",
    exclude: SomeFlags = (),
    rescale: bool = False,
    baseline: str | None = None,
    categorical: bool | None = None,
    nodata: float | None = None,
    source_crs: SomeCRS | None = None,
    resampling: Resampling | None = None,
    chunks: Mapping[str, int] | int | None = None,
    errors: Literal["raise", "nodata"] = "raise",
    sign: Sign | None = None,
    env: Mapping[str, object] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    cache: SomeCache = None,
    name: str | None = None,
) -> xr.DataArray | xr.DataTree:
    """Open a Zarr store as a lazy layer.

    Only metadata and coordinates are read. Windows read the chunks that they intersect directly, without a dask graph;
    up to 512 MB of decoded chunks per process stay in memory for further windows.
    Integers of embeddings with a scale per pixel (`geoemb:quantization`) are dequantized before they are resampled.
    Layers of Zarr stores are aligned, loaded and predicted as those of GeoTIFFs, with the same bits.

    Parameters
    ----------
    store
        Path or URL of a store (version 2 or 3, sharded or not, consolidated or not; a `.zip` file too), or a Store of
        zarr, such as its `ObjectStore` of obstore. The path of a group or an array in a store is accepted; so is a STAC
        asset, or an item whose Zarr assets are parts of one store, as pystac objects or dictionaries. Their
        `xarray:open_kwargs`, `xarray:storage_options` and `proj:code` are used where the arguments are absent.
    group
        Path of the group to open; by default all groups. Groups that `multiscales` metadata (GeoZarr, OME) or EOPF
        products (`r10m`, `r20m`) describe as resolutions of one image are opened at the finest one, and the coarser
        ones serve as overviews.
    product
        Name of a known product (see `geoxt.layers.products.names()`), whose bands are matched to variables by name.
    bands
        Bands to open, in this order: names of variables, or labels of a `band` dimension; names of the product.
    select
        Labels along other dimensions: `{"level": 850}`. A list of labels becomes bands, such as "t_850" and "t_500".
    bbox, intersects, like, rescale, resampling, name
        See `open_cogs`.
    crs, resolution, grid
        Grid of the layer: a CRS, a pixel size in CRS units, or a GeoBox; by default that of the variables, from north
        to south, and with longitudes of -180 to 180 if they are 0 to 360. Bands of several pixel sizes require a
        resolution. `crs="native"` returns a tree.
    groupby
        Grouping of time steps: `None` for the steps of the store, "mosaic" for all of them, "day" or a pandas
        frequency such as "MS" or "7D".
    composite
        Reduction of the time steps of a group: "first" valid pixel, "latest", or "median", "mean", "min" or "max".
    exclude
        Quality flags of pixels to exclude: "clouds", "shadows", "snow", … or a list of them. The quality band of the
        product is found by name in any group of the store; it has the time steps of the bands, or no time dimension.
        Each pixel of a band is tested by the nearest pixel of the quality band, before the band is resampled.
    baseline
        Processing baseline of all Sentinel-2 scenes of a store that states neither scales nor a baseline
        (`stac_discovery` of EOPF, or the product id as its name), as "05.09", "0509" or "N0509".
    categorical
        Whether pixels are class codes; by default if they have the attribute `flag_values`.
    nodata
        Value of missing pixels, if the store states none by `_FillValue` or `missing_value`. The `fill_value` of
        version 2 marks missing pixels too, as in xarray.
    source_crs
        CRS of a store that states none. A CRS is read from the CF grid mapping, `proj:` attributes (GeoZarr) and the
        metadata of EOPF; EPSG:4326 is assumed only if CF attributes state latitudes and longitudes in degrees.
    chunks
        Dask chunk sizes: one number for y and x, or by dimension. By default 1024 pixels or the store's chunks, if
        they are larger, and all bands.
    errors
        "raise", or "nodata" to return nodata and warn once if a chunk cannot be read at compute time.
    sign
        Function from the path or URL of the store to the URL to open, called each time that the store is opened, and
        again if reading fails. The query of a signed URL is appended to the URL of each object. It must be picklable
        for use in other processes.
    env
        GDAL configuration options of S3, Google Cloud Storage and Azure, such as {"AWS_NO_SIGN_REQUEST": "YES"}, of
        which obstore uses the keys, region, endpoint and requester; others have no effect. They override those of an
        enclosing `rasterio.Env` and the environment.
    storage_options
        Options of fsspec for a URL, in place of `env`. Without them, a URL is opened by obstore if it is installed.
    cache
        Folder on a local disk for a cache of decoded chunks of a remote store; see `open_cogs`. Each process compares
        the version of a cached chunk or shard with the server's once, by one request. Chunks without a version, and
        those of stores that obstore does not open, are read without the cache, with one warning.

    Returns
    -------
    xarray.DataArray
        Dimensions (time, band, y, x); without time for a store without dates, without band for class codes.
        Dask-backed, in the stored data type unless rescaled; see `open_cogs` for `attrs`.
    xarray.DataTree
        For `crs="native"`: a child per CRS with the layer as a Dataset.

    Raises
    ------
    MissingDependency
        If zarr, or a package for the URL, is not installed.
    ReadError
        If the store cannot be opened.
    CatalogError
        If a STAC item has no Zarr asset, or assets of several stores.
    InputError
        If a band or quality band is missing, groups have bands of one name, or a dimension must be selected; or if an
        item of a remote catalog refers to a local store, or states options that may send credentials elsewhere.
    CRSError, GridError
        If there is no CRS, coordinates are irregular or two-dimensional, or bands differ in pixel size.

    Examples
    --------
    >>> import geoxt
    >>> image = geoxt.open_zarr("s2.zarr", group="measurements/reflectance", bands=["b04", "b08"])  # doctest: +SKIP
    """
    area = area_of(bbox, intersects)
    product = products.resolve(product)
    check_baseline([product], baseline)
    grid = requested_grid(grid, like)
    names = [bands] if isinstance(bands, str) else bands
    location = store_of(store)
    group = "/".join(part.strip("/") for part in (location.group, group) if part) or None
    storage_options = storage_options if storage_options is not None else location.options
    credentials = make_credentials(sign, env, cache)
    address, group = address_of(location.store, group, storage_options, credentials)
    source_crs = source_crs if source_crs is not None else location.crs
    image_pyramids = open_pyramids(address, group, names)
    all_bands = [band for p in image_pyramids for band in bands_of(p.variable, select or {})]
    masks = open_quality(address, product, exclude)
    quality = [band for p in masks for band in bands_of(p.variable, select or {})]
    pyramids = {id(p.variable): p for p in (*image_pyramids, *masks)}
    forget_store(address)
    version = store_version(address)
    label = name or (product.name if product else address.name.rstrip("/").rpartition("/")[2].removesuffix(".zarr"))
    selection = BandOptions(
        bands=names, product=product, categorical=categorical, label=label, exclude=exclude, quality=quality,
        baseline=usable_baseline(location.baseline, baseline),
    )  # fmt: skip
    options = LayerOptions(
        crs=crs, resolution=resolution, grid=grid, area=area, groupby=groupby, composite=composite, rescale=rescale,
        nodata=nodata, resampling=resampling, chunks=chunks, errors=errors,
        name=name or (product.name if product else None), credentials=credentials if address.block_cache else None,
    )  # fmt: skip
    return assemble_cube(all_bands, lambda v: locate(address, pyramids[id(v)], source_crs, version), selection, options)

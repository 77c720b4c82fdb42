"""Open raster files as a lazy layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, Unpack, overload

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import CRSError, InputError, OverlapError
from geoxt.layers import products
from geoxt.layers.area import SomeBounds, SomeGeometry, area_of
from geoxt.layers.assemble import LayerOptions, requested_grid
from geoxt.layers.exclude import flag_names
from geoxt.layers.exclusion_masks import SomeExclude, split_exclude, with_masks
from geoxt.layers.files.paths import customize, gather_files
from geoxt.layers.files.product_scenes import product_scenes
from geoxt.layers.files.scenes import choose_bands, grid_scenes, require_nodata, with_nodata, with_scale
from geoxt.layers.headers import headers
from geoxt.layers.native import assemble_layer, is_native
from geoxt.layers.options import CogOptions
from geoxt.layers.products import Product
from geoxt.layers.time import Composite, GroupBy
from geoxt.pixels.block_cache import SomeCache
from geoxt.pixels.credentials import Credentials, Sign, make_credentials
from geoxt.pixels.reader import Header
from geoxt.template import Template
from geoxt.types import Resampling, SomeCRS, SomePaths


@overload
def open_cogs(paths: SomePaths, *, crs: Literal["native"], **options: Unpack[CogOptions]) -> xr.DataTree: ...
@overload
def open_cogs(paths: SomePaths, *, crs: SomeCRS | None = None, **options: Unpack[CogOptions]) -> xr.DataArray: ...
def open_cogs(
    paths: SomePaths,
    *,
    product: str | Product | None = None,
    pattern: str | Template | None = None,
    bands: str | Sequence[str] | None = None,
    bbox: SomeBounds | None = None,
    intersects: SomeGeometry | None = None,
    crs: SomeCRS | None = None,
    resolution: float | tuple[float, float] | None = None,
    grid: GeoBox | None = None,
    like: xr.DataArray | xr.Dataset | None = None,
    groupby: GroupBy = "mosaic",
    composite: Composite = "first",
    exclude: SomeExclude = (),
    rescale: bool = False,
    scale: float | None = None,
    offset: float | None = None,
    baseline: str | None = None,
    categorical: bool | None = None,
    nodata: float | None = None,
    source_crs: SomeCRS | None = None,
    resampling: Resampling | None = None,
    chunks: Mapping[str, int] | int | None = None,
    errors: Literal["raise", "nodata"] = "raise",
    sign: Sign | None = None,
    env: Mapping[str, object] | None = None,
    cache: SomeCache = None,
    name: str | None = None,
) -> xr.DataArray | xr.DataTree:
    """Open raster files as one lazy layer, or as a tree with a layer for each CRS.

    Only headers are read. Most calls need `product` or `bands`, an area (`bbox`), and `crs` if files differ in CRS.
    Files of the same grid are the bands of one scene. Scenes are mosaicked by the first valid pixel, in the order of
    `paths`.

    Parameters
    ----------
    paths
        A path, URL, GDAL `/vsi…` path or glob pattern, or a list of them. A folder, a Sentinel `.SAFE` tree or an
        archive (`.zip`, `.tar`) is replaced by the product's files in it, at any depth: those of `bands`, or of
        the product's default bands, each in the sensor's pixel size.
    product
        Name of a known product ("landsat8", "cdl", …; see `geoxt.layers.products.names()`), which defines its file
        names, bands and classes. By default bands are named by their descriptions or file names, and the product of
        folders and archives is the one whose file names match.
    pattern
        Form of file names that differ from the product's, as a path template (see `geoxt.template`): `"{band}.tif"`,
        or `"{tile}/{date:%Y%m%d}_{_}_{band}.tif"`. Texts of `{band}` are names of the product's bands ("B02", "b2"), or
        common names ("blue"); a pattern without `{band}` is of files with all bands. Fields other than `band` and
        `resolution` identify the scene, a date is its time, and `{baseline}` its processing baseline.
    bands
        Bands to open, in this order: names of the product ("SR_B4"), or common names ("red"). A band that a file tags
        as alpha is the valid mask, unless the product or `bands` names it ("band_4").
    bbox, intersects
        Area to open: west, south, east and north in degrees (west greater than east across the antimeridian), or a
        geometry in degrees. Only scenes that intersect it are opened, and the layer is cut to its bounds.
    crs, resolution, grid
        Grid of the layer: a CRS, a pixel size in CRS units, or a GeoBox. By default the CRS and resolution that all
        files share. `crs="native"` returns a tree without reprojection; bands of several pixel sizes then require a
        resolution, to which the others are resampled. The pixels of files without any georeference (PNG, BMP, …) are
        those of `grid`, and have its shape.
    like
        Layer whose grid the result has, in place of `grid`.
    groupby
        Grouping of scenes into time steps. "mosaic": all scenes, without a time dimension. `None`: one step per scene.
        "time", "day" (UTC), "solar_day" (solar time at the scene's center), or a pandas frequency such as "MS" or "7D".
        Dates are read from the file names of a known product.
    composite
        Reduction of the scenes of a step: "first" valid pixel (in order of time; for a mosaic, of `paths`), "latest"
        scene, or "median", "mean", "min" or "max" of the valid pixels, rounded to the data type of the layer.
    exclude
        Quality flags of pixels to exclude: "clouds", "shadows", "snow", … or a list of them. The quality band of the
        product must be among `paths`. Or a mask: a layer, or the path of a raster file, of one band in any CRS; pixels
        where it is valid and not 0 are excluded. Or a list of flags and masks. Each pixel of a band is tested by the
        nearest pixel of the quality band or mask, before the band is resampled.
    rescale
        Whether to return physical values (stored * scale + offset, by scene and band) as float32, NaN if missing. Scale
        and offset are taken from the file, else from the scene's metadata file (Landsat's `*_MTL.txt` or `.json`, for
        Level 1; `MTD_MSI*.xml` of a `.SAFE` tree), else from `scale` and `offset`, else from the product. Class codes
        are not rescaled; quantized embeddings (`product="alphaearth"`) are always dequantized, before resampling.
    scale, offset
        Scale and offset of the bands whose files and metadata files state none, in place of the product's: physical
        value = stored value * scale + offset. A product with a known scale takes both or none; in other files a scale
        alone has offset 0, an offset alone scale 1. Quality bands keep those of the product. None for embeddings, which
        are dequantized as published.
    baseline
        Processing baseline of Sentinel-2 scenes whose file names have none, as "05.09", "0509" or "N0509".
    categorical
        Whether pixels are class codes, which are never interpolated. By default True for label products, and for files
        with a color table that is not a ramp of grays.
    nodata
        Value of missing pixels, if the files state none.
    source_crs
        CRS of files without one.
    resampling
        Resampling method; by default "nearest" for class codes, else "bilinear".
    chunks
        Dask chunk sizes: one number for y and x, or by dimension. By default 1024 pixels and all bands.
    errors
        "raise", or "nodata" to return nodata and warn once if a file cannot be read at compute time.
    sign
        Function from a path to the URL to open, called each time that the file is opened, and again if reading fails.
        It must be picklable for use in other processes.
    env
        GDAL configuration options for opening files, such as {"AWS_REQUEST_PAYER": "requester"}, in workers too. They
        override the options of an enclosing `rasterio.Env`, whose secrets are not used.
    cache
        Folder on a local disk for a cache of decoded blocks, or "FOLDER:SIZE" with a size such as "50GB" (the default);
        True for a folder below the user's cache folder; False for none. By default the environment variable
        GEOXT_BLOCK_CACHE. Compressed and HTTP files are then read at the speed of uncompressed local ones from the
        second read of a block on, by any process.
    name
        Name of the layer.

    Returns
    -------
    xarray.DataArray
        Dimensions (time, band, y, x); without time for a mosaic, without band for class codes. Dask-backed, in the
        stored data type unless rescaled; in a wider one, with a `_FillValue` that no pixel has, if one nodata value
        cannot mark all invalid pixels (masks, alpha, several nodata values, gaps). `time` is the start of the first
        scene of each step (UTC); for a frequency, the label of its bin. `attrs` has `_FillValue`; `radiometry`,
        `scales` and `offsets` if a scale is known; and `flag_values`, `flag_meanings` and `flag_colors` for
        class codes.
    xarray.DataTree
        For `crs="native"`: a child per CRS, named by it ("epsg_32615"), with the layer as a Dataset.

    Raises
    ------
    InputError
        If no file matches, or a band is missing.
    ReadError, CRSError, GridError
        If a file cannot be opened, has no CRS, or no geotransform and no grid of its shape is given; or files disagree
        in CRS or resolution and none is given.

    Examples
    --------
    >>> import geoxt
    >>> landsat = geoxt.open_cogs("landsat/*_SR_B[2-7].TIF", product="landsat8")  # doctest: +SKIP
    >>> county = geoxt.open_cogs("naip/", bbox=(-93.3, 41.5, -93.2, 41.6), crs="EPSG:26915")  # doctest: +SKIP
    >>> copied = geoxt.open_cogs("bands/", product="sentinel2", pattern="{band}.tif")  # doctest: +SKIP
    >>> daily = geoxt.open_cogs("s2/", product="sentinel2", groupby="solar_day")  # doctest: +SKIP
    """
    area = area_of(bbox, intersects)
    product = customize(products.resolve(product), pattern=pattern, baseline=baseline, scale=scale, offset=offset)
    exclude, masks = split_exclude(exclude)
    files, product = gather_files(paths, product, bands=bands, exclude=exclude)
    credentials = make_credentials(sign, env, cache)
    grid = requested_grid(grid, like)
    opened = _headers(files, source_crs, grid, credentials)
    if any(header.grid is grid for header in opened):
        credentials = replace(credentials or Credentials(), georeferenced=False)  # else rasterio warns at each open
    if product is not None:
        scenes, metadata = product_scenes(
            opened, product, categorical=categorical, exclude=exclude, rescale=rescale, hide_quality=bands is None,
            baseline=baseline,
        )  # fmt: skip
    elif flag_names(exclude):
        problem = f"Cannot exclude {', '.join(flag_names(exclude))}: the files are of no known product."
        raise InputError(problem, remedy="Pass {product}. Or leave {exclude} out.", argument="exclude")
    else:
        first_wins = composite == "first" and not is_native(crs)
        requested = () if bands is None else np.atleast_1d(bands).tolist()
        scenes, metadata = grid_scenes(opened, categorical=categorical, first_wins=first_wins, bands=requested)
        if scale is not None or offset is not None:
            scenes = [with_scale(scene, 1.0 if scale is None else scale, offset or 0.0) for scene in scenes]
    if bands is not None:
        names = np.atleast_1d(bands).tolist()
        scenes, metadata = choose_bands(scenes, metadata, names, product, categorical=categorical)
    if nodata is not None:
        require_nodata(scenes, nodata)
    elif product is not None:
        nodata = product.nodata
    if nodata is not None:
        scenes = [with_nodata(scene, nodata) for scene in scenes]
    if area is not None:
        scenes = [scene for scene in scenes if area.overlaps(scene.grid)]
        if not scenes:
            problem = f"Cannot cut the layer to {area.label}: none of its files overlaps it."
            raise OverlapError(problem, remedy="Pass another {bbox} or {intersects}.")
    scenes = with_masks(scenes, masks, credentials)
    options = LayerOptions(
        crs=crs, resolution=resolution, grid=grid, area=area, groupby=groupby, composite=composite, rescale=rescale,
        nodata=nodata, resampling=resampling, chunks=chunks, errors=errors, credentials=credentials,
        name=name or (product.name if product else None),
    )  # fmt: skip
    return assemble_layer(scenes, metadata, options)


def _headers(
    files: Sequence[str], crs: SomeCRS | None, grid: GeoBox | None, credentials: Credentials | None
) -> list[Header]:
    """Return the headers of files; errors name the arguments of `open_cogs`."""
    try:
        return headers(files, crs=crs, grid=grid, credentials=credentials)
    except CRSError as error:
        match error.argument:
            case "crs":
                remedy = "Pass {source_crs:'EPSG:…'} if you know it."
            case "grid" if grid is None:
                remedy = "Pass {like} a layer whose pixels are those of the file."
            case _:
                raise
        raise CRSError(error.problem, remedy=f"{remedy} Or {error.remedy[0].lower()}{error.remedy[1:]}") from error

"""Raster files on disk, or anywhere GDAL reads them: headers -> scenes -> layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Unpack, overload

import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError, OverlapError
from geoxt.footprints import overlap
from geoxt.layers import products
from geoxt.layers.area import SomeBounds, SomeGeometry, area_of
from geoxt.layers.assemble import Placement, assemble
from geoxt.layers.exclude import SomeFlags, flag_names
from geoxt.layers.files.paths import gather_files
from geoxt.layers.files.product_scenes import product_scenes
from geoxt.layers.files.scenes import choose_bands, grid_scenes, with_nodata
from geoxt.layers.headers import headers
from geoxt.layers.native import assemble_native, is_native
from geoxt.layers.options import CogOptions
from geoxt.layers.products import Product
from geoxt.layers.time import Composite, GroupBy
from geoxt.pixels.credentials import Sign, make_credentials
from geoxt.types import Resampling, SomeCRS, SomePaths


@overload
def open_cogs(paths: SomePaths, *, crs: Literal["native"], **options: Unpack[CogOptions]) -> xr.DataTree: ...
@overload
def open_cogs(paths: SomePaths, *, crs: SomeCRS | None = None, **options: Unpack[CogOptions]) -> xr.DataArray: ...
def open_cogs(
    paths: SomePaths,
    *,
    product: str | Product | None = None,
    bands: str | Sequence[str] | None = None,
    bbox: SomeBounds | None = None,
    intersects: SomeGeometry | None = None,
    crs: SomeCRS | None = None,
    resolution: float | tuple[float, float] | None = None,
    grid: GeoBox | None = None,
    groupby: GroupBy = "mosaic",
    composite: Composite = "first",
    exclude: SomeFlags = (),
    rescale: bool = False,
    categorical: bool | None = None,
    nodata: float | None = None,
    source_crs: SomeCRS | None = None,
    resampling: Resampling | None = None,
    chunks: Mapping[str, int] | int | None = None,
    errors: Literal["raise", "nodata"] = "raise",
    sign: Sign | None = None,
    env: Mapping[str, object] | None = None,
    name: str | None = None,
) -> xr.DataArray | xr.DataTree:
    """Open raster files as one lazy layer, or as a tree with a layer for each CRS.

    Only headers are read. Files of the same grid are the bands of one scene; scenes are mosaicked, the first valid
    pixel wins (in the order of `paths`).

    Parameters
    ----------
    paths
        A path or glob pattern, or a list of them; URLs and GDAL's `/vsi…` paths are taken as they are. A folder, a
        Sentinel `.SAFE` tree or an archive (`.zip`, `.tar`) stands for the files of a known layer in it, at any depth:
        of the bands asked for, else of those that the layer opens by itself, each in the sensor's own pixel size.
    product
        Name of a known product ("landsat8", "cdl", …; see `geoxt.layers.products.names()`), which defines its file
        names, bands and classes. By default bands are named by their descriptions or file names, and the product of
        folders and archives is the one whose file names match.
    bands
        Bands to open, in this order: the sensor's own names ("SR_B4"), or common names ("red").
    bbox, intersects
        Take scenes that touch this place only, and cut the layer to it: west, south, east and north in degrees (west
        greater than east across the antimeridian), or a geometry of longitudes and latitudes, whose bounds count.
    crs, resolution, grid
        Where the layer shall lie: a CRS, a pixel size in its units, or a whole grid. By default the CRS and
        resolution that all files share. "native" for the CRS leaves every scene in its own, and its pixels as they are;
        bands of several pixel sizes then need a resolution, onto which the others are resampled.
    groupby
        Which scenes share a time step. "mosaic": all, no time dimension. `None`: one step a scene. "time", "day" (UTC),
        "solar_day" (by the sun at the scene's centre), or a frequency of pandas such as "MS" or "7D"; dates come from
        the names of a known layer's files.
    composite
        How the scenes of a step become one image: by the "first" valid pixel (in order of time; of a mosaic, in that of
        `paths`) or the "latest" scene's; or by the "median", "mean", "min" or "max" of the valid pixels, rounded to the
        layer's type.
    exclude
        What is taken out, by name: "clouds", "shadows", "snow", … or a list of these, as the quality band of a known
        layer tells; its files have to be among `paths`. It is decided on the grid of each band, by the nearest pixel
        of the quality band, before that band is resampled.
    rescale
        Give physical values, number * scale + offset of each scene and band, as float32 with NaN where there are none.
        Scale and offset come from the file, else from the scene's metadata beside it (Landsat's `*_MTL.txt` or
        `.json`, for Level 1; `MTD_MSI*.xml` of a `.SAFE` tree), else from what is known of the layer. Class codes are
        not rescaled.
    categorical
        Whether pixels are class codes, which are never interpolated. By default so for known label layers, and for
        files with a colour table that is not a ramp of greys.
    nodata
        Value of missing pixels, where the files do not say.
    source_crs
        CRS of files that have none.
    resampling
        How pixels come onto the grid: by default "nearest" for class codes, else "bilinear".
    chunks
        Dask chunk sizes: one number for y and x, or by dimension. By default 1024 pixels and all bands.
    errors
        "nodata": a file that cannot be read later gives nodata and one warning, instead of an error.
    sign
        Called with a path each time that the file is opened, returns the address to open; called again where reading
        fails. It has to pickle to go to other processes.
    env
        GDAL's configuration options, in place whenever a file is opened, in workers too; above those of an enclosing
        `rasterio.Env`, of which secrets are left out.
    name
        Name of the layer.

    Returns
    -------
    xarray.DataArray
        Dimensions (time, band, y, x); time is absent for a mosaic, band for class codes. Dask-backed, in the stored
        type unless rescaled. `time` is when the first scene of each step begins, UTC; for a frequency, the label of its
        bin. `attrs` has `_FillValue`, what the numbers are (`radiometry`, `scales`, `offsets`) where a scale is known,
        and `flag_values`, `flag_meanings`, `flag_colors` for class codes.

    Raises
    ------
    InputError
        Where no file matches, or a band is not there.
    ReadError, CRSError, GridError
        Where a file cannot be opened, has no CRS, or the files disagree and no choice was given.

    Examples
    --------
    >>> import geoxt
    >>> landsat = geoxt.open_cogs("landsat/*_SR_B[2-7].TIF", product="landsat8")  # doctest: +SKIP
    """
    area = area_of(bbox, intersects)
    if isinstance(product, str):
        product = products.get(product)
    files, product = gather_files(paths, product, bands=bands, exclude=exclude)
    credentials = make_credentials(sign, env)
    read = headers(files, crs=source_crs, credentials=credentials)
    if product is not None:
        scenes, metadata = product_scenes(
            read, product, categorical=categorical, exclude=exclude, rescale=rescale, hide_quality=bands is None
        )
    elif flag_names(exclude):
        problem = f"Cannot exclude {', '.join(flag_names(exclude))}: the files are of no known product."
        raise InputError(problem, remedy="Pass {product}. Or leave {exclude} out.", argument="exclude")
    else:
        scenes, metadata = grid_scenes(read, categorical=categorical)
    if bands is not None:
        names = [bands] if isinstance(bands, str) else bands
        scenes, metadata = choose_bands(scenes, metadata, names, product, categorical=categorical)
    if nodata is None and product is not None:
        nodata = product.nodata
    if nodata is not None:
        scenes = [with_nodata(scene, nodata) for scene in scenes]
    if area is not None:
        scenes = [scene for scene in scenes if overlap(scene.grid, area.grid) is not None]
        if not scenes:
            problem = f"Cannot cut the layer to {area.label}: none of its files overlaps it."
            raise OverlapError(problem, remedy="Pass another {bbox} or {intersects}.")
    placement = Placement(
        crs=crs, resolution=resolution, grid=grid, area=area, groupby=groupby, composite=composite, rescale=rescale,
        nodata=nodata, resampling=resampling, chunks=chunks, errors=errors, credentials=credentials,
        name=name or (product.name if product else None),
    )  # fmt: skip
    return assemble_native(scenes, metadata, placement) if is_native(crs) else assemble(scenes, metadata, placement)

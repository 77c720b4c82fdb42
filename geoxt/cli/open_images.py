"""Open the images of a command: raster files, a Zarr store, a NetCDF or GRIB file, or a file of STAC items."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from geoxt.errors import InputError
from geoxt.layers import open_cogs, open_stac, open_xarray, open_zarr
from geoxt.pixels.zarr_store import is_store

_STAC = {".json", ".geojson", ".parquet"}
_XARRAY = {".nc", ".nc4", ".grib", ".grib2", ".grb", ".grb2"}


def open_images(images: Sequence[str], **options: Any) -> xr.DataArray:
    """Open the images of a command as one layer.

    Parameters
    ----------
    images
        Paths of raster files; or one Zarr store (or a group in it), or one NetCDF or GRIB file, or one file of STAC
        items: JSON or stac-geoparquet.
    options
        Options that all openers share, such as `product` and `crs`.

    Raises
    ------
    InputError
        If a store, a NetCDF file or a file of STAC items is among several images.
    """
    cubes = [image for image in images if is_store(image) or Path(image).suffix.lower() in _XARRAY | _STAC]
    if not cubes:
        return open_cogs(list(images), **options)
    if len(images) > 1:
        problem = f"Cannot open {cubes[0]!r} with {len(images) - 1} more images."
        raise InputError(problem, remedy="Pass a Zarr store, NetCDF file or file of STAC items alone.")
    if Path(images[0]).suffix.lower() in _STAC:
        return open_stac(images[0], **options)
    if is_store(images[0]):
        return open_zarr(images[0], **options)
    return open_xarray(images[0], **options)


__all__ = ["open_images"]

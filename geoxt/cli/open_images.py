"""Open the images of a command: raster files, a Zarr store, a NetCDF or GRIB file, or a file of STAC items."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geoxt.errors import CRSError, GridError, InputError
from geoxt.layers import describe, open_cogs, open_stac, open_xarray, open_zarr
from geoxt.pixels.zarr_store import is_store
from geoxt.trees import layers_of

_STAC = {".json", ".geojson", ".parquet"}
_XARRAY = {".nc", ".nc4", ".grib", ".grib2", ".grb", ".grb2"}


def open_images(images: Sequence[str], **options: Any) -> Any:
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
        If several images include a store, a NetCDF file or a file of STAC items.
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


def describe_images(args: argparse.Namespace) -> str:
    """Return the tables of `geoxt.layers.describe` for the layer of each CRS."""
    options = {key: getattr(args, key) for key in ("product", "pattern", "bands", "crs", "resolution")}
    options = {key: value for key, value in options.items() if value is not None}
    notes = []
    try:
        data = open_images(args.paths, **options)
    except CRSError as error:
        if "crs" in options or error.argument == "source_crs":
            raise
        notes.append(error.problem)
        data = open_images(args.paths, **options, crs="native")
    except GridError as error:
        if "resolution" in options or error.argument != "resolution" or not isinstance(error.value, float):
            raise
        notes.append(f"{error.problem} Shown: resolution={error.value:g}.")
        data = open_images(args.paths, **options, resolution=error.value)
    for node, layer in layers_of(data).items():
        rows = describe(layer).itertuples()
        notes += [f"{node}:"] * bool(node) + [f"{row.Index:<12}{row.value}\n{'':<14}{row.reason}" for row in rows]
    return "\n".join(notes)

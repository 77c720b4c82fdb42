"""Exclusion masks (layers or raster files) as quality bands: valid pixels other than 0 are excluded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import dask.base
import shapely
import xarray as xr

from geoxt.errors import InputError, OverlapError
from geoxt.footprints import outlines
from geoxt.grid import grid_of, with_yx_dims
from geoxt.layers.exclude import SomeFlags
from geoxt.layers.files.product_scenes import asset_of
from geoxt.pixels.credentials import Credentials
from geoxt.pixels.reader import read_header
from geoxt.pixels.xarray_planes import XarrayPlanes
from geoxt.source import Asset, QualityBand, Scene, nodata_of

Mask = os.PathLike[str] | xr.DataArray
SomeExclude = SomeFlags | Mask | Sequence[str | Mask]
"""Names of quality flags, a mask (a layer or the path of a raster file), or a list of these."""
CHUNK = 1024
"""Side in pixels of the blocks in which a layer in memory is read."""


def split_exclude(exclude: SomeExclude) -> tuple[tuple[str, ...], tuple[Mask, ...]]:
    """Return the flag names and the masks of `exclude=`; text with a dot is a path."""
    entries = [exclude] if isinstance(exclude, str | os.PathLike | xr.DataArray) else list(exclude)
    masks = [Path(e) if isinstance(e, str) else e for e in entries if not isinstance(e, str) or "." in e]
    return tuple(e for e in entries if isinstance(e, str) and "." not in e), tuple(masks)


def with_masks(scenes: Sequence[Scene], masks: Sequence[Mask], credentials: Credentials | None) -> list[Scene]:
    """Return scenes whose pixels are invalid where a mask is valid and not 0.

    Raises
    ------
    InputError
        If a mask has several bands or dates.
    OverlapError
        If a mask overlaps no scene.
    """
    bands = tuple(QualityBand(asset=_asset(mask, credentials), excluded=None) for mask in masks)
    for band in bands:
        grid = band.asset.grid
        box = shapely.box(0, 0, grid.shape[1], grid.shape[0])
        around = outlines([scene.grid for scene in scenes], grid)
        if not any(outline is None or outline.intersects(box) for outline in around):
            problem = f"Cannot exclude pixels by {band.asset.href!r}: it overlaps no scene."
            raise OverlapError(problem, remedy="Pass another {exclude}.", argument="exclude")
    return [replace(scene, quality=(*scene.quality, *bands)) for scene in scenes] if bands else list(scenes)


def _asset(mask: Mask, credentials: Credentials | None) -> Asset:
    """Return the asset of a mask: the file, or the layer's array."""
    if not isinstance(mask, xr.DataArray):
        header = read_header(os.fspath(mask), credentials=credentials)
        if len(header.dtypes) > 1:
            raise _mask_error(os.fspath(mask), f"{len(header.dtypes)} bands")
        return asset_of(header, 1)
    grid = grid_of(mask)
    layer = with_yx_dims(mask).squeeze([d for d in mask.dims if d not in {"y", "x"} and mask.sizes[d] == 1])
    if set(layer.dims) != {"y", "x"}:
        raise _mask_error(str(mask.name), f"the dimensions {', '.join(map(str, layer.dims))}")
    variable = layer.transpose("y", "x").variable
    sizes = variable.chunks or ((CHUNK,), (CHUNK,))
    chunks = tuple(min(max(size), n) for size, n in zip(sizes, variable.shape, strict=True))
    version = str(dask.base.tokenize(variable.data))
    name = f"layer {'without name' if mask.name is None else mask.name}"
    array = XarrayPlanes(name=name, variable=variable, axes=(0, 1), chunks=chunks, file=None, version=version)
    return Asset(href=name, band=1, grid=grid, dtype=str(variable.dtype), nodata=nodata_of(mask), array=array)


def _mask_error(name: str, count: str) -> InputError:
    problem = f"Cannot exclude pixels by {name!r}: it has {count}."
    remedy = "Pass {exclude} with one band of one date. Masks of each date are quality bands of a Product."
    return InputError(problem, remedy=remedy, argument="exclude")

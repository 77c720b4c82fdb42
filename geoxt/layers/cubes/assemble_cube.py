"""Assemble the bands of a data cube to a layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from geoxt.errors import GridError, InputError, OverlapError
from geoxt.layers.assemble import Placement, assemble, choose_grid
from geoxt.layers.cubes.planes import Band
from geoxt.layers.cubes.scenes import AssetArray, choose_bands, metadata_of, scenes_of
from geoxt.layers.cubes.variable import Variable
from geoxt.layers.exclude import SomeFlags
from geoxt.layers.native import assemble_native, is_native
from geoxt.layers.products import Product
from geoxt.source import Scene
from geoxt.source.layer import CHUNK


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Options of the caller for bands."""

    bands: Sequence[str] | None
    """Names of bands, in order; `None` for all."""
    product: Product | None
    """Known product of the cube."""
    categorical: bool | None
    """Whether pixels are class codes."""
    baseline: str | None = None
    """Processing baseline of a cube that states none."""
    label: str
    """Name of the cube, for messages."""
    exclude: SomeFlags = ()
    """Quality flags of excluded pixels."""
    quality: Sequence[Band] = ()
    """Quality bands that hold them."""


def assemble_cube(
    bands: Sequence[Band], locate: Callable[[Variable], AssetArray], request: Request, placement: Placement
) -> xr.DataArray | xr.DataTree:
    """Return the lazy layer of bands.

    Parameters
    ----------
    bands
        All bands of the cube.
    locate
        Returns the address, the grid and the array of a variable.
    request, placement
        Options of the caller.

    Raises
    ------
    InputError, CRSError, GridError, OverlapError
        See `open_zarr`.
    """
    selected, product_bands = choose_bands(bands, request.bands, request.product)
    metadata = metadata_of(selected, request.product, product_bands, categorical=request.categorical)
    variables = {id(band.variable): band.variable for band in (*selected, *request.quality)}
    located = {key: locate(variable) for key, variable in variables.items()}
    scenes = scenes_of(
        selected, request.product, product_bands, locate=lambda band: located[id(band.variable)], name=request.label,
        nodata=placement.nodata, quality=request.quality, exclude=request.exclude, baseline=request.baseline,
        rescale=placement.rescale,
    )  # fmt: skip
    area = placement.area
    if area is not None and not area.overlaps(scenes[0].grid):
        problem = f"Cannot cut the layer to {area.label}: {request.label} does not overlap it."
        raise OverlapError(problem, remedy="Pass another {bbox} or {intersects}.")
    if placement.groupby is None and scenes[0].start is None:
        placement = replace(placement, groupby="mosaic")
    if placement.grid is None and placement.crs is None and area is None:
        placement = replace(placement, grid=_turned_grid(scenes, placement.resolution))
    placement = replace(placement, chunks=placement.chunks or _chunks(selected))
    return (
        assemble_native(scenes, metadata, placement)
        if is_native(placement.crs)
        else assemble(scenes, metadata, placement)
    )


def require_spatial(variables: Sequence[Variable], where: str) -> None:
    """Raise as no variable has the dimensions y and x; the message lists the dimensions of each.

    Raises
    ------
    GridError
        If the grid is curvilinear.
    InputError
        Otherwise.
    """
    for variable in variables:
        names = str(variable.attrs.get("coordinates", "")).split()
        curvilinear = [v.name for v in variables if v.name in names or v.attrs.get("standard_name") in _GEOGRAPHIC]
        if curvilinear and variable.name not in curvilinear:
            problem = f"Cannot open {variable.path!r} of {where}: its grid is given by {' and '.join(curvilinear)}."
            remedy = "Resample it to a regular grid first, such as by pyresample or xESMF."
            raise GridError(problem, remedy=remedy)
    shown = ", ".join(f"{v.path} {v.dims}" for v in variables[:5]) or "none with two named dimensions"
    problem = f"Cannot open {where}: no array has the dimensions y and x; its arrays are {shown}."
    raise InputError(problem, remedy="Pass another {group}. Or rename the dimensions.", argument="group")


_GEOGRAPHIC = {"latitude", "longitude"}


def _turned_grid(scenes: Sequence[Scene], resolution: float | tuple[float, float] | None) -> GeoBox | None:
    """Return the grid of scenes with longitudes of 0 to 360 as one of -180 to 180; `None` for any other grid."""
    grid = scenes[0].grid
    if grid.crs is None or not grid.crs.geographic or max(grid.boundingbox.left, grid.boundingbox.right) <= 180:
        return None
    full_grid = choose_grid(scenes[:1], resolution=resolution)
    width, (rows, cols) = full_grid.affine.a, full_grid.shape
    left = full_grid.affine.c
    if left >= 180 - width / 2:  # west of the antimeridian
        return GeoBox(full_grid.shape, Affine.translation(-360, 0) @ full_grid.affine, full_grid.crs)
    if cols * width < 360 - width / 2:
        return None  # across the antimeridian
    shift = int(np.floor((left + 180) / width + 0.5))
    return GeoBox((rows, cols), full_grid.affine @ Affine.translation(-shift, 0), full_grid.crs)


def _chunks(bands: Sequence[Band]) -> dict[str, int]:
    """Return sizes of dask chunks that are multiples of the store's, of at least 1024 pixels."""
    variable = bands[0].variable
    if variable.chunks is None:
        return {}
    sizes = {}
    for dim in ("y", "x"):
        axis = variable.axis(dim)
        assert axis is not None
        size = variable.chunks[axis]
        sizes[dim] = size * max(CHUNK // size, 1) if size <= 4 * CHUNK else CHUNK
    return sizes


__all__ = ["Request", "assemble_cube", "require_spatial"]

"""Assemble the bands of a data cube to a layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from geoxt.errors import GeoxtError, InputError, OverlapError
from geoxt.layers.assemble import LayerOptions, choose_grid
from geoxt.layers.cubes.grids import curvilinear_error
from geoxt.layers.cubes.planes import Band
from geoxt.layers.cubes.scenes import AssetArray, choose_bands, metadata_of, scenes_of
from geoxt.layers.cubes.variable import Variable
from geoxt.layers.exclude import SomeFlags
from geoxt.layers.native import assemble_layer
from geoxt.layers.products import Product
from geoxt.source import Scene
from geoxt.source.layer import CHUNK


@dataclass(frozen=True, slots=True, kw_only=True)
class BandOptions:
    """Bands of a cube to open, and the meaning of their pixels."""

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
    bands: Sequence[Band], locate: Callable[[Variable], AssetArray], selection: BandOptions, options: LayerOptions
) -> xr.DataArray | xr.DataTree:
    """Return the lazy layer of bands.

    Parameters
    ----------
    bands
        All bands of the cube.
    locate
        Function from a variable to its address, grid and array.
    selection, options
        Arguments of the opener.

    Raises
    ------
    InputError, CRSError, GridError, OverlapError
        See `open_zarr`.
    """
    selected, product_bands = choose_bands(bands, selection.bands, selection.product)
    metadata = metadata_of(selected, selection.product, product_bands, categorical=selection.categorical)
    variables = {id(band.variable): band.variable for band in (*selected, *selection.quality)}
    located = {key: locate(variable) for key, variable in variables.items()}
    scenes = scenes_of(
        selected, selection.product, product_bands, locate=lambda band: located[id(band.variable)],
        name=selection.label, nodata=options.nodata, quality=selection.quality, exclude=selection.exclude,
        baseline=selection.baseline, rescale=options.rescale,
    )  # fmt: skip
    area = options.area
    if area is not None and not area.overlaps(scenes[0].grid):
        problem = f"Cannot cut the layer to {area.label}: {selection.label} does not overlap it."
        raise OverlapError(problem, remedy="Pass another {bbox} or {intersects}.")
    if options.groupby is None and scenes[0].start is None:
        options = replace(options, groupby="mosaic")
    if options.grid is None and options.crs is None and area is None:
        options = replace(options, grid=_wrapped_grid(scenes, options.resolution))
    options = replace(options, chunks=options.chunks or _chunks(selected))
    return assemble_layer(scenes, metadata, options)


def not_spatial_error(variables: Sequence[Variable], where: str) -> GeoxtError:
    """Return the error of a cube without a variable along y and x: a GridError if its grid is curvilinear."""
    for variable in variables:
        names = str(variable.attrs.get("coordinates", "")).split()
        curvilinear = [v.name for v in variables if v.name in names or v.attrs.get("standard_name") in _GEOGRAPHIC]
        if curvilinear and variable.name not in curvilinear:
            return curvilinear_error(f"{variable.path!r} of {where}", curvilinear)
    shown = ", ".join(f"{v.path} {v.dims}" for v in variables[:5]) or "none with two named dimensions"
    problem = f"Cannot open {where}: no array has the dimensions y and x; its arrays are {shown}."
    return InputError(problem, remedy="Pass another {group}. Or rename the dimensions.", argument="group")


_GEOGRAPHIC = {"latitude", "longitude"}


def _wrapped_grid(scenes: Sequence[Scene], resolution: float | tuple[float, float] | None) -> GeoBox | None:
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

"""Grids (odc-geo `GeoBox`): the CRS, affine transform and shape of a layer."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

import numpy as np
import xarray as xr
from affine import Affine
from odc.geo import CRS
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from geoxt.crs import has_code, parse_crs
from geoxt.errors import CRSError, GridError
from geoxt.types import Array, Floats
from geoxt.windows import Window

__all__ = ["coordinates", "grid_of", "snap_grid", "to_rasterio", "window_grid"]

COINCIDE = 1e-3
"""Pixels: maximum distance from a shift by whole pixels at which two grids coincide."""


T = TypeVar("T", bound=xr.DataArray | xr.Dataset)


def grid_of(layer: xr.DataArray | xr.Dataset | GeoBox) -> GeoBox:
    """Return the grid of a layer.

    Parameters
    ----------
    layer
        Layer with regular `y` and `x` coordinates and a CRS (`spatial_ref`, CF grid mapping), or a grid.

    Raises
    ------
    CRSError
        If the layer has no CRS.
    GridError
        If it has no `y` and `x` dimensions, or their coordinates are irregular.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.testing import make_grid, make_layer
    >>> grid_of(make_layer(np.zeros((2, 3)))) == make_grid((2, 3))
    True
    """
    if isinstance(layer, GeoBox):
        return _with_parsed_crs(layer)
    layer = with_yx_dims(layer)
    name = getattr(layer, "name", None) or type(layer).__name__
    if not {"y", "x"} <= set(layer.dims):
        dims = tuple(map(str, layer.dims))
        problem = f"Cannot find the grid of {name!r}: its dimensions are {dims}, not ('y', 'x')."
        raise GridError(problem, remedy="Rename them with rename().")
    grid = layer.odc.geobox
    if not isinstance(grid, GeoBox):
        problem = f"Cannot find the grid of {name!r}: its y and x coordinates are missing or not regular."
        raise GridError(problem, remedy="Assign regular coordinates, or select by slices.")
    _require_regular(name, layer, grid)
    if grid.crs is None:
        problem = f"Cannot georeference {name!r}: it has no CRS."
        raise CRSError(problem, remedy="Assign one, such as layer.odc.assign_crs('EPSG:32615').")
    return GeoBox(grid.shape, _affine_of(layer, grid), parse_crs(grid.crs))


def _affine_of(layer: xr.DataArray | xr.Dataset, grid: GeoBox) -> Affine:
    """Return the affine of a layer's grid.

    The coordinates of a rotated grid are pixel numbers, for a grid in `GeoTransform`; of one row or column, odc-geo
    takes their step from that transform instead of 1.
    """
    if min(grid.shape) > 1 or any(layer[dim].attrs.get("units") != "pixel" for dim in ("y", "x")):
        return grid.affine
    texts = (coord.attrs.get("GeoTransform") for coord in layer.coords.values() if coord.ndim == 0)
    text = next((text for text in texts if text is not None), None)
    if text is None:
        return grid.affine
    y, x = (layer[dim].to_numpy().astype("float64") for dim in ("y", "x"))
    steps = [float(values[1] - values[0]) if len(values) > 1 else 1.0 for values in (x, y)]
    first = Affine.translation(x[0] - steps[0] / 2, y[0] - steps[1] / 2)
    return Affine.from_gdal(*map(float, text.split())) @ first @ Affine.scale(*steps)


def with_yx_dims(data: T) -> T:
    """Return data with spatial dimensions named y and x; odc-stac names them latitude and longitude in degrees."""
    if not {"latitude", "longitude"} <= set(data.dims):
        return data
    return cast("T", data.rename(latitude="y", longitude="x"))


def _require_regular(name: Hashable, layer: xr.DataArray | xr.Dataset, grid: GeoBox) -> None:
    """Raise unless the y and x coordinates exist and are evenly spaced (to 1 % of a step)."""
    for axis, dim in enumerate(("y", "x")):
        if dim not in layer.coords:
            problem = f"Cannot find the grid of {name!r}: it is not regular, as it has no {dim} coordinates."
            raise GridError(problem, remedy="Assign them.")
        values = layer[dim].to_numpy()
        steps = np.diff(values)
        if len(steps) and np.abs(values - np.linspace(values[0], values[-1], len(values))).max() > abs(steps[0]) / 100:
            worst = int(np.argmax(np.abs(steps - np.median(steps))))
            problem = (
                f"Cannot find the grid of {name!r}: {dim} is not regular, as step {worst} is {steps[worst]:g} "
                f"and the median step {np.median(steps):g}."
            )
            raise GridError(problem, remedy=f"Select {dim} by slices.")
        if len(values) != grid.shape[axis]:
            problem = (
                f"Cannot find the grid of {name!r}: {len(values)} {dim} coordinates for {grid.shape[axis]} pixels."
            )
            raise GridError(problem, remedy="Assign regular coordinates.")


def coordinates(grid: GeoBox) -> Mapping[Hashable, xr.DataArray]:
    """Return the `y`, `x` and `spatial_ref` coordinates of a layer on a grid (pixel centres, CF grid mapping).

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> layer = make_layer(np.zeros((2, 3)), resolution=10)
    >>> layer.x.values
    array([600005., 600015., 600025.])
    """
    return xr_coords(_with_parsed_crs(grid), dims=("y", "x"))


def _with_parsed_crs(grid: GeoBox) -> GeoBox:
    """Return a grid whose CRS has an EPSG code only if it equals the CRS of that code."""
    if grid.crs is None or has_code(grid.crs):
        return grid
    return GeoBox(grid.shape, grid.affine, parse_crs(grid.crs))


def window_grid(grid: GeoBox, window: Window) -> GeoBox:
    """Return the grid of a window of a grid; the window may reach over the edge.

    Examples
    --------
    >>> from geoxt.testing import make_grid
    >>> grid = make_grid((8, 8), left=0, top=80, resolution=10)
    >>> tuple(window_grid(grid, Window(2, 4, 2, 2)).boundingbox)
    (40.0, 40.0, 60.0, 60.0)
    """
    return GeoBox(window.shape, grid.affine @ Affine.translation(window.col, window.row), grid.crs)


def to_rasterio(grid: GeoBox) -> dict[str, Any]:
    """Return `crs` and `transform` of a grid, as in a rasterio profile.

    Examples
    --------
    >>> from geoxt.testing import make_grid
    >>> to_rasterio(make_grid((2, 3), left=0, top=100, resolution=10))["transform"][:6]
    (10.0, 0.0, 0.0, 0.0, -10.0, 100.0)
    """
    assert grid.crs is not None
    return {"crs": grid.crs.to_wkt(), "transform": grid.affine}


def pix2wld(grid: GeoBox, col: Array, row: Array) -> tuple[Floats, Floats]:
    """Return the coordinates x and y of arrays of positions in pixels; 0.5 is the center of the first pixel."""
    affine: Any = grid.affine  # typed for numbers, computes arrays too
    x, y = affine @ (col, row)
    return x, y


def full_window(grid: GeoBox) -> Window:
    """Return the window that covers a grid."""
    return Window(0, 0, grid.shape[0], grid.shape[1])


def pixel_offset(grid: GeoBox, base: GeoBox) -> tuple[int, int] | None:
    """Return the (row, column) offset of `grid` in pixels of `base`, or `None` if the grids do not coincide.

    Three corners determine an affine transform: if they are within `COINCIDE` of a whole-pixel shift, all pixels are.
    """
    if grid.crs != base.crs:
        return None
    pixels = ~base.affine @ grid.affine
    corners = np.array([pixels @ c for c in ((0, 0), (0, grid.shape[0]), (grid.shape[1], 0))], dtype="float64")
    col, row = np.rint(corners[0])
    expected = np.array([(col, row), (col, row + grid.shape[0]), (col + grid.shape[1], row)])
    if np.abs(corners - expected).max() > COINCIDE:
        return None
    return int(row), int(col)


SAME = 1e-6
"""Pixels: distance below which the corners of two grids are the same, as their transforms differ by rounding only."""


def same_grids(grids: Iterable[GeoBox]) -> list[GeoBox]:
    """Return, for each grid, the first grid that equals it within rounding: all corners within `SAME` of a pixel."""
    result: list[GeoBox] = []
    bins: dict[tuple[Any, ...], list[GeoBox]] = {}
    for grid in grids:
        keys = _bins(grid)
        near = (other for key in keys for other in bins.get(key, ()))
        match = next((other for other in near if _distance(grid, other) < SAME), grid)
        if match is grid:
            bins.setdefault(keys[0], []).append(grid)
        result.append(match)
    return result


def shifted_pair(grids: Sequence[GeoBox]) -> tuple[GeoBox, GeoBox] | None:
    """Return two grids of equal shape that are shifted by less than a pixel; `None` if there is no such pair."""
    bins: dict[tuple[Any, ...], list[GeoBox]] = {}
    for grid in grids:
        for key in _bins(grid, 1):
            for other in bins.get(key, ()):
                if SAME <= _distance(grid, other) < 1 - SAME:
                    return other, grid
        bins.setdefault(_bins(grid)[0], []).append(grid)
    return None


def _bins(grid: GeoBox, reach: float = 2 * SAME) -> list[tuple[Any, ...]]:
    """Return keys of grids whose origins are within `reach` pixels of a grid's; the first is that of the grid."""
    a = grid.affine
    col, row = a.c / (abs(a.a) + abs(a.b)), a.f / (abs(a.d) + abs(a.e))
    cols, rows = (dict.fromkeys(round(n + shift) for shift in (0, -reach, reach)) for n in (col, row))
    return [(*grid.shape, id(grid.crs.proj) if grid.crs else None, i, j) for j in rows for i in cols]


def _distance(grid: GeoBox, other: GeoBox) -> float:
    """Return the largest distance between corners of grids of one CRS and shape, in pixels."""
    corners = np.array([(0, 0), (0, grid.shape[0]), (grid.shape[1], 0)], "float64")
    pixels = ~other.affine @ grid.affine
    return float(np.abs([np.array(pixels @ tuple(c)) - c for c in corners]).max())


def snap_grid(
    bounds: tuple[float, float, float, float], resolution: tuple[float, float], anchor: Affine, crs: CRS
) -> GeoBox:
    """Return the smallest grid that covers `bounds`, with pixel edges aligned to `anchor`.

    Parameters
    ----------
    bounds
        Left, bottom, right, top in the CRS.
    resolution
        Pixel width and height in CRS units, both positive.
    anchor
        Affine whose origin is a pixel corner of the result, extended in both directions.
    crs
        Coordinate reference system of the result, which is north-up.

    Examples
    --------
    >>> grid = snap_grid((12, 0, 48, 30), (10, 10), Affine.identity(), CRS("EPSG:32633"))
    >>> tuple(grid.boundingbox)
    (10.0, 0.0, 50.0, 30.0)
    """
    left, bottom, right, top = bounds
    rx, ry = resolution
    tolerance = 1e-6  # pixels: bounds that miss a pixel edge by rounding errors add no row or column
    c0 = np.floor((left - anchor.c) / rx + tolerance)
    c1 = np.ceil((right - anchor.c) / rx - tolerance)
    r0 = np.floor((anchor.f - top) / ry + tolerance)
    r1 = np.ceil((anchor.f - bottom) / ry - tolerance)
    affine = Affine(rx, 0, anchor.c + c0 * rx, 0, -ry, anchor.f - r0 * ry)
    return GeoBox((max(int(r1 - r0), 1), max(int(c1 - c0), 1)), affine, crs)

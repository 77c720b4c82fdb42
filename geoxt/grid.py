"""Grids (odc-geo `GeoBox`): the one way a place on Earth is passed inside the package."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from functools import lru_cache
from typing import Any, TypeVar, cast

import numpy as np
import pyproj
import xarray as xr
from affine import Affine
from odc.geo import CRS
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from geoxt.errors import CRSError, GridError
from geoxt.types import SomeCRS
from geoxt.windows import Window

COINCIDE = 1e-3
"""Pixels: two grids coincide where their pixels are nowhere further apart than this from a whole-pixel shift."""

T = TypeVar("T", bound=xr.DataArray | xr.Dataset)


def parse_crs(crs: SomeCRS) -> CRS:
    """Return an odc-geo CRS from an EPSG code, WKT, PROJ string or CRS object.

    Raises
    ------
    CRSError
        Where the value names no coordinate reference system.
    """
    try:
        return _parsed(crs.to_wkt() if hasattr(crs, "to_wkt") else crs)
    except Exception as error:
        msg = f"Cannot read a coordinate reference system from {crs!r}: pass crs= an EPSG code such as 'EPSG:32615'."
        raise CRSError(msg) from error


@lru_cache(256)
def _parsed(crs: SomeCRS) -> CRS:
    parsed = CRS(crs)
    epsg = parsed.to_epsg()
    return CRS(f"EPSG:{epsg}") if epsg is not None else parsed


def grid_of(layer: xr.DataArray | xr.Dataset | GeoBox) -> GeoBox:
    """Return the grid a layer lies on.

    Parameters
    ----------
    layer
        A layer with regular `y` and `x` coordinates and a CRS (`spatial_ref`, CF grid mapping), or a grid.

    Raises
    ------
    CRSError
        Where the layer has no CRS.
    GridError
        Where it has no `y` and `x` dimensions, or these are not regular.
    """
    if isinstance(layer, GeoBox):
        return layer
    layer = with_yx_dims(layer)
    name = getattr(layer, "name", None) or type(layer).__name__
    if not {"y", "x"} <= set(layer.dims):
        found = tuple(map(str, layer.dims))
        msg = (
            f"Cannot find the grid of {name!r}: its dimensions are {found}, not ('y', 'x'). Rename them with rename()."
        )
        raise GridError(msg)
    grid = layer.odc.geobox
    if not isinstance(grid, GeoBox):
        msg = f"Cannot find the grid of {name!r}: its y and x coordinates are missing or not regular."
        raise GridError(msg)
    _require_regular(name, layer, grid)
    if grid.crs is None:
        msg = f"Cannot place {name!r} on Earth: it has no CRS. Give it one, e.g. layer.odc.assign_crs('EPSG:32615')."
        raise CRSError(msg)
    return GeoBox(grid.shape, grid.affine, parse_crs(grid.crs))


def with_yx_dims(data: T) -> T:
    """Return data with spatial dimensions named y and x; odc-stac names them latitude and longitude in degrees."""
    if not {"latitude", "longitude"} <= set(data.dims):
        return data
    return cast("T", data.rename(latitude="y", longitude="x"))


def _require_regular(name: Hashable, layer: xr.DataArray | xr.Dataset, grid: GeoBox) -> None:
    """Check that coordinates are there, and evenly spaced."""
    for axis, dim in enumerate(("y", "x")):
        if dim not in layer.coords:
            msg = f"Cannot find the grid of {name!r}: not regular, as it has no {dim} coordinates. Assign them."
            raise GridError(msg)
        places = layer[dim].to_numpy()
        steps = np.diff(places)
        if len(steps) and np.abs(places - np.linspace(places[0], places[-1], len(places))).max() > abs(steps[0]) / 100:
            worst = int(np.argmax(np.abs(steps - np.median(steps))))
            msg = f"Cannot find the grid of {name!r}: {dim} is not regular, it steps by {steps[worst]:g} at {worst}."
            raise GridError(msg + f" Others are {np.median(steps):g}. Choose {dim} by slices.")
        if len(places) != grid.shape[axis]:
            msg = f"Cannot find the grid of {name!r}: {len(places)} {dim} coordinates for {grid.shape[axis]} pixels."
            raise GridError(msg)


def coordinates(grid: GeoBox) -> Mapping[Hashable, xr.DataArray]:
    """Return the `y`, `x` and `spatial_ref` coordinates of a layer on a grid (pixel centres, CF grid mapping)."""
    return xr_coords(grid, dims=("y", "x"))


def window_grid(grid: GeoBox, window: Window) -> GeoBox:
    """Return the grid of a window of a grid; the window may reach over the edge."""
    return GeoBox(window.shape, grid.affine @ Affine.translation(window.col, window.row), grid.crs)


def to_rasterio(grid: GeoBox) -> dict[str, Any]:
    """Return a grid as rasterio's profiles spell it: `crs` and `transform`."""
    assert grid.crs is not None
    return {"crs": grid.crs.to_wkt(), "transform": grid.affine}


def full_window(grid: GeoBox) -> Window:
    """Return the window that covers a grid."""
    return Window(0, 0, grid.shape[0], grid.shape[1])


def pixel_offset(grid: GeoBox, base: GeoBox) -> tuple[int, int] | None:
    """Return the rows and columns by which `grid` is shifted in `base`, or `None` where they do not coincide."""
    if grid.crs != base.crs:
        return None
    pixels = ~base.affine @ grid.affine
    corners = np.array([pixels @ c for c in ((0, 0), (0, grid.shape[0]), (grid.shape[1], 0))], dtype="float64")
    col, row = np.rint(corners[0])
    expected = np.array([(col, row), (col, row + grid.shape[0]), (col + grid.shape[1], row)])
    if np.abs(corners - expected).max() > COINCIDE:
        return None
    return int(row), int(col)


def require_one_crs(crs: Iterable[tuple[str, CRS]]) -> CRS:
    """Return the CRS that all named parts share.

    Raises
    ------
    CRSError
        Where they disagree; the message names one part of each.
    """
    seen: dict[CRS, str] = {}
    for name, one in crs:
        seen.setdefault(one, name)
    if len(seen) > 1:
        (first, a), (second, b) = list(seen.items())[:2]
        msg = f"Cannot choose one CRS: {a!r} is in {crs_name(first)}, {b!r} in {crs_name(second)}. Pass crs=…"
        raise CRSError(msg)
    return next(iter(seen))


def crs_name(crs: CRS | None) -> str:
    """Return a short name for a CRS: its EPSG code where it has one."""
    if crs is None:
        return "no CRS"
    epsg = crs.to_epsg()
    return f"EPSG:{epsg}" if epsg else str(crs.proj.name)


def transformer(source: CRS | None, target: CRS | None) -> pyproj.Transformer:
    """Return the pyproj transformer from one CRS to another, x before y."""
    assert source is not None
    assert target is not None
    return pyproj.Transformer.from_crs(source.proj, target.proj, always_xy=True)


def snap_grid(
    bounds: tuple[float, float, float, float], resolution: tuple[float, float], anchor: Affine, crs: CRS
) -> GeoBox:
    """Return the smallest grid that covers `bounds`, on the lattice of `anchor`.

    Parameters
    ----------
    bounds
        Left, bottom, right, top in the CRS.
    resolution
        Pixel width and height in CRS units, both positive.
    anchor
        A pixel corner of the lattice is this affine's origin.
    crs
        Coordinate reference system of the result, which is north-up.
    """
    left, bottom, right, top = bounds
    rx, ry = resolution
    tolerance = 1e-6
    c0 = np.floor((left - anchor.c) / rx + tolerance)
    c1 = np.ceil((right - anchor.c) / rx - tolerance)
    r0 = np.floor((anchor.f - top) / ry + tolerance)
    r1 = np.ceil((anchor.f - bottom) / ry - tolerance)
    affine = Affine(rx, 0, anchor.c + c0 * rx, 0, -ry, anchor.f - r0 * ry)
    return GeoBox((max(int(r1 - r0), 1), max(int(c1 - c0), 1)), affine, crs)

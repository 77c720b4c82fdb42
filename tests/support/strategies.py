"""Hypothesis strategies: grids in pairs of CRSs, windows, masks, dtypes and rasters. Needs the ``test`` extra."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from hypothesis import strategies as st
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoxt.testing.cogs import distinct
from support.oracles import transformer

__all__ = [
    "AREAS",
    "GridPair",
    "dtypes",
    "grid_pairs",
    "grids",
    "masks",
    "nodata_rasters",
    "rasters",
    "shapes",
    "windows",
]

# For each CRS, the rectangle of longitudes and latitudes from which grids are drawn: left, bottom, right, top.
AREAS: dict[str, tuple[float, float, float, float]] = {
    "EPSG:32615": (-96, 30, -90, 60),
    "EPSG:32616": (-92, 30, -85, 60),
    "EPSG:32601": (-180, 50, -174, 75),
    "EPSG:5070": (-120, 25, -75, 49),
    "EPSG:4326": (-180, -85, 180, 85),
    "EPSG:3857": (-180, -75, 180, 75),
    "EPSG:3413": (-180, 60, 180, 90),
    "EPSG:3031": (-180, -90, 180, -60),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GridPair:
    """Two grids over one location."""

    src: GeoBox
    """Grid of the read raster."""
    dst: GeoBox
    """Grid of the result."""
    scale: float
    """Side of a pixel of `dst` over that of a pixel of `src`, on the ground."""


def shapes(low: int = 1, high: int = 96) -> st.SearchStrategy[tuple[int, int]]:
    """Draw rows and columns."""
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def grids(
    draw: st.DrawFn,
    *,
    crs: str | None = None,
    location: tuple[float, float] | None = None,
    shape: st.SearchStrategy[tuple[int, int]] | None = None,
    metres: float | None = None,
    south_up: bool = True,
    rotated: bool = True,
) -> GeoBox:
    """
    Draw a grid.

    Parameters
    ----------
    crs
        Of `AREAS`. None draws one.
    location
        Longitude and latitude inside the grid. None draws one.
    shape
        Draws rows and columns.
    metres
        Side of a pixel on the ground. None draws one.
    south_up, rotated
        Whether some grids are.
    """
    name = crs or draw(st.sampled_from(sorted(AREAS)))
    lon, lat = draw(_locations(AREAS[name])) if location is None else location
    height, width = draw(shapes() if shape is None else shape)
    side = draw(st.sampled_from((10.0, 30.0, 100.0))) if metres is None else metres
    across, up = _units(name, lat, side)
    up = -up if south_up and draw(st.booleans()) else up
    turn = np.deg2rad(draw(st.sampled_from((0.0, 0.0, 0.0, 17.0, -60.0)))) if rotated else 0.0
    cos, sin = (float(part) for part in (np.cos(turn), np.sin(turn)))
    a, b, d, e = across * cos, up * sin, across * sin, -up * cos
    x, y = transformer("EPSG:4326", name).transform(lon, lat)
    col, row = (draw(st.floats(0, 1)) * length for length in (width, height))
    return GeoBox((height, width), Affine(a, b, x - a * col - b * row, d, e, y - d * col - e * row), name)


@st.composite
def grid_pairs(
    draw: st.DrawFn,
    *,
    scales: tuple[float, float] = (0.3, 4.0),
    shape: st.SearchStrategy[tuple[int, int]] | None = None,
    same_crs: bool | None = None,
    south_up: bool = True,
    rotated: bool = True,
) -> GridPair:
    """
    Draw two grids that share a location: in one CRS or two, shifted by part of a pixel, with any overlap.

    Parameters
    ----------
    scales
        Smallest and largest ratio of a pixel of `dst` to one of `src`.
    shape
        Draws rows and columns of both.
    same_crs
        Whether both have one CRS. None draws both kinds.
    south_up, rotated
        Whether some grids are.
    """
    first = draw(st.sampled_from(sorted(AREAS)))
    others = [name for name in sorted(AREAS) if name != first and _common(first, name)]
    same = draw(st.booleans()) if same_crs is None else same_crs
    second = first if same else draw(st.sampled_from(others))
    location = draw(_locations(_common(first, second) or AREAS[first]))
    size, scale = draw(st.sampled_from((10.0, 30.0, 100.0))), draw(st.floats(*scales))
    kinds: dict[str, Any] = {"location": location, "shape": shape, "south_up": south_up, "rotated": rotated}
    src = draw(grids(crs=first, metres=size, **kinds))
    dst = draw(grids(crs=second, metres=size * scale, **kinds))
    return GridPair(src=src, dst=dst, scale=scale)


@st.composite
def windows(draw: st.DrawFn, shape: tuple[int, int], *, over: int = 16) -> tuple[int, int, int, int]:
    """
    Draw a window of a raster as (row, col, height, width).

    Parameters
    ----------
    shape
        The raster's rows and columns.
    over
        How far, in pixels, a window may reach over the edge; it may also lie wholly outside. 0 keeps it inside.
    """
    sides = []
    for length in shape:
        start = draw(st.integers(-over, length + over - 1))
        sides.append((start, draw(st.integers(1, max(1, length + over - start)))))
    (row, height), (col, width) = sides
    return row, col, height, width


def masks(shape: tuple[int, int]) -> st.SearchStrategy[NDArray[np.bool_]]:
    """Draw where pixels are valid: all, none, scattered, a hole, a tilted edge, a checkerboard or a border."""
    kinds = ("all", "none", "scattered", "hole", "edge", "checkerboard", "border")
    return st.builds(_mask, st.just(shape), st.sampled_from(kinds), st.integers(0, 2**16))


def dtypes(*, floats: bool = True) -> st.SearchStrategy[np.dtype[Any]]:
    """Draw a dtype that GeoTIFFs and tensors have in common."""
    names = ("uint8", "int16", "uint16", "int32", "uint32") + (("float32", "float64") if floats else ())
    return st.sampled_from(names).map(np.dtype)


@st.composite
def rasters(draw: st.DrawFn, shape: tuple[int, ...], *, dtype: np.dtype[Any] | None = None) -> NDArray[Any]:
    """Draw values of dims (..., y, x): unique per pixel, a ramp, or noise."""
    kind = np.dtype(dtype or draw(dtypes()))
    how = draw(st.sampled_from(("distinct", "ramp", "noise")))
    if how == "distinct":
        return distinct(shape, kind)
    if how == "ramp":
        row, col = np.indices(shape[-2:])
        return np.broadcast_to((row + 2 * col) % 120 + 1, shape).astype(kind)
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    return rng.integers(1, 120, shape).astype(kind)


@st.composite
def nodata_rasters(
    draw: st.DrawFn, shape: tuple[int, ...], *, dtype: np.dtype[Any] | None = None
) -> tuple[NDArray[Any], NDArray[np.bool_], float]:
    """Draw (values, valid, nodata): values hold nodata where `valid`, of dims (y, x), is False. Floats may hold nan."""
    values = draw(rasters(shape, dtype=dtype))
    valid = draw(masks((shape[-2], shape[-1])))
    choices = (float("nan"), -9999.0) if values.dtype.kind == "f" else (0.0,)
    nodata = draw(st.sampled_from(choices))
    return np.where(valid, values, values.dtype.type(nodata)), valid, nodata


def _common(first: str, second: str) -> tuple[float, float, float, float] | None:
    """Return the rectangle of longitudes and latitudes common to two CRSs."""
    first_bounds, two = AREAS[first], AREAS[second]
    left, bottom = max(first_bounds[0], two[0]), max(first_bounds[1], two[1])
    right, top = min(first_bounds[2], two[2]), min(first_bounds[3], two[3])
    return (left, bottom, right, top) if left < right and bottom < top else None


def _locations(area: tuple[float, float, float, float]) -> st.SearchStrategy[tuple[float, float]]:
    """Draw a longitude and a latitude, to a thousandth of a degree."""
    left, bottom, right, top = (round(side * 1000) for side in area)
    return st.tuples(*(st.integers(*ends).map(lambda part: part / 1000) for ends in ((left, right), (bottom, top))))


def _units(crs: str, lat: float, metres: float) -> tuple[float, float]:
    """Size along x and y, in units of a CRS, of a length on the ground."""
    shrink = max(float(np.cos(np.deg2rad(lat))), 0.05)
    match crs:
        case "EPSG:4326":
            return metres / (111_320 * shrink), metres / 111_320
        case "EPSG:3857":
            return metres / shrink, metres / shrink
        case _:
            return metres, metres


def _mask(shape: tuple[int, int], kind: str, seed: int) -> NDArray[np.bool_]:
    rng = np.random.default_rng(seed)
    row, col = np.indices(shape)
    (top, bottom), (left, right) = (np.sort(rng.integers(0, side + 1, 2)) for side in shape)
    inside = (row >= top) & (row < bottom) & (col >= left) & (col < right)
    match kind:
        case "all":
            return np.ones(shape, bool)
        case "none":
            return np.zeros(shape, bool)
        case "scattered":
            return np.asarray(rng.random(shape) < rng.choice((0.1, 0.5, 0.9)))
        case "hole":
            return np.asarray(~inside)
        case "edge":
            return np.asarray(col + 0.18 * row > left)
        case "checkerboard":
            return np.asarray((row + col) % 2 == 0)
        case "border":
            return np.asarray((np.minimum(row, shape[0] - 1 - row) > 0) & (np.minimum(col, shape[1] - 1 - col) > 0))
        case _:
            msg = f"There is no kind of mask {kind!r}."
            raise ValueError(msg)

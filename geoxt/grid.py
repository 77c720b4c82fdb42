"""Grids (odc-geo `GeoBox`): the CRS, affine transform and shape of a layer."""

from __future__ import annotations

import re
import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
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

__all__ = ["coordinates", "grid_of", "parse_crs", "snap_grid", "to_rasterio", "window_grid"]

COINCIDE = 1e-3
"""Pixels: largest distance from a shift by whole pixels at which two grids still coincide."""

_LONGITUDE_FIRST = {"CRS84": "4326", "CRS83": "4269", "CRS27": "4267"}
"""EPSG codes of the CRSs of the OGC, which differ in the order of axes only."""

T = TypeVar("T", bound=xr.DataArray | xr.Dataset)


def parse_crs(crs: SomeCRS) -> CRS:
    """Return an odc-geo CRS from an EPSG code, WKT, PROJ string or CRS object.

    Raises
    ------
    CRSError
        If the value is not a coordinate reference system, or is neither geographic nor projected.

    Examples
    --------
    >>> parse_crs("EPSG:32633").epsg
    32633
    """
    try:
        parsed = _parsed(crs.to_wkt() if hasattr(crs, "to_wkt") else crs)
    except Exception as error:
        problem = f"Cannot read a coordinate reference system from {crs!r}."
        raise CRSError(problem, remedy="Pass {crs:'EPSG:32615'}, or another CRS.", argument="crs") from error
    if not (parsed.geographic or parsed.projected):
        problem = (
            f"Cannot use the {parsed.proj.type_name} {parsed.proj.name!r}: it is neither geographic nor projected."
        )
        raise CRSError(problem, remedy="Pass {crs:'EPSG:32615'}, or another CRS.", argument="crs")
    return parsed


def geographic_or_projected(crs: SomeCRS | None) -> CRS | None:
    """Return the CRS of a file if it is geographic or projected, else `None`."""
    try:
        return parse_crs(crs) if crs else None
    except CRSError:
        return None


@lru_cache(256)
def _parsed(crs: SomeCRS) -> CRS:
    try:
        parsed = CRS(crs)
    except ValueError:  # odc-geo cannot read "EPSG:32615+5703"
        parsed = CRS(pyproj.CRS(crs).to_wkt())
    if _has_code(parsed):
        return parsed
    # `to_epsg` accepts a match of 70 %, which may have another datum: a code must give an equal CRS.
    codes = [match.code for match in parsed.proj.list_authority(auth_name="EPSG", min_confidence=70)]
    for code in dict.fromkeys([*_stated_code(parsed.proj), *codes]):
        with suppress(pyproj.exceptions.CRSError):
            coded = CRS(f"EPSG:{code}")
            if _equal_xy(coded.proj, parsed.proj):
                return coded
    parsed._epsg = None  # noqa: SLF001 (else odc-geo sets the 70 % match on first use, and compares CRSs by it)
    return parsed


def _has_code(crs: CRS) -> bool:
    return re.fullmatch(r"EPSG:\d+", str(crs)) is not None


def _stated_code(crs: pyproj.CRS) -> list[str]:
    """Return the EPSG code that the WKT of a CRS states; PROJ's search ignores it if the axes are in another order."""
    identifier = crs.to_json_dict().get("id", {})
    match identifier.get("authority"):
        case "EPSG":
            return [str(identifier["code"])]
        case "OGC":  # the default of GeoParquet and GeoJSON
            return [code for name, code in _LONGITUDE_FIRST.items() if name == identifier["code"]]
        case _:
            return []


def _equal_xy(a: pyproj.CRS, b: pyproj.CRS) -> bool:
    """Return whether two CRSs are equal except for the order of their axes; geoxt always has x before y."""
    if a.equals(b, ignore_axis_order=True):  # geographic CRSs in any order
        return True
    if not (a.is_projected and b.is_projected) or a.is_bound or b.is_bound or a.is_compound or b.is_compound:
        return False
    directions = {tuple(axis.direction for axis in crs.axis_info) for crs in (a, b)}
    units = {tuple(sorted(axis.unit_conversion_factor for axis in crs.axis_info)) for crs in (a, b)}
    if a.geodetic_crs is None or b.geodetic_crs is None or len(units) > 1:
        return False
    return (
        directions <= {("east", "north"), ("north", "east")}
        and a.coordinate_operation == b.coordinate_operation
        and a.geodetic_crs.equals(b.geodetic_crs, ignore_axis_order=True)
    )


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
    >>> from odc.geo.xr import wrap_xr
    >>> from geoxt.testing import make_grid
    >>> grid = make_grid((2, 3), resolution=10)
    >>> grid_of(wrap_xr(np.zeros((2, 3)), grid)) == grid
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
    >>> import xarray as xr
    >>> from geoxt.testing import make_grid
    >>> layer = xr.DataArray(np.zeros((2, 3)), dims=("y", "x"), coords=coordinates(make_grid((2, 3), resolution=10)))
    >>> layer.x.values
    array([600005., 600015., 600025.])
    """
    return xr_coords(_with_parsed_crs(grid), dims=("y", "x"))


def _with_parsed_crs(grid: GeoBox) -> GeoBox:
    """Return a grid whose CRS has an EPSG code only if it equals the CRS of that code."""
    if grid.crs is None or _has_code(grid.crs):
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


def require_one_crs(crs: Iterable[tuple[str, CRS]]) -> CRS:
    """Return the common CRS of named objects; raise if they differ.

    Raises
    ------
    CRSError
        If they differ; the message names one item of each CRS.
    """
    names: dict[CRS, str] = {}
    for name, item_crs in crs:
        names.setdefault(item_crs, name)
    if len(names) > 1:
        (first, a), (second, b) = list(names.items())[:2]
        problem = f"Cannot choose one CRS: {a!r} is in {crs_name(first)}, {b!r} in {crs_name(second)}."
        raise CRSError(problem, remedy="Pass {crs}.", argument="crs")
    return next(iter(names))


def crs_name(crs: CRS | None) -> str:
    """Return a short name of a CRS: the code of an equal CRS, such as "EPSG:32615", if a registry has it."""
    return "no CRS" if crs is None else _code(str(crs)) or _title(crs.proj)


def crs_text(crs: CRS | None) -> str:
    """Return a text from which `parse_crs` returns an equal CRS: the code of an equal CRS, else WKT."""
    assert crs is not None  # grids of layers have a CRS
    return _code(str(crs)) or crs.to_wkt()


@lru_cache(256)
def _code(crs: str) -> str | None:
    """Return the code of a CRS that equals another."""
    parsed = parse_crs(crs)
    if _has_code(parsed):
        return str(parsed)
    for match in parsed.proj.list_authority(auth_name="ESRI", min_confidence=90):
        code = f"ESRI:{match.code}"
        if _equal_xy(pyproj.CRS(code), parsed.proj):
            return code
    return None


def _title(crs: pyproj.CRS) -> str:
    """Return the name of a CRS, or its PROJ parameters if it is unnamed."""
    if crs.name not in {"unknown", "unnamed", "undefined"}:
        return crs.name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PROJ strings lose information, which a name may
        return crs.to_proj4().removesuffix(" +type=crs").removesuffix(" +no_defs") or crs.name


@lru_cache(256)  # building a transformer takes up to 0.2 s; each thread has its own copy of the PROJ object
def transformer(source: CRS | None, target: CRS | None) -> pyproj.Transformer:
    """Return the pyproj transformer from one CRS to another, with x (longitude) before y."""
    assert source is not None
    assert target is not None
    return pyproj.Transformer.from_crs(source.proj, target.proj, always_xy=True)


def transformer_to(grid: GeoBox, crs: CRS | None) -> pyproj.Transformer:
    """Return the transformer from a CRS to that of a grid, by the one operation that PROJ chooses at its centre.

    Between some datums PROJ chooses another operation in each country, so that pixels would be shifted by metres along
    a border. The operation depends on the grid alone, not on the window or the grid that it is resampled to.
    """
    project = transformer(crs, grid.crs)
    if not has_several_operations(project):
        return project
    x, y = grid.affine @ (grid.shape[1] / 2, grid.shape[0] / 2)
    point = project.transform(x, y, direction="INVERSE")
    if not np.isfinite(point).all():
        return project
    project.transform(point[0], point[1])
    return _pipeline(project.get_last_used_operation().definition)


def has_several_operations(project: pyproj.Transformer) -> bool:
    """Return whether PROJ chooses an operation for each point."""
    return bool(project.definition.startswith("unavailable"))


@lru_cache(256)
def _pipeline(definition: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_pipeline(definition)


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

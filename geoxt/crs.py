"""Coordinate reference systems: EPSG codes of equal CRSs, their names, and transformers between two of them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache

import numpy as np
import pyproj
from odc.geo import CRS
from odc.geo.geobox import GeoBox

from geoxt.errors import CRSError
from geoxt.types import SomeCRS

__all__ = ["parse_crs"]

_LONGITUDE_FIRST = {"CRS84": "4326", "CRS83": "4269", "CRS27": "4267"}
"""EPSG codes of the CRSs of the OGC, which differ in the order of axes only."""


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
        parsed = _parse(crs.to_wkt() if hasattr(crs, "to_wkt") else crs)
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
def _parse(crs: SomeCRS) -> CRS:
    try:
        parsed = CRS(crs)
    except ValueError:  # odc-geo cannot read "EPSG:32615+5703"
        parsed = CRS(pyproj.CRS(crs).to_wkt())
    if has_code(parsed):
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


def has_code(crs: CRS) -> bool:
    """Return whether a CRS was made from an EPSG code."""
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


def common_crs(crs: Iterable[tuple[str, CRS]]) -> CRS:
    """Return the common CRS of named objects; raise if they differ.

    Raises
    ------
    CRSError
        If they differ; the message names an object of each CRS.
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
    """Return the code of an equal CRS, else WKT; `parse_crs` returns an equal CRS from it."""
    assert crs is not None  # grids of layers have a CRS
    return _code(str(crs)) or crs.to_wkt()


@lru_cache(256)
def _code(crs: str) -> str | None:
    """Return the EPSG or ESRI code of an equal CRS."""
    parsed = parse_crs(crs)
    if has_code(parsed):
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
    """Return the transformer from a CRS to the CRS of a grid, with the operation that PROJ selects at its centre.

    Between some datums PROJ selects another operation in each country, so that pixels would be shifted by metres along
    a border. The operation depends on the grid only, not on the window or the target grid of a resampling.
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
    """Return whether PROJ selects the operation point by point."""
    return bool(project.definition.startswith("unavailable"))


@lru_cache(256)
def _pipeline(definition: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_pipeline(definition)

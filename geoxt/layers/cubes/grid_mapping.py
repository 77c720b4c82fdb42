"""Coordinate reference system of a variable: by CF, by the proj: attributes of GeoZarr and STAC, or by EOPF."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pyproj
from odc.geo import CRS

from geoxt.crs import crs_name, parse_crs
from geoxt.errors import CRSError
from geoxt.layers.cubes.variable import Variable
from geoxt.types import SomeCRS

_KEYS = ("proj:code", "proj:wkt2", "proj:projjson", "proj:epsg", "crs_wkt", "spatial_ref")
_DEGREES = re.compile(r"^degrees?_?(?:north|east|n|e)$", re.IGNORECASE)


def crs_of(variable: Variable, source_crs: SomeCRS | None = None) -> CRS:
    """Return the CRS of a variable.

    In this order: the CF grid mapping of the variable; `proj:` attributes of the variable, its group or the groups
    above; EOPF's metadata of the product; EPSG:4326 if CF attributes state latitudes and longitudes in degrees.

    Raises
    ------
    CRSError
        If two stated CRSs differ, or none is stated and `source_crs` is None.
    """
    candidates = list(_crs_candidates(variable))
    for source, crs in candidates[1:]:
        if crs != candidates[0][1] and not crs.proj.equals(candidates[0][1].proj, ignore_axis_order=True):
            first, first_crs = candidates[0]
            problem = f"Cannot georeference {variable.path!r}: {first} states {crs_name(first_crs)}, {source} "
            raise CRSError(f"{problem}{crs_name(crs)}.", remedy="Correct the store's metadata.")
    if candidates:
        return candidates[0][1]
    if source_crs is not None:
        return parse_crs(source_crs)
    if _in_degrees(variable):
        return parse_crs("EPSG:4326")
    problem = f"Cannot georeference {variable.path!r}: it states no CRS."
    raise CRSError(problem, remedy="Pass {source_crs:'EPSG:…'} if you know it.", argument="source_crs")


def _crs_candidates(variable: Variable) -> Iterator[tuple[str, CRS]]:
    """Yield the CRS of the grid mapping and of attributes of the nearest scope that has one."""
    mapping = _grid_mapping(variable)
    if mapping is not None:
        name, attrs = mapping
        crs = _of_attrs(attrs, variable) or _of_cf(attrs, variable)
        if crs is not None:
            yield f"grid mapping {name!r}", crs
    for attrs in variable.scopes:
        crs = _of_attrs(attrs, variable)
        if crs is not None:
            yield "an attribute", crs
            return
    if mapping is None:
        code = _eopf_code(variable.scopes[-1])
        if code is not None:
            yield "the product's metadata", parse_crs(code)


def _grid_mapping(variable: Variable) -> tuple[str, Mapping[Any, Any]] | None:
    """Return the name and attributes of the variable that holds the CRS."""
    text = str(variable.attrs.get("grid_mapping") or "")
    # The extended form of CF is "crs: x y".
    names = [name.rstrip(":") for name in text.split() if ":" in name] or text.split()[:1]
    for name in (*names, "spatial_ref", "crs"):
        if name in variable.coords.variables and variable.coords[name].ndim == 0:
            return name, variable.coords[name].attrs
    return None


def _of_attrs(attrs: Mapping[Any, Any], variable: Variable) -> CRS | None:
    for key in _KEYS:
        value = attrs.get(key)
        if value is None or value == "":
            continue
        try:
            return parse_crs(pyproj.CRS.from_json_dict(value) if isinstance(value, dict) else value)
        except (CRSError, pyproj.exceptions.CRSError) as error:
            problem = f"Cannot georeference {variable.path!r}: {key} = {str(value)[:60]!r} is not a CRS."
            raise CRSError(problem, remedy="Correct the store's metadata.") from error
    return None


def _of_cf(attrs: Mapping[Any, Any], variable: Variable) -> CRS | None:
    """Return the CRS of CF parameters of a projection (`grid_mapping_name`)."""
    name = attrs.get("grid_mapping_name")
    if name is None:
        return None
    try:
        crs = pyproj.CRS.from_cf({key: value for key, value in attrs.items() if value != ""})
    except (pyproj.exceptions.CRSError, KeyError) as error:
        problem = f"Cannot georeference {variable.path!r}: the grid mapping {name!r} is incomplete."
        raise CRSError(problem, remedy="Correct the store's metadata.") from error
    return parse_crs(crs)


def _eopf_code(attrs: Mapping[Any, Any]) -> Any:
    """Return the CRS in the attributes of the root of a product of ESA's EOPF."""
    stac, other = attrs.get("stac_discovery"), attrs.get("other_metadata")
    properties = stac.get("properties", {}) if isinstance(stac, Mapping) else {}
    code = properties.get("proj:code") or properties.get("proj:epsg")
    return code or (other.get("horizontal_CRS_code") if isinstance(other, Mapping) else None)


def _in_degrees(variable: Variable) -> bool:
    """Return whether CF attributes state that y is latitude and x longitude: by standard name or units of direction."""
    for direction, name in (("y", "latitude"), ("x", "longitude")):
        axis = variable.axis(direction)
        dim = "" if axis is None else variable.dims[axis]
        attrs = variable.coords[dim].attrs if dim in variable.coords.variables else {}
        units = str(attrs.get("units", ""))
        if not (_DEGREES.match(units) or (attrs.get("standard_name") == name and units in {"degrees", "degree"})):
            return False
    return True

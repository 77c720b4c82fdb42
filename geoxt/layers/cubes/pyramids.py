"""Multiscale pyramids of variables, from `multiscales` metadata of GeoZarr and OME, or from groups of EOPF."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from affine import Affine

from geoxt.errors import GridError, InputError
from geoxt.layers.cubes.grids import affine_of
from geoxt.layers.cubes.variable import Variable
from geoxt.layers.cubes.zarr_groups import Group

_RESOLUTION = re.compile(r"r\d+m")
"""Groups of one resolution in products of ESA's EOPF: r10m, r20m, r60m."""
_PIXELS = ("scale_factor", "add_offset", "_FillValue")
"""Attributes that determine the values of pixels."""
_POSITION = ("spatial:transform", "spatial:transform_type", "spatial:registration", "proj:transform")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pyramid:
    """A variable at its finest resolution, with coarser ones."""

    variable: Variable
    """The variable at the finest resolution."""
    affine: Affine
    """Affine of its pixels."""
    overviews: tuple[tuple[Variable, Affine], ...] = ()
    """The variable at coarser resolutions, from fine to coarse."""
    scales: tuple[Variable, float] | None = None
    """Scales of the pixels of quantized embeddings, and the scale of missing pixels."""


def pyramids_of(variables: Sequence[Variable], groups: Mapping[str, Group]) -> list[Pyramid]:
    """Group variables that are resolutions of the same image.

    Raises
    ------
    GridError
        If the grid of a variable is not regular.
    """
    entries = _entries(groups)
    by_key: dict[Hashable, list[tuple[Variable, Affine | None]]] = {}
    for variable in variables:
        key, entry = _key(variable, entries, groups)
        by_key.setdefault(key, []).append(_with_position(variable, entry))
    return [_pyramid(members) for members in by_key.values()]


def _entries(groups: Mapping[str, Group]) -> dict[str, tuple[str, Mapping[str, Any], str | None]]:
    """Return the multiscale group, the layout entry and the origin of each asset of `multiscales`, by path.

    The origin is the path of the array that an asset is derived from, directly or not; `None` for a group.
    """
    arrays = {f"{path}/{name}".strip("/") for path, group in groups.items() for name in group.arrays}
    entries: dict[str, tuple[str, Mapping[str, Any], str | None]] = {}
    for path, group in groups.items():
        layout = _layout(_multiscales(group.attrs))
        sources = {name: str(entry["derived_from"]) for name, entry in layout if "derived_from" in entry}
        for name, entry in layout:
            origin, visited = name, {name}
            while (source := sources.get(origin)) is not None and source not in visited:
                origin = source
                visited.add(source)
            full = f"{path}/{origin}".strip("/")
            is_array = sources and full in arrays
            entries[f"{path}/{name}".strip("/")] = path, entry, full if is_array else None
    return entries


def _multiscales(attrs: Mapping[str, Any]) -> Any:
    """Return the metadata of resolutions; OME-NGFF 0.5 has them below `ome`."""
    ome = attrs.get("ome")
    return attrs.get("multiscales") or (ome.get("multiscales") if isinstance(ome, Mapping) else None)


def _layout(multiscales: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """Return name and entry of each level: of GeoZarr's layout, of a list of OME, or of tile matrix limits."""
    if isinstance(multiscales, list):  # OME-NGFF and ndpyramid
        levels = [d for m in multiscales if isinstance(m, Mapping) for d in m.get("datasets", ())]
        return [(str(d["path"]), {}) for d in levels if isinstance(d, Mapping) and "path" in d]
    if not isinstance(multiscales, Mapping):
        return []
    layout = multiscales.get("layout")
    if isinstance(layout, list):
        named = [(next((e[k] for k in ("asset", "group", "path", "id") if k in e), None), e) for e in layout]
        return [(str(name), entry) for name, entry in named if name is not None]
    return [(str(name), {}) for name in multiscales.get("tile_matrix_limits") or ()]


def _key(
    variable: Variable, entries: Mapping[str, tuple[str, Mapping[str, Any], str | None]], groups: Mapping[str, Group]
) -> tuple[Hashable, Mapping[str, Any]]:
    """Return the key that resolutions of a variable share, and its layout entry."""
    if variable.path in entries:
        group, entry, origin = entries[variable.path]
        inner = variable.path.removeprefix(group).strip("/").partition("/")[2]
        return (group, inner) if origin is None else origin, entry
    if variable.group in entries:
        group, entry, origin = entries[variable.group]
        if origin is None:
            return (group, variable.name), entry
        if origin.rpartition("/")[2] == variable.name:  # overviews of one array, each in a group, as GDAL writes them
            return origin, entry
    parent, _, last = variable.group.rpartition("/")
    if _RESOLUTION.fullmatch(last) and not (parent in groups and _multiscales(groups[parent].attrs)):
        return (parent, variable.name), {}
    return variable.path, {}


def _with_position(variable: Variable, entry: Mapping[str, Any]) -> tuple[Variable, Affine | None]:
    """Return a variable with the position that its layout entry states, and its affine; `None` if unknown."""
    position: dict[Hashable, Any] = {key: entry[key] for key in _POSITION if key in entry}
    if position:
        variable = replace(variable, attrs={**position, **variable.attrs})
    try:
        return variable, affine_of(variable)
    except GridError:
        scale = entry.get("transform", {}).get("scale") if entry.get("derived_from") else None
        if scale is None:
            raise
        return variable, None  # its position follows from a finer level


def _pyramid(members: Sequence[tuple[Variable, Affine | None]]) -> Pyramid:
    positioned = [(variable, affine) for variable, affine in members if affine is not None]
    if not positioned:
        raise GridError(f"Cannot open {members[0][0].path!r}: no resolution of it states its position.",
                        remedy="Assign regular coordinates.")  # fmt: skip
    positioned.sort(key=lambda member: abs(member[1].a))
    (finest, affine), *coarser = positioned
    overviews = [(variable, other) for variable, other in coarser if _is_overview(variable, other, finest, affine)]
    return Pyramid(variable=finest, affine=affine, overviews=tuple(overviews))


def _is_overview(variable: Variable, affine: Affine, finest: Variable, full: Affine) -> bool:
    """Return whether a coarser variable has the extent, data type, scale and other dimensions of the finest."""
    if variable.dtype != finest.dtype or len(variable.dims) != len(finest.dims):
        return False
    if set(variable.axes) != set(finest.axes):
        return False
    sizes = zip(variable.shape, finest.shape, strict=True)
    if any(a != b for axis, (a, b) in enumerate(sizes) if axis not in finest.axes):
        return False
    if any(str(variable.attrs.get(k)) != str(finest.attrs.get(k)) for k in _PIXELS):
        return False
    ends = []
    for v, a in ((variable, affine), (finest, full)):
        rows, cols = v.grid_shape
        ends.append((a @ (0, 0), a @ (cols, rows)))
    size = (abs(affine.a), abs(affine.e))
    return all(abs(p[i] - q[i]) <= size[i] * 1.01 for p, q in zip(*ends, strict=True) for i in (0, 1))


def choose_pyramids(pyramids: Sequence[Pyramid], names: Sequence[str] | None) -> list[Pyramid]:
    """Return the pyramids of variables by name, all by default.

    Raises
    ------
    InputError
        If two groups have variables of the same name.
    """
    selected = [p for p in pyramids if names is None or p.variable.name in names or p.variable.path in names]
    first: dict[str, Pyramid] = {}
    for pyramid in selected:
        other = first.setdefault(pyramid.variable.name, pyramid)
        if other is not pyramid:
            a, b = other.variable, pyramid.variable
            problem = f"Cannot choose one variable {a.name!r}: the groups {a.group!r} and {b.group!r} have it."
            raise InputError(problem, remedy=f"Pass {{group:{a.group!r}}} or {{group:{b.group!r}}}.", argument="group")
    return selected

"""Variables of a Zarr store, from the metadata of its groups."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from geoxt.errors import GeoxtError, InputError, ReadError
from geoxt.layers.cubes.variable import Variable
from geoxt.pixels.zarr_array import error_text
from geoxt.pixels.zarr_store import StoreAddress

MAX_COORDINATES = 1 << 24
"""Maximum size of a one-dimensional array that is read as a coordinate."""


@dataclass(slots=True, kw_only=True)
class Group:
    """A group of a store."""

    path: str
    """Path in the store; empty for the root."""
    attrs: Mapping[str, Any]
    """Attributes."""
    arrays: dict[str, Any] = field(default_factory=dict)
    """Arrays by name."""


def read_groups(address: StoreAddress, group: str | None) -> tuple[dict[str, Group], str | None]:
    """Return the groups above, at and below a path of a store, and the array's name if the path is an array.

    If the path is an array, the group that holds it is the deepest group of the result.

    Raises
    ------
    ReadError
        If there is no store or no such group, or its metadata cannot be read.
    """
    import zarr

    path = (group or "").strip("/")
    try:
        root: Any = zarr.open(address.open(), mode="r")
        if isinstance(root, zarr.Array):  # a store that is a single array, without a group
            return {"": Group(path="", attrs={}, arrays={"": root})}, ""
        node = root[path] if path else root
        array_name = None
        if isinstance(node, zarr.Array):
            path, _, array_name = path.rpartition("/")
            node = root[path] if path else root
        groups = {path: Group(path=path, attrs=dict(node.attrs))}
        members = list(node.members(max_depth=None))
        if node.metadata.consolidated_metadata is None:  # listings are unordered
            members.sort(key=lambda member: _natural(member[0]))
        for name, member in members:
            full = f"{path}/{name}".lstrip("/")
            if isinstance(member, zarr.Array):
                parent, _, key = full.rpartition("/")
                groups.setdefault(parent, Group(path=parent, attrs={})).arrays[key] = member
            else:
                previous = groups.get(full)
                groups[full] = Group(path=full, attrs=dict(member.attrs), arrays=previous.arrays if previous else {})
        parent = path
        while parent:
            parent = parent.rpartition("/")[0]
            groups[parent] = Group(path=parent, attrs=dict((root[parent] if parent else root).attrs))
    except GeoxtError:
        raise
    except Exception as error:  # codecs and stores raise many classes
        where = f"{address.name}{f', group {path!r}' if path else ''}"
        codec = "codec" in str(error).lower() or "Codec" in type(error).__name__
        remedy = "Install the package of the codec, such as imagecodecs." if codec else "Check address and {group}."
        raise ReadError(f"Cannot open the Zarr store {where}: {error_text(error)}.", remedy=remedy) from error
    return groups, array_name


def _natural(path: str) -> list[tuple[bool, int, str]]:
    """Return a natural sort key: B2 precedes B10."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", path)]


def variables_of(address: StoreAddress, groups: Mapping[str, Group], below: str) -> list[Variable]:
    """Return the arrays of groups at or below a path with two or more dimensions.

    Raises
    ------
    ReadError
        If coordinates cannot be read.
    """
    variables = []
    for path, group in groups.items():
        if not (path == below or path.startswith(f"{below}/" if below else "")) or not group.arrays:
            continue
        large = {name: array for name, array in group.arrays.items() if array.ndim > 1}
        if not large:
            continue
        coords = _coordinates(address, group)
        parents = tuple(groups[p].attrs for p in _parents(path) if p in groups)
        coords = _with_years(coords, (group.attrs, *parents))
        for name, array in large.items():
            dims = _dims(array)
            if dims is None:
                dims = _stated_dims(array, (dict(array.attrs), group.attrs, *parents))
            if dims is not None:
                variables.append(
                    Variable(
                        name=name, group=path, dims=dims, shape=array.shape, dtype=np.dtype(array.dtype),
                        attrs=_attrs(array), chunks=tuple(array.chunks), coords=coords, parents=parents, array=array,
                    )
                )  # fmt: skip
    return variables


def _parents(path: str) -> Iterator[str]:
    while path:
        path = path.rpartition("/")[0]
        yield path


def _coordinates(address: StoreAddress, group: Group) -> xr.Dataset:
    """Return the arrays of a group with at most one dimension, with times decoded."""
    variables = {}
    for name, array in group.arrays.items():
        dims = _dims(array)
        if dims is None or array.ndim > 1 or array.size > MAX_COORDINATES:
            continue
        try:
            values = np.asarray(array[...])
        except Exception as error:
            problem = f"Cannot read {address.name.rstrip('/')}/{group.path}/{name}: {error_text(error)}."
            raise ReadError(problem, remedy="Check that the store is complete.") from error
        attrs = _attrs(array)
        if name in dims:  # a coordinate has no missing values; the default fill value of version 2 is 0
            attrs.pop("_FillValue", None)
        variables[name] = xr.Variable(dims, values, attrs)
    try:
        ds = xr.decode_cf(xr.Dataset(variables), decode_coords=False)
    except (ValueError, TypeError, OverflowError) as error:
        problem = f"Cannot decode the coordinates of group {group.path!r} of {address.name}: {error_text(error)}."
        raise ReadError(problem, remedy="Correct the units of its times.") from error
    ds.attrs = dict(group.attrs)
    return ds


def _with_years(coords: xr.Dataset, scopes: tuple[Mapping[str, Any], ...]) -> xr.Dataset:
    """Return coordinates with the integer years of annual embeddings in `time` as dates."""
    time = coords.get("time")
    annual = time is not None and time.dtype.kind in "iu" and any("geoemb:model" in scope for scope in scopes)
    if time is None or not annual or not ((time >= 1900) & (time < 2200)).all():
        return coords
    years = time.to_numpy().astype(np.int64) - 1970
    return coords.assign(time=("time", years.astype("datetime64[Y]").astype("datetime64[ns]")))


def _dims(array: Any) -> tuple[str, ...] | None:
    """Return the names of an array's dimensions: of version 3, or as xarray writes them for version 2."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if array.ndim == 0:
        return ()
    if names is None or len(names) != array.ndim or any(name is None for name in names):
        return None
    return tuple(map(str, names))


def _stated_dims(array: Any, scopes: tuple[Mapping[str, Any], ...]) -> tuple[str, ...] | None:
    """Return `spatial:dimensions` as the names of an array's dimensions, or `None` if their number differs."""
    spatial_dims = next((s["spatial:dimensions"] for s in scopes if "spatial:dimensions" in s), None)
    return tuple(map(str, spatial_dims)) if spatial_dims is not None and len(spatial_dims) == array.ndim else None


def _attrs(array: Any) -> dict[Hashable, Any]:
    """Return attributes with the fill value as a number.

    The fill value of an array of version 2 marks missing pixels, as for xarray; that of version 3 does not.
    """
    attrs: dict[Hashable, Any] = dict(array.attrs)
    attrs.pop("_ARRAY_DIMENSIONS", None)
    fill = attrs.get("_FillValue")
    if isinstance(fill, str):
        attrs["_FillValue"] = _decode_fill_value(fill, array)
    elif fill is None and array.metadata.zarr_format == 2 and array.fill_value is not None:
        attrs["_FillValue"] = array.fill_value
    return attrs


def _decode_fill_value(text: str, array: Any) -> float:
    """Return a fill value that is text: "NaN", or base64 of a little-endian double as xarray writes it."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return float(struct.unpack("<d", base64.standard_b64decode(text))[0])
    except (ValueError, struct.error) as error:
        problem = f"Cannot open {array.path!r}: its _FillValue {text!r} is not a number."
        raise InputError(problem, remedy="Correct the store's metadata.") from error

"""Variables of a Zarr store at all their resolutions, and the arrays that their windows are read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from affine import Affine
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError
from geoxt.layers.cubes.assemble_cube import require_spatial
from geoxt.layers.cubes.grid_mapping import crs_of
from geoxt.layers.cubes.pyramids import Pyramid, choose_pyramids, pyramids_of
from geoxt.layers.cubes.scenes import AssetArray, band_names
from geoxt.layers.cubes.variable import Variable
from geoxt.layers.cubes.zarr_groups import Group, read_groups, variables_of
from geoxt.layers.exclude import SomeFlags, flag_names, quality_tests
from geoxt.layers.products import Product
from geoxt.pixels.credentials import Credentials
from geoxt.pixels.zarr_array import ZarrArray, ZarrLevel
from geoxt.pixels.zarr_store import StoreAddress, array_version, metadata_hash, split_address, store_address
from geoxt.types import SomeCRS


def address_of(
    store: Any,
    group: str | None = None,
    options: Mapping[str, Any] | None = None,
    credentials: Credentials | None = None,
) -> tuple[StoreAddress, str | None]:
    """Return the address of a store, and the path of the group or array in it."""
    store, inner = split_address(store)
    path = "/".join(part.strip("/") for part in (inner, group or "") if part)
    return store_address(store, options, credentials), path or None


def open_pyramids(address: StoreAddress, group: str | None, names: Sequence[str] | None) -> list[Pyramid]:
    """Return the variables of a store with two spatial dimensions, at all their resolutions."""
    groups, only = read_groups(address, group)
    below = _below(groups, group, only)
    variables = variables_of(address, groups, below)
    spatial = [v for v in variables if v.spatial and (only is None or v.name == only)]
    spatial = _without_coordinates(spatial)
    if not spatial:
        require_spatial(variables, f"{address.name}{f', group {group!r}' if group else ''}")
    requested = None if names is None else [v for v in spatial if v.name in names]
    return choose_pyramids(pyramids_of(requested or spatial, groups), None)


def open_quality(address: StoreAddress, product: Product | None, flags: SomeFlags) -> list[Pyramid]:
    """Return the quality bands of a product that hold flags, from any group of a store.

    Raises
    ------
    InputError
        If the product is unknown or has no such flag, the store lacks a quality band, or groups have bands of its name.
    """
    if not flag_names(flags):
        return []
    names = {name: band_names(product, name) for name in quality_tests(product, flags, scene=address.name)}
    groups, _ = read_groups(address, None)
    chosen = []
    for name, spellings in names.items():
        members = {
            path: replace(group, arrays={n: a for n, a in group.arrays.items() if a.ndim < 2 or n.lower() in spellings})
            for path, group in groups.items()
        }
        variables = [v for v in variables_of(address, members, "") if v.spatial and v.name.lower() in spellings]
        if not variables:
            problem = f"Cannot exclude {', '.join(flag_names(flags))}: {address.name} has no quality band {name!r}."
            raise InputError(problem, remedy="Leave {exclude} out.", value=flags, argument="exclude")
        chosen += choose_pyramids(pyramids_of(variables, members), None)
    return chosen


def _below(groups: Mapping[str, Group], group: str | None, only: str | None) -> str:
    path = (group or "").strip("/")
    return path.rpartition("/")[0] if only is not None else path if path in groups else ""


def _without_coordinates(variables: Sequence[Variable]) -> list[Variable]:
    """Return variables that are neither bounds nor two-dimensional coordinates of others."""
    named: set[tuple[str, str]] = set()
    for variable in variables:
        stated = str(variable.attrs.get("coordinates", "")).split()
        named |= {(variable.group, name) for name in stated}
    return [v for v in variables if (v.group, v.name) not in named and v.dtype.kind in "biuf"] or list(variables)


def locate(address: StoreAddress, pyramid: Pyramid, source_crs: SomeCRS | None, version: str) -> AssetArray:
    """Return the address, the grid and the array of a variable."""
    variable = pyramid.variable
    grid = GeoBox(_shape(variable), pyramid.affine, crs_of(variable, source_crs))
    levels = ((variable, pyramid.affine), *pyramid.overviews)
    version = "|".join([version, *(array_version(address, v.path) for v, _ in levels)])
    array = ZarrArray(address=address, levels=tuple(_level(v, affine) for v, affine in levels), version=version)
    return f"{address.name.rstrip('/')}/{variable.path}", grid, array


def _shape(variable: Variable) -> tuple[int, int]:
    y, x = variable.axis("y"), variable.axis("x")
    assert y is not None
    assert x is not None
    return variable.shape[y], variable.shape[x]


def _level(variable: Variable, affine: Affine) -> ZarrLevel:
    y, x = variable.axis("y"), variable.axis("x")
    assert y is not None
    assert x is not None
    return ZarrLevel(
        path=variable.path, shape=_shape(variable), axes=(y, x), affine=tuple(affine[:6]),
        metadata=metadata_hash(variable.array.metadata),
    )  # fmt: skip


__all__ = ["address_of", "locate", "open_pyramids", "open_quality"]

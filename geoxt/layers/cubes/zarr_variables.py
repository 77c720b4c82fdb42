"""Variables of a Zarr store at all their resolutions, and the arrays that their windows are read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError
from geoxt.layers.cubes.assemble_cube import not_spatial_error
from geoxt.layers.cubes.grid_mapping import crs_of
from geoxt.layers.cubes.pyramids import Pyramid, choose_pyramids, pyramids_of
from geoxt.layers.cubes.scenes import AssetArray, band_names
from geoxt.layers.cubes.variable import Variable
from geoxt.layers.cubes.zarr_groups import Group, read_groups, variables_of
from geoxt.layers.exclude import SomeFlags, flag_names, quality_tests
from geoxt.layers.products import Product
from geoxt.pixels.credentials import Credentials
from geoxt.pixels.scaled_array import ScaledArray
from geoxt.pixels.zarr_array import ZarrArray, ZarrLevel
from geoxt.pixels.zarr_store import StoreAddress, array_version, metadata_hash, split_address, store_address
from geoxt.source.embedding_attrs import scale_array
from geoxt.source.scene_assets import PlaneArray
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
    groups, array_name = read_groups(address, group)
    below = _below(groups, group, array_name)
    variables = variables_of(address, groups, below)
    spatial = [v for v in variables if v.spatial and (array_name is None or v.name == array_name)]
    spatial = _without_coordinates(spatial)
    scales = {v.path: pair for v in spatial if (pair := _scales_of(v, variables)) is not None}
    scale_paths = {variable.path for variable, _ in scales.values()}
    spatial = [v for v in spatial if v.path not in scale_paths or v.name in (names or ())]
    if not spatial:
        raise not_spatial_error(variables, f"{address.name}{f', group {group!r}' if group else ''}")
    requested = None if names is None else [v for v in spatial if v.name in names]
    selected = choose_pyramids(pyramids_of(requested or spatial, groups), None)
    return [
        replace(p, scales=scales[p.variable.path], overviews=()) if p.variable.path in scales else p for p in selected
    ]


def _scales_of(variable: Variable, variables: Sequence[Variable]) -> tuple[Variable, float] | None:
    """Return the scales of the pixels of quantized embeddings, and the scale of missing ones.

    Raises
    ------
    InputError
        If the store lacks them, or they have other dimensions.
    """
    array = scale_array(variable.scopes) if variable.dtype.kind in "iu" else None
    if array is None or variable.name == array[0]:
        return None
    scales = next((v for v in variables if (v.group, v.name) == (variable.group, array[0])), None)
    sizes = dict(zip(variable.dims, variable.shape, strict=True))
    if scales is None or any(sizes.get(d) != n for d, n in zip(scales.dims, scales.shape, strict=True)):
        problem = f"Cannot open {variable.path!r}: its scales {array[0]!r} are "
        problem += "missing." if scales is None else f"{scales.dims} {scales.shape}, not of its size {variable.shape}."
        raise InputError(problem, remedy="Check that the store is complete.", value=array[0])
    return scales, array[1]


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
    selected = []
    for name, spellings in names.items():
        members = {
            path: replace(group, arrays={n: a for n, a in group.arrays.items() if a.ndim < 2 or n.lower() in spellings})
            for path, group in groups.items()
        }
        variables = [v for v in variables_of(address, members, "") if v.spatial and v.name.lower() in spellings]
        if not variables:
            problem = f"Cannot exclude {', '.join(flag_names(flags))}: {address.name} has no quality band {name!r}."
            raise InputError(problem, remedy="Leave {exclude} out.", value=flags, argument="exclude")
        selected += choose_pyramids(pyramids_of(variables, members), None)
    return selected


def _below(groups: Mapping[str, Group], group: str | None, array_name: str | None) -> str:
    path = (group or "").strip("/")
    return path.rpartition("/")[0] if array_name is not None else path if path in groups else ""


def _without_coordinates(variables: Sequence[Variable]) -> list[Variable]:
    """Return variables that are neither bounds nor two-dimensional coordinates of others."""
    coordinates: set[tuple[str, str]] = set()
    for variable in variables:
        names = str(variable.attrs.get("coordinates", "")).split()
        coordinates |= {(variable.group, name) for name in names}
    return [v for v in variables if (v.group, v.name) not in coordinates and v.dtype.kind in "biuf"] or list(variables)


def locate(address: StoreAddress, pyramid: Pyramid, source_crs: SomeCRS | None, version: str) -> AssetArray:
    """Return the address, the grid and the array of a variable."""
    variable = pyramid.variable
    grid = GeoBox(variable.grid_shape, pyramid.affine, crs_of(variable, source_crs))
    levels = ((variable, pyramid.affine), *pyramid.overviews)
    version = "|".join([version, *(array_version(address, v.path) for v, _ in levels)])
    array: PlaneArray
    array = ZarrArray(address=address, levels=tuple(_level(v, affine) for v, affine in levels), version=version)
    if pyramid.scales is not None:
        scales, nodata = pyramid.scales
        version = f"{version}|{array_version(address, scales.path)}"
        factors = ZarrArray(address=address, levels=(_level(scales, pyramid.affine),), version=version)
        array = ScaledArray(values=array, scales=factors, planes=_planes_of(variable, scales), nodata=nodata)
    return f"{address.name.rstrip('/')}/{variable.path}", grid, array


def _planes_of(variable: Variable, scales: Variable) -> tuple[int, ...]:
    """Return the number of the scales' plane for each plane of a variable."""
    others = [d for i, d in enumerate(variable.dims) if i not in variable.axes]
    shape = [variable.shape[variable.dims.index(d)] for d in others]
    index = dict(zip(others, np.indices(shape).reshape(len(others), -1), strict=True))
    shared = [d for d in scales.dims if d in others]
    if not shared:
        return (1,) * int(np.prod(shape))
    sizes = [scales.shape[scales.dims.index(d)] for d in shared]
    return tuple((1 + np.ravel_multi_index([index[d] for d in shared], sizes)).tolist())


def _level(variable: Variable, affine: Affine) -> ZarrLevel:
    return ZarrLevel(
        path=variable.path, shape=variable.grid_shape, axes=variable.axes, affine=tuple(affine[:6]),
        metadata=metadata_hash(variable.array.metadata),
    )  # fmt: skip

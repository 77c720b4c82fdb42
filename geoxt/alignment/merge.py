"""Merge layers on one grid into one layer: the first valid pixel wins."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.alignment.retarget import Chunks, to_grid, warp_to_grid
from geoxt.errors import InputError
from geoxt.footprints import overlap
from geoxt.grid import grid_of, pixel_offset
from geoxt.source import (
    Mosaic,
    is_categorical,
    is_interpolated,
    mark_interpolated,
    nodata_of,
    resampling_of,
    to_layer,
    unmarked,
    view_of,
)
from geoxt.source.embedding_attrs import identity_of, require_equal_embeddings
from geoxt.source.fill import free_fill
from geoxt.types import Resampling


def overlapping(layers: Sequence[xr.DataArray], grid: GeoBox) -> list[xr.DataArray]:
    """Return the layers that overlap a grid; layers with coinciding pixels take precedence over all others."""
    overlaps = [layer for layer in layers if overlap(grid, grid_of(layer)) is not None]
    return [layer for layer in overlaps if pixel_offset(grid_of(layer), grid) is not None] or overlaps


def merge_on_grid(
    layers: Sequence[xr.DataArray], target: GeoBox, *, resampling: Resampling | None = None, chunks: Chunks = None
) -> xr.DataArray:
    """Return layers as one layer on a grid, each resampled once.

    Where layers overlap, the first valid pixel wins. Scenes of the same time become one time step.
    """
    first = layers[0]
    if len(layers) == 1:
        return to_grid(first, target, resampling=resampling, chunks=chunks)
    warped = [warp_to_grid(layer, target, resampling or resampling_of(layer), chunks) for layer in layers]
    warped = with_common_fill(warped)
    mosaics = mosaics_of(warped)
    if mosaics and all(_same_pixels(first, layer) for layer in layers) and _stackable(mosaics):
        return stack_mosaics(warped, mosaics, chunks)
    for layer in warped[:-1]:
        require_same_kind(layer, warped[-1])
    return first_valid(warped).rename(first.name)


def first_valid(layers: Sequence[xr.DataArray]) -> xr.DataArray:
    """Return the first valid pixel of layers on one grid; nodata values that differ become one that no pixel has."""
    if len({repr(nodata_of(layer)) for layer in layers}) > 1:
        layers = _with_equal_nodata(layers)
    merged = layers[-1]
    for layer in reversed(layers[:-1]):
        merged = layer.where(_valid(layer), merged)
    merged = merged.assign_attrs(unmarked(layers[0].attrs)).rename(layers[0].name)
    return mark_interpolated(merged) if any(map(is_interpolated, layers)) else merged


def _with_equal_nodata(layers: Sequence[xr.DataArray]) -> list[xr.DataArray]:
    """Return layers with a common dtype and nodata value; layers without a nodata value have no missing pixels."""
    dtype = np.result_type(*(layer.dtype for layer in layers))
    shared = [n for layer in layers if (n := nodata_of(layer)) is not None and _is_free(n, dtype, layers)]
    dtype, nodata = (dtype, shared[0]) if shared else free_fill(dtype)
    result = []
    for layer in layers:
        all_valid = nodata_of(layer) is None and layer.dtype.kind != "f"
        values = layer.astype(dtype)
        values = values if all_valid else values.where(_valid(layer), dtype.type(nodata))
        attrs = {key: value for key, value in layer.attrs.items() if key != "nodata"}
        values.attrs, values.encoding = {**attrs, "_FillValue": nodata}, {}
        result.append(values.transpose(*layer.dims).rename(layer.name))
    return result


def _is_free(nodata: float, dtype: np.dtype[Any], layers: Sequence[xr.DataArray]) -> bool:
    """Return whether a dtype of integers holds a nodata value that no layer has as a valid pixel."""
    if dtype.kind not in "iu" or not np.iinfo(dtype).min <= nodata <= np.iinfo(dtype).max:
        return False
    return all(
        nodata_of(layer) == nodata
        or layer.dtype == bool
        or not np.iinfo(layer.dtype).min <= nodata <= np.iinfo(layer.dtype).max
        for layer in layers
    )


def mosaics_of(layers: Sequence[xr.DataArray]) -> list[Mosaic]:
    """Return the mosaics behind layers; empty if a layer has a source of another type."""
    sources = [view_of(layer).source for layer in layers]
    mosaics = [source for source in sources if isinstance(source, Mosaic)]
    return mosaics if len(mosaics) == len(layers) else []


def with_common_fill(layers: Sequence[xr.DataArray]) -> list[xr.DataArray]:
    """Return layers with a common dtype and nodata value, if all read files: their validity does not depend on it."""
    mosaics = mosaics_of(layers)
    kinds = {(m.dtype, m.rescale, repr(m.nodata)) for m in mosaics}
    if len(kinds) < 2 or any(m.rescale for m in mosaics):
        return list(layers)
    dtype, nodata = free_fill(np.result_type(*{a.dtype for m in mosaics for s in m.scenes for a in s.assets if a}))
    return [
        to_layer(
            replace(mosaic, dtype=dtype, nodata=nodata),
            dims=[str(d) for d in layer.dims],
            coords={str(n): c for n, c in layer.coords.items() if not {"y", "x"} & set(c.dims) and n != "spatial_ref"},
            attrs={**layer.attrs, "_FillValue": nodata},
            name=layer.name,
            chunks=dict(zip(map(str, layer.dims), layer.data.chunksize, strict=True)),
        )
        for layer, mosaic in zip(layers, mosaics, strict=True)
    ]


def stack_mosaics(layers: Sequence[xr.DataArray], mosaics: Sequence[Mosaic], chunks: Chunks) -> xr.DataArray:
    """Return one layer of the scenes of mosaics on one grid, which reads its windows from the files.

    Scenes of the same time are one time step, those of the first mosaic on top.
    """
    steps: dict[Any, tuple[int, ...]] = {}
    scenes: list[Any] = []
    for layer, mosaic in zip(layers, mosaics, strict=True):
        times = layer["time"].to_numpy().tolist() if "time" in layer.dims else [None]
        for time, step in zip(times, mosaic.steps, strict=True):
            steps[time] = (*steps.get(time, ()), *(len(scenes) + i for i in step))
        scenes += mosaic.scenes
    first = layers[0]
    coords: dict[str, Any] = {
        str(n): c for n, c in first.coords.items() if not {"y", "x", "time"} & set(c.dims) and n != "spatial_ref"
    }
    if "time" in first.dims:
        steps = dict(sorted(steps.items()))
        coords["time"] = np.array(list(steps), first["time"].dtype)
    source = replace(mosaics[0], scenes=tuple(scenes), steps=tuple(steps.values()))
    stacked = to_layer(
        source, dims=[str(d) for d in first.dims], coords=coords, attrs=first.attrs, name=first.name, chunks=chunks
    )
    return mark_interpolated(stacked) if any(map(is_interpolated, layers)) else stacked


def require_same_kind(first: xr.DataArray, other: xr.DataArray) -> None:
    """Raise if two layers differ in dimensions, bands, times or classes."""
    compared: list[tuple[str, Any, Any]] = [("dimensions", set(first.dims), set(other.dims))]
    dims = [d for d in ("band", "time") if d in first.coords and d in other.coords]
    compared += [(d, np.atleast_1d(first[d]).tolist(), np.atleast_1d(other[d]).tolist()) for d in dims]
    compared.append(("classes", _codes(first), _codes(other)))
    _require_equal(compared, first, other)
    require_equal_embeddings(identity_of(first), identity_of(other), (f"layer {first.name!r}", f"layer {other.name!r}"))


def _require_equal(compared: Sequence[tuple[str, Any, Any]], first: xr.DataArray, other: xr.DataArray) -> None:
    for trait, a, b in compared:
        if a != b and (a == a or b == b):  # noqa: PLR0124 (NaN equals NaN here)
            raise InputError(
                f"Cannot unite {first.name!r} and {other.name!r}: their {trait} are {a} and {b}.",
                remedy="Convert one of them, e.g. by sel(), astype() or assign_attrs().",
            )


def layer_name(layer: xr.DataArray) -> str:
    """Return the name of a layer in a Dataset: by default "mask" for class codes and "image" otherwise."""
    return str(layer.name) if layer.name is not None else "mask" if is_categorical(layer) else "image"


def _valid(layer: xr.DataArray) -> xr.DataArray:
    """Return the valid mask of a layer by its values."""
    nodata = nodata_of(layer)
    if nodata is None and layer.dtype.kind != "f":
        raise InputError(
            f"Cannot unite {layer.name!r}: it has no nodata value by which to find missing pixels.",
            remedy="Open it with a nodata value, as open_cogs(nodata=0) does.",
        )
    return layer.notnull() if nodata is None else layer.notnull() & (layer != nodata)


def _codes(layer: xr.DataArray) -> tuple[Hashable, ...]:
    return tuple(np.asarray(layer.attrs.get("flag_values", ())).tolist())


def _same_pixels(first: xr.DataArray, other: xr.DataArray) -> bool:
    """Return whether layers have the same dimensions and class codes."""
    return first.dims == other.dims and _codes(first) == _codes(other)


def _stackable(mosaics: Sequence[Mosaic]) -> bool:
    """Return whether mosaics on one grid differ in their scenes and time steps only."""
    names = [field.name for field in fields(Mosaic) if field.name not in {"grid", "scenes", "steps"}]
    properties = [[repr(m.nodata) if name == "nodata" else getattr(m, name) for name in names] for m in mosaics]
    return all(values == properties[0] for values in properties)

"""Layers in the roles of labels: integers are class codes, which are never interpolated."""

from __future__ import annotations

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError
from geoxt.grid import grid_of, pixel_offset
from geoxt.source import is_categorical, is_interpolated

ROLES = ("mask", "label")
"""Sample keys of labels."""
UNKNOWN = 255
"""Code that marks unknown pixels in many label rasters of 8 bits."""


def as_labels(layer: xr.DataArray, key: str) -> xr.DataArray:
    """Return a layer of integers in the role of labels as categorical, with unknown classes; others unchanged.

    Parameters
    ----------
    layer
        A layer.
    key
        Its name in the Dataset or sample: `mask` and `label` are roles of labels.

    Raises
    ------
    InputError
        If it has several bands of integers, which may be class codes or quantities, or its codes were interpolated.
    """
    if key not in ROLES or is_categorical(layer) or layer.dtype.kind not in "biu":
        return layer
    require_codes(layer, key)
    if layer.sizes.get("band", 1) > 1:
        raise InputError(
            f"Cannot tell whether the {layer.sizes['band']} bands of {key!r} are class codes or quantities: they are "
            f"{layer.dtype}.",
            remedy="Select the band of the codes, and open it by open_cogs(…, categorical=True). Or convert quantities "
            "by layer.astype('float32').",
        )
    labels = layer.isel(band=0, drop=True) if "band" in layer.dims else layer
    return labels.assign_attrs(flag_values=np.empty(0, "uint8"))


def require_codes(layer: xr.DataArray, name: object) -> None:
    """Raise if the integers of a layer are not class codes, since they were interpolated between pixels."""
    if is_categorical(layer) or not is_interpolated(layer):
        return
    raise InputError(
        f"Cannot use {name!r} as labels: its integers were interpolated to their grid, which blends class codes.",
        remedy="Open class codes by open_cogs(…, categorical=True). Or align them by align(…, resampling='nearest').",
    )


def require_known_labels(layer: xr.DataArray, key: str, grid: GeoBox) -> None:
    """Raise if floats in the role of labels are to be interpolated to a grid, as they may be class codes."""
    if key not in ROLES or is_categorical(layer) or layer.dtype.kind != "f":
        return
    if pixel_offset(grid, grid_of(layer)) is None:
        raise InputError(
            f"Cannot resample {key!r} to the grid: its numbers are {layer.dtype}, and may be class codes, which "
            "interpolation would blend.",
            remedy="Open class codes by open_cogs(…, categorical=True). Name quantities `target`. Or resample them "
            "before, by align(…, resampling='bilinear').",
        )


def unknown_codes(layer: xr.DataArray) -> frozenset[int]:
    """Return the codes that mark unknown pixels of a label layer beside negative ones: 255 if its legend lacks it."""
    codes = np.asarray(layer.attrs.get("flag_values", ())).reshape(-1).tolist()
    return frozenset({UNKNOWN}) if codes and UNKNOWN not in codes else frozenset()

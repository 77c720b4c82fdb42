"""Layers in the roles of labels: integers are class codes, which are never interpolated."""

from __future__ import annotations

import numpy as np
import xarray as xr

from geoxt.errors import InputError
from geoxt.source import is_categorical

ROLES = ("mask", "label")
"""Sample keys of labels."""


def as_labels(layer: xr.DataArray, key: str) -> xr.DataArray:
    """Return a layer of integers in the role of labels as categorical, with unknown classes; others unchanged.

    Raises
    ------
    InputError
        If it has several bands of integers, which may be class codes or quantities.
    """
    if key not in ROLES or is_categorical(layer) or layer.dtype.kind not in "biu":
        return layer
    if layer.sizes.get("band", 1) > 1:
        raise InputError(
            f"Cannot tell whether the {layer.sizes['band']} bands of {key!r} are class codes or quantities: they are "
            f"{layer.dtype}.",
            remedy="Select the band of the codes, and open it by open_cogs(…, categorical=True). Or convert quantities "
            "by layer.astype('float32').",
        )
    labels = layer.isel(band=0, drop=True) if "band" in layer.dims else layer
    return labels.assign_attrs(flag_values=np.empty(0, "uint8"))

"""Adaptation of a first convolution to other bands: kernels are matched by band name, the others initialized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from geoxt.errors import InputError

Missing = Literal["mean", "random", "zero"]
"""Initialization of the kernels of bands that the weights lack."""
_MISSING = ("mean", "random", "zero")

ALIASES: Mapping[str, Mapping[str, str]] = {
    "sentinel-2": {"B04": "R", "B03": "G", "B02": "B"},
    "landsat-oli": {"B4": "R", "B3": "G", "B2": "B", "SR_B4": "R", "SR_B3": "G", "SR_B2": "B"},
    "landsat-tm": {"B3": "R", "B2": "G", "B1": "B", "SR_B3": "R", "SR_B2": "G", "SR_B1": "B"},
    "stac": {"red": "R", "green": "G", "blue": "B"},
}
"""Red, green and blue bands of a sensor, as keys, by their names in weights of natural images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """Adapted kernels of a first convolution."""

    kernels: Tensor
    """Float (out, bands, h, w)."""
    matched: tuple[str, ...]
    """Bands with kernels from the weights."""
    initialized: tuple[str, ...]
    """Bands with initialized kernels."""
    unused: tuple[str, ...]
    """Bands of the weights that the model lacks."""
    scale: float
    """Factor applied to all kernels."""


def adapt(
    kernels: Tensor,
    weight_bands: Sequence[str],
    bands: Sequence[str],
    *,
    missing: Missing,
    initial: Tensor,
    alias: Mapping[str, str],
) -> Adapted:
    """Return kernels for other bands, matched by name; those of missing bands are initialized.

    Parameters
    ----------
    kernels
        Float (out, len(weight_bands), h, w).
    weight_bands
        Bands of the kernels.
    bands
        Bands of the model.
    missing
        Initialization of bands that are not in `weight_bands`. `"mean"` uses the mean kernel, then scales all kernels
        by `len(weight_bands) / len(bands)`, so that the response to equal bands is unchanged. `"random"` uses
        `initial`, `"zero"` uses zeros; both leave the matched kernels unchanged.
    initial
        Float (out, len(bands), h, w): randomly initialized kernels.
    alias
        Name in the weights by name in the model, for bands whose names or meanings differ.

    Raises
    ------
    InputError
        If `missing` is invalid, two bands map to one band of the weights, or no band matches.
    """
    renamed = [alias[band] if alias.get(band) in weight_bands else band for band in bands]
    duplicates = sorted({name for name in renamed if name in weight_bands and renamed.count(name) > 1})
    if duplicates:
        msg = f"Cannot match bands: several of {', '.join(bands)} are {duplicates[0]!r} of the weights."
        raise InputError(msg, remedy="Pass another {alias}.", value=duplicates[0], argument="alias")
    matched = tuple(band for band, name in zip(bands, renamed, strict=True) if name in weight_bands)
    if not matched:
        msg = f"Cannot match bands: the model's are {', '.join(bands)}, the weights' {', '.join(weight_bands)}."
        remedy = f"Pass {{alias}}, a mapping of names or one of {', '.join(ALIASES)}."
        raise InputError(msg, remedy=remedy, value=tuple(bands), argument="alias")
    initialized = tuple(band for band in bands if band not in matched)
    scale = len(weight_bands) / len(bands) if initialized and missing == "mean" else 1.0
    layers = [
        kernels[:, weight_bands.index(name)]
        if name in weight_bands
        else _initialize(kernels, missing, initial[:, index])
        for index, name in enumerate(renamed)
    ]
    return Adapted(
        kernels=torch.stack(layers, dim=1) * scale,
        matched=matched,
        initialized=initialized,
        unused=tuple(name for name in weight_bands if name not in renamed),
        scale=scale,
    )


def _initialize(kernels: Tensor, missing: Missing, initial: Tensor) -> Tensor:
    """Return kernels (out, h, w) of a band that the weights lack."""
    match missing:
        case "mean":
            return kernels.mean(dim=1)
        case "random":
            return initial
        case "zero":
            return torch.zeros_like(initial)
        case _:
            msg = f"Cannot initialize kernels with missing={missing!r}."
            remedy = f"Pass {{missing}}, one of {', '.join(_MISSING)}."
            raise InputError(msg, remedy=remedy, value=missing, argument="missing")


def alias_of(alias: str | Mapping[str, str] | None) -> Mapping[str, str]:
    """Return a mapping of band names: that of a sensor in `ALIASES`, or `alias` itself.

    Raises
    ------
    InputError
        If the sensor is unknown.
    """
    if not isinstance(alias, str):
        return alias or {}
    if alias not in ALIASES:
        msg = f"Cannot find the band names of {alias!r}."
        remedy = f"Pass {{alias}}, a mapping of names or one of {', '.join(ALIASES)}."
        raise InputError(msg, remedy=remedy, value=alias, argument="alias")
    return ALIASES[alias]

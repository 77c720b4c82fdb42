"""First layers for other bands: kernels are taken by the names of their bands, those of unknown bands are made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from geoxt.errors import InputError

Missing = Literal["mean", "random", "zero"]
"""How kernels of bands that the weights do not know begin."""
_MISSING = ("mean", "random", "zero")

ALIASES: Mapping[str, Mapping[str, str]] = {
    "sentinel-2": {"B04": "R", "B03": "G", "B02": "B"},
    "landsat-oli": {"B4": "R", "B3": "G", "B2": "B", "SR_B4": "R", "SR_B3": "G", "SR_B2": "B"},
    "landsat-tm": {"B3": "R", "B2": "G", "B1": "B", "SR_B3": "R", "SR_B2": "G", "SR_B1": "B"},
    "stac": {"red": "R", "green": "G", "blue": "B"},
}
"""Which bands of a sensor natural images have, under the name that the weights give them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """A first layer's kernels, and how they came about."""

    kernels: Tensor
    """Float (out, bands, h, w)."""
    known: tuple[str, ...]
    """Bands whose kernels were taken."""
    made: tuple[str, ...]
    """Bands whose kernels were made up."""
    unused: tuple[str, ...]
    """Bands of the weights that the model does not have."""
    scale: float
    """What all kernels were multiplied by."""


def adapt(
    kernels: Tensor,
    of: Sequence[str],
    bands: Sequence[str],
    *,
    missing: Missing,
    fresh: Tensor,
    alias: Mapping[str, str],
) -> Adapted:
    """Put kernels into another order of bands, with others beside them.

    Parameters
    ----------
    kernels
        Float (out, len(of), h, w).
    of
        The bands they are for.
    bands
        The bands that are wanted.
    missing
        What to do for bands that are not among `of`. `"mean"` takes the mean kernel, and then scales all kernels by
        `len(of) / len(bands)`: where all bands are alike, the layer gives what it gave before. `"random"` takes those
        of `fresh`, `"zero"` ignores these bands at first; both leave the known kernels as they are.
    fresh
        Float (out, len(bands), h, w): what the layer began with.
    alias
        Other names of bands, with the weights' name for each.

    Raises
    ------
    InputError
        Where `missing` is none of these, two bands have one name in the weights, or no band is known.
    """
    wanted = [band if band in of else alias.get(band, band) for band in bands]
    twice = sorted({name for name in wanted if name in of and wanted.count(name) > 1})
    if twice:
        msg = f"Cannot match bands: several of {', '.join(bands)} are {twice[0]!r} of the weights. Pass another alias=."
        raise InputError(msg)
    known = tuple(band for band, name in zip(bands, wanted, strict=True) if name in of)
    if not known:
        names = f"the model's are {', '.join(bands)}, the weights' {', '.join(of)}"
        msg = f"Cannot match bands: {names}. Pass alias=, a mapping of names or one of {', '.join(ALIASES)}."
        raise InputError(msg)
    made = tuple(band for band in bands if band not in known)
    scale = len(of) / len(bands) if made and missing == "mean" else 1.0
    layers = [
        kernels[:, of.index(name)] if name in of else _make_up(kernels, missing, fresh[:, index])
        for index, name in enumerate(wanted)
    ]
    return Adapted(
        kernels=torch.stack(layers, dim=1) * scale,
        known=known,
        made=made,
        unused=tuple(name for name in of if name not in wanted),
        scale=scale,
    )


def _make_up(kernels: Tensor, missing: Missing, fresh: Tensor) -> Tensor:
    """Return kernels (out, h, w) for a band that the weights do not know."""
    match missing:
        case "mean":
            return kernels.mean(dim=1)
        case "random":
            return fresh
        case "zero":
            return torch.zeros_like(fresh)
        case _:
            msg = f"Cannot make up kernels with missing={missing!r}: pass one of {', '.join(_MISSING)}."
            raise InputError(msg)


def alias_of(alias: str | Mapping[str, str] | None) -> Mapping[str, str]:
    """Return a mapping of names: the one of a sensor in `ALIASES`, or as it was given.

    Raises
    ------
    InputError
        Where a sensor is unknown.
    """
    if not isinstance(alias, str):
        return alias or {}
    if alias not in ALIASES:
        msg = f"Cannot find the bands of {alias!r}: pass in alias= a mapping of names, or one of {', '.join(ALIASES)}."
        raise InputError(msg)
    return ALIASES[alias]

"""Select the bands of a model from a layer by name."""

from __future__ import annotations

from collections.abc import Mapping

import xarray as xr

from geoxt.errors import InputError
from geoxt.models.card import Card


def select_bands(
    layer: xr.DataArray,
    card: Card | None,
    names: Mapping[str, str] | None = None,
    *,
    title: str = "the layer",
    remedy: str | None = None,
) -> xr.DataArray:
    """Return the bands of a model, in its order.

    Parameters
    ----------
    layer
        A layer with band names, or with as many unnamed bands as the model has.
    card
        The model's card; without a card the layer is returned unchanged.
    names
        Band names of the layer by those of the model, where they differ.
    title
        Name of the layer in errors.
    remedy
        Remedy of the error about missing bands.

    Raises
    ------
    InputError
        If bands are missing; the message names all of them.
    """
    if card is None:
        if names:
            raise InputError(
                f"Cannot select the bands {dict(names)!r}: the model has no card, so its bands have no names.",
                remedy="Select them from the layer: layer.sel(band=[...]).",
            )
        return layer
    layer_names = dict(names or {})
    unknown = [name for name in layer_names if name not in card.bands]
    if unknown:
        raise InputError(
            f"Cannot pass the band {unknown[0]!r} to a model with the bands {', '.join(card.bands)}.",
            remedy="Pass {bands} with some of these as keys.",
        )
    if "band" not in layer.coords or "band" not in layer.dims:
        return _unnamed(layer, card, title)
    available = [str(name) for name in layer["band"].values]
    required = [layer_names.get(name, name) for name in card.bands]
    missing = [name for name in required if name not in available]
    if missing:
        example = {
            name: "..." for name, name_in_layer in zip(card.bands, required, strict=True) if name_in_layer in missing
        }
        raise InputError(
            f"Cannot predict: {title} has no band {', '.join(map(repr, missing))}, only {', '.join(available)}; the "
            f"model was trained on {', '.join(card.bands)}.",
            remedy=remedy
            or f"Open these. Or pass the layer's names of them: {{bands}}, a mapping such as {_braced(example)}.",
        )
    if available == required:
        return layer
    return layer.isel(band=[available.index(name) for name in required])


def _braced(example: Mapping[str, str]) -> str:
    """Return a dict as text in a remedy, where braces are doubled."""
    return repr(dict(example)).replace("{", "{{").replace("}", "}}")


def _unnamed(layer: xr.DataArray, card: Card, title: str) -> xr.DataArray:
    count = layer.sizes.get("band", 1)
    if count == len(card.bands):
        return layer
    raise InputError(
        f"Cannot predict: {title} has {count} unnamed bands, the model takes {', '.join(card.bands)}.",
        remedy="Select and name them: layer.assign_coords(band=[...]).",
    )

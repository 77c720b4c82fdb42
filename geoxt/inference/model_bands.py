"""The bands that a model wants, found in a layer by name."""

from __future__ import annotations

from collections.abc import Mapping

import xarray as xr

from geoxt.errors import InputError
from geoxt.models.card import Card


def choose_bands(
    layer: xr.DataArray,
    card: Card | None,
    names: Mapping[str, str] | None = None,
    *,
    what: str = "the layer",
    mend: str | None = None,
) -> xr.DataArray:
    """Return the bands that a model wants, in its order.

    Parameters
    ----------
    layer
        Bands with names, or as many without as the model wants.
    card
        The model's card; without one the layer stays as it is.
    names
        The layer's name of a band by the model's own, where they differ.
    what
        What an error calls the layer.
    mend
        What an error proposes where bands are missing; by default the argument that gives their names.

    Raises
    ------
    InputError
        Where bands are missing; the message names all of them.
    """
    if card is None:
        if names:
            msg = f"Cannot choose bands={dict(names)!r}: the model has no card, so its bands have no names. "
            raise InputError(msg + "Choose them in the layer: layer.sel(band=[...]).")
        return layer
    known = dict(names or {})
    strange = [name for name in known if name not in card.bands]
    if strange:
        msg = f"Cannot give the band {strange[0]!r} to a model that wants {', '.join(card.bands)}: "
        raise InputError(msg + "pass bands= the layer's names by some of these.")
    if "band" not in layer.coords or "band" not in layer.dims:
        return _nameless(layer, card, what)
    found = [str(name) for name in layer["band"].values]
    wanted = [known.get(name, name) for name in card.bands]
    missing = [name for name in wanted if name not in found]
    if missing:
        listed = ", ".join(map(repr, missing))
        msg = f"Cannot predict: {what} has no band {listed}, only {', '.join(found)}; the model was trained on "
        given = {name: "..." for name, own in zip(card.bands, wanted, strict=True) if own in missing}
        msg += f"{', '.join(card.bands)}. "
        raise InputError(msg + (mend or f"Open these, or pass the layer's names for them: bands={given}."))
    if found == wanted:
        return layer
    return layer.isel(band=[found.index(name) for name in wanted])


def _nameless(layer: xr.DataArray, card: Card, what: str) -> xr.DataArray:
    count = layer.sizes.get("band", 1)
    if count == len(card.bands):
        return layer
    msg = f"Cannot predict: {what} has {count} bands without names, the model wants {', '.join(card.bands)}."
    raise InputError(msg + " Choose and name them: layer.assign_coords(band=[...]).")

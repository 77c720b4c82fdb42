"""Select the bands of a model from a layer by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import xarray as xr

from geoxt.errors import InputError
from geoxt.models.band_match import BandNames, match_bands
from geoxt.models.card import Card

Bands = Sequence[str] | None
"""Names of bands; `None` if they are unknown."""


def bands_of(layer: xr.DataArray) -> Bands:
    """Return the names of the bands of a layer, `None` without the coordinate band."""
    named = "band" in layer.coords and layer["band"].dims == ("band",)
    return [str(name) for name in layer["band"].to_numpy()] if named else None


def common_bands(layers: Iterable[xr.DataArray], argument: str) -> Bands:
    """Return the names of the bands of layers, such as those of the nodes of a tree.

    Raises
    ------
    InputError
        If they differ in names or order.
    """
    names = {tuple(bands): None for layer in layers if (bands := bands_of(layer)) is not None}
    if len(names) > 1:
        first, other, *_ = names
        msg = f"Cannot compare pixels of layers whose bands differ: {list(first)[:4]} and {list(other)[:4]}."
        remedy = f"Pass {{{argument}}} with equal bands, in one order, such as by sel(band=[...])."
        raise InputError(msg, remedy=remedy, argument=argument)
    return next(iter(names), None)


def select_bands(
    layer: xr.DataArray,
    card: Card | None,
    names: Mapping[str, str] | None = None,
    *,
    title: str = "the layer",
    remedy: str | None = None,
) -> xr.DataArray:
    """Return the bands of a model, in its order, matched by name, then common name, then wavelength.

    Parameters
    ----------
    layer
        A layer with band names, or with as many unnamed bands as the model has.
    card
        The model's card; without a card, or names of bands in it, the layer is returned unchanged.
    names
        Band names, or common names, of the layer by the band names of the model, where they differ.
    title
        Name of the layer in errors.
    remedy
        Remedy of the error about missing bands.

    Raises
    ------
    InputError
        If bands are missing (the message names all of them), ambiguous, or differ in meaning under one name.
    """
    if card is None or not card.bands:
        if names:
            reason = "has no card" if card is None else "was fitted to features without names"
            msg = f"Cannot select the bands {dict(names)!r}: the model {reason}, so its bands have no names."
            raise InputError(msg, remedy="Select them from the layer: layer.sel(band=[...]).")
        return layer
    layer_names = dict(names or {})
    unknown = [name for name in layer_names if name not in card.bands]
    if unknown:
        msg = f"Cannot pass the band {str(unknown[0])!r} to a model with the bands {', '.join(card.bands)}."
        raise InputError(msg, remedy="Pass {bands} with some of these as keys.")
    if "band" not in layer.coords or "band" not in layer.dims:
        _require_band_count(layer, card, title)
        return layer
    available = band_names_of(layer)
    positions = _positions(card.band_names, available, layer_names)
    missing = [index for index, position in enumerate(positions) if position is None]
    if missing:
        band_labels = [layer_names.get(name, name) for name in card.bands]
        example = {card.bands[index]: "..." for index in missing}
        raise InputError(
            f"Cannot predict: {title} has no band {', '.join(repr(band_labels[index]) for index in missing)}, only "
            f"{', '.join(map(available.label, range(len(available))))}; the model was trained on "
            f"{', '.join(map(card.band_names.label, range(len(card.bands))))}.",
            remedy=remedy
            or "Open these, with open_cogs(product=) if the files are of a known product, which states common names. "
            f"Or pass the layer's names of them: {{bands}}, a mapping such as {_escape_braces(example)}.",
        )
    return layer if list(positions) == list(range(len(available))) else layer.isel(band=list(positions))


def band_names_of(layer: xr.DataArray) -> BandNames:
    """Return names, common names and wavelengths of a layer's bands."""
    along = {str(name): coord.to_numpy() for name, coord in layer.coords.items() if coord.dims == ("band",)}
    common, wavelengths = along.get("common_name", ()), along.get("wavelength", ())
    return BandNames(
        names=tuple(map(str, layer["band"].to_numpy())),
        common_names=tuple(map(str, common)),
        wavelengths=tuple(map(float, wavelengths)),
    )


def _positions(model_bands: BandNames, available: BandNames, names: Mapping[str, str]) -> list[int | None]:
    """Return the positions of a model's bands in a layer; bands in `names` by the mapped name or common name."""
    renamed = [index for index, name in enumerate(model_bands.names) if name in names]
    others = [index for index in range(len(model_bands)) if index not in renamed]
    positions: dict[int, int | None] = {}
    named_bands = BandNames(names=tuple(names[model_bands.names[index]] for index in renamed))
    positions |= dict(zip(renamed, match_bands(named_bands, available), strict=True))
    unnamed_bands = BandNames(
        names=tuple(model_bands.names[index] for index in others),
        common_names=tuple(model_bands.common(index) for index in others),
        wavelengths=tuple(model_bands.wavelength(index) for index in others),
    )
    positions |= dict(zip(others, match_bands(unnamed_bands, available), strict=True))
    return [positions[index] for index in range(len(model_bands))]


def _escape_braces(example: Mapping[str, str]) -> str:
    """Return a dict as text in a remedy, where braces are doubled."""
    return repr(dict(example)).replace("{", "{{").replace("}", "}}")


def _require_band_count(layer: xr.DataArray, card: Card, title: str) -> None:
    """Raise if a layer of unnamed bands has another number of bands than the model."""
    count = layer.sizes.get("band", 1)
    if count != len(card.bands):
        msg = f"Cannot predict: {title} has {count} unnamed bands, the model takes {', '.join(card.bands)}."
        raise InputError(msg, remedy="Select and name them: layer.assign_coords(band=[...]).")

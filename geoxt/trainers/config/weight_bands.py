"""Match the bands of pretrained weights to those of a model by common name."""

from __future__ import annotations

from geoxt.errors import InputError
from geoxt.layers import products
from geoxt.models.band_match import BandNames, match_bands
from geoxt.models.card import Card
from geoxt.models.weights import Weights

_SENSORS = {"_OLI_": "landsat8", "_ETM_": "landsat7", "_TM_": "landsat5tm", "Sentinel-2": "sentinel2_l1c"}
"""Product by the sensor of weights, or by the part of their name that states it."""
_SPELLINGS = {
    "R": "red", "G": "green", "B": "blue", "N": "nir", "NIR_NARROW": "nir08", "SWIR_1": "swir16", "SWIR_2": "swir22",
}  # fmt: skip
"""Common name of bands that weights spell differently."""


def alias_by_common_name(card: Card, weights: Weights) -> dict[str, str]:
    """Return the name in the weights by name of a model's band, for bands that are matched by their common name.

    Raises
    ------
    InputError
        If bands of one name have different common names, or several bands match.
    """
    weight_bands = weights.bands or ()
    if not card.common_names or len(set(weight_bands)) < len(weight_bands):
        return {}
    available = BandNames(names=weight_bands, common_names=weight_common_names(weights))
    model_bands = BandNames(names=card.bands, common_names=card.common_names)
    for name in (band for band in card.bands if band in weight_bands):
        of_model, of_weights = model_bands.common(card.bands.index(name)), available.common(weight_bands.index(name))
        if of_model and of_weights and of_model != of_weights:
            msg = f"Cannot load {weights.name!r}: the band {name!r} is {of_model} in the data, and {of_weights} in the "
            remedy = (
                "Pass {weights} of the sensor of the data, or {alias}, the names of the weights by band of the data."
            )
            raise InputError(f"{msg}weights.", remedy=remedy, value=name, argument="weights")
    positions = match_bands(model_bands, available)
    return {
        name: weight_bands[at]
        for name, at in zip(card.bands, positions, strict=True)
        if at is not None and name != weight_bands[at]
    }


def weight_common_names(weights: Weights) -> tuple[str, ...]:
    """Return the common names of the bands of weights, "" if unknown."""
    weight_bands = weights.bands or ()
    product = next((product for key, product in _SENSORS.items() if key in f"{weights.sensor} {weights.name}"), None)
    by_name = dict(_SPELLINGS)
    if product is not None:
        by_name |= {n: b.common or "" for b in products.get(product).bands for n in (b.name, *b.files)}
    return tuple(
        by_name.get(name) or common
        for name, common in zip(weight_bands, products.common_names(weight_bands), strict=True)
    )

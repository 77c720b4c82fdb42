"""Common names of bands of unknown products, by band names that have one meaning in all known products."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from geoxt.layers.products.product import Product

_NUMBERED = re.compile(r"(SR_)?B\d{1,2}A?")
"""Numbered names of Landsat and Sentinel-2 in upper case: `SR_B4`, `B04`, `B8A`, `B4`."""
_DISTINCTIVE = re.compile(r"SR_B\d|B\d{1,2}A")
"""Numbered names that no other sensors have. `B04` is red of Sentinel-2, and near infrared of Himawari."""


def shared_common_names(names: Sequence[str], products: Iterable[Product]) -> tuple[str, ...]:
    """Return the common name of each band of a layer, "" where its name has none or several.

    Common names are returned unchanged. Numbered names are resolved if one of them is distinctive, and the products
    that have all numbered names of the layer agree: `B4` is red beside `B8A`, `SR_B4` is red beside `SR_B6`.

    Parameters
    ----------
    names
        Band names of one layer.
    products
        The known products.
    """
    candidates = list(products)
    words = {band.common.lower() for product in candidates for band in (*product.bands, *product.extras) if band.common}
    upper = [name.upper() for name in names]
    numbered = {name for name in upper if _NUMBERED.fullmatch(name)}
    meanings: list[dict[str, str]] = []
    if any(_DISTINCTIVE.fullmatch(name) for name in numbered):
        meanings = [meaning for meaning in map(_meanings, candidates) if meaning.keys() >= numbered]
    commons = [{meaning.get(name, "") for meaning in meanings} if name in numbered else set() for name in upper]
    return tuple(
        name.lower() if name.lower() in words else min(common) if len(common) == 1 else ""
        for name, common in zip(names, commons, strict=True)
    )


def _meanings(product: Product) -> dict[str, str]:
    """Return the common names of a product's bands by their numbered names, with and without a leading zero."""
    meanings = {}
    for band in (*product.bands, *product.extras):
        for name in (band.name, *band.files):
            stem = name.upper().removesuffix(".TIF")
            meanings[stem] = meanings[re.sub(r"^B0(?=\d)", "B", stem)] = (band.common or "").lower()
    return meanings

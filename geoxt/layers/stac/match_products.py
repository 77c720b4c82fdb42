"""Match STAC items to known products."""

from __future__ import annotations

from collections.abc import Iterable

import pystac

from geoxt.layers import products
from geoxt.layers.products import Band, Product, match_item, match_path

FORMER_COLLECTIONS = {
    "sentinel-s2-l2a-cogs": "sentinel2", "sentinel-s2-l1c": "sentinel2_l1c", "s2_l2a_c1": "sentinel2",
}  # fmt: skip
"""Products of retired collections: of Earth Search v0, and copies of its v1."""


def match_products(items: Iterable[pystac.Item]) -> list[Product | None]:
    """Return the known product of each item, by collection, platform and instruments, else by file names.

    `None` if no product matches, or several do.
    """
    candidates: dict[tuple[str, str, tuple[str, ...]], tuple[Product, ...]] = {}
    result = []
    for item in items:
        platform = str(item.properties.get("platform") or item.properties.get("eo:platform") or "")
        instruments = tuple(map(str, item.properties.get("instruments") or ()))
        key = (item.collection_id or "", platform, instruments)
        if key not in candidates:
            candidates[key] = _by_collection(*key)
        result.append(candidates[key][0] if len(candidates[key]) == 1 else _by_files(item, candidates[key]))
    return result


def _by_collection(collection: str, platform: str, instruments: tuple[str, ...]) -> tuple[Product, ...]:
    if collection in FORMER_COLLECTIONS:
        return (products.get(FORMER_COLLECTIONS[collection]),)
    return match_item(collection, platform=platform or None, instruments=instruments)


def _by_files(item: pystac.Item, candidates: tuple[Product, ...]) -> Product | None:
    for asset in item.assets.values():
        if (asset.media_type or "image").startswith("image/"):
            matches = [product for product in match_path(asset.href) if not candidates or product in candidates]
            if len(matches) == 1:
                return matches[0]
    return None


_indexes: dict[int, tuple[Product, dict[str, list[Band]]]] = {}


def bands_at(product: Product, key: str) -> list[Band]:
    """Return the bands of a product by asset key, band name or name in file names."""
    cached = _indexes.get(id(product))
    if cached is None or cached[0] is not product:
        table: dict[str, list[Band]] = {}
        for band in (*product.bands, *product.extras):
            for name in dict.fromkeys((band.name, *band.assets, *band.files)):
                table.setdefault(name, []).append(band)
        cached = _indexes[id(product)] = product, table
    return cached[1].get(key, [])

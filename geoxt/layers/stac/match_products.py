"""What is known of an item before its files are: the layer that it is of."""

from __future__ import annotations

from collections.abc import Iterable

import pystac

from geoxt.layers import products
from geoxt.layers.products import Band, Product, match_item, match_path

OTHER_NAMES = {"sentinel-s2-l2a-cogs": "sentinel2", "sentinel-s2-l1c": "sentinel2_l1c", "s2_l2a_c1": "sentinel2"}
"""Layers of collections that no catalog of today serves: of Earth Search v0, and copies of its v1."""


def facts_of(items: Iterable[pystac.Item]) -> list[Product | None]:
    """Return the layer that each item is of, by collection, platform and instruments, else by the names of its files.

    `None` for one that nothing is known of, or that may be of several.
    """
    found: dict[tuple[str, str, tuple[str, ...]], tuple[Product, ...]] = {}
    out = []
    for item in items:
        platform = str(item.properties.get("platform") or item.properties.get("eo:platform") or "")
        instruments = tuple(map(str, item.properties.get("instruments") or ()))
        key = (item.collection_id or "", platform, instruments)
        if key not in found:
            found[key] = _by_collection(*key)
        out.append(found[key][0] if len(found[key]) == 1 else _by_files(item, found[key]))
    return out


def _by_collection(collection: str, platform: str, instruments: tuple[str, ...]) -> tuple[Product, ...]:
    if collection in OTHER_NAMES:
        return (products.get(OTHER_NAMES[collection]),)
    return match_item(collection, platform=platform or None, instruments=instruments)


def _by_files(item: pystac.Item, among: tuple[Product, ...]) -> Product | None:
    for asset in item.assets.values():
        if (asset.media_type or "image").startswith("image/"):
            fitting = [one for one in match_path(asset.href) if not among or one in among]
            if len(fitting) == 1:
                return fitting[0]
    return None


_indexes: dict[int, tuple[Product, dict[str, list[Band]]]] = {}


def bands_at(facts: Product, key: str) -> list[Band]:
    """Return the bands of a layer that an asset's key, or the name of a band, may mean."""
    held = _indexes.get(id(facts))
    if held is None or held[0] is not facts:
        table: dict[str, list[Band]] = {}
        for band in (*facts.bands, *facts.extras):
            for name in dict.fromkeys((band.name, *band.assets, *band.files)):
                table.setdefault(name, []).append(band)
        held = _indexes[id(facts)] = facts, table
    return held[1].get(key, [])

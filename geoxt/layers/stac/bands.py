"""Bands of STAC items: what the assets of an item hold, and those that a person asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pystac

from geoxt.errors import InputError
from geoxt.layers.products import Band, Product, resolve_bands
from geoxt.layers.stac.match_products import bands_at
from geoxt.legend import Legend

RASTER = ("image/tiff", "image/vnd.stac.geotiff", "image/jp2")
HIDDEN = {"thumbnail", "overview", "metadata"}
DATA = {"data", "reflectance", "temperature"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One band of one asset of an item, as its metadata and what is known of its layer describe it."""

    key: str
    """Asset key."""
    name: str
    """Name of the band: the asset key, or the band's own name where the asset has several."""
    names: tuple[str, ...]
    """All that a person may call it."""
    common: str | None
    """Common name of the EO extension."""
    wavelength: float | None
    """Centre, in micrometres."""
    index: int
    """Number of the band in the file; the first is 1."""
    asset: pystac.Asset
    """The asset."""
    facts: Mapping[str, Any]
    """What the metadata say of the band: nodata, data type, scale, classes."""
    band: Band | None
    """The band of the known layer that it is."""


def entries(item: pystac.Item, facts: Product | None) -> list[Entry]:
    """Return the bands of all raster assets of an item that hold data."""
    found = []
    for key, asset in item.assets.items():
        roles = set(asset.roles or ())
        if roles & HIDDEN or not (asset.media_type or "image/tiff").startswith(RASTER):
            continue
        found += _of_asset(key, asset, item, facts)
    return found


def _of_asset(key: str, asset: pystac.Asset, item: pystac.Item, facts: Product | None) -> list[Entry]:
    extra = asset.extra_fields
    optical = [_spelt(one, item) for one in extra.get("eo:bands") or extra.get("bands") or ()]
    raster = extra.get("raster:bands") or extra.get("bands") or ()
    held = [] if facts is None else bands_at(facts, key)
    count = max(len(optical), len(raster)) or max(len(held), 1)
    out = []
    for place in range(count):
        eo = optical[place] if place < len(optical) else {}
        own = eo.get("name")
        band = _band(facts, held, own, place + 1, count)
        common = eo.get("common_name", eo.get("eo:common_name")) or (band.common if band else None)
        wave = eo.get("center_wavelength", eo.get("eo:center_wavelength"))
        name = key if count == 1 else str(own or (band.name if band else None) or common or f"{key}_{place + 1}")
        names = (name, key if count == 1 else None, own, common, band.name if band else None)
        out.append(
            Entry(
                key=key, name=name, names=tuple(dict.fromkeys(str(n) for n in names if n)), common=common,
                wavelength=wave if wave is not None or band is None else band.wavelength, index=place + 1,
                asset=asset, facts=extra | (dict(raster[place]) if place < len(raster) else {}), band=band,
            )
        )  # fmt: skip
    return out


def _spelt(band: Any, item: pystac.Item) -> Mapping[str, Any]:
    """Return a band's fields; old items give its place in a table of the item."""
    if isinstance(band, Mapping):
        return band
    table = item.properties.get("eo:bands") or ()
    return table[band] if isinstance(band, int) and 0 <= band < len(table) else {"name": str(band)}


def _band(facts: Product | None, held: list[Band], own: str | None, index: int, count: int) -> Band | None:
    """Return the known band that one of an asset's bands is: by the asset's key, else by its own name."""
    if len(held) == 1 and count == 1:
        return held[0]
    if held:
        return next((b for b in held if b.index == index), None)
    named = bands_at(facts, own) if facts is not None and own and count == 1 else []
    return named[0] if len(named) == 1 else None


def choose(
    tables: Sequence[list[Entry]],
    items: Sequence[pystac.Item],
    bands: Sequence[str] | None,
    facts: Sequence[Product | None],
) -> list[list[Entry]]:
    """Return each item's bands, the same for all and in the same order.

    Raises
    ------
    InputError
        Where an item lacks a band, or a name may mean several.
    """
    if bands is None:
        return _default(tables, facts)
    if isinstance(bands, str):
        bands = [bands]
    rows = zip(tables, items, facts, strict=True)
    return [[find(table, band, item, known) for band in bands] for table, item, known in rows]


def _default(tables: Sequence[list[Entry]], facts: Sequence[Product | None]) -> list[list[Entry]]:
    """Return the layer's own choice of bands, else all that hold data, as far as every item has them."""
    known = facts[0]
    mine = [e for e in tables[0] if _is_data(e)]
    if known is not None:
        order = [b.name for b in resolve_bands(known)] if known.bands else []
        usual = {e.band.name: e for e in reversed(mine) if e.band and e.band.name in order}
        mine = [usual[name] for name in order if name in usual] or mine
    rows = [[e, *(_like(e, table) for table in tables[1:])] for e in mine]
    whole = [[e for e in row if e is not None] for row in rows]
    whole = [row for row in whole if len(row) == len(tables)]
    if not whole:
        keys = sorted({e.key for t in tables for e in t})
        msg = f"Cannot choose bands: no raster asset holds data in every item. Pass bands= from {keys}."
        raise InputError(msg)
    return [list(column) for column in zip(*whole, strict=True)]


def _like(entry: Entry, table: list[Entry]) -> Entry | None:
    """Return the band of another item that is the same as one: of the same name, else the same known band."""
    same = next((o for o in table if o.name == entry.name), None)
    if same is None and entry.band is not None:
        same = next((o for o in table if o.band is entry.band), None)
    return same


def _is_data(entry: Entry) -> bool:
    roles = set(entry.asset.roles or ())
    return not roles or bool(roles & DATA)


def find(table: list[Entry], name: str, item: pystac.Item, facts: Product | None) -> Entry:
    """Return the band of an item that a name means: an asset's key, else the sensor's own or a common name.

    Raises
    ------
    InputError
        Where there is none, or several.
    """
    whole = [e for e in table if e.key == e.name == name]
    if len(whole) == 1:
        return whole[0]
    known = None if facts is None else _resolved(facts, name)
    mine = [] if known is None else [e for e in table if e.band is not None and e.band.name == known.name]
    if known is not None and mine:
        return min(mine, key=lambda e: known.assets.index(e.key) if e.key in known.assets else len(known.assets))
    called = [e for e in table if e.name == name] or [e for e in table if name in e.names]
    if len(called) == 1:
        return called[0]
    if called:
        msg = f"Cannot choose one band of item {item.id!r} for {name!r}: it may be any of {[e.name for e in called]}."
        raise InputError(msg + " Pass one of these names.")
    msg = f"Cannot find band {name!r} in item {item.id!r}: it has {[e.name for e in table]}. Pass bands= from these."
    raise InputError(msg)


def _resolved(facts: Product, name: str) -> Band | None:
    try:
        return resolve_bands(facts, [name])[0]
    except InputError:
        return None


def legend_of(entry: Entry, facts: Product | None) -> Legend | None:
    """Return the classes of a band: those that the classification extension states, else those that are known."""
    classes = entry.facts.get("classification:classes")
    if classes:
        return _stated(classes)
    if facts is None:
        return None
    known = entry.band.name if entry.band else None
    told = next((qa.legend for qa in facts.qa if qa.band == known), None)
    return told or (facts.legend if known in {None, *(b.name for b in facts.bands)} else None)


def _stated(classes: Sequence[Mapping[str, Any]]) -> Legend:
    codes = tuple(int(c["value"]) for c in classes)
    names = tuple(str(c.get("name") or c.get("description") or c["value"]) for c in classes)
    hints = [c.get("color_hint") or c.get("color-hint") for c in classes]
    colors = tuple(f"#{str(h).lstrip('#').lower()}" for h in hints) if all(hints) else ()
    return Legend(codes, names, colors)

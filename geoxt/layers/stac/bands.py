"""Bands to open of STAC items: by name, or the default bands of a product or of all data assets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from geoxt.errors import InputError
from geoxt.layers.products import Band, Product, resolve_bands
from geoxt.layers.stac.layouts import ItemBand, Layout
from geoxt.legend import Legend

DATA_ROLES = {"data", "reflectance", "temperature"}
"""Roles of assets that are opened by default."""


def choose_bands(layouts: Sequence[Layout], bands: Sequence[str] | None) -> list[list[ItemBand]]:
    """Return the bands to open of each layout: as many for each, in the same order.

    Parameters
    ----------
    layouts
        One or more.
    bands
        Names; by default the product's default bands, else those of all data assets, as far as every layout has them.

    Raises
    ------
    InputError
        If an item lacks a band, or a name is ambiguous.
    """
    if bands is None:
        return _default_bands(layouts)
    return [[find_band(layout, name) for name in bands] for layout in layouts]


def _default_bands(layouts: Sequence[Layout]) -> list[list[ItemBand]]:
    product, data_bands = layouts[0].product, [band for band in layouts[0].bands if _is_data(band)]
    if product is not None:
        order = [band.name for band in resolve_bands(product)] if product.bands else []
        by_name = {b.band.name: b for b in reversed(data_bands) if b.band and b.band.name in order}
        data_bands = [by_name[name] for name in order if name in by_name] or data_bands
    rows = [[band, *(_counterpart(band, layout) for layout in layouts[1:])] for band in data_bands]
    complete = [[band for band in row if band is not None] for row in rows]
    complete = [row for row in complete if len(row) == len(layouts)]
    if not complete:
        keys = sorted({band.key for layout in layouts for band in layout.bands})
        problem = "Cannot choose bands: no raster asset holds data in every item."
        raise InputError(problem, remedy=f"Pass {{bands}}, some of {keys}.", argument="bands")
    return [list(column) for column in zip(*complete, strict=True)]


def _counterpart(band: ItemBand, layout: Layout) -> ItemBand | None:
    """Return the band of another layout with the same name, else of the same product band."""
    same = next((other for other in layout.bands if other.name == band.name), None)
    if same is None and band.band is not None:
        same = next((other for other in layout.bands if other.band is band.band), None)
    return same


def _is_data(band: ItemBand) -> bool:
    return (not band.roles or bool(band.roles & DATA_ROLES)) and (
        not band.media_type or band.media_type.startswith("image/")
    )


def find_band(layout: Layout, name: str) -> ItemBand:
    """Return the band with a name: an alias of `stac_cfg`, an asset key, a name of the product, or a common name.

    Raises
    ------
    InputError
        If no band has the name, or several have.
    """
    if name not in layout.cache:
        layout.cache[name] = _find_band(layout, name)
    return layout.cache[name]


def _find_band(layout: Layout, name: str) -> ItemBand:
    if name in layout.aliases:
        key, index = layout.aliases[name]
        configured = [band for band in layout.bands if (band.key, band.index) == (key, index)]
        if configured:
            return configured[0]
    by_key = [band for band in layout.bands if band.key == band.name == name]
    if len(by_key) == 1:
        return by_key[0]
    known = None if layout.product is None else _resolved(layout.product, name)
    of_product = [] if known is None else [b for b in layout.bands if b.band is not None and b.band.name == known.name]
    if known is not None and of_product:
        order = {key: position for position, key in enumerate(known.assets)}
        return min(of_product, key=lambda band: order.get(band.key, len(order)))
    named = [b for b in layout.bands if b.name == name] or [b for b in layout.bands if name in b.names]
    if len(named) == 1:
        return named[0]
    names = [band.name for band in named or layout.bands]
    if named:
        problem = f"Cannot choose one band of item {layout.sample!r} for {name!r}: it may be any of {names}."
        raise InputError(problem, remedy="Pass {bands} with one of the names.", value=name, argument="bands")
    problem = f"Cannot find band {name!r} in item {layout.sample!r}: it has {names}."
    raise InputError(problem, remedy="Pass {bands} from these.", value=name, argument="bands")


def _resolved(product: Product, name: str) -> Band | None:
    try:
        return resolve_bands(product, [name])[0]
    except InputError:
        return None


def legend_of(band: ItemBand, product: Product | None) -> Legend | None:
    """Return the classes of a band: of the classification extension, else of the product."""
    if band.classes:
        return _stated_legend(band.classes)
    if product is None:
        return None
    name = band.band.name if band.band else None
    of_quality = next((qa.legend for qa in product.qa if qa.band == name), None)
    return of_quality or (product.legend if name in {None, *(b.name for b in product.bands)} else None)


def _stated_legend(classes: Sequence[Mapping[str, Any]]) -> Legend:
    codes = tuple(int(c["value"]) for c in classes)
    names = tuple(str(c.get("name") or c.get("description") or c["value"]) for c in classes)
    hints = [c.get("color_hint") or c.get("color-hint") for c in classes]
    colors = tuple(f"#{str(h).lstrip('#').lower()}" for h in hints) if all(hints) else ()
    return Legend(codes, names, colors)

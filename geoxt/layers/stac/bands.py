"""Bands to open of STAC items: by name, or the default bands of a product or of all data assets."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from geoxt.errors import InputError
from geoxt.layers.cubes.zarr_header import is_zarr
from geoxt.layers.exclude import SomeFlags, flag_names, quality_tests
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
        Names; by default the product's default bands that every layout has, else the bands of all data assets that it
        has.

    Raises
    ------
    InputError
        If an item lacks a band, or a name is ambiguous.
    """
    if bands is None:
        return [_with_unique_names(selected, ()) for selected in _default_bands(layouts)]
    result = [[band for name in bands for band in find_bands(layout, name)] for layout in layouts]
    for layout, selected in zip(layouts, result, strict=True):
        if len(selected) != len(result[0]):
            problem = f"Cannot open the bands {list(bands)}: they are {len(result[0])} bands of item"
            problem += f" {layouts[0].sample!r}, {len(selected)} of item {layout.sample!r}."
            raise InputError(problem, remedy="Pass {bands} with names of single bands.", argument="bands")
    return [_with_unique_names(selected, bands) for selected in result]


def _with_unique_names(bands: Sequence[ItemBand], requested: Sequence[str]) -> list[ItemBand]:
    """Return bands with unique names: bands of equal names are renamed to asset key and band number.

    Bands that are requested by number are data, even if their files tag them as alpha.
    """
    names = Counter((band.name, band.key, band.index) for band in bands)
    equal = Counter(name for name, _, _ in names)
    numbers: dict[str, set[int]] = {}
    for band in bands:
        if band.numbered_name in requested:
            numbers.setdefault(band.key, set(band.data_bands)).add(band.index)
    return [
        replace(
            band,
            name=band.numbered_name if equal[band.name] > 1 else band.name,
            data_bands=tuple(sorted(numbers.get(band.key, band.data_bands))),
        )
        for band in bands
    ]


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
        keys = sorted({key for layout in layouts for key in layout.keys})
        problem = "Cannot choose bands: no raster asset holds data in every item."
        raise InputError(problem, remedy=f"Pass {{bands}}, some of {keys}.", argument="bands")
    return [list(column) for column in zip(*complete, strict=True)]


def _counterpart(band: ItemBand, layout: Layout) -> ItemBand | None:
    """Return the band of another layout with the same name, else of the same product band."""
    named = [other for other in layout.bands if other.name == band.name]
    same = next((other for other in named if (other.key, other.index) == (band.key, band.index)), None)
    same = same or next(iter(named), None)
    if same is None and band.band is not None:
        same = next((other for other in layout.bands if other.band is band.band), None)
    return same


def _is_data(band: ItemBand) -> bool:
    return (not band.roles or bool(band.roles & DATA_ROLES)) and (
        not band.media_type or band.media_type.startswith("image/") or is_zarr(band.media_type, "")
    )


def find_band(layout: Layout, name: str) -> ItemBand:
    """Return the single band with a name, as `find_bands`.

    Raises
    ------
    InputError
        If no band has the name, or several have.
    """
    bands = find_bands(layout, name)
    if len(bands) > 1:
        raise _ambiguous_band_error(layout, name, bands)
    return bands[0]


def quality_bands(layout: Layout, product: Product | None, exclude: SomeFlags, *, scene: str) -> list[ItemBand]:
    """Return the quality bands that flags of excluded pixels need.

    Raises
    ------
    InputError
        If the product has no such flag, or the item not the quality band.
    """
    names = quality_tests(product, exclude, scene=scene) if flag_names(exclude) else ()
    try:
        return [find_band(layout, name) for name in names]
    except InputError as error:
        problem = f"Cannot exclude {', '.join(flag_names(exclude))} in item {scene!r}. {error.problem}"
        remedy = "Pass {exclude}, a layer or file of a mask, or leave it out."
        raise InputError(problem, remedy=remedy, value=exclude, argument="exclude") from error


def find_bands(layout: Layout, name: str) -> list[ItemBand]:
    """Return the band with a name, or all bands of the asset with this key.

    A name is an alias of `stac_cfg`, an asset key, a name of the product, a name of a band, a common name, or asset key
    and band number ("image_4"). An asset of any media type and role is opened by its key.

    Raises
    ------
    InputError
        If no band has the name, or bands of several assets have.
    """
    if name not in layout.cache:
        layout.cache[name] = _find_bands(layout, name)
    return layout.cache[name]


def _find_bands(layout: Layout, name: str) -> list[ItemBand]:
    if name in layout.aliases:
        key, index = layout.aliases[name]
        configured = [band for band in _bands_of_key(layout, key) if band.index == index]
        if configured:
            return configured
    by_key = [band for band in layout.bands if band.key == band.name == name]
    if len(by_key) == 1:
        return by_key
    product_band = None if layout.product is None else _resolve_band(layout.product, name)
    of_product = (
        []
        if product_band is None
        else [b for b in layout.bands if b.band is not None and b.band.name == product_band.name]
    )
    if product_band is not None and of_product:
        order = {key: position for position, key in enumerate(product_band.assets)}
        return [min(of_product, key=lambda band: order.get(band.key, len(order)))]
    named = [b for b in layout.bands if b.name == name] or [b for b in layout.bands if name in b.names]
    if len(named) == 1:
        return named
    bands = _bands_of_key(layout, name) or ([] if named else _numbered_bands(layout, name))
    if bands:
        return bands
    if named:
        raise _ambiguous_band_error(layout, name, named)
    names = [band.name for band in layout.bands] or list(layout.keys)
    problem = f"Cannot find band {name!r} in item {layout.sample!r}: it has {names}."
    raise InputError(problem, remedy="Pass {bands} from these.", value=name, argument="bands")


def _bands_of_key(layout: Layout, key: str) -> list[ItemBand]:
    """Return the bands of an asset of any media type and role; empty without such an asset."""
    bands = [band for band in layout.bands if band.key == key]
    return bands or (layout.parse_asset(key) if key in layout.keys else [])


def _numbered_bands(layout: Layout, name: str) -> list[ItemBand]:
    """Return the band of a name such as "image_4": the fourth one of asset "image"."""
    match = re.fullmatch(r"(.+)_([1-9]\d{0,4})", name)
    bands = _bands_of_key(layout, match[1]) if match is not None else []
    if match is None or not bands:
        return []
    index = int(match[2])
    if bands[0].assumed_single:
        return [replace(bands[0], name=name, names=(name,), index=index, assumed_single=False)]
    return [band for band in bands if band.index == index]


def _ambiguous_band_error(layout: Layout, name: str, bands: Sequence[ItemBand]) -> InputError:
    names = [band.name for band in bands]
    if len(set(names)) < len(names):
        names = [band.numbered_name for band in bands]
    problem = f"Cannot choose one band of item {layout.sample!r} for {name!r}: it may be any of {names}."
    return InputError(problem, remedy="Pass {bands} with one of the names.", value=name, argument="bands")


def _resolve_band(product: Product, name: str) -> Band | None:
    try:
        return resolve_bands(product, [name])[0]
    except InputError:
        return None


def legend_of(band: ItemBand, product: Product | None) -> Legend | None:
    """Return the classes of a band: of the classification extension, else of the product."""
    if band.classes:
        return _legend_of_item(band)
    if product is None:
        return None
    name = band.band.name if band.band else None
    of_quality = next((qa.legend for qa in product.qa if qa.band == name), None)
    return of_quality or (product.legend if name in {None, *(b.name for b in product.bands)} else None)


def _class_code(value: object) -> int | None:
    try:
        return int(value) if int(value) == float(value) else None  # type: ignore[call-overload, arg-type]
    except (TypeError, ValueError):
        return None


def _legend_of_item(band: ItemBand) -> Legend:
    classes = band.classes
    values = [c.get("value") for c in classes]
    codes = tuple(code for value in values if (code := _class_code(value)) is not None)
    if len(set(codes)) < len(values):
        problem = f"Cannot read the classes of asset {band.key!r}: 'classification:classes' has the values {values}."
        raise InputError(problem, remedy="Correct the items: a different integer for each class.")
    names = tuple(str(c.get("name") or c.get("description") or c["value"]) for c in classes)
    hints = [c.get("color_hint") or c.get("color-hint") for c in classes]
    colors = tuple(f"#{str(h).lstrip('#').lower()}" for h in hints) if all(hints) else ()
    return Legend(codes, names, colors)

"""Scenes from STAC items: grid, dtype, nodata, radiometry and quality of each band, from metadata before headers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pystac

from geoxt.layers.exclude import SomeFlags, quality_of
from geoxt.layers.stac.band_counts import expand_bands
from geoxt.layers.stac.bands import find_band, quality_bands
from geoxt.layers.stac.filters import interval
from geoxt.layers.stac.hrefs import require_href
from geoxt.layers.stac.item_assets import ItemAssets
from geoxt.layers.stac.item_bands import OpenItem, PixelOptions, asset_key, band_dtype, band_radiometry, sidecar_scales
from geoxt.layers.stac.item_footprints import data_footprint
from geoxt.layers.stac.layouts import ItemBand
from geoxt.pixels.reader import Header
from geoxt.source import Asset, Scene


def count_bands(items: Sequence[OpenItem], pixel_options: PixelOptions) -> tuple[list[OpenItem], dict[str, Header]]:
    """Return items with all bands of assets whose number of bands is not stated, and the headers read for it by href.

    Only headers that are required anyway are read, one for each collection and asset key. Without them, one band is
    assumed, and the first read compares it with the file.
    """
    by_layout = {id(item.layout): item for item in reversed(items)}
    required: dict[tuple[str | None, str], str] = {}
    for item in items if pixel_options.headers == "all" else by_layout.values():
        for band in item.bands:
            if pixel_options.headers == "all" or item.is_zarr(band) or band_dtype(item, band, pixel_options) is None:
                key = asset_key(item, band)
                if key not in required and (band.assumed_single or band.name == band.numbered_name):
                    require_href(item.item, band.key, trust=pixel_options.trust)
                    required[key] = item.href(band)
    if not required:
        return list(items), {}
    lookup = ItemAssets(pixel_options)
    pairs = [(i, band) for i in by_layout.values() for band in i.bands if i.href(band) in set(required.values())]
    by_href = lookup.read_headers(list(dict.fromkeys(required.values())), pairs)
    layouts = list(by_layout.values())
    expanded = expand_bands(
        [(item.item.collection_id, item.bands) for item in layouts],
        {key: by_href[href] for key, href in required.items()},
    )
    bands = {id(item.layout): of_layout for item, of_layout in zip(layouts, expanded, strict=True)}
    return [replace(item, bands=bands[id(item.layout)]) for item in items], by_href


def scenes_of(
    items: Sequence[OpenItem], pixel_options: PixelOptions, known_headers: Mapping[str, Header] | None = None
) -> list[Scene]:
    """Build scenes from STAC items.

    A header is read if an item does not state its grid, or if neither it nor its product states the data type; for the
    data type alone, one header for each collection and asset key. When a file is opened for its first read, it is
    compared with what is stated here. Headers in `known_headers` are not read again.

    Raises
    ------
    InputError
        If an href is relative and the item has no address, an item of a remote catalog refers to a local file or a VRT
        without trust, or a quality band is missing.
    ReadError
        If a required header cannot be read.
    """
    lookup = ItemAssets(pixel_options, known_headers or {})
    lookup.prepare(
        [(item, band) for item in items for band in (*item.bands, *_quality_bands(item, pixel_options.exclude))]
    )
    scenes = []
    for item in items:
        start, end = interval(item.item)

        def quality_asset(name: str, item: OpenItem = item) -> Asset:
            return lookup.asset(item, find_band(item.layout, name))

        scenes.append(
            Scene(
                id=item.item.id,
                assets=tuple(lookup.asset(item, band) for band in item.bands),
                start=start,
                end=end,
                cloud_cover=_cloud_cover(item.item),
                quality=quality_of(item.product, pixel_options.exclude, item.item.id, quality_asset),
                geometry=data_footprint(item.item),
            )
        )
    return scenes


def units_of(item: OpenItem, pixel_options: PixelOptions) -> tuple[str, ...]:
    """Return the unit of each band's physical values."""
    rules = [band_radiometry(item, band, strict=False) for band in item.bands]
    if pixel_options.rescale and None in rules:
        of_scene = sidecar_scales(item, pixel_options)
        rules = [band_radiometry(item, band, strict=False, of_scene=of_scene) for band in item.bands]
    return tuple(rule.unit if rule is not None else "1" for rule in rules)


def _quality_bands(item: OpenItem, exclude: SomeFlags) -> list[ItemBand]:
    return quality_bands(item.layout, item.product, exclude, scene=item.item.id)


def _cloud_cover(item: pystac.Item) -> float | None:
    """Return the cloud cover in percent; `None` if it is not stated, or by a number outside 0 to 100, such as -1."""
    try:
        percent = float(item.properties["eo:cloud_cover"])
    except (KeyError, TypeError, ValueError):
        return None
    return percent if 0 <= percent <= 100 else None

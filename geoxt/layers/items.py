"""STAC items -> scenes -> layer."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pystac
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError, ReadError
from geoxt.grid import parse_crs
from geoxt.layers.assemble import GroupBy, Placement, Product, assemble, representable
from geoxt.layers.cogs import asset_of, moment
from geoxt.layers.sensors import LayerSpec, resolve_bands, spec
from geoxt.legend import Legend
from geoxt.pixels.reader import read_header
from geoxt.source import Asset, Scene
from geoxt.types import Resampling, SomeCRS, SomePath

SomeItems = SomePath | pystac.Catalog | pystac.ItemCollection | pystac.Item | Mapping[str, Any] | Iterable[Any]
RASTER = ("image/tiff", "image/vnd.stac.geotiff", "image/jp2")
HIDDEN = {"thumbnail", "overview", "metadata"}


def open_stac(
    source: SomeItems,
    *,
    collections: str | Sequence[str] | None = None,
    layer: str | LayerSpec | None = None,
    bands: Sequence[str] | None = None,
    crs: SomeCRS | None = None,
    resolution: float | tuple[float, float] | None = None,
    grid: GeoBox | None = None,
    groupby: GroupBy = "mosaic",
    nodata: float | None = None,
    resampling: Resampling | None = None,
    chunks: Mapping[str, int] | int | None = None,
    errors: Literal["raise", "nodata"] = "raise",
    name: str | None = None,
) -> xr.DataArray:
    """Open STAC items as one lazy layer.

    Grids come from the projection extension; only where an item lacks it is the header of its file read.

    Parameters
    ----------
    source
        A static catalog, an ItemCollection or an item: a file on disk, a pystac object, a dict, or a list of items.
    collections
        Take items of these collections only.
    layer
        Name of a known layer, whose own band names may then be used.
    bands
        Bands to open, in this order: asset keys ("B04"), common names ("red"), or the names of bands within an asset.
        By default all raster assets that hold data and that every item has.
    crs, resolution, grid
        Where the layer shall lie. By default the CRS and resolution that all items share.
    groupby
        "mosaic": all items in one, no time dimension. "time", "day": one step for each. `None`: one step an item.
    nodata
        Value of missing pixels, where items and files do not say.
    resampling
        How pixels come onto the grid: by default "nearest" for class codes, else "bilinear".
    chunks
        Dask chunk sizes: one number for y and x, or by dimension.
    errors
        "nodata": a file that cannot be read later gives nodata and one warning, instead of an error.
    name
        Name of the layer; by default its collection.

    Returns
    -------
    xarray.DataArray
        Dimensions (time, band, y, x); time is absent for a mosaic, band for class codes (an asset with
        `classification:classes`). Dask-backed, in the stored type.

    Raises
    ------
    InputError
        Where no item is left, or a band is not there.
    CRSError, GridError
        Where items disagree and no choice was given.

    References
    ----------
    STAC 1.1 (https://stacspec.org), extensions projection, eo, raster and classification.
    """
    items = read_items(source, collections=collections)
    facts = spec(layer) if isinstance(layer, str) else layer
    tables = [_entries(item) for item in items]
    chosen = _choose(tables, items, bands, facts)
    legend = legend_of(chosen[0][0]) if len(chosen[0]) == 1 else None
    if legend is None and facts is not None and len(chosen[0]) == 1:
        legend = facts.legend
    marks = nodata if nodata is not None or facts is None else facts.nodata
    scenes = [_scene(item, entries, marks) for item, entries in zip(items, chosen, strict=True)]
    first = chosen[0]
    waves = [e.wavelength if e.wavelength is not None else np.nan for e in first]
    product = Product(
        bands=tuple(e.name for e in first),
        legend=legend,
        attrs={"long_name": facts.title} if facts else {},
        coords={"common_name": tuple(e.common or "" for e in first), "wavelength": tuple(waves)},
        categorical=legend is not None,
    )
    placement = Placement(
        crs=crs, resolution=resolution, grid=grid, groupby=groupby, nodata=nodata, resampling=resampling,
        chunks=chunks, errors=errors, name=name or items[0].collection_id,
    )  # fmt: skip
    return assemble(scenes, product, placement)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """One band of one asset of an item, as its metadata describe it."""

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
    """What the metadata say of the band: nodata, data type."""


def read_items(source: SomeItems, *, collections: str | Sequence[str] | None = None) -> list[pystac.Item]:
    """Return items with absolute hrefs.

    Raises
    ------
    ReadError
        Where a file is not there or is not STAC.
    InputError
        Where no item is left.
    """
    items = list(_items(source))
    wanted = [collections] if isinstance(collections, str) else collections
    if wanted is not None:
        found = sorted({str(i.collection_id) for i in items})
        items = [i for i in items if i.collection_id in wanted]
        if not items:
            msg = (
                f"Cannot find items of the collections {list(wanted)}: there are {found}. Pass collections= from these."
            )
            raise InputError(msg)
    if not items:
        msg = "Cannot open a layer: the catalog holds no items. Pass one that does."
        raise InputError(msg)
    return items


def _items(source: Any) -> Iterable[pystac.Item]:
    match source:
        case str() | os.PathLike():
            yield from _from_file(os.fspath(source))
        case pystac.Item():
            yield _absolute(source)
        case pystac.Catalog():
            for item in source.get_items(recursive=True):
                yield _absolute(item)
        case {"type": "FeatureCollection", "features": features}:
            for feature in features:
                yield from _items(feature)
        case {"type": "Feature"}:
            yield pystac.Item.from_dict(dict(source))
        case Mapping():
            msg = f"Cannot open a dict of type {source.get('type')!r}: pass a STAC item or ItemCollection."
            raise InputError(msg)
        case Iterable():
            for one in source:
                yield from _items(one)
        case _:
            msg = f"Cannot open {type(source).__name__}: pass a catalog, an ItemCollection or items."
            raise InputError(msg)


def _from_file(path: str) -> Iterable[pystac.Item]:
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"Cannot read STAC from {path!r}: {error}. Pass a catalog, an item or an ItemCollection in JSON."
        raise ReadError(msg) from error
    match content.get("type"):
        case "Catalog" | "Collection":
            yield from _items(pystac.Catalog.from_file(path) if content["type"] == "Catalog" else _collection(path))
        case "FeatureCollection":
            for feature in content["features"]:
                item = pystac.Item.from_dict(feature)
                item.set_self_href(str(Path(path).absolute()))
                yield _absolute(item)
        case "Feature":
            yield from _items(pystac.Item.from_file(path))
        case kind:
            msg = f"Cannot read STAC from {path!r}: its type is {kind!r}. Pass a catalog, an item or an ItemCollection."
            raise InputError(msg)


def _absolute(item: pystac.Item) -> pystac.Item:
    """Return an item whose hrefs are absolute, where it says what they are relative to."""
    if item.get_self_href() is not None:
        item.make_asset_hrefs_absolute()
    return item


def _collection(path: str) -> pystac.Collection:
    return pystac.Collection.from_file(path)


def _entries(item: pystac.Item) -> list[_Entry]:
    """Return the bands of all raster assets that hold data."""
    found = []
    for key, asset in item.assets.items():
        roles = set(asset.roles or ())
        if roles & HIDDEN or not (asset.media_type or "image/tiff").startswith(RASTER):
            continue
        found += _bands(key, asset)
    return found


def _bands(key: str, asset: pystac.Asset) -> list[_Entry]:
    extra = asset.extra_fields
    optical = extra.get("eo:bands") or extra.get("bands") or [{}]
    raster = extra.get("raster:bands") or extra.get("bands") or [{}]
    count = max(len(optical), len(raster))
    out = []
    for place in range(count):
        eo = optical[place] if place < len(optical) else {}
        own, common = eo.get("name"), eo.get("common_name", eo.get("eo:common_name"))
        name = key if count == 1 else str(own or common or f"{key}_{place + 1}")
        facts = dict(extra) | (dict(raster[place]) if place < len(raster) else {})
        wave = eo.get("center_wavelength", eo.get("eo:center_wavelength"))
        names = tuple(str(n) for n in (name, key if count == 1 else None, own, common) if n)
        out.append(
            _Entry(
                key=key, name=name, names=names, common=common, wavelength=wave, index=place + 1, asset=asset,
                facts=facts,
            )
        )  # fmt: skip
    return out


def _choose(
    tables: list[list[_Entry]], items: Sequence[pystac.Item], bands: Sequence[str] | None, facts: LayerSpec | None
) -> list[list[_Entry]]:
    """Return each item's bands, the same for all and in the same order."""
    if bands is None:
        shared = [e for e in tables[0] if _is_data(e) and all(any(o.name == e.name for o in t) for t in tables)]
        if not shared:
            keys = sorted({e.key for t in tables for e in t})
            msg = f"Cannot choose bands: no raster asset holds data in every item. Pass bands= from {keys}."
            raise InputError(msg)
        bands = [e.name for e in shared]
    return [[_find(table, band, item, facts) for band in bands] for table, item in zip(tables, items, strict=True)]


def _is_data(entry: _Entry) -> bool:
    roles = set(entry.asset.roles or ())
    return not roles or "data" in roles or "reflectance" in roles


def _find(table: list[_Entry], band: str, item: pystac.Item, facts: LayerSpec | None) -> _Entry:
    for found in ([e for e in table if e.name == band], [e for e in table if band in e.names]):
        if len(found) == 1:
            return found[0]
        if found:
            msg = (
                f"Cannot choose one band of item {item.id!r} for {band!r}: it may be any of {[e.name for e in found]}."
            )
            raise InputError(msg + " Pass one of these names.")
    if facts is not None:
        (known,) = resolve_bands(facts, [band])
        names = {known.name, *known.assets, *known.files}
        found = [e for e in table if names & set(e.names)]
        if len(found) == 1:
            return found[0]
    msg = f"Cannot find band {band!r} in item {item.id!r}: it has {[e.name for e in table]}. Pass bands= from these."
    raise InputError(msg)


def _scene(item: pystac.Item, entries: Sequence[_Entry], nodata: float | None) -> Scene:
    start = item.common_metadata.start_datetime or item.datetime
    end = item.common_metadata.end_datetime or item.datetime
    assets = tuple(_asset(item, entry, nodata) for entry in entries)
    return Scene(id=item.id, assets=assets, start=moment(start), end=moment(end))


def _asset(item: pystac.Item, entry: _Entry, nodata: float | None) -> Asset:
    """Return an asset from metadata alone where they say enough, else with the header of the file."""
    grid = _grid(item, entry.asset)
    dtype = entry.facts.get("data_type")
    href = entry.asset.href
    if item.get_self_href() is None and pystac.utils.make_absolute_href(href, "/") != href:
        msg = (
            f"Cannot find asset {entry.key!r} of item {item.id!r}: its href {href!r} is relative, and the item says not"
        )
        raise InputError(msg + " to what. Pass the item's file, or item.set_self_href(…) first.")
    if grid is None or dtype is None:
        return asset_of(read_header(href), entry.index, nodata)
    mark = entry.facts.get("nodata")
    mark = representable(nodata if mark is None else float(mark), str(dtype))
    return Asset(href=href, band=entry.index, grid=grid, dtype=str(dtype), nodata=mark)


def _grid(item: pystac.Item, asset: pystac.Asset) -> GeoBox | None:
    """Return the grid that the projection extension states, `None` where it is not complete."""
    both = {**item.properties, **{k: v for k, v in asset.extra_fields.items() if v is not None}}
    code, epsg = both.get("proj:code"), both.get("proj:epsg")
    crs = code or (f"EPSG:{epsg}" if epsg else None) or both.get("proj:wkt2") or both.get("proj:projjson")
    shape, transform = both.get("proj:shape"), both.get("proj:transform")
    if crs is None or shape is None or transform is None:
        return None
    return GeoBox((int(shape[0]), int(shape[1])), Affine(*transform[:6]), parse_crs(crs))


def legend_of(entry: _Entry) -> Legend | None:
    """Return the classes that the classification extension states for a band, if any."""
    classes = entry.facts.get("classification:classes")
    if not classes:
        return None
    codes = tuple(int(c["value"]) for c in classes)
    names = tuple(str(c.get("name") or c.get("description") or c["value"]) for c in classes)
    hints = [c.get("color_hint") or c.get("color-hint") for c in classes]
    colors = tuple(f"#{str(h).lstrip('#').lower()}" for h in hints) if all(hints) else ()
    return Legend(codes, names, colors)

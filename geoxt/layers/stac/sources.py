"""Sources of STAC items: an API, a static catalog, an ItemCollection, a list, a stac-geoparquet file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast
from urllib.parse import urljoin

import numpy as np
import pystac
import shapely

from geoxt.errors import InputError, ReadError
from geoxt.layers.stac.api import is_api, search
from geoxt.layers.stac.filters import Selection, chosen_of
from geoxt.layers.stac.parquet import ENDINGS, read_parquet
from geoxt.pixels.credentials import redact_url
from geoxt.retry import fetch
from geoxt.types import SomePath

SomeItems = SomePath | pystac.Catalog | pystac.ItemCollection | pystac.Item | Mapping[str, Any] | Iterable[Any]
SECONDS = 60
"""Longest wait for an answer of a catalog."""
WEB = ("http://", "https://")


def read_items(source: SomeItems, chosen: Selection | None = None) -> list[pystac.Item]:
    """Return items with absolute hrefs.

    Raises
    ------
    ReadError
        Where a file or an API cannot be read, or is not STAC.
    InputError
        Where no item is left.
    """
    chosen = chosen or Selection()
    if isinstance(source, str) and source.startswith(WEB) and not source.split("?", 1)[0].endswith(ENDINGS):
        content = _fetch(source)
        place = _collection_of(content, source)
        if place is not None:
            source, chosen = place[0], _narrowed(chosen, place[1])
        elif not is_api(content):
            source = (
                _pages(content, source) if content.get("type") == "FeatureCollection" else _located(content, source)
            )
    if (isinstance(source, str) and source.startswith(WEB)) or hasattr(source, "conforms_to"):
        found = _searched(source, chosen)
    else:
        if chosen.query is not None:
            msg = f"Cannot filter by query={chosen.query!r}: only a STAC API can. Pass its URL, or filter the items."
            raise InputError(msg)
        found = list(islice(chosen_of(_items(source), chosen), chosen.limit))
    if not found:
        msg = "Cannot open a layer: the catalog holds no items that were asked for. Widen the selection."
        raise InputError(msg)
    return found


def _collection_of(content: Mapping[str, Any], url: str) -> tuple[str, str] | None:
    """Return the URL of an API and the id of the collection in it that a page is; `None` for another page."""
    if content.get("type") != "Collection":
        return None
    links = {link.get("rel"): link.get("href") for link in content.get("links") or ()}
    if "items" not in links:
        return None
    root = urljoin(url, str(links.get("root") or links.get("parent") or "../.."))
    return (root, str(content["id"])) if root != url and is_api(_fetch(root)) else None


def _narrowed(chosen: Selection, collection: str) -> Selection:
    if chosen.collections is not None and collection not in chosen.collections:
        msg = f"Cannot search collection {collection!r} for items of {list(chosen.collections)}."
        raise InputError(msg + " Leave collections= out, or pass the URL of the whole API.")
    return replace(chosen, collections=(collection,))


def _pages(page: Mapping[str, Any], url: str) -> Iterator[pystac.Item]:
    """Yield the items of a page of an API, and of all pages that follow it."""
    seen = {url}
    while True:
        yield from _located(page, url)
        following = next((link for link in page.get("links") or () if link.get("rel") == "next"), None)
        if following is None:
            return
        url = urljoin(url, str(following.get("href")))
        if following.get("method", "GET") != "GET" or url in seen:
            msg = f"Cannot go on from {redact_url(url)!r}: its next page is not one to get."
            raise ReadError(msg + " Pass the URL of the API or of the collection, and what to search for.")
        seen.add(url)
        page = _fetch(url)


def _searched(source: Any, chosen: Selection) -> list[pystac.Item]:
    start, end = chosen.times or (None, None)
    edges = ["..", ".."] if chosen.times else []
    for place, edge in enumerate((start, end) if chosen.times else ()):
        if edge is not None:
            edges[place] = f"{np.datetime_as_string(edge, unit='ms')}Z"
    area = chosen.area
    shape = None if area is None or area.bbox is not None else json.loads(shapely.to_geojson(area.shape))
    return search(
        source,
        seconds=SECONDS,
        collections=None if chosen.collections is None else list(chosen.collections),
        bbox=None if area is None else area.bbox,
        intersects=shape,
        datetime="/".join(edges) or None,
        filter=chosen.query,
        max_items=chosen.limit,
    )


def _items(source: Any) -> Iterator[pystac.Item]:
    match source:
        case str() | os.PathLike():
            yield from _from_file(os.fspath(source))
        case pystac.Item():
            yield _absolute(source)
        case pystac.Catalog():
            yield from map(_absolute, source.get_items(recursive=True))
        case {"type": "FeatureCollection", "features": features}:
            yield from chain.from_iterable(map(_items, features))
        case {"type": "Feature"}:
            yield pystac.Item.from_dict(dict(source))
        case Mapping():
            msg = f"Cannot open a dict of type {source.get('type')!r}: pass a STAC item or ItemCollection."
            raise InputError(msg)
        case Iterable():
            yield from chain.from_iterable(map(_items, source))
        case _:
            msg = f"Cannot open {type(source).__name__}: pass a catalog, an ItemCollection or items."
            raise InputError(msg)


def _from_file(path: str) -> Iterator[pystac.Item]:
    if not path.endswith(ENDINGS):
        yield from _items(_located(_load(path), path))
        return
    for row in read_parquet(path):
        yield _absolute(pystac.Item.from_dict(row, preserve_dict=False), path)


def _located(content: Mapping[str, Any], href: str) -> Any:
    """Return what a file holds, as pystac has it, with the place to which its hrefs are relative."""
    match content.get("type"):
        case "Catalog":
            return pystac.Catalog.from_file(href)
        case "Collection":
            return pystac.Collection.from_file(href)
        case "FeatureCollection":
            return [_placed(feature, href) for feature in content["features"]]
        case "Feature":
            return _placed(content, href)
        case kind:
            msg = f"Cannot read STAC from {redact_url(href)!r}: its type is {kind!r}."
            raise InputError(msg + " Pass a catalog, an item or an ItemCollection.")


def _placed(feature: Mapping[str, Any], href: str) -> pystac.Item:
    item = pystac.Item.from_dict(dict(feature))
    item.set_self_href(href if href.startswith(WEB) else str(Path(href).absolute()))
    return item


def _load(path: str) -> dict[str, Any]:
    try:
        text = Path(path).read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if line.strip()] if path.endswith((".ndjson", ".jsonl")) else []
        if lines:
            return {"type": "FeatureCollection", "features": [json.loads(line) for line in lines]}
        return cast("dict[str, Any]", json.loads(text))
    except (OSError, ValueError) as error:
        msg = f"Cannot read STAC from {path!r}: {error}. Pass a catalog, an item or an ItemCollection in JSON."
        raise ReadError(msg) from error


def _fetch(url: str) -> dict[str, Any]:
    try:
        return cast("dict[str, Any]", json.loads(fetch(url, timeout=SECONDS, headers={"Accept": "application/json"})))
    except (OSError, ValueError) as error:
        msg = f"Cannot read STAC from {redact_url(url)!r}: {redact_url(str(error))}."
        msg += " Pass the URL of a STAC API or of a catalog."
        raise ReadError(msg) from None


def _absolute(item: pystac.Item, place: str | None = None) -> pystac.Item:
    """Return an item whose hrefs are absolute, where it says what they are relative to."""
    if place is not None and any(not pystac.utils.is_absolute_href(a.href) for a in item.assets.values()):
        item.set_self_href(str(Path(place).absolute()))
    if item.get_self_href() is not None:
        item.make_asset_hrefs_absolute()
    return item

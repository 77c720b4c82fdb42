"""Sources of STAC items: an API, a static catalog, an ItemCollection, a list, a stac-geoparquet file."""

from __future__ import annotations

import json
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import urljoin, urlsplit

import numpy as np
import pystac
import shapely

from geoxt.errors import CatalogWarning, GeoxtError, InputError, ReadError
from geoxt.layers.stac.api import is_api, search
from geoxt.layers.stac.filters import Selection, select_items
from geoxt.layers.stac.pages import SearchPolicy, is_new, items_of_pages, matched, parse_item, remote_item
from geoxt.layers.stac.parquet import EXTENSIONS, read_parquet, time_range
from geoxt.layers.stac.row_items import row_items
from geoxt.pixels.credentials import redact_url
from geoxt.pixels.remote import is_remote
from geoxt.retry import DEFAULT, RetryPolicy, fetch, retry_after
from geoxt.types import SomePath

SomeItems = SomePath | pystac.Catalog | pystac.ItemCollection | pystac.Item | Mapping[str, Any] | Iterable[Any]
SECONDS = 60
"""Seconds to wait for a response of a catalog."""
WEB = ("http://", "https://")
ABSOLUTE = (*WEB, "s3://", "gs://", "/")
"""Beginnings of absolute hrefs."""


def read_items(source: SomeItems, selection: Selection | None = None) -> list[pystac.Item]:
    """Return the selected items of a source, with absolute hrefs.

    Raises
    ------
    ReadError
        If a file or an API cannot be read, or is not STAC.
    InputError
        If no item is selected.
    """
    selection = selection or Selection()
    if _is_page(source):
        content = _fetch(source)
        collection = _collection_of(content, source)
        if collection is not None:
            source, selection = collection[0], _with_collection(selection, collection[1])
        elif not is_api(content):
            source = (
                _pages(content, source)
                if content.get("type") == "FeatureCollection"
                else _with_self_href(content, source)
            )
    if _is_page(source) or hasattr(source, "conforms_to"):
        items = _search_items(source, selection)
    else:
        if selection.query is not None:
            problem = f"Cannot filter by {selection.query!r}: the source is not a STAC API."
            raise InputError(problem, remedy="Pass the URL of an API. Or leave {query} out.", argument="query")
        collections: set[str] = set()
        candidates = _items(source, selection, collections)
        items = list(islice(select_items(candidates, selection, collections), selection.limit))
        if isinstance(source, (str, os.PathLike)) and _is_parquet(os.fspath(source)):
            items = _distinct_rows(items, os.fspath(source))
    if not items:
        problem = f"Cannot open a layer: the catalog holds no matching items{_dates(source, selection)}."
        raise InputError(problem, remedy="Widen the selection.")
    return items


def _dates(source: SomeItems, selection: Selection) -> str:
    """Return the dates of the items in a local parquet file that was searched by time, as the end of a sentence."""
    if selection.times is None or not isinstance(source, (str, os.PathLike)):
        return ""
    path = os.fspath(source)
    dates = time_range(path) if _is_parquet(path) and not is_remote(path) else None
    return "" if dates is None else "; its items are of {} to {}".format(*np.datetime_as_string(dates, unit="D"))


def _distinct_rows(items: list[pystac.Item], path: str) -> list[pystac.Item]:
    """Return the items of a table, each once; warns of several of one id that differ, as of pages of an API."""
    keys = [(item.collection_id, item.id) for item in items]
    counts = Counter(keys) if len(set(keys)) < len(keys) else {}
    known: dict[Any, set[str]] = {}
    return [
        item
        for item, key in zip(items, keys, strict=True)
        if counts.get(key, 1) == 1 or is_new(item.to_dict(include_self_link=False), known, path)
    ]


def _is_page(source: SomeItems) -> TypeGuard[str]:
    """Return whether a source is the address of a page in JSON."""
    return isinstance(source, str) and source.startswith(WEB) and not _is_parquet(source)


def _is_parquet(path: str) -> bool:
    return path.split("?", 1)[0].endswith(EXTENSIONS)


def _collection_of(content: Mapping[str, Any], url: str) -> tuple[str, str] | None:
    """Return the URL of the API and the id of a collection page, or `None` for another page."""
    if content.get("type") != "Collection":
        return None
    links = {link.get("rel"): link.get("href") for link in content.get("links") or ()}
    if "items" not in links:
        return None
    root = urljoin(url, str(links.get("root") or links.get("parent") or "../.."))
    return (root, str(content["id"])) if root != url and is_api(_fetch(root)) else None


def _with_collection(selection: Selection, collection: str) -> Selection:
    if selection.collections is not None and collection not in selection.collections:
        problem = f"Cannot search collection {collection!r} for items of {list(selection.collections)}."
        raise InputError(problem, remedy="Leave {collections} out. Or pass the URL of the whole API.")
    return replace(selection, collections=(collection,))


def _pages(page: Mapping[str, Any], url: str) -> Iterator[pystac.Item]:
    """Yield the items of an API page and of all pages after it, by GET requests."""
    policy = SearchPolicy(delay=DEFAULT.delay)

    def follow(link: Mapping[str, Any], url: str) -> tuple[dict[str, Any], str]:
        url = urljoin(url, str(link.get("href")))
        if link.get("method", "GET") != "GET":
            problem = f"Cannot get the page after {redact_url(url)!r}: its link is not a GET request."
            raise ReadError(problem, remedy="Pass the URL of the API or collection, and search criteria.")
        return _fetch(url, policy), url

    return map(_absolute, items_of_pages(page, url, follow))


def _search_items(source: Any, selection: Selection) -> list[pystac.Item]:
    bounds = [".." if t is None else f"{np.datetime_as_string(t, unit='ms')}Z" for t in selection.times or ()]
    area = selection.area
    shape = None if area is None or area.bbox is not None else json.loads(shapely.to_geojson(area.shape))
    items = search(
        source,
        timeout=SECONDS,
        collections=None if selection.collections is None else list(selection.collections),
        bbox=None if area is None else area.bbox,
        intersects=shape,
        datetime="/".join(bounds) or None,
        filter=selection.query,
        max_items=selection.limit,
    )
    # APIs of local files state absolute paths, which pystac would take for paths of the server
    return [item if any(a.href.startswith("/") for a in item.assets.values()) else _absolute(item) for item in items]


def _items(source: Any, selection: Selection, collections: set[str]) -> Iterator[pystac.Item]:
    """Yield the items of a source.

    Rows of a parquet file that cannot match the selection are left out; their collections are added to `collections`.
    """
    match source:
        case str() | os.PathLike():
            yield from _from_file(os.fspath(source), selection, collections)
        case pystac.Item():
            yield _absolute(source)
        case pystac.Catalog():
            try:
                yield from map(_absolute, source.get_items(recursive=True))
            except pystac.STACError as error:
                if isinstance(error.__cause__, GeoxtError):  # of `_CatalogFiles`, with the address and the reason
                    raise error.__cause__ from None
                problem = f"Cannot read the catalog {source.id!r}: {redact_url(str(error))}."
                raise ReadError(problem, remedy="Pass another catalog.") from error.__cause__
        case {"type": "FeatureCollection", "features": features}:
            _warn_of_further_pages(source)
            yield from chain.from_iterable(_items(feature, selection, collections) for feature in features)
        case {"type": "Feature"}:
            yield _absolute(parse_item(deepcopy(dict(source))))
        case Mapping():
            problem = f"Cannot open a dict of type {source.get('type')!r}."
            raise InputError(problem, remedy="Pass a STAC item or an ItemCollection.")
        case Iterable():
            yield from chain.from_iterable(_items(part, selection, collections) for part in source)
        case _:
            problem = f"Cannot open STAC from a {type(source).__name__}."
            raise InputError(problem, remedy="Pass a catalog, an ItemCollection or items.")


def _from_file(path: str, selection: Selection, collections: set[str]) -> Iterator[pystac.Item]:
    if not _is_parquet(path):
        yield from _items(_with_self_href(_load(path), path), selection, collections)
        return
    address = path if is_remote(path) else None

    def parse(row: Mapping[str, Any]) -> pystac.Item:
        return _absolute(parse_item(row, path), path) if address is None else _absolute(remote_item(row, address))

    def convert(batch: Any) -> Iterator[pystac.Item]:
        return row_items(batch, parse, address=address)

    yield from read_parquet(path, selection, collections, convert)


def _with_self_href(content: Mapping[str, Any], href: str) -> Any:
    """Return the content of a file as pystac objects that know the address their hrefs are relative to."""
    match content.get("type"):
        case "Catalog":
            return _catalog(pystac.Catalog, href)
        case "Collection":
            return _catalog(pystac.Collection, href)
        case "FeatureCollection":
            _warn_of_further_pages(content)
            return [_with_href(feature, href) for feature in content.get("features") or ()]
        case "Feature":
            return _with_href(content, href)
        case kind:
            problem = f"Cannot read STAC from {redact_url(href)!r}: its type is {kind!r}."
            raise InputError(problem, remedy="Pass a catalog, an item or an ItemCollection.")


def _warn_of_further_pages(page: Mapping[str, Any]) -> None:
    """Warn if an ItemCollection is a saved page of an API that states further items."""
    count, number_matched = len(page["features"]), matched(page)
    if number_matched is not None and count < number_matched:
        text = f"The ItemCollection holds {count} items and states {number_matched}: it is one page of a longer list. "
        warnings.warn(f"{text}Pass the URL of the API for all of them.", CatalogWarning, stacklevel=2)


def _catalog(kind: type[pystac.Catalog], href: str) -> pystac.Catalog:
    try:
        return kind.from_file(href, stac_io=_CatalogFiles(href))
    except GeoxtError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).rstrip('.')}"
        problem = f"Cannot read the {kind.__name__.lower()} {redact_url(href)!r}: {redact_url(reason)}."
        raise ReadError(problem, remedy="Pass a catalog, an item or an ItemCollection in JSON.") from error


def _with_href(feature: object, href: str) -> pystac.Item:
    item = parse_item(feature, href)
    item.set_self_href(href if href.startswith(WEB) else str(Path(href).absolute()))
    return item


def _load(path: str) -> dict[str, Any]:
    content: dict[str, Any] = {}
    try:
        text = Path(path).read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if line.strip()] if path.endswith((".ndjson", ".jsonl")) else []
        if lines:
            return {"type": "FeatureCollection", "features": [json.loads(line) for line in lines]}
        content = json.loads(text)
        reason = _invalid_reason(content)
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error)
    if reason is None:
        return content
    problem = f"Cannot read STAC from {path!r}: {reason}."
    raise ReadError(problem, remedy="Pass a catalog, an item or an ItemCollection in JSON.")


class _CatalogFiles(pystac.stac_io.DefaultStacIO):
    """Reads the files of a static catalog; those of a remote one are remote."""

    def __init__(self, root: str) -> None:
        super().__init__()
        self._remote = root.startswith(WEB)
        self._policy = SearchPolicy(delay=DEFAULT.delay)

    def read_json(self, source: Any, *_: Any, **__: Any) -> dict[str, Any]:
        """Return the content of a file."""
        href = str(os.fspath(source))
        if self._remote or href.startswith(WEB):
            return _fetch(href, self._policy)
        return _load(urlsplit(href).path if href.startswith("file:") else href)


def _fetch(url: str, policy: RetryPolicy = DEFAULT) -> dict[str, Any]:
    """Return the JSON object at an HTTP address."""
    remedy = "Pass the URL of a STAC API or of a catalog."
    if not url.startswith(WEB):
        problem = f"Cannot follow a link of a remote catalog to {redact_url(url)!r}: it is not an HTTP address."
        raise ReadError(problem, remedy=remedy)
    try:
        content: dict[str, Any] = json.loads(
            fetch(url, timeout=SECONDS, headers={"Accept": "application/json"}, policy=policy)
        )
    except (OSError, ValueError, RecursionError) as error:
        pause = retry_after(error)
        problem = f"Cannot read STAC from {redact_url(url)!r}: {redact_url(str(error))}."
        problem += "" if pause is None else f" The server asks to wait {pause:.0f} s."
        raise ReadError(problem, remedy=remedy) from None
    reason = _invalid_reason(content)
    if reason is not None:
        raise ReadError(f"Cannot read STAC from {redact_url(url)!r}: {reason}.", remedy=remedy)
    return content


def _invalid_reason(content: object) -> str | None:
    """Return why the content of a page or file is not valid STAC, or `None`."""
    if not isinstance(content, dict):
        return "it is not a JSON object"
    for name, kind in (("links", dict), ("conformsTo", str), ("features", dict)):
        values = content.get(name)
        if values is not None and not (isinstance(values, list) and all(isinstance(value, kind) for value in values)):
            return f"its {name!r} is not a list of {'objects' if kind is dict else 'texts'}"
    return None


def _absolute(item: pystac.Item, base: str | None = None) -> pystac.Item:
    """Return an item with absolute hrefs, if it or `base` states its address."""
    hrefs = [asset.href for asset in item.assets.values() if not asset.href.startswith(ABSOLUTE)]
    if hrefs and base is not None and not all(map(pystac.utils.is_absolute_href, hrefs)):
        item.set_self_href(str(Path(base).absolute()))
    if item.get_self_href() is not None:
        item.make_asset_hrefs_absolute()
    return item

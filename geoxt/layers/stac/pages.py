"""All pages of a STAC API: loops, error pages and missing items raise; the total waiting time is bounded."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pystac

from geoxt.errors import CatalogWarning, ReadError
from geoxt.pixels.credentials import redact_url
from geoxt.pixels.remote import is_remote
from geoxt.retry import RetryPolicy

Page = Any
"""Content of a page: a dict, unless the server is at fault."""
TOTAL = 300.0
"""Seconds of all waits between retries of one search."""
EMPTY = 20
"""Maximum number of consecutive empty pages."""
ADVICE = "Check the URL in a browser. Or pass the URL of the API and narrower criteria."


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPolicy(RetryPolicy):
    """Retries of all requests of one search, whose waits are bounded together."""

    total: float = TOTAL
    """Seconds of all waits."""
    waits: list[float] = field(default_factory=list)
    """Waits so far."""

    def wait(self, attempt: int, retry_after: float | None = None) -> float | None:
        """Return the seconds to wait after a failed attempt, or `None` to give up."""
        seconds = RetryPolicy.wait(self, attempt, retry_after)
        if seconds is None or sum(self.waits) + seconds > self.total:
            return None
        self.waits.append(seconds)
        return seconds


def items_of_pages(
    page: Page, url: str, follow: Callable[[Mapping[str, Any], str], tuple[Page, str]]
) -> Iterator[pystac.Item]:
    """Yield the items of a page and of all pages after it, each once.

    Items of one id and collection that differ in footprint, dates or files are all yielded, with a warning.

    Parameters
    ----------
    page, url
        First page and its address.
    follow
        Function from a link to the next page, and the address of the page that holds it, to that page and its address.

    Raises
    ------
    ReadError
        If a page is not an ItemCollection, pages repeat, or fewer items came than the API states.
    """
    visited, contents, number_matched, empty_pages, count = set[str](), dict[Any, set[str]](), None, 0, 0
    while True:
        features = _features(page, url)
        number_matched = matched(page) if number_matched is None else number_matched
        new_features = [feature for feature in features if is_new(feature, contents, url)]
        count += len(new_features)
        if features and not new_features:
            problem = f"Cannot list the items of {redact_url(url)!r}: this page repeats items of pages before it."
            raise ReadError(problem, remedy=ADVICE)
        for feature in new_features:
            yield remote_item(feature, url)
        link = _next_link(page, url)
        if link is None:
            break
        empty_pages = 0 if features else empty_pages + 1
        step = json.dumps(link, sort_keys=True)
        if step in visited or empty_pages > EMPTY:
            reason = "its link was followed before" if step in visited else f"{empty_pages} pages before it are empty"
            raise ReadError(f"Cannot get the page after {redact_url(url)!r}: {reason}.", remedy=ADVICE)
        visited.add(step)
        page, url = follow(link, url)
    if number_matched is not None and count < number_matched:
        problem = f"Cannot list all items of {redact_url(url)!r}: the API states {number_matched} and returned {count}."
        remedy = f"Try again. If the API only estimates their number, pass {{limit:{count}}}."
        raise ReadError(problem, remedy=remedy, value=count, argument="limit")


def _features(page: Page, url: str) -> list[dict[str, Any]]:
    """Return the items of a page; raise if it states an error, or holds fewer items than it states."""
    features = page.get("features") if isinstance(page, Mapping) else None
    if not isinstance(features, list) or not all(isinstance(feature, dict) for feature in features):
        reason = f"it is not an ItemCollection: {redact_url(json.dumps(page)[:200])}"
    elif not features and {"code", "description"} <= page.keys():
        reason = f"the API states an error: {redact_url(str(page['description'])[:200])}"
    elif (returned := _count(page.get("numberReturned"))) is not None and len(features) < returned:
        reason = f"it states {returned} items and holds {len(features)}"
    else:
        return features
    raise ReadError(f"Cannot read items from {redact_url(url)!r}: {reason}.", remedy=ADVICE)


def _next_link(page: Mapping[str, Any], url: str) -> Mapping[str, Any] | None:
    links = page.get("links") or []
    if not isinstance(links, list) or not all(isinstance(link, Mapping) for link in links):
        problem = f"Cannot get the page after {redact_url(url)!r}: its links are not a list of objects."
        raise ReadError(problem, remedy=ADVICE)
    link = next((link for link in links if str(link.get("rel")).lower() == "next"), None)
    if link is not None and not isinstance(link.get("href"), str):
        raise ReadError(f"Cannot get the page after {redact_url(url)!r}: its link has no address.", remedy=ADVICE)
    return link


def is_new(feature: Mapping[str, Any], contents: dict[Any, set[str]], url: str) -> bool:
    """Return whether an item differs from earlier items, whose contents are in `contents`, and add it to them.

    Warns of another item of its id and collection that differs in footprint, dates or files.
    """
    key, content = _identity(feature), _content(feature)
    earlier = contents.setdefault(key, set())
    if content in earlier:
        return False
    if earlier:
        msg = (
            f"Items of {redact_url(url)!r} have the id {feature.get('id')!r} and differ in footprint, dates or files. "
        )
        warnings.warn(f"{msg}All of them are opened.", CatalogWarning, stacklevel=2)
    earlier.add(content)
    return True


def _content(feature: Mapping[str, Any]) -> str:
    """Return the footprint, dates and unsigned files of an item as text."""
    properties, assets = feature.get("properties"), feature.get("assets")
    dates = {k: v for k, v in properties.items() if "datetime" in k} if isinstance(properties, Mapping) else properties
    files = assets
    if isinstance(assets, Mapping):
        files = {k: str(a.get("href")).partition("?")[0] if isinstance(a, Mapping) else a for k, a in assets.items()}
    return json.dumps([feature.get("geometry"), dates, files], sort_keys=True)


def _identity(feature: Mapping[str, Any]) -> Any:
    collection, id_ = feature.get("collection"), feature.get("id")
    if isinstance(collection, str) and isinstance(id_, str):
        return collection, id_
    return json.dumps(feature, sort_keys=True)


def matched(page: Page) -> int | None:
    """Return the number of matching items that a page states, by OGC API Features or the former context extension."""
    if not isinstance(page, Mapping):
        return None
    context = page.get("context")
    values = page.get("numberMatched"), context.get("matched") if isinstance(context, Mapping) else None
    return next((count for value in values if (count := _count(value)) is not None), None)


def _count(value: object) -> int | None:
    """Return a stated number of items, also of a text or float, or `None`."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


class _Owned(dict[str, Any]):
    """A dict that copies as itself: pystac would copy each item deeply, which takes most of the time to parse it."""

    def __deepcopy__(self, _: dict[int, Any]) -> _Owned:
        return self


def from_owned(feature: Mapping[str, Any]) -> pystac.Item:
    """Return the item of a dict, whose content is modified and becomes part of the item."""
    return pystac.Item.from_dict(_Owned(feature), preserve_dict=False)


def remote_item(feature: Mapping[str, Any], url: str) -> pystac.Item:
    """Return an item read from `url`, without a local self link, so that its href is always remote."""
    links = [link for link in feature.get("links") or () if isinstance(link, Mapping)]
    remote = [link for link in links if link.get("rel") != "self" or is_remote(str(link.get("href")))]
    item = parse_item({**feature, "links": [dict(link) for link in remote]}, url)
    if item.get_self_href() is None:
        item.set_self_href(url)
    return item


def parse_item(feature: object, address: str | None = None) -> pystac.Item:
    """Return the item of a JSON object, without assets that have no href, as `from_owned`.

    Raises
    ------
    ReadError
        If it is not a STAC item; the message names `address`, the file or page that it is from.
    """
    fields: dict[str, Any] = dict(feature) if isinstance(feature, Mapping) else {}
    source = "" if address is None else f" from {redact_url(address)!r}"
    try:
        if fields.get("assets"):
            fields["assets"] = {key: a for key, a in fields["assets"].items() if isinstance(a.get("href"), str)}
        item = from_owned(fields)
        if isinstance(item.id, str):
            return item
        reason = "it has no id"
    except Exception as error:  # noqa: BLE001 (pystac raises many classes for malformed items)
        reason = redact_url(f"{type(error).__name__}: {str(error).rstrip('.')}")
    problem = f"Cannot read item {fields.get('id')!r}{source}: {reason}."
    raise ReadError(problem, remedy=ADVICE if address and is_remote(address) else "Pass STAC items.") from None

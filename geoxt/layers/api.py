"""Search of a STAC API, page by page (https://github.com/radiantearth/stac-api-spec), by pystac-client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pystac

from geoxt.errors import InputError, MissingDependency, ReadError
from geoxt.pixels.access import plain

PAGE = 250
"""Items asked for at once."""


def is_api(content: Mapping[str, Any]) -> bool:
    """Tell whether the first page of a catalog is that of an API that can search."""
    conforms = any(str(one).rstrip("/").endswith("item-search") for one in content.get("conformsTo") or ())
    return conforms or any(link.get("rel") == "search" for link in content.get("links") or ())


def search(source: Any, *, seconds: float, **criteria: Any) -> list[pystac.Item]:
    """Return the items that an API finds, all pages of them.

    Parameters
    ----------
    source
        URL of the API, or a client of it.
    seconds
        Longest wait for an answer; an answer that says "later" is asked for again, five times.
    **criteria
        Of the search, as pystac-client has them; `max_items` is the most items.

    Raises
    ------
    MissingDependency
        Where pystac-client is not installed.
    ReadError
        Where the API cannot be reached, or refuses.
    """
    try:
        import pystac_client
        from pystac_client.exceptions import APIError
    except ImportError as error:
        msg = "Cannot search a STAC API: it takes pystac-client. Install it with pip install 'geoxt[stac]'."
        raise MissingDependency(msg) from error
    most = criteria.get("max_items")
    if most is not None and most < 1:
        msg = f"Cannot take limit={most} items. Pass limit= above zero, or leave it out for all."
        raise InputError(msg)
    given = {key: value for key, value in criteria.items() if value is not None}
    where = plain(source) if isinstance(source, str) else plain(str(source.self_href))
    try:
        client = pystac_client.Client.open(source, timeout=seconds) if isinstance(source, str) else source
        return list(client.search(**given, limit=PAGE if most is None else min(most, PAGE)).items())
    except (APIError, NotImplementedError, OSError) as error:  # those of requests are of the last kind
        msg = f"Cannot search {where}: {plain(str(error))}. Check the URL, and what the API can filter by."
        raise ReadError(msg) from None

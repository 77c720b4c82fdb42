"""Search of a STAC API, page by page (https://github.com/radiantearth/stac-api-spec), by pystac-client."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

import pystac

from geoxt import retry
from geoxt.errors import InputError, MissingDependency, ReadError
from geoxt.pixels.credentials import redact_url
from geoxt.retry import DEFAULT, TRANSIENT_STATUS

PAGE = 250
"""Items asked for at once."""
RETRIES = 5
"""How often a request is repeated that is answered by "later", or not at all."""


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
        from pystac_client import stac_api_io
        from pystac_client.exceptions import APIError
    except ImportError as error:
        msg = "Cannot search a STAC API: it takes pystac-client. Install it with pip install 'geoxt[stac]'."
        raise MissingDependency(msg) from error
    most = criteria.get("max_items")
    if most is not None and most < 1:
        msg = f"Cannot take limit={most} items. Pass limit= above zero, or leave it out for all."
        raise InputError(msg)
    given = {key: value for key, value in criteria.items() if value is not None}
    where = redact_url(source) if isinstance(source, str) else redact_url(str(source.self_href))
    try:
        if isinstance(source, str):  # by itself it repeats no search, which is a POST
            later: dict[str, Any] = {"status_forcelist": sorted(TRANSIENT_STATUS), "allowed_methods": None}
            patience = stac_api_io.Retry(RETRIES, connect=1, backoff_factor=DEFAULT.delay, **later)  # type: ignore[attr-defined]  # urllib3's
            io = stac_api_io.StacApiIO(max_retries=patience)
            source = pystac_client.Client.open(source, stac_io=io, timeout=seconds)
        client = source
        if "filter" in given and not client.conforms_to("FILTER"):
            msg = f"Cannot filter by query={given['filter']!r} at {where}: the API cannot. Leave query= out."
            raise InputError(msg)
        if isinstance(given.get("filter"), str):  # as text it goes into the URL: few APIs take it in a body
            given |= {"method": "GET", "filter_lang": "cql2-text"}
        found = client.search(**given, limit=PAGE if most is None else min(most, PAGE))
        for tries in count(1):
            try:
                return list(found.items())
            except APIError as error:
                if tries > RETRIES or "Connection broken" not in str(error):  # an answer that was cut short
                    raise
            retry.sleep(DEFAULT.delay * 2 ** (tries - 1))
    except (APIError, NotImplementedError, OSError) as error:  # those of requests are of the last kind
        msg = f"Cannot search {where}: {redact_url(str(error))}. Check the URL, and what the API can filter by."
        raise ReadError(msg) from None
    raise AssertionError

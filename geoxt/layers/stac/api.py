"""Search of a STAC API, page by page (https://github.com/radiantearth/stac-api-spec), by pystac-client."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

import pystac

from geoxt import retry
from geoxt.errors import InputError, ReadError, optional_import
from geoxt.pixels.credentials import redact_url
from geoxt.retry import DEFAULT, TRANSIENT_STATUS

PAGE = 250
"""Items per request."""
RETRIES = 5
"""Retries of a request after a transient status or a dropped connection."""


def is_api(content: Mapping[str, Any]) -> bool:
    """Return whether the landing page of a catalog is that of a STAC API with item search."""
    conforms = any(str(uri).rstrip("/").endswith("item-search") for uri in content.get("conformsTo") or ())
    return conforms or any(link.get("rel") == "search" for link in content.get("links") or ())


def search(source: Any, *, timeout: float, **criteria: Any) -> list[pystac.Item]:
    """Return the items of all pages of a search.

    Parameters
    ----------
    source
        URL of the API, or a pystac-client Client.
    timeout
        Seconds to wait for a response.
    **criteria
        Arguments of `pystac_client.Client.search`; `None` is left out.

    Raises
    ------
    InputError
        If `max_items` is below one, or the API cannot filter by CQL2.
    MissingDependency
        If pystac-client is not installed.
    ReadError
        If the API cannot be reached, or rejects the search.
    """
    with optional_import("pystac-client", "stac", "search a STAC API"):
        import pystac_client
        from pystac_client import stac_api_io
        from pystac_client.exceptions import APIError
    limit = criteria.get("max_items")
    if limit is not None and limit < 1:
        problem = f"Cannot take {limit} items."
        raise InputError(
            problem, remedy="Pass {limit} above zero, or leave it out for all.", value=limit, argument="limit"
        )
    criteria = {key: value for key, value in criteria.items() if value is not None}
    address = redact_url(source) if isinstance(source, str) else redact_url(str(source.self_href))
    try:
        if isinstance(source, str):
            # pystac-client retries no POST by default, and a search is one
            options: dict[str, Any] = {"status_forcelist": sorted(TRANSIENT_STATUS), "allowed_methods": None}
            policy = stac_api_io.Retry(RETRIES, connect=1, backoff_factor=DEFAULT.delay, **options)  # type: ignore[attr-defined]  # urllib3's
            io = stac_api_io.StacApiIO(max_retries=policy)
            source = pystac_client.Client.open(source, stac_io=io, timeout=timeout)
        client = source
        if "filter" in criteria and not client.conforms_to("FILTER"):
            problem = f"Cannot filter by {criteria['filter']!r} at {address}: the API has no filter extension."
            raise InputError(problem, remedy="Leave {query} out.", argument="query")
        if isinstance(criteria.get("filter"), str):  # few APIs take CQL2 text in a request body
            criteria |= {"method": "GET", "filter_lang": "cql2-text"}
        results = client.search(**criteria, limit=PAGE if limit is None else min(limit, PAGE))
        for attempt in count(1):
            try:
                return list(results.items())
            except APIError as error:
                if attempt > RETRIES or "Connection broken" not in str(error):  # a truncated response
                    raise
            retry.sleep(DEFAULT.delay * 2 ** (attempt - 1))
    except (APIError, NotImplementedError, OSError) as error:  # exceptions of requests are OSErrors
        problem = f"Cannot search {address}: {redact_url(str(error))}."
        raise ReadError(problem, remedy="Check the URL, and by which fields the API can filter.") from None
    raise AssertionError

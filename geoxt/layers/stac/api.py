"""Search of a STAC API, page by page (https://github.com/radiantearth/stac-api-spec), by pystac-client."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from copy import copy
from email.message import Message
from itertools import islice
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import urljoin

import pystac

from geoxt import retry
from geoxt.errors import GeoxtError, InputError, ReadError, optional_import
from geoxt.layers.stac.pages import SearchPolicy, items_of_pages
from geoxt.pixels.credentials import redact_url
from geoxt.retry import DEFAULT, TRANSIENT_STATUS

PAGE = 250
"""Items per request."""
RETRIES = 5
"""Retries of a request after a transient status or a dropped connection."""
DROPPED = ("Connection broken", "Connection aborted")
"""Texts of errors of dropped connections, as requests has them."""
T = TypeVar("T")


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
        Seconds to wait for a response; a request without a response is not retried. All waits between retries of a
        search take at most `pages.TOTAL` seconds.
    **criteria
        Arguments of `pystac_client.Client.search`; `None` is left out.

    Raises
    ------
    InputError
        If `max_items` is below one, or the API cannot filter by CQL2.
    MissingDependency
        If pystac-client is not installed.
    ReadError
        If the API cannot be reached, rejects the search, asks to wait for more than a minute, repeats pages, or
        returns fewer items than it states.
    """
    with optional_import("pystac-client", "stac", "search a STAC API"):
        import pystac_client
        from pystac_client import stac_api_io
        from pystac_client.exceptions import APIError
    limit = _check_limit(criteria.get("max_items"))
    criteria = {key: value for key, value in criteria.items() if value is not None}
    address = redact_url(source) if isinstance(source, str) else redact_url(str(source.self_href))
    policy = SearchPolicy(retries=RETRIES, delay=DEFAULT.delay)
    try:
        if isinstance(source, str):
            io = _with_timeout(stac_api_io.StacApiIO(max_retries=None), timeout)
            client = _send(lambda: _open_client(pystac_client.Client, source, io, timeout), policy)
        else:
            client, io = source, _with_timeout(source._stac_io, timeout)  # noqa: SLF001 (the connection is not public)
        if "filter" in criteria and not client.conforms_to("FILTER"):
            problem = f"Cannot filter by {criteria['filter']!r} at {address}: the API has no filter extension."
            raise InputError(problem, remedy="Leave {query} out.", argument="query")
        if isinstance(criteria.get("filter"), str):  # few APIs take CQL2 text in a request body
            criteria |= {"method": "GET", "filter_lang": "cql2-text"}
        results = client.search(**criteria, limit=PAGE if limit is None else min(limit, PAGE))
        parameters = results.get_parameters()

        def read(source: Any, url: str, **options: Any) -> tuple[Any, str]:
            page = _send(lambda: _json(io, source, url, parameters=parameters, **options), policy)
            if results.modifier is not None:
                results.modifier(page)
            return page, url

        def follow(link: Mapping[str, Any], url: str) -> tuple[Any, str]:
            href = urljoin(url, str(link.get("href")))
            return read(pystac.Link.from_dict({**link, "href": href}), href)

        items = items_of_pages(*read(results.url, results.url, method=results.method), follow)
        return list(islice(items, limit))
    except GeoxtError:
        raise
    except (APIError, NotImplementedError, OSError, ValueError, pystac.STACError, pystac.STACTypeError) as error:
        status = getattr(error, "status_code", None)  # of pystac-client's APIError
        problem = f"Cannot search {address}: {redact_url(str(error)).rstrip('.')}"
        problem += "." if status is None else f" (HTTP {status})."
        pause = retry.retry_after(error)
        if pause is not None:
            problem += f" The server asks to wait {pause:.0f} s."
        raise ReadError(problem, remedy="Check the URL, and by which fields the API can filter.") from None


def _check_limit(limit: int | None) -> int | None:
    if limit is not None and limit < 1:
        problem = f"Cannot take {limit} items."
        raise InputError(
            problem, remedy="Pass {limit} above zero, or leave it out for all.", value=limit, argument="limit"
        )
    return limit


def _open_client(client: Any, address: str, io: Any, timeout: float) -> Any:
    """Return the client of an API; raise if its landing page is not valid STAC."""
    try:
        return client.open(address, stac_io=io, timeout=timeout)
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        problem = f"Cannot read STAC from {redact_url(address)!r}: its landing page is malformed ({error})."
        raise ReadError(problem, remedy="Pass the URL of a STAC API or of a catalog.") from None


def _json(io: Any, source: Any, url: str, **options: Any) -> Any:
    try:
        return io.read_json(source, **options)
    except (ValueError, RecursionError) as error:
        problem = f"Cannot read STAC from {redact_url(url)!r}: {redact_url(str(error))}."
        raise ReadError(problem, remedy="Pass the URL of a STAC API or of a catalog.") from None


def _send(call: Callable[[], T], policy: SearchPolicy) -> T:
    """Return the result of a request, repeated after transient errors."""

    def unwrapped() -> T:
        try:
            return call()
        except Exception as error:
            if isinstance(error.__context__, HTTPError):  # pystac-client keeps only the text
                raise error.__context__ from None
            raise

    def transient(error: BaseException) -> bool:
        return retry.is_transient(error) if isinstance(error, HTTPError) else any(x in str(error) for x in DROPPED)

    return retry.retry(unwrapped, policy=policy, transient=transient)


def _with_timeout(io: Any, timeout: float) -> Any:
    """Return a copy of a client's connection with a timeout, and without retries, which are those of `_send`.

    A session that is not of the class of requests is used unchanged.
    """
    from pystac_client import stac_api_io

    Session, HTTPAdapter = stac_api_io.Session, stac_api_io.HTTPAdapter  # type: ignore[attr-defined]  # noqa: N806 (of requests)
    if type(getattr(io, "session", None)) is not Session:
        return io
    connection = copy(io)
    connection.session = session = copy(io.session)
    connection.timeout = timeout if io.timeout is None else io.timeout
    session.hooks = {event: list(hooks) for event, hooks in session.hooks.items()}
    session.hooks.setdefault("response", []).append(_raise_transient)
    session.adapters = OrderedDict(
        (prefix, HTTPAdapter() if type(adapter) is HTTPAdapter else adapter)
        for prefix, adapter in session.adapters.items()
    )
    return connection


def _raise_transient(response: Any, **_: Any) -> None:
    """Raise transient HTTP errors with their headers, which pystac-client's exception lacks."""
    if response.status_code in TRANSIENT_STATUS:
        headers = Message()
        if "Retry-After" in response.headers:
            headers["Retry-After"] = response.headers["Retry-After"]
        raise HTTPError(response.url, response.status_code, str(response.reason), headers, None)

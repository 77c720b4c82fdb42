"""Range requests without GDAL, which reports neither headers nor status codes nor the range of a response.

They send the headers, user name and proxy of GDAL's options. Redirects to other addresses do not receive them.
"""

from __future__ import annotations

import base64
import csv
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar
from urllib.error import HTTPError
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

from geoxt.pixels.credentials import Credentials
from geoxt.pixels.object_requests import object_request

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeResponse:
    """Response to a range request."""

    status: int
    """HTTP status code below 400."""
    headers: Mapping[str, str]
    """Headers, by names of any case."""
    body: bytes
    """At most the requested number of bytes."""


def request_range(
    address: str, credentials: Credentials, first: int, last: int, *, condition: str = ""
) -> RangeResponse:
    """Return the response to a request for a range of bytes.

    Parameters
    ----------
    address
        Signed HTTP or HTTPS URL, or address of an object (s3, gs, az).
    credentials
        Its GDAL options hold headers, user name, proxy and timeout.
    first, last
        First and last byte.
    condition
        HTTP header with a condition; see `remote_version`.

    Raises
    ------
    OSError
        If the server cannot be reached; as a closed HTTPError if it responds with an error.
    ValueError
        If the address has another scheme, or the options do not state how to sign its requests.
    """
    url, signature = object_request(address, credentials) or (address, {})
    if not url.startswith(("http://", "https://")):
        msg = "the address has no HTTP URL"
        raise ValueError(msg)
    request = Request(url)  # noqa: S310 (http alone)
    for name, value in signature.items():
        request.add_unredirected_header(name.capitalize(), value)
    for header in (*_headers(credentials), *([condition] if condition else [])):
        name, _, value = header.partition(":")
        request.add_unredirected_header(name.strip().capitalize(), value.strip())
    request.add_header("Range", f"bytes={first}-{last}")
    timeout = float(credentials.setting("GDAL_HTTP_CONNECTTIMEOUT") or 10)

    def respond() -> RangeResponse:
        try:
            with _opener(credentials).open(request, timeout=timeout) as response:
                body = response.read(last - first + 1)
                return RangeResponse(status=response.status, headers=response.headers, body=body)
        except HTTPError as refusal:
            refusal.close()
            raise

    return _within(2 * timeout, respond)


def _within(seconds: float, call: Callable[[], T]) -> T:
    """Return the result of a call in another thread, or raise TimeoutError: `urllib` bounds single waits only."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 (raised in the caller's thread)
            future.set_exception(error)

    threading.Thread(target=run, name="geoxt-range-request", daemon=True).start()
    return future.result(seconds)


def _headers(credentials: Credentials) -> list[str]:
    """Return the headers of GDAL's options, each as "Name: value"."""
    text = credentials.setting("GDAL_HTTP_HEADERS") or ""
    headers = next(csv.reader([text], escapechar="\\", skipinitialspace=True), []) if text else []
    user, bearer = credentials.setting("GDAL_HTTP_USERPWD"), credentials.setting("GDAL_HTTP_BEARER")
    if user:
        headers.append(f"Authorization: Basic {base64.b64encode(user.encode()).decode()}")
    elif bearer:
        headers.append(f"Authorization: Bearer {bearer}")
    agent = credentials.setting("GDAL_HTTP_USERAGENT")
    if agent:
        headers.append(f"User-Agent: {agent}")
    return [header for header in headers if ":" in header]


def _opener(credentials: Credentials) -> OpenerDirector:
    proxy = credentials.setting("GDAL_HTTP_PROXY")
    if not proxy:
        return build_opener()
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    return build_opener(ProxyHandler({"http": proxy, "https": credentials.setting("GDAL_HTTPS_PROXY") or proxy}))

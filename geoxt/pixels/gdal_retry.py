"""Retry reads of remote files that GDAL failed, under the policy of `geoxt.retry`.

GDAL can repeat refused requests itself, but ignores `Retry-After`, accepts a truncated body, and caches that a file
could not be opened. So its own retries are switched off (`GDAL_HTTP_MAX_RETRY=0`), and each attempt here opens the file
anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import TypeVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from rasterio.errors import RasterioError

from geoxt import retry
from geoxt.errors import GeoxtError, ReadError
from geoxt.pixels.credentials import Credentials, redact_url
from geoxt.retry import DEFAULT, TRANSIENT_STATUS, RetryPolicy

T = TypeVar("T")
FORBIDDEN = 403
"""Also the status of an expired signature, so that a signed file is tried once more with a new one."""
_STATUS = re.compile(r"HTTP response code(?: on \S+)?: (\d{3})")  # as /vsicurl/ of GDAL 3.x words its errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """HTTP status and `Retry-After` of a server that refused a request."""

    status: int
    """HTTP status code."""
    retry_after: float | None
    """Seconds that the server asks to wait."""

    def __str__(self) -> str:
        wait = "" if self.retry_after is None else f" with Retry-After: {self.retry_after:g} s"
        return f"HTTP {self.status}{wait}"


def retry_read(
    call: Callable[[], T], reset: Callable[[], None], href: str, credentials: Credentials, problem: str
) -> T:
    """Return the result of a GDAL read, repeated after transient errors.

    Parameters
    ----------
    call
        Opens or reads the file; raises rasterio's errors.
    reset
        Closes the handles that the failed attempt left open.
    href
        Unsigned address of the file.
    credentials
        How the file is opened. Its `GDAL_HTTP_MAX_RETRY` and `GDAL_HTTP_RETRY_DELAY` override the default policy.
    problem
        Start of the error message: "Cannot read …".

    Raises
    ------
    ReadError
        If the error is final or all retries failed.
    """
    policy = _policy(credentials)
    for attempt in count(1):
        try:
            return call()
        except GeoxtError:
            raise
        except (RasterioError, OSError, ValueError) as error:
            text = _error_text(error)
        reset()
        refusal = _ask_server(href, credentials, text)
        final = _is_final(text, refusal, credentials, attempt)
        wait = None if final else policy.wait(attempt, refusal.retry_after if refusal else None)
        if wait is None:
            raise _error(problem, text, refusal, attempt, final=final)
        retry.sleep(wait)
    raise AssertionError


def _error(problem: str, text: str, refusal: Refusal | None, attempts: int, *, final: bool) -> ReadError:
    reason = redact_url(text)
    if refusal is not None:
        reason = str(refusal) if _STATUS.search(text) else f"{reason} ({refusal})"
    times = "once" if attempts == 1 else f"{attempts} times"
    remedy = (
        "Check the address and its access rights. They are set by {sign} and {env}."
        if final
        else "Try again later. Or pass {env} with a larger GDAL_HTTP_MAX_RETRY or GDAL_HTTP_TIMEOUT."
    )
    return ReadError(f"{problem}: tried {times}, last error: {reason.rstrip('.')}.", remedy=remedy)


def _policy(credentials: Credentials) -> RetryPolicy:
    retries, delay = credentials.setting("GDAL_HTTP_MAX_RETRY"), credentials.setting("GDAL_HTTP_RETRY_DELAY")
    return RetryPolicy(
        retries=DEFAULT.retries if retries is None else int(retries),
        delay=DEFAULT.delay if delay is None else float(delay),
    )


def _error_text(error: BaseException | None) -> str:
    """Return the messages of an error and its causes; rasterio's error often only refers to a "previous exception"."""
    messages: list[str] = []
    while error is not None and len(messages) < 5:
        if str(error) not in messages and "previous exception" not in str(error):
            messages.append(str(error))
        error = error.__cause__ or error.__context__
    return "; ".join(messages)


def _is_final(text: str, refusal: Refusal | None, credentials: Credentials, attempt: int) -> bool:
    """Return whether a retry cannot help."""
    match = _STATUS.search(text)
    status = int(match[1]) if match else refusal.status if refusal else 0
    if status == FORBIDDEN:
        return credentials.sign is None or attempt > 1
    return 400 <= status < 500 and status not in TRANSIENT_STATUS


def _ask_server(href: str, credentials: Credentials, text: str) -> Refusal | None:
    """Request one byte for the HTTP status and `Retry-After`, which GDAL's error lacks."""
    match = _STATUS.search(text)
    status = int(match[1]) if match else None
    unexplained = None if status is None else Refusal(status=status, retry_after=None)
    final = status is not None and status not in TRANSIENT_STATUS
    if final or "timed out" in text or not href.startswith(("http://", "https://")):
        return unexplained
    timeout = float(credentials.setting("GDAL_HTTP_CONNECTTIMEOUT") or 10)
    try:
        request = Request(credentials.address(href), headers={"Range": "bytes=0-0"})  # noqa: S310 (http alone)
        with urlopen(request, timeout=timeout):  # noqa: S310
            return unexplained
    except HTTPError as error:
        with error:
            if error.code in TRANSIENT_STATUS:
                return Refusal(status=error.code, retry_after=retry.retry_after(error))
    except (OSError, ValueError):
        pass
    return unexplained

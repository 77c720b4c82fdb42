"""Retry policy of all HTTP requests: transient errors, exponential backoff and limits."""

from __future__ import annotations

import math
import random
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from itertools import count
from typing import TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

T = TypeVar("T")
TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP status codes of temporary failures: timeout, too early, too many requests, server and gateway errors."""
TRANSIENT_ERRORS = (ConnectionError, TimeoutError, HTTPException, ssl.SSLError, socket.gaierror)
"""Exceptions of temporary failures: reset or closed connections, timeouts, truncated bodies, name resolution."""
sleep = time.sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff with jitter, a bounded number of times, that respects `Retry-After`."""

    retries: int = 3
    """Requests after the first."""
    delay: float = 0.5
    """Seconds before the first retry; each later one waits twice as long."""
    jitter: float = 0.25
    """Fraction by which delays vary at random, so that clients which failed together do not return together."""
    max_wait: float = 60.0
    """Maximum wait in seconds; if a server asks for a longer wait, the request is not retried."""

    def wait(self, attempt: int, retry_after: float | None = None) -> float | None:
        """Return the seconds to wait after a failed attempt, or `None` to give up.

        Parameters
        ----------
        attempt
            Number of the failed attempt; the first is 1.
        retry_after
            Seconds that the server asked to wait.

        Examples
        --------
        >>> RetryPolicy(jitter=0).wait(3), RetryPolicy().wait(4), RetryPolicy().wait(1, retry_after=7.0)
        (2.0, None, 7.0)
        """
        if attempt > self.retries or (retry_after or 0.0) > self.max_wait:
            return None
        factor = random.uniform(1 - self.jitter, 1 + self.jitter)  # noqa: S311 (no secret)
        backoff = factor * self.delay * 2 ** (attempt - 1)
        return min(max(backoff, retry_after or 0.0), self.max_wait)


DEFAULT = RetryPolicy()
"""The policy of every request, unless `GDAL_HTTP_MAX_RETRY` or `GDAL_HTTP_RETRY_DELAY` is set for GDAL's reads."""


def is_transient(error: BaseException) -> bool:
    """Return whether an error of `urllib` or `http.client` is temporary, so that the same request may succeed later.

    Examples
    --------
    >>> is_transient(ConnectionResetError()), is_transient(FileNotFoundError())
    (True, False)
    """
    if isinstance(error, HTTPError):
        return error.code in TRANSIENT_STATUS
    if isinstance(error, URLError) and isinstance(error.reason, BaseException):
        return is_transient(error.reason)
    return isinstance(error, TRANSIENT_ERRORS) and not isinstance(error, ssl.SSLCertVerificationError)


def retry_after(error: BaseException) -> float | None:
    """Return the waiting time in seconds that the `Retry-After` header of an HTTP error states, or `None`."""
    return parse_retry_after(error.headers.get("Retry-After")) if isinstance(error, HTTPError) else None


def parse_retry_after(value: str | None) -> float | None:
    """Return a `Retry-After` header in seconds: a number or a date (RFC 9110, section 10.2.3).

    Examples
    --------
    >>> parse_retry_after("120"), parse_retry_after("soon")
    (120.0, None)
    """
    if not value:
        return None
    with suppress(ValueError):
        seconds = float(value)
        return None if math.isnan(seconds) else max(seconds, 0.0)
    try:
        return max((parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds(), 0.0)
    except (TypeError, ValueError):
        return None


def retry(
    call: Callable[[], T],
    *,
    policy: RetryPolicy = DEFAULT,
    transient: Callable[[BaseException], bool] = is_transient,
) -> T:
    """Return the result of a call, repeated after transient errors.

    Parameters
    ----------
    call
        Makes one request.
    policy
        Number of retries and waiting times.
    transient
        Whether an error is worth a retry; the default knows the errors of `urllib` and `http.client`.

    Raises
    ------
    Exception
        The error of the last attempt, or the first that is not transient.
    """
    for attempt in count(1):
        try:
            return call()
        except Exception as error:
            wait = policy.wait(attempt, retry_after(error)) if transient(error) else None
            if wait is None:
                raise
        sleep(wait)
    raise AssertionError


def fetch(
    url: str, *, timeout: float, headers: Mapping[str, str] | None = None, policy: RetryPolicy = DEFAULT
) -> bytes:
    """Return the body of an HTTP response, for catalogs and other small files.

    Parameters
    ----------
    url
        HTTP or HTTPS URL.
    timeout
        Seconds to wait for a response.
    headers
        Headers of the request.
    policy
        Retries of the request. There is no retry if the server cannot be reached, or does not respond in time: the
        caller waited for `timeout` already.

    Raises
    ------
    OSError
        The error of the last attempt.
    """

    def get() -> bytes:
        with urlopen(Request(url, headers=dict(headers or {})), timeout=timeout) as response:  # noqa: S310 (http alone)
            return bytes(response.read())

    def transient(error: BaseException) -> bool:
        unreachable = isinstance(error, URLError | TimeoutError) and not isinstance(error, HTTPError)
        return is_transient(error) and not unreachable

    try:
        return retry(get, policy=policy, transient=transient)
    except HTTPException as error:  # such as IncompleteRead, which is not an OSError
        msg = f"{type(error).__name__}: {error}"
        raise OSError(msg) from None


__all__ = [
    "DEFAULT",
    "TRANSIENT_ERRORS",
    "TRANSIENT_STATUS",
    "RetryPolicy",
    "fetch",
    "is_transient",
    "parse_retry_after",
    "retry",
    "retry_after",
]

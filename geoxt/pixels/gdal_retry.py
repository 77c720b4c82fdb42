"""Retry reads of remote files that GDAL failed, under the policy of `geoxt.retry`.

GDAL can repeat failed requests, but ignores `Retry-After`, accepts a truncated body, and caches that a file could not
be opened. So its retries are switched off (`GDAL_HTTP_MAX_RETRY=0`), and each attempt here opens the file again.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import TypeVar
from urllib.error import HTTPError

from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from geoxt import retry
from geoxt.errors import GeoxtError, ReadError
from geoxt.pixels import remote
from geoxt.pixels.credentials import Credentials, redact_url
from geoxt.pixels.range_requests import request_range
from geoxt.pixels.remote_version import PRECONDITION_FAILED
from geoxt.retry import DEFAULT, TRANSIENT_STATUS, RetryPolicy

T = TypeVar("T")
FORBIDDEN = 403
"""Also the status of an expired signature, so that a signed file is tried once more with a new one."""
GDAL_ERRORS = (RasterioError, CPLE_BaseError, OSError, ValueError)
"""Errors that opening and reading raise; some functions of rasterio let `CPLE_BaseError` pass."""
CHANGES = 2
"""Maximum number of times that a file is opened again because it was replaced on the server."""
_RANGE_STATUS = re.compile(r"failed with response_code=([45]\d\d)")
"""Status in the log of a failed range request of /vsicurl/, GDAL 3.x."""
_NO_CREDENTIALS = re.compile(
    r"options not defined|InvalidCredentials|Unable to locate credentials|Missing AZURE_STORAGE"
    r"|JSON parsing error"  # the machine has no metadata service, and another server responded
)
"""Messages of /vsis3/, /vsigs/, /vsiaz/ and boto3 without credentials."""
_thread = threading.local()
clock = time.monotonic
_STATUS = re.compile(r"HTTP response code(?: on \S+)?: (\d{3})")  # as /vsicurl/ of GDAL 3.x words its errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Cause of a failed attempt, from the error, GDAL's log and a test request."""

    status: int = 0
    """HTTP status code; 0 if unknown."""
    retry_after: float | None = None
    """Seconds that the server asks to wait."""
    headers: Mapping[str, str] | None = None
    """Present HTTP headers of a file that was replaced on the server."""
    fault: str = ""
    """Description of a fault that no retry fixes."""
    remedy: str = ""
    """Remedy of the fault."""

    def __str__(self) -> str:
        if self.fault:
            return self.fault
        wait = "" if self.retry_after is None else f" with Retry-After: {self.retry_after:g} s"
        return f"HTTP {self.status}{wait}"


class FileChangedError(OSError):
    """The file was replaced on the server during a read."""


@contextmanager
def note_status() -> Iterator[None]:
    """Add the HTTP status of failed range requests, which GDAL only logs, to the error of this thread."""
    _thread.status = None
    try:
        yield
    except Exception as error:
        if _thread.status is not None and not isinstance(error, GeoxtError):
            error.add_note(f"HTTP response code: {_thread.status}")
        raise


def _note_record(record: logging.LogRecord) -> bool:
    match = _RANGE_STATUS.search(record.getMessage())
    if match:
        _thread.status = int(match[1])
    return True


logging.getLogger("rasterio._err").addFilter(_note_record)


def retry_read(
    call: Callable[[], T],
    reset: Callable[[Mapping[str, str] | None], None],
    href: str,
    credentials: Credentials,
    problem: str,
    condition: Callable[[], str] = str,
) -> T:
    """Return the result of a GDAL read, repeated after transient errors.

    Parameters
    ----------
    call
        Opens or reads the file; raises rasterio's errors.
    reset
        Closes the handles that the failed attempt left open. Its argument is `None`, or the HTTP headers of a file that
        was replaced on the server.
    href
        Unsigned address of the file.
    credentials
        How the file is opened. Its `GDAL_HTTP_MAX_RETRY` and `GDAL_HTTP_RETRY_DELAY` override the default policy.
    problem
        Start of the error message: "Cannot read …".
    condition
        Returns the HTTP header that the last attempt sent; see `remote_version`.

    Raises
    ------
    ReadError
        If the error is final or all retries failed.
    """
    policy = _policy(credentials)
    start, changes = clock(), 0
    for attempt in count(1):
        begin = clock()
        try:
            return call()
        except (GeoxtError, Warning):
            raise
        except Exception as error:  # noqa: BLE001 (GDAL's errors have many classes)
            text, seconds = _error_text(error), clock() - begin
            slow = seconds >= _low_speed_time(credentials)
            reason = _reason(error, text, href, credentials, condition(), slow=slow)
        reset(reason.headers)
        if reason.headers is not None and changes < CHANGES:
            changes += 1
            continue
        final = bool(reason.fault) or _is_final(reason.status, credentials, attempt)
        late = clock() - start > _longest(credentials, slow=slow)
        wait = None if final or late else policy.wait(attempt - changes, reason.retry_after)
        if wait is None:
            raise _error(problem, text, reason, attempt, final=final, slow=slow * seconds)
        retry.sleep(wait)
    raise AssertionError


def _error(problem: str, text: str, reason: Reason, attempts: int, *, final: bool, slow: float) -> ReadError:
    message = redact_url(text)
    if reason.fault or reason.status:
        message = str(reason) if reason.fault or _STATUS.search(text) else f"{message} ({reason})"
    message = f"{message.rstrip('.')} after {slow:.0f} s" if slow else message
    times = "once" if attempts == 1 else f"{attempts} times"
    remedy = (
        "Check the address and its access rights. They are set by {sign} and {env}."
        if final
        else "Try again later. Or pass {env} with a larger GDAL_HTTP_MAX_RETRY or GDAL_HTTP_TIMEOUT."
    )
    problem = f"{problem}: tried {times}, last error: {message.rstrip('.')}."
    return ReadError(problem, remedy=reason.remedy or remedy)


def _longest(credentials: Credentials, *, slow: bool) -> float:
    """Return the time in seconds after which no attempt starts; each may last as long as the timeouts of GDAL."""
    longest = 1.5 * float(credentials.setting("GDAL_HTTP_TIMEOUT") or remote.SETTINGS["GDAL_HTTP_TIMEOUT"])
    return min(longest, 2 * _low_speed_time(credentials)) if slow else longest


def _low_speed_time(credentials: Credentials) -> float:
    """Return the seconds after which GDAL ends a request of too few bytes a second; an attempt makes up to three."""
    text = credentials.setting("GDAL_HTTP_LOW_SPEED_TIME") or remote.SETTINGS["GDAL_HTTP_LOW_SPEED_TIME"]
    return float(text)


def _policy(credentials: Credentials) -> RetryPolicy:
    retries, delay = credentials.setting("GDAL_HTTP_MAX_RETRY"), credentials.setting("GDAL_HTTP_RETRY_DELAY")
    return RetryPolicy(
        retries=DEFAULT.retries if retries is None else int(retries),
        delay=DEFAULT.delay if delay is None else float(delay),
    )


def _error_text(error: BaseException | None) -> str:
    """Return the messages of an error and its causes; rasterio's error often only refers to a "previous exception"."""
    messages: list[str] = []
    notes: list[str] = []
    while error is not None and len(messages) < 5:
        message = str(error) if isinstance(error, GDAL_ERRORS) else f"{type(error).__name__}: {error}"
        if message not in messages and "previous exception" not in message:
            messages.append(message)
        notes += getattr(error, "__notes__", [])
        error = error.__cause__ or error.__context__
    return "; ".join([*messages, *notes[:1]])


def _is_final(status: int, credentials: Credentials, attempt: int) -> bool:
    """Return whether a retry cannot help."""
    if status == FORBIDDEN:
        return credentials.sign is None or attempt > 1
    return 400 <= status < 500 and status not in TRANSIENT_STATUS and status != PRECONDITION_FAILED


def _reason(error: Exception, text: str, href: str, credentials: Credentials, condition: str, *, slow: bool) -> Reason:
    """Return the cause of a failed attempt; the server is asked if GDAL's error lacks the HTTP status, unless slow."""
    match = _STATUS.search(text)
    status = int(match[1]) if match else 0
    changed = isinstance(error, FileChangedError) or status == PRECONDITION_FAILED or "pre-conditions" in text  # S3
    if "Range downloading not supported" in text:
        fault = "the server does not support range requests"
        return Reason(fault=fault, remedy="Download the file, and pass its local path.")
    if _NO_CREDENTIALS.search(text) and not href.startswith(("http://", "https://")):
        remedy = (
            "Set the credentials in the environment. Or pass them as {env}, for public objects AWS_NO_SIGN_REQUEST, "
            "GS_NO_SIGN_REQUEST or AZURE_NO_SIGN_REQUEST."
        )
        return Reason(fault=f"no credentials: {redact_url(text)}", remedy=remedy)
    if not isinstance(error, GDAL_ERRORS):
        return Reason(fault=redact_url(text), remedy="Check that the file is complete.")
    web = href.startswith(("http://", "https://"))
    if changed:
        return Reason(status=PRECONDITION_FAILED, headers=_present_headers(href, credentials))
    final = status and status not in TRANSIENT_STATUS
    if final or slow or "timed out" in text or not web:
        return Reason(status=status)
    return _ask_server(href, credentials, condition, text, status)


def _ask_server(href: str, credentials: Credentials, condition: str, text: str, status: int) -> Reason:
    """Request the first and the last byte of a file for the HTTP status, which GDAL does not always report."""
    try:
        address = credentials.address(href)
        headers = _request_byte(address, credentials, condition)
        size = headers.get("Content-Range", "").rpartition("/")[2]
        if not status and size.isdigit():
            _request_byte(address, credentials, condition, position=max(int(size) - 1, 0))
    except HTTPError as refusal:
        if refusal.code == PRECONDITION_FAILED:
            return Reason(status=refusal.code, headers=_present_headers(href, credentials))
        return Reason(status=status or refusal.code, retry_after=retry.retry_after(refusal))
    except (OSError, ValueError):
        return Reason(status=status)
    kind = headers.get("Content-Type", "").split(";")[0].strip().lower()
    if "not recognized" in text and (kind.startswith("text/") or kind.endswith(("json", "xml", "html"))):
        fault = f"the server sends {kind} instead of a raster"
        return Reason(fault=fault, remedy="Check the address: it may lead to a login or error page.")
    return Reason(status=status)


def version_headers(href: str, credentials: Credentials, condition: str) -> Mapping[str, str]:
    """Return the HTTP headers of a file of the version that a condition names; empty if the server does not respond.

    Raises
    ------
    FileChangedError
        If the server has another version.
    """
    try:
        return _request_byte(credentials.address(href), credentials, condition)
    except HTTPError as refusal:
        if refusal.code == PRECONDITION_FAILED:
            raise FileChangedError from None
        return {}
    except (OSError, ValueError):
        return {}


def _present_headers(href: str, credentials: Credentials) -> Mapping[str, str]:
    """Return the headers of a file that changed; empty if the server does not respond."""
    try:
        return _request_byte(credentials.address(href), credentials)
    except (OSError, ValueError):
        return {}


def _request_byte(
    address: str, credentials: Credentials, condition: str = "", *, position: int = 0
) -> Mapping[str, str]:
    """Request one byte of a file; return the headers of the response, by names of any case."""
    return request_range(address, credentials, position, position, condition=condition).headers

"""Tries again what a network spoilt: a bounded number of times, later each time, and as late as the server asks for.

GDAL can repeat refused requests, but knows no Retry-After, takes a body that is too short as it is, and remembers that
a file was not to be had. So its own repeating is off, and each try here starts from a file opened anew.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from itertools import count
from typing import TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from rasterio.errors import RasterioError

from geoxt.errors import GeoxtError, ReadError
from geoxt.pixels.credentials import Access, redact_url

T = TypeVar("T")
RETRIES, DELAY = 3, 0.5
"""Further tries, and seconds before the first, where GDAL_HTTP_MAX_RETRY and GDAL_HTTP_RETRY_DELAY are not set."""
LONGEST = 60.0
"""Seconds: the longest wait before a try; a server that asks for more is not asked again."""
LATER = {408, 425, 429, 500, 502, 503, 504}
"""Codes that say "not now"; other refusals are final, but for one new signature."""
FORBIDDEN = 403
_CODE = re.compile(r"HTTP response code(?: on \S+)?: (\d{3})")
sleep = time.sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What a server says when it is asked why."""

    code: int
    """Its status code."""
    wait: float | None
    """Seconds after which it asks to come again (Retry-After)."""

    def __str__(self) -> str:
        return f"HTTP {self.code}" + ("" if self.wait is None else f", which asks to come again in {self.wait:g} s")


def retry(call: Callable[[], T], again: Callable[[], None], href: str, access: Access, what: str) -> T:
    """Return what a call gives, trying again where it fails.

    Parameters
    ----------
    call
        Opens or reads; raises what rasterio does.
    again
        Clears away what the last try left.
    href
        The address that is not signed.
    access
        How the file is opened; its settings, or the surroundings', give the number of tries and the first delay.
    what
        What cannot be done if all fails: "Cannot read …".

    Raises
    ------
    ReadError
        Where tries are spent, or no other can help.
    """
    retries, delay = _policy(access)
    for tries in count(1):
        try:
            return call()
        except GeoxtError:
            raise
        except (RasterioError, OSError, ValueError) as error:
            text = _text(error)
        again()
        refusal = _ask(href, access, text)
        asked = (refusal and refusal.wait) or 0.0
        final = _final(text, refusal, access, tries)
        if final or tries > retries or asked > LONGEST:
            raise ReadError(_message(what, text, refusal, tries, final=final))
        wait = delay * 2 ** (tries - 1) * random.uniform(0.75, 1.25)  # noqa: S311 (no secret)
        sleep(min(max(wait, asked), LONGEST))
    raise AssertionError


def fetch(url: str, *, seconds: float, headers: Mapping[str, str] | None = None) -> bytes:
    """Return what an address holds, as patiently as files are read; for catalogs and small files beside rasters.

    Raises
    ------
    OSError
        What the last of the tries ended with.
    """
    for tries in count(1):
        asked: float | None = None
        try:
            with urlopen(Request(url, headers=dict(headers or {})), timeout=seconds) as answer:  # noqa: S310 (http alone)
                return bytes(answer.read())
        except HTTPError as error:
            asked = _seconds(error.headers.get("Retry-After"))
            error.close()
            if error.code not in LATER or tries > RETRIES or (asked or 0) > LONGEST:
                raise
        except HTTPException as error:  # such as a body cut short, which is no OSError
            if tries > RETRIES:
                msg = f"{type(error).__name__}: {error}"
                raise OSError(msg) from None
        except OSError as error:  # a server that cannot be reached, or is silent, is not waited for again
            if tries > RETRIES or isinstance(error, URLError | TimeoutError):
                raise
        sleep(max(DELAY * 2 ** (tries - 1), asked or 0))
    raise AssertionError


def _message(what: str, text: str, refusal: Refusal | None, tries: int, *, final: bool) -> str:
    said = (
        redact_url(text)
        if refusal is None
        else str(refusal)
        if _CODE.search(text)
        else f"{redact_url(text)} ({refusal})"
    )
    times = "tried once" if tries == 1 else f"tried {tries} times"
    remedy = (
        "Check the address, and who may read it (sign=, env=)."
        if final
        else "Try later, or pass env={'GDAL_HTTP_MAX_RETRY': …, 'GDAL_HTTP_TIMEOUT': …} for more patience."
    )
    return f"{what}: {times}, at last: {said.rstrip('.')}. {remedy}"


def _policy(access: Access) -> tuple[int, float]:
    """Return how often to try again, and the seconds before the first time."""
    retries, delay = access.setting("GDAL_HTTP_MAX_RETRY"), access.setting("GDAL_HTTP_RETRY_DELAY")
    return (RETRIES if retries is None else int(retries)), (DELAY if delay is None else float(delay))


def _text(error: BaseException | None) -> str:
    """Return what an error and its causes say."""
    said: list[str] = []
    while error is not None and len(said) < 5:
        if str(error) not in said and "previous exception" not in str(error):
            said.append(str(error))
        error = error.__cause__ or error.__context__
    return "; ".join(said)


def _final(text: str, refusal: Refusal | None, access: Access, tries: int) -> bool:
    """Tell whether another try cannot help."""
    found = _CODE.search(text)
    code = int(found[1]) if found else refusal.code if refusal else 0
    if code == FORBIDDEN:
        return access.sign is None or tries > 1
    return 400 <= code < 500 and code not in LATER


def _ask(href: str, access: Access, text: str) -> Refusal | None:
    """Ask a server for one byte, to learn what GDAL does not tell: why it refuses, and when to come again."""
    found = _CODE.search(text)
    code = int(found[1]) if found else None
    if (code is not None and code not in LATER) or "timed out" in text or not href.startswith(("http://", "https://")):
        return None if code is None else Refusal(code=code, wait=None)
    seconds = float(access.setting("GDAL_HTTP_CONNECTTIMEOUT") or 10)
    try:
        request = Request(access.address(href), headers={"Range": "bytes=0-0"})  # noqa: S310 (http alone)
        with urlopen(request, timeout=seconds):  # noqa: S310
            return None if code is None else Refusal(code=code, wait=None)
    except HTTPError as error:
        with error:
            if error.code in LATER:
                return Refusal(code=error.code, wait=_seconds(error.headers.get("Retry-After")))
    except (OSError, ValueError):
        pass
    return None if code is None else Refusal(code=code, wait=None)


def _seconds(text: str | None) -> float | None:
    """Return the seconds that a Retry-After asks for, which may be a date (RFC 9110, section 10.2.3)."""
    if not text:
        return None
    try:
        return max(float(text), 0.0)
    except ValueError:
        pass
    try:
        return max((parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds(), 0.0)
    except (TypeError, ValueError):
        return None

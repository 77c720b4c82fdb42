"""Versions of remote files: all requests for a file require the same version, so that no window mixes two.

GDAL caches parts of a file by its URL and never compares ETags. Requests therefore have a condition: the file was not
modified since a minute before the first of them, which needs no request for the ETag. For a file replaced later the
server responds with 412 (RFC 9110, section 13.1.4), and the file is opened again. It also responds so for a file
younger than a minute: its ETag or modification time is then requested, and becomes the condition. Servers that ignore
conditions return the present bytes.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate

MARGIN = 60
"""Seconds between the condition's time and the first request: clocks of client and server differ."""
PRECONDITION_FAILED = 412
_CONDITIONAL = re.compile(r"^(?:https?://|s3://|gs://|/vsi(?:curl|s3|gs)/)")
"""Addresses of servers that support conditions with their signatures; Azure's Shared Key signs such headers."""


@dataclass(frozen=True, slots=True, eq=False)
class RemoteVersion:
    """Version of a remote file, compared by identity."""

    condition: str
    """HTTP header that is true for this version only, or an empty string."""
    identity: str | None = None
    """ETag, modification time and size, by which caches identify the version; empty if the server does not return
    them, `None` before the request."""


_lock = threading.Lock()
_versions: dict[str, RemoteVersion] = {}


def remote_version(href: str) -> RemoteVersion:
    """Return the present version of a file, for all handles and requests until the file changes."""
    version = _versions.get(href)
    if version is None:
        conditional = _CONDITIONAL.match(href) is not None
        since = formatdate(time.time() - MARGIN, usegmt=True)
        version = RemoteVersion(f"If-Unmodified-Since: {since}" if conditional else "")
        version = _versions.setdefault(href, version)
    return version


def known_identity(href: str) -> str:
    """Return ETag, modification time and size of a file if an earlier request of this process stated them, else ""."""
    version = _versions.get(href)
    return "" if version is None else version.identity or ""


def renew_version(href: str, former: RemoteVersion, headers: Mapping[str, str] | None) -> None:
    """Replace the version of a file that changed, unless another thread did so.

    Parameters
    ----------
    href
        Unsigned address.
    former
        Version that is no longer valid.
    headers
        Present headers of the file; without an ETag or modification time, requests have no condition.
    """
    etag, modified = (headers.get(name) for name in ("ETag", "Last-Modified")) if headers is not None else (None, None)
    if _CONDITIONAL.match(href) is None:
        condition = ""
    elif etag and not etag.startswith("W/"):
        condition = f"If-Match: {etag}"
    else:
        condition = f"If-Unmodified-Since: {modified}" if modified else ""
    with _lock:
        if _versions.get(href) is former:
            _versions[href] = RemoteVersion(condition, _identity(headers or {}))


def _identity(headers: Mapping[str, str]) -> str:
    """Return the identity of a file by its HTTP headers; empty if they do not distinguish versions."""
    etag, modified = headers.get("ETag", ""), headers.get("Last-Modified", "")
    size = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length", "")
    return f"{etag} {modified} {size}" if etag or (modified and size.isdigit()) else ""


def add_header(headers: str | None, header: str) -> str:
    """Return GDAL's option GDAL_HTTP_HEADERS with another header, quoted since dates contain commas."""
    escaped = header.replace("\\", "\\\\").replace('"', '\\"')
    return ",".join([*([headers] if headers else []), f'"{escaped}"'])

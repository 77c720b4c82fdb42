"""Check that a server responds to range requests with the requested bytes, once per server or bucket and process.

GDAL 3.10 compares neither the Content-Range of a response nor its bytes with the request. Decoders notice other bytes
in compressed blocks, but uncompressed pixels would silently be wrong. Therefore, before the first read of an
uncompressed file of a server or bucket, its first bytes and a short range of them are requested. They must agree.
A server that responds with other bytes later is not noticed: GDAL reports no headers of responses.
"""

from __future__ import annotations

import os
import re
import threading
from urllib.error import HTTPError
from urllib.parse import urlsplit

import rasterio

from geoxt.errors import ReadError
from geoxt.pixels.credentials import Credentials
from geoxt.pixels.gdal_retry import FileChangedError
from geoxt.pixels.object_requests import is_object
from geoxt.pixels.range_requests import RangeResponse, request_range
from geoxt.pixels.remote_version import PRECONDITION_FAILED
from geoxt.retry import TRANSIENT_STATUS

LONG, SHORT = 128 * 2**10, 64
"""Bytes of the two requests."""
UNCHECKED = (None, "packbits")
"""Compressions (`rasterio.enums.Compression.value`) whose decoders accept any bytes."""
_CONTENT_RANGE = re.compile(r"\s*bytes\s+(\d+)-(\d+)/(\d+|\*)\s*", re.IGNORECASE)
_URL = re.compile(r"(?:/vsicurl/)?(https?://.+)", re.DOTALL)


class _Servers:
    """Checked servers of a process, and a lock for each."""

    def __init__(self) -> None:
        self.checked: set[str] = set()
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    def lock(self, server: str) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(server, threading.Lock())


_servers = _Servers()


def _reset_after_fork() -> None:
    """Give a child process other locks: a thread of the parent may hold them."""
    global _servers
    checked, _servers = _servers.checked, _Servers()
    _servers.checked = set(checked)


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_reset_after_fork)


def check_ranges(file: rasterio.DatasetReader, address: str, credentials: Credentials, condition: str = "") -> None:
    """Raise if a server responds to range requests with other bytes, and the file's pixels could therefore be wrong.

    Makes two requests for the first uncompressed file of a server or bucket, and none for others. A server that refuses
    them, such as by another kind of login than GDAL's options state, is not checked.

    Parameters
    ----------
    file
        The open dataset.
    address
        Signed address.
    credentials
        How the file is opened.
    condition
        HTTP header of all requests; see `remote_version`.

    Raises
    ------
    ReadError
        If a response has another range, another size of the file, or other bytes.
    """
    server = _server(address)
    if server is None or (None if file.compression is None else file.compression.value.lower()) not in UNCHECKED:
        return
    if server in _servers.checked:
        return
    with _servers.lock(server):
        if server in _servers.checked:
            return
        try:
            _compare(address.removeprefix("/vsicurl/"), server, credentials, condition)
        except ReadError:  # an OSError too
            raise
        except HTTPError as refusal:
            if refusal.code == PRECONDITION_FAILED:
                raise FileChangedError from None
            if refusal.code in TRANSIENT_STATUS:
                raise
        except TimeoutError:
            return
        except (OSError, ValueError):
            pass  # no server in reach of Python, but of GDAL
        _servers.checked.add(server)


def _server(address: str) -> str | None:
    """Return the server of a URL, or the bucket of an object; `None` for other files."""
    if is_object(address):
        scheme, bucket = address.removeprefix("/vsi").replace("://", "/").split("/")[:2]
        return f"{scheme}://{bucket}"
    match = _URL.fullmatch(address)
    if match is None:
        return None
    parts = urlsplit(match[1])
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _compare(url: str, server: str, credentials: Credentials, condition: str) -> None:
    """Raise if a range of the first bytes of a file differs from the same bytes of a longer range."""
    long = request_range(url, credentials, 0, LONG - 1, condition=condition)
    size = _size(long, server, 0, LONG - 1)
    start = _distinct_start(long.body)
    stop = min(start + SHORT, len(long.body))
    if stop <= start:
        return
    short = request_range(url, credentials, start, stop - 1, condition=condition)
    other_size = _size(short, server, start, stop - 1)
    if size != other_size:
        raise _error(server, f"sizes of one file differ: {size} and {other_size} bytes")
    if short.body != long.body[start:stop]:
        raise _error(server, f"the response for bytes {start}-{stop - 1} has other bytes")


def _size(response: RangeResponse, server: str, first: int, last: int) -> str:
    """Return the size of a file as a response states it; raise if the response has another range than requested."""
    byte_range = f"bytes {first}-{last}"
    if response.status != 206:
        raise _error(server, f"the response for {byte_range} has the status {response.status} instead of 206")
    text = response.headers.get("Content-Range")
    if text is None:
        raise _error(server, f"the response for {byte_range} has no Content-Range")
    match = _CONTENT_RANGE.fullmatch(text)
    # a server may send less of a long range
    if (
        match is None
        or int(match[1]) != first
        or int(match[2]) > last
        or len(response.body) != int(match[2]) - first + 1
    ):
        raise _error(server, f"the response for {byte_range} has {len(response.body)} bytes and Content-Range: {text}")
    return match[3]


def _distinct_start(content: bytes) -> int:
    """Return the start of a short range, as far as possible from the start, whose bytes occur once in the content."""
    starts = range(max(len(content) - SHORT, 0), 0, -1024)
    return next((n for n in starts if content.count(content[n : n + SHORT]) == 1), min(8, len(content)))


def _error(server: str, fault: str) -> ReadError:
    problem = f"Cannot read uncompressed files of {server}: its range requests are wrong: {fault}."
    return ReadError(problem, remedy="Download the file, and pass its local path. Or check the proxy in between.")

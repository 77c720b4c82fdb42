"""Download files: resumed after an interruption, with a progress bar, verified before they are renamed."""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

from geoxt.datasets.disk_space import FULL, disk_full, require_space
from geoxt.datasets.spec import Archive
from geoxt.errors import OutputError, ReadError, optional_import
from geoxt.progress import bar_class, shows_bars
from geoxt.retry import RetryPolicy, is_transient, retry_after

BLOCK = 1 << 20
"""Bytes per read."""
POLICY = RetryPolicy(retries=4)
"""Retries, counted since bytes were last received."""
TIMEOUT = 60
"""Seconds without an answer."""
Progress = Callable[[int], None]
"""Called with the number of bytes received."""


def http_url(url: str) -> str:
    """Return the HTTPS URL of an object in a public S3 bucket; other URLs are unchanged."""
    if not url.startswith("s3://"):
        return url
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return f"https://{bucket}.s3.amazonaws.com/{key}"


def download(archive: Archive, folder: Path, *, checksum: bool, progress: bool) -> Path:
    """Download a file into a folder through pooch, which verifies the checksum before it renames the file.

    Raises
    ------
    ReadError
        If the file cannot be downloaded, or its checksum differs from the published one.
    OutputError
        If the disk is too small.
    """
    assert archive.url is not None
    with optional_import("pooch", "datasets", f"download {archive.file!r}"):
        import pooch
    pooch.get_logger().setLevel("ERROR")
    part = folder / f"{archive.file}.part"

    def resume(url: str, output: Any, _: Any) -> None:
        with _progress_bar(archive, enabled=progress) as report:
            _fetch(url, part, report)
        shutil.move(part, output)
        _etag_path(part).unlink(missing_ok=True)

    expected = _checksum(archive) if checksum else None
    try:
        path = pooch.retrieve(
            url=http_url(archive.url), known_hash=expected, fname=archive.file, path=folder, downloader=resume
        )
    except OutputError:
        raise
    except (OSError, HTTPException) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            received = part.stat().st_size if part.exists() else 0
            raise disk_full(folder, f"download {archive.url}", archive.size and archive.size - received) from error
        wait = retry_after(error)
        raise ReadError(
            f"Cannot download {archive.url} to {str(part)!r}: {error}{_retry_note(wait)}.",
            remedy="Fetch again to resume: the part received so far is kept."
            if not wait
            else "Fetch again after that time: the part received so far is kept.",
        ) from error
    except ValueError as error:  # pooch's error for another checksum
        msg = f"Cannot use {archive.url}: the checksum of the downloaded file is not {expected}."
        remedy = "Fetch again. If it still differs, the file was changed: pass {checksum:False} if you trust it."
        raise ReadError(msg, remedy=remedy, argument="checksum") from error
    return Path(path)


def _retry_note(wait: float | None) -> str:
    return f"; the server asks to wait {wait:,.0f} seconds" if wait else ""


def require_checksum(archive: Archive, path: Path) -> None:
    """Raise if a file differs from its published checksum.

    Raises
    ------
    ReadError
        If the checksums differ.
    """
    expected = _checksum(archive)
    if expected is None:
        return
    algorithm, _, published = expected.partition(":")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, algorithm).hexdigest()
    if digest != published:
        msg = f"Cannot use {str(path)!r}: its {algorithm} is {digest}, published is {published}."
        remedy = "Remove it and fetch it again. Or pass {checksum:False} if you trust it."
        raise ReadError(msg, remedy=remedy, argument="checksum")


def _checksum(archive: Archive) -> str | None:
    if archive.sha256:
        return f"sha256:{archive.sha256}"
    return f"md5:{archive.md5}" if archive.md5 else None


def _etag_path(part: Path) -> Path:
    """Return the path of the ETag file of a partial download."""
    return part.with_name(f"{part.name}.tag")


def _fetch(url: str, part: Path, report: Progress) -> None:
    """Download a file into `part`, resuming at its end.

    The retry count is reset by each attempt that receives bytes.

    Raises
    ------
    OSError, HTTPException
        The error of the last attempt.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    attempt = 0
    while True:
        start = part.stat().st_size if part.exists() else 0
        try:
            if _request(url, part, start, report):
                return
            error: Exception = ConnectionError("the connection closed early")
        except HTTPError as http_error:
            http_error.close()
            if http_error.code == 416 and start:  # range not satisfiable
                if http_error.headers.get("Content-Range") == f"bytes */{start}":  # killed before the rename
                    return
                part.unlink()  # longer than this version of the file
            elif not is_transient(http_error):
                raise
            error = http_error
        except (OSError, HTTPException) as network_error:
            if not (is_transient(network_error) or isinstance(network_error, URLError)):
                raise
            error = network_error
        progressed = part.exists() and part.stat().st_size > start
        attempt = 0 if progressed else attempt + 1
        wait = POLICY.wait(attempt, retry_after(error))
        if wait is None:
            raise error
        time.sleep(wait)


def _request(url: str, part: Path, start: int, report: Progress) -> bool:
    """Request the bytes from `start` on, append them to `part`, and return whether the file is complete."""
    request = urllib.request.Request(url)  # noqa: S310 - the URLs are those of specs
    etag = _etag_path(part).read_text(encoding="utf-8") if start and _etag_path(part).exists() else ""
    if start:
        request.add_header("Range", f"bytes={start}-")
    if etag:
        request.add_header("If-Range", etag)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310
        resumed = getattr(response, "status", 200) == 206
        length = response.headers.get("Content-Length")
        first = (response.headers.get("Content-Range") or f"bytes {start}-").partition("-")[0]
        if resumed and first != f"bytes {start}":
            part.unlink(missing_ok=True)  # requested from its beginning by the next attempt
            msg = f"the server sent the range {response.headers.get('Content-Range')!r} for bytes {start}-"
            raise ConnectionError(msg)
        if length is not None and length.isdecimal() and url.startswith("http"):
            require_space(part.parent, int(length), f"download {url}")
        new = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        new = "" if new.startswith("W/") else new  # If-Range takes no weak ETag
        _etag_path(part).write_text(new, encoding="utf-8")
        report(start if resumed else 0)
        received = 0
        with part.open("ab" if resumed else "wb") as file:
            while block := response.read(BLOCK):
                file.write(block)
                report(len(block))
                received += len(block)
    return length is None or received == int(length)


@contextmanager
def _progress_bar(archive: Archive, *, enabled: bool) -> Iterator[Progress]:
    if not (enabled and shows_bars(sys.stderr)):
        yield lambda _: None
        return
    with bar_class()(total=archive.size, unit="B", unit_scale=True, desc=archive.file) as bar:
        yield lambda count: bar.update(count) and None

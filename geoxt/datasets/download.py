"""One file from an address: resumed where it stopped, with a progress bar, checked before it has its name."""

from __future__ import annotations

import hashlib
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

from geoxt.datasets.spec import Archive
from geoxt.errors import MissingDependency, ReadError

BLOCK = 1 << 20
"""Bytes that are read at once."""
TRIES = 5
"""Connections in a row that bring nothing new before giving up."""
TIMEOUT = 60
"""Seconds without an answer."""
Progress = Callable[[int], None]
"""Called with the bytes that came."""


def address(url: str) -> str:
    """Return the address by HTTP of an object in a public S3 bucket; other addresses as they are."""
    if not url.startswith("s3://"):
        return url
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return f"https://{bucket}.s3.amazonaws.com/{key}"


def download(archive: Archive, folder: Path, *, checksum: bool, progress: bool) -> Path:
    """Bring a file into a folder, through pooch, which compares its checksum and gives it its name last.

    Raises
    ------
    ReadError
        Where it cannot be had, or is not what was published.
    """
    assert archive.url is not None
    try:
        import pooch
    except ImportError as error:
        msg = f"Cannot download {archive.file!r} without pooch: pip install 'geoxt[datasets]'."
        raise MissingDependency(msg) from error
    pooch.get_logger().setLevel("ERROR")
    part = folder / f"{archive.file}.part"

    def resume(url: str, output: Any, _: Any) -> None:
        with _bar(archive, progress) as tell:
            _fetch(url, part, tell)
        shutil.move(part, output)
        _tag(part).unlink(missing_ok=True)

    known = _known(archive) if checksum else None
    try:
        found = pooch.retrieve(
            url=address(archive.url), known_hash=known, fname=archive.file, path=folder, downloader=resume
        )
    except (OSError, HTTPException) as error:
        msg = f"Cannot download {archive.url} to {str(part)!r}: {error}. What came is kept: fetch again to go on."
        raise ReadError(msg) from error
    except ValueError as error:  # what pooch says of another checksum
        msg = f"Cannot use {archive.url}: what came has another checksum than {known}. Fetch again; where it stays so "
        raise ReadError(msg + "the file was changed: pass checksum=False if you trust it.") from error
    return Path(found)


def require_checksum(archive: Archive, path: Path) -> None:
    """Compare a file with its published checksum and size.

    Raises
    ------
    ReadError
        Where they differ.
    """
    known = _known(archive)
    if known is None:
        return
    kind, _, wanted = known.partition(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, kind).hexdigest()
    if found != wanted:
        msg = f"Cannot use {str(path)!r}: its {kind} is {found}, published is {wanted}. Remove it and fetch it again, "
        raise ReadError(msg + "or pass checksum=False if you trust it.")


def _known(archive: Archive) -> str | None:
    if archive.sha256:
        return f"sha256:{archive.sha256}"
    return f"md5:{archive.md5}" if archive.md5 else None


def _tag(part: Path) -> Path:
    """Return the file that keeps which version a part is of."""
    return part.with_name(f"{part.name}.tag")


def _fetch(url: str, part: Path, tell: Progress) -> None:
    """Bring all of a file into `part`, going on where it ends."""
    part.parent.mkdir(parents=True, exist_ok=True)
    idle = 0
    while idle < TRIES:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _once(url, part, before, tell):
                return
            error: Exception = URLError("the connection ended too soon")
        except HTTPError as refused:
            if refused.code != 416 or before == 0:
                raise
            part.unlink()  # longer than the file is: of another version
            error = refused
        except (OSError, HTTPException) as broken:
            error = broken
        came = (part.stat().st_size if part.exists() else 0) - before
        idle = 0 if came > 0 else idle + 1
        if idle >= TRIES:
            raise error


def _once(url: str, part: Path, start: int, tell: Progress) -> bool:
    """Ask for what is missing, and tell whether all of it came."""
    request = urllib.request.Request(url)  # noqa: S310 - the addresses are those of specs
    tag = _tag(part).read_text(encoding="utf-8") if start and _tag(part).exists() else ""
    if start:
        request.add_header("Range", f"bytes={start}-")
    if tag:
        request.add_header("If-Range", tag)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
        goes_on = getattr(answer, "status", 200) == 206
        left = answer.headers.get("Content-Length")
        new = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        _tag(part).write_text("" if new.startswith("W/") else new, encoding="utf-8")
        tell(start if goes_on else 0)
        came = 0
        with part.open("ab" if goes_on else "wb") as file:
            while block := answer.read(BLOCK):
                file.write(block)
                tell(len(block))
                came += len(block)
    return left is None or came == int(left)


@contextmanager
def _bar(archive: Archive, shown: bool) -> Iterator[Progress]:  # noqa: FBT001
    if not shown:
        yield lambda _: None
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:
        yield lambda _: None
        return
    with tqdm(total=archive.size, unit="B", unit_scale=True, desc=archive.file) as bar:
        yield lambda count: bar.update(count) and None

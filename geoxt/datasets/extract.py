"""Archives -> files: into a folder of their own first, each member checked, then moved to their place."""

from __future__ import annotations

import bz2
import gzip
import os
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self

from geoxt.errors import ReadError

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tbz2", ".tar.xz")
SINGLE: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open}
BY_HAND = (".rar", ".7z", ".tar.zst")
RATIO = 200
"""How many times the size of an archive its content may have."""
FLOOR = 1 << 30
"""Bytes that the content of any archive may have."""
_BROKEN = (
    OSError, EOFError, ValueError, NotImplementedError, zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError,
    struct.error,
)  # fmt: skip


def is_archive(name: str) -> bool:
    """Tell whether a file of that name has to be extracted."""
    return name.endswith((".zip", *TARS, *SINGLE, *BY_HAND))


def extract(name: str, parts: Sequence[Path], work: Path) -> Path:
    """Extract an archive into a new folder below `work`, and return the folder.

    Parameters
    ----------
    name
        Its name, whose ending says what it is.
    parts
        Its file, or the files that make it together, in order.
    work
        A folder on the disk that the files shall be on.

    Raises
    ------
    ReadError
        Where it is broken, holds a link or a path that leaves the folder, is too large, or is of a kind that has to be
        extracted by hand.
    """
    if name.endswith(BY_HAND):
        msg = f"Cannot extract {str(parts[0])!r}: this kind needs a program of its own. Extract it by hand into "
        raise ReadError(msg + f"{str(work.parent)!r}, and load the dataset again.")
    work.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="extract-", dir=work))
    room = min(max(RATIO * sum(part.stat().st_size for part in parts), FLOOR), shutil.disk_usage(work).free)
    try:
        with ExitStack() as stack:
            file: Any = stack.enter_context(parts[0].open("rb") if len(parts) == 1 else Joined(parts))
            if name.endswith(".zip"):
                _unzip(file, folder, room)
            elif name.endswith(TARS):
                _untar(file, folder, room)
            else:
                end = Path(name).suffix
                _copy(SINGLE[end](file), folder / Path(name).name.removesuffix(end), room, name)
    except _BROKEN as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, ReadError):
            raise
        msg = f"Cannot extract {str(parts[0])!r}: {type(error).__name__} {error}. Remove it and fetch it again."
        raise ReadError(msg) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def move_into(folder: Path, target: Path) -> None:
    """Move all that a folder holds to another one on the same disk; folders of one name become one."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir()):
        place = target / path.name
        if path.is_dir() and place.is_dir():
            move_into(path, place)
        else:
            os.replace(path, place)  # noqa: PTH105 (over what an earlier, interrupted extraction left)
    folder.rmdir()


def _unzip(file: IO[bytes], folder: Path, room: int) -> None:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            name = member.filename
            if stat.S_ISLNK(member.external_attr >> 16):
                raise ReadError(_unsafe(name, "is a link"))
            if member.flag_bits & 1:
                msg = f"Cannot extract the member {name!r}: it needs a password. Extract the archive by hand."
                raise ReadError(msg)
            place = _place(folder, name)
            if member.is_dir():
                place.mkdir(parents=True, exist_ok=True)
                continue
            with archive.open(member) as content:
                room -= _copy(content, place, room, name)


def _untar(file: IO[bytes], folder: Path, room: int) -> None:
    with tarfile.open(fileobj=file, mode="r:*") as archive:
        for member in archive:
            if not (member.isfile() or member.isdir()):
                raise ReadError(_unsafe(member.name, "is a link or a device"))
            place = _place(folder, member.name)
            if member.isdir():
                place.mkdir(parents=True, exist_ok=True)
                continue
            content = archive.extractfile(member)
            assert content is not None
            room -= _copy(content, place, room, member.name)


def _place(folder: Path, name: str) -> Path:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and ":" in path.parts[0]):
        raise ReadError(_unsafe(name, "leaves the folder"))
    return folder.joinpath(*path.parts)


def _copy(content: Any, place: Path, room: int, name: str) -> int:
    """Write a member, at most so many bytes, and return how many."""
    place.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with content, place.open("wb") as file:
        while block := content.read(1 << 20):
            count += len(block)
            if count > room:
                msg = f"Cannot extract {name!r}: the archive holds more than it may, or than the disk has room for."
                raise ReadError(msg + " Free some room, or fetch the archive again.")
            file.write(block)
    return count


def _unsafe(name: str, why: str) -> str:
    return f"Cannot extract the member {name!r}: it {why}, which no dataset needs. Fetch the archive again."


class Joined:
    """Files one after the other as one that can be read and sought in."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self.parts = [(part, part.stat().st_size) for part in parts]
        self.at = 0
        self.size = sum(size for _, size in self.parts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self.at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place, as files do."""
        self.at = offset + (0, self.at, self.size)[whence]
        return self.at

    def read(self, count: int = -1) -> bytes:
        """Return the next bytes."""
        end = self.size if count < 0 else min(self.at + count, self.size)
        out = b"".join(self._pieces(self.at, end))
        self.at += len(out)
        return out

    def _pieces(self, start: int, end: int) -> Iterator[bytes]:
        first = 0
        for part, size in self.parts:
            low, high = max(start, first), min(end, first + size)
            if low < high:
                with part.open("rb") as file:
                    file.seek(low - first)
                    yield file.read(high - low)
            first += size

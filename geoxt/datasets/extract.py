"""Extract archives: check each member, write to a temporary folder, then move the files to the target."""

from __future__ import annotations

import bz2
import gzip
import lzma
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
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self

from geoxt.datasets.disk_space import FULL, disk_full, require_space, size_text
from geoxt.errors import GeoxtError, ReadError

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tbz2", ".tar.xz")
SINGLE: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open}
_DECOMPRESSORS: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}
"""Decompressors of tar archives by the first bytes of the file."""
MANUAL = (".rar", ".7z", ".tar.zst")
"""Suffixes of archives that the user has to extract."""
RATIO = 200
"""Maximum ratio of extracted size to archive size: a guard against decompression bombs."""
FLOOR = 1 << 30
"""Extracted size in bytes below which the ratio is not limited."""
_BROKEN = (
    OSError, EOFError, ValueError, NotImplementedError, zipfile.BadZipFile, tarfile.TarError, zlib.error,
    lzma.LZMAError, struct.error,
)  # fmt: skip


def is_archive(name: str) -> bool:
    """Return whether a file name has the suffix of an archive."""
    return name.endswith((".zip", *TARS, *SINGLE, *MANUAL))


def extract(
    name: str,
    parts: Sequence[Path],
    work: Path,
    *,
    selects: Callable[[str], bool] = lambda _: True,
    reserved: frozenset[str] = frozenset(),
) -> Path:
    """Extract an archive into a new folder below `work`, and return the folder.

    Parameters
    ----------
    name
        File name of the archive; its suffix determines the format.
    parts
        Files of the archive, in order: one, or the parts of a multi-part archive.
    work
        Folder on the same disk as the target, so that extracted files can be renamed.
    selects
        Function of a member's path that returns whether to extract it.
    reserved
        Paths of files and folders that no member may overwrite, in lower case.

    Raises
    ------
    ReadError
        If the archive is broken, encrypted or too large, has a link, a path outside of the folder or a reserved path,
        or its format must be extracted manually.
    OutputError
        If the disk is too small.
    """
    if name.endswith(MANUAL):
        msg = f"Cannot extract {str(parts[0])!r} into {str(work.parent)!r}: the format needs an external program."
        raise ReadError(msg, remedy="Extract it there manually, and load the dataset again.")
    work.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="extract-", dir=work))
    target = _Target(
        folder=folder,
        limit=max(RATIO * sum(part.stat().st_size for part in parts), FLOOR),
        selects=selects,
        reserved=reserved,
        archive=str(parts[0]),
    )
    try:
        with ExitStack() as stack:
            file: Any = stack.enter_context(parts[0].open("rb") if len(parts) == 1 else Joined(parts))
            if name.endswith(".zip"):
                _unzip(file, target)
            elif name.endswith(TARS):
                _untar(file, target)
            else:
                suffix = Path(name).suffix
                target.write(SINGLE[suffix](file), Path(name).name.removesuffix(suffix))
    except _BROKEN as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, GeoxtError):
            raise
        if isinstance(error, OSError) and error.errno in FULL:
            raise disk_full(work, f"extract {str(parts[0])!r}", target.written) from error
        msg = f"Cannot extract {str(parts[0])!r}: {type(error).__name__} {error}."
        raise ReadError(msg, remedy="Remove it and fetch it again.") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def move_into(folder: Path, target: Path) -> None:
    """Move the content of a folder into another folder on the same disk; folders of the same name are merged."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir()):
        destination = target / path.name
        if path.is_dir() and destination.is_dir():
            move_into(path, destination)
        else:
            os.replace(path, destination)  # noqa: PTH105 (overwrites files of an interrupted extraction)
    folder.rmdir()


@dataclass(slots=True, kw_only=True)
class _Target:
    """Folder to which the members of an archive are written, after checks."""

    folder: Path
    """Empty folder."""
    limit: int
    """Bytes that may be written."""
    selects: Callable[[str], bool]
    """Whether a member is extracted."""
    reserved: frozenset[str]
    """Paths that no member may have, in lower case."""
    archive: str
    """Path of the archive, for errors."""
    written: int = 0
    """Bytes written."""

    def path(self, name: str) -> Path | None:
        """Return the path of a member, or `None` if it is not extracted."""
        path = PurePosixPath(name.replace("\\", "/"))
        # A colon in the first part is a Windows drive.
        if path.is_absolute() or ".." in path.parts or (path.parts and ":" in path.parts[0]):
            raise _unsafe(name, "leaves the folder")
        parts = [part.rstrip(" .").lower() for part in path.parts]  # as Windows reads names
        if any("/".join(parts[:count]) in self.reserved for count in range(1, len(parts) + 1)):
            raise _unsafe(name, "would overwrite a file of the download itself")
        return self.folder.joinpath(*path.parts) if self.selects(path.as_posix()) else None

    def write(self, content: Any, name: str) -> None:
        """Write a member."""
        path = self.path(name)
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with content, path.open("wb") as file:
            while block := content.read(1 << 20):
                self.written += len(block)
                if self.written > self.limit:
                    msg = f"Cannot extract {name!r} of {self.archive!r}: the archive exceeds the size limit of "
                    msg += f"{size_text(self.limit)}, {RATIO} times its size."
                    raise ReadError(msg, remedy="Fetch the archive again.")
                file.write(block)


def _unzip(file: IO[bytes], target: _Target) -> None:
    with zipfile.ZipFile(file) as archive:
        members = []
        for member in archive.infolist():
            name = member.filename
            if stat.S_ISLNK(member.external_attr >> 16):
                raise _unsafe(name, "is a link")
            path = target.path(name)
            if path is None:
                continue
            if member.is_dir():
                path.mkdir(parents=True, exist_ok=True)
            else:
                members.append(member)
        size = sum(member.file_size for member in members)
        if size <= target.limit:
            require_space(target.folder, size, f"extract {target.archive!r}")
        for member in members:
            if member.flag_bits & 1:
                msg = f"Cannot extract the member {member.filename!r}: it needs a password."
                raise ReadError(msg, remedy="Extract the archive manually.")
            target.write(archive.open(member), member.filename)


def _untar(file: IO[bytes], target: _Target) -> None:
    stream = _LastRead(_decompress(file))
    with tarfile.open(fileobj=stream, mode="r:") as archive:  # type: ignore[call-overload]
        for member in archive:
            if not (member.isfile() or member.isdir()):
                raise _unsafe(member.name, "is a link or a device")
            path = target.path(member.name)
            if path is None:
                continue
            if member.isdir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            require_space(target.folder, member.size, f"extract {member.name!r} of {target.archive!r}")
            content = archive.extractfile(member)
            assert content is not None
            target.write(content, member.name)
        count = len(archive.getmembers())
    if stream.last != bytes(tarfile.BLOCKSIZE):
        # An archive ends by blocks of zeros (POSIX.1-2001, ustar). tarfile takes a damaged header for the end.
        msg = f"the header behind member {count} is damaged or missing"
        raise tarfile.ReadError(msg)
    remaining = target.limit - target.written
    while block := stream.read(1 << 20):  # the checksum of a compressed archive is at its end
        remaining -= len(block)
        if remaining < 0:
            raise ReadError("Cannot extract the archive: it exceeds the size limit.", remedy="Fetch it again.")


def _decompress(file: IO[bytes]) -> IO[bytes]:
    """Return the content of a file that may be compressed, by its first bytes."""
    magic = file.read(6)
    file.seek(0)
    for start, decompressor in _DECOMPRESSORS.items():
        if magic.startswith(start):
            return decompressor(file)
    return file


class _LastRead:
    """Stream that stores the bytes of its last read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.last = stream, b""

    def read(self, count: int = -1) -> bytes:
        self.last = self.stream.read(count)
        return self.last

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.stream.seek(offset, whence)

    def tell(self) -> int:
        return self.stream.tell()

    def seekable(self) -> bool:
        return True


def _unsafe(name: str, reason: str) -> ReadError:
    return ReadError(f"Cannot extract the member {name!r}: it {reason}.", remedy="Fetch the archive again.")


class Joined:
    """Read-only, seekable concatenation of files."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self.parts = [(part, part.stat().st_size) for part in parts]
        self.position = 0
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
        """Return the position of the next byte."""
        return self.position

    def seek(self, offset: int, whence: int = 0) -> int:
        """Set the position, like `io.IOBase.seek`."""
        self.position = offset + (0, self.position, self.size)[whence]
        return self.position

    def read(self, count: int = -1) -> bytes:
        """Return the next `count` bytes, or all remaining bytes."""
        end = self.size if count < 0 else min(self.position + count, self.size)
        content = b"".join(self._chunks(self.position, end))
        self.position += len(content)
        return content

    def _chunks(self, start: int, end: int) -> Iterator[bytes]:
        offset = 0
        for part, size in self.parts:
            low, high = max(start, offset), min(end, offset + size)
            if low < high:
                with part.open("rb") as file:
                    file.seek(low - offset)
                    yield file.read(high - low)
            offset += size

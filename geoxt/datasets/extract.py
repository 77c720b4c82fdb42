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
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self

from geoxt.errors import ReadError

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
"""Extracted size in bytes that every archive may have, whatever its ratio."""
_BROKEN = (
    OSError, EOFError, ValueError, NotImplementedError, zipfile.BadZipFile, tarfile.TarError, zlib.error,
    lzma.LZMAError, struct.error,
)  # fmt: skip


def is_archive(name: str) -> bool:
    """Return whether a file name has the suffix of an archive."""
    return name.endswith((".zip", *TARS, *SINGLE, *MANUAL))


def extract(name: str, parts: Sequence[Path], work: Path) -> Path:
    """Extract an archive into a new folder below `work`, and return the folder.

    Parameters
    ----------
    name
        File name of the archive; its suffix determines the format.
    parts
        Files of the archive, in order: one, or the parts of a multi-part archive.
    work
        Folder on the same disk as the target, so that extracted files can be renamed.

    Raises
    ------
    ReadError
        If the archive is broken, encrypted or too large, has a link or a path outside of the folder, or has a format
        that has to be extracted manually.
    """
    if name.endswith(MANUAL):
        raise ReadError(
            f"Cannot extract {str(parts[0])!r} into {str(work.parent)!r}: the format needs an external program.",
            remedy="Extract it there manually, and load the dataset again.",
        )
    work.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="extract-", dir=work))
    limit = min(max(RATIO * sum(part.stat().st_size for part in parts), FLOOR), shutil.disk_usage(work).free)
    try:
        with ExitStack() as stack:
            file: Any = stack.enter_context(parts[0].open("rb") if len(parts) == 1 else Joined(parts))
            if name.endswith(".zip"):
                _unzip(file, folder, limit)
            elif name.endswith(TARS):
                _untar(file, folder, limit)
            else:
                suffix = Path(name).suffix
                _copy(SINGLE[suffix](file), folder / Path(name).name.removesuffix(suffix), limit, name)
    except _BROKEN as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, ReadError):
            raise
        raise ReadError(
            f"Cannot extract {str(parts[0])!r}: {type(error).__name__} {error}.",
            remedy="Remove it and fetch it again.",
        ) from error
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


def _unzip(file: IO[bytes], folder: Path, limit: int) -> None:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            name = member.filename
            if stat.S_ISLNK(member.external_attr >> 16):
                raise _unsafe(name, "is a link")
            if member.flag_bits & 1:
                raise ReadError(
                    f"Cannot extract the member {name!r}: it needs a password.",
                    remedy="Extract the archive manually.",
                )
            path = _member_path(folder, name)
            if member.is_dir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            with archive.open(member) as content:
                limit -= _copy(content, path, limit, name)


def _untar(file: IO[bytes], folder: Path, limit: int) -> None:
    stream = _LastRead(_decompressed(file))
    with tarfile.open(fileobj=stream, mode="r:") as archive:  # type: ignore[call-overload]
        for member in archive:
            if not (member.isfile() or member.isdir()):
                raise _unsafe(member.name, "is a link or a device")
            path = _member_path(folder, member.name)
            if member.isdir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            content = archive.extractfile(member)
            assert content is not None
            limit -= _copy(content, path, limit, member.name)
        count = len(archive.getmembers())
    if stream.last != bytes(tarfile.BLOCKSIZE):
        # An archive ends by blocks of zeros (POSIX.1-2001, ustar). tarfile takes a damaged header for the end.
        msg = f"the header behind member {count} is damaged or missing"
        raise tarfile.ReadError(msg)
    while block := stream.read(1 << 20):  # the checksum of a compressed archive is at its end
        limit -= len(block)
        if limit < 0:
            raise ReadError("Cannot extract the archive: it exceeds the size limit.", remedy="Fetch it again.")


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    """Return the content of a file that may be compressed, by its first bytes."""
    magic = file.read(6)
    file.seek(0)
    for start, decompressor in _DECOMPRESSORS.items():
        if magic.startswith(start):
            return decompressor(file)
    return file


class _LastRead:
    """Stream that remembers the bytes of its last read."""

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


def _member_path(folder: Path, name: str) -> Path:
    path = PurePosixPath(name.replace("\\", "/"))
    # A colon in the first part is a Windows drive.
    if path.is_absolute() or ".." in path.parts or (path.parts and ":" in path.parts[0]):
        raise _unsafe(name, "leaves the folder")
    return folder.joinpath(*path.parts)


def _copy(content: Any, path: Path, limit: int, name: str) -> int:
    """Write a member of up to `limit` bytes, and return its size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with content, path.open("wb") as file:
        while block := content.read(1 << 20):
            count += len(block)
            if count > limit:
                raise ReadError(
                    f"Cannot extract {name!r}: the archive exceeds the size limit or the free disk space.",
                    remedy="Free disk space, or fetch the archive again.",
                )
            file.write(block)
    return count


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

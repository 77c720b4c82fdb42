"""Cache folders, and atomic writes of files and folders."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from platformdirs import user_cache_path

from geoxt.types import SomePath

STALE = 24 * 3600
"""Seconds without a change after which the temporary files of a killed process are removed."""
_TEMPORARY = re.compile(r"\.(?P<name>.+)-(?P<pid>[0-9]{1,10})-[a-z0-9_]{8,}")
_swept: set[Path] = set()
"""Folders whose stale files were removed in this process."""


def cache_folder(name: str = "") -> Path | None:
    """Return the folder of a cache, which may not exist yet.

    Parameters
    ----------
    name
        Subfolder of the cache: "headers", "datasets", "weights".

    Returns
    -------
    Path or None
        Below the environment variable `GEOXT_CACHE` if it is set, else below the user's cache folder
        (`~/.cache/geoxt` on Linux). `None` if `GEOXT_CACHE` is empty, which switches caching off.

    Examples
    --------
    >>> os.environ["GEOXT_CACHE"] = "/tmp/geoxt"
    >>> cache_folder("headers").as_posix()
    '/tmp/geoxt/headers'
    >>> del os.environ["GEOXT_CACHE"]
    """
    root = os.environ.get("GEOXT_CACHE")
    if root == "":
        return None
    return (Path(root) if root else user_cache_path("geoxt", appauthor=False)) / name


@contextmanager
def atomic_write(path: SomePath, *, fsync: bool = True) -> Iterator[Path]:
    """Write a file or folder under a temporary path, and move it to `path` once it is complete.

    The temporary path has the same name in a hidden folder beside `path`, so that writers which derive a format, layer
    name or sidecar from the name work unchanged. Sidecars written beside it (`.aux.xml`, `.shx`) are moved along: a
    process killed while they are moved leaves no file at `path`, never the former one beside new sidecars. If the block
    raises, nothing at `path` changes and the temporary folder is removed.

    Parameters
    ----------
    path
        Path of the result. Its folder must exist. An existing file or folder is replaced.
    fsync
        Whether to flush files to disk before the move, so that a power failure cannot leave an empty file. Pass False
        for caches that can be rebuilt. Files inside a folder are never flushed: a Zarr store has thousands.

    Yields
    ------
    Path
        Temporary path to write to.

    Raises
    ------
    OSError
        If the temporary folder cannot be created, nothing was written to the temporary path, or it cannot be moved.

    Examples
    --------
    >>> folder = Path(tempfile.mkdtemp())
    >>> with atomic_write(folder / "scores.json") as temporary:
    ...     _ = temporary.write_text("{}")
    >>> [file.name for file in folder.iterdir()]
    ['scores.json']
    """
    path = Path(path)
    remove_stale(path.parent)
    folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=temporary_prefix(path.name)))
    try:
        temporary = folder / path.name
        yield temporary
        if fsync:
            for written in folder.iterdir():
                flush(written)
        sidecars = sorted(set(folder.iterdir()) - {temporary})
        if sidecars:
            _replace_together([*sidecars, temporary], path)
        else:
            replace(temporary, path)
        if fsync:
            flush(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _replace_together(files: list[Path], path: Path) -> None:
    """Move sidecars and, as the last, their file to the folder of a path, whose former files are restored on errors."""
    former = files[0].with_name(f"{path.name}.former")
    former.mkdir()
    moved: list[Path] = []
    try:
        for file in reversed(files):
            if os.path.lexists(path.with_name(file.name)):
                path.with_name(file.name).replace(former / file.name)
        for file in files:
            file.replace(path.with_name(file.name))
            moved.append(path.with_name(file.name))
    except BaseException:
        for target in moved:
            target.unlink(missing_ok=True)
        for file in sorted(former.iterdir(), key=lambda file: file.name == path.name):
            file.replace(path.with_name(file.name))
        raise


def temporary_prefix(name: str) -> str:
    """Return the prefix of a temporary name, by which `remove_stale` recognizes it; 8 random characters follow."""
    return f".{name}-{os.getpid()}-"


def remove_stale(folder: Path) -> None:
    """Remove temporary files and folders that killed processes left in a folder more than a day ago.

    Done once per process and folder. Names have the prefix `temporary_prefix`, and the process of that number is gone.
    """
    folder = folder.absolute()
    if folder in _swept:
        return
    _swept.add(folder)
    with suppress(OSError):
        names = [match for name in os.listdir(folder) if (match := _TEMPORARY.fullmatch(name))]  # noqa: PTH208
        for match in names:
            path = folder / match.string
            if not _is_running(int(match["pid"])) and time.time() - _last_change(path) > STALE:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


def _last_change(path: Path) -> float:
    """Return the latest modification time of a file, or of a folder and all its files."""
    paths = [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]
    return max(p.lstat().st_mtime for p in paths)


def _is_running(pid: int) -> bool:
    """Return whether a process of this machine has a number; False on Windows, where `os.kill` ends processes."""
    if os.name == "nt":
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # of another user
        return True
    return True


def replace(source: Path, target: Path) -> None:
    """Rename a file or folder over another; `os.replace` alone refuses a target folder that is not empty.

    A replaced folder stays beside `source`, under its name with the suffix `.previous`.
    """
    if not target.is_dir() or target.is_symlink() or not source.is_dir():
        source.replace(target)
        return
    previous = source.with_name(f"{source.name}.previous")  # removed with the folder of the source
    target.rename(previous)
    try:
        source.rename(target)
    except OSError:
        previous.rename(target)
        raise


def flush(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk (not the entries of a folder on Windows)."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


__all__ = ["atomic_write", "cache_folder", "flush", "remove_stale", "replace", "temporary_prefix"]

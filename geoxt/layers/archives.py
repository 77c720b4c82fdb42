"""Files inside folders and archives (`.zip`, `.tar`): their paths for GDAL, and their content."""

from __future__ import annotations

import os
import re
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from geoxt.errors import ReadError
from geoxt.layers.products import is_scene_name

REMOTE = ("http://", "https://", "s3://", "gs://", "az://", "/vsi")
"""Prefixes of paths that are not on the local file system."""
ARCHIVES = {".zip": "/vsizip/", ".tar": "/vsitar/", ".tar.gz": "/vsitar/", ".tgz": "/vsitar/"}
"""GDAL's virtual file systems by file name extension."""
_INSIDE = re.compile(r"/vsi(zip|tar)/(?:\{([^}]+)\}|(.+?\.(?:zip|tar\.gz|tar|tgz)))/(.+)", re.IGNORECASE)
"""Path of a file in an archive; GDAL takes the archive's path in braces if it is ambiguous."""
_ERRORS = (OSError, tarfile.TarError, zipfile.BadZipFile)


def holds_files(path: str) -> bool:
    """Return whether a path is a local folder or an archive."""
    return not path.startswith(REMOTE) and (Path(path).is_dir() or file_system(path) is not None)


def file_system(name: str) -> str | None:
    """Return GDAL's virtual file system of an archive by its extension, or `None` for other files."""
    return next((system for extension, system in ARCHIVES.items() if name.lower().endswith(extension)), None)


def files_in(path: str) -> Iterable[str]:
    """Yield GDAL's path of every file in a folder or archive, sorted; archives of scenes in a folder are entered.

    Raises
    ------
    ReadError
        If an archive cannot be read.
    """
    system = file_system(path)
    if system is not None and not Path(path).is_dir():
        yield from (f"{system}{{{path}}}/{name}" for name in sorted(_names_in(path)))
        return
    for folder, subfolders, files in os.walk(path):
        subfolders.sort()  # os.walk enters them in this order
        for name in sorted(files):
            file = os.path.join(folder, name)  # noqa: PTH118 (keeps paths as they were given)
            if file_system(name) is not None and is_scene_name(name):
                yield from files_in(file)
            else:
                yield file


def read_bytes(path: str) -> bytes | None:
    """Return the content of a local file, in an archive or not; `None` if it does not exist.

    Raises
    ------
    ReadError
        If it exists and cannot be read.
    """
    match = _INSIDE.fullmatch(path)
    try:
        if match is None:
            return Path(path).read_bytes() if not path.startswith(REMOTE) and Path(path).is_file() else None
        archive, name = match[2] or match[3], match[4]
        if match[1] == "zip":
            with zipfile.ZipFile(archive) as zipped:
                return zipped.read(name) if name in zipped.namelist() else None
        with tarfile.open(archive) as tarred:
            entry = next((entry for entry in tarred.getmembers() if entry.name.removeprefix("./") == name), None)
            file = None if entry is None else tarred.extractfile(entry)
            return None if file is None else file.read()
    except _ERRORS as error:
        raise ReadError(f"Cannot read {path!r}: {error}.", remedy="Check that the file is complete.") from error


def _names_in(archive: str) -> list[str]:
    try:
        if file_system(archive) == "/vsizip/":
            with zipfile.ZipFile(archive) as zipped:
                return [name for name in zipped.namelist() if not name.endswith("/")]
        with tarfile.open(archive) as tarred:
            return [entry.name.removeprefix("./") for entry in tarred.getmembers() if entry.isfile()]
    except _ERRORS as error:
        problem = f"Cannot list the files of {archive!r}: {error}."
        raise ReadError(problem, remedy="Check that the archive is complete.") from error

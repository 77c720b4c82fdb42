"""Files that paths name: patterns, and the scenes of a known layer in folders, `.SAFE` trees and archives."""

from __future__ import annotations

import glob as globbing
import os
import re
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from geoxt.errors import InputError, ReadError
from geoxt.layers.exclude import SomeFlags, quality_tests
from geoxt.layers.products import FileFields, Product, is_scene_name, match_path, resolve_bands
from geoxt.types import SomePaths

REMOTE = ("http://", "https://", "s3://", "gs://", "az://", "/vsi")
ARCHIVES = {".zip": "/vsizip/", ".tar": "/vsitar/", ".tar.gz": "/vsitar/", ".tgz": "/vsitar/"}
"""GDAL's file systems by the endings of archives."""
_INSIDE = re.compile(r"/vsi(zip|tar)/(?:\{([^}]+)\}|(.+?\.(?:zip|tar\.gz|tar|tgz)))/(.+)", re.IGNORECASE)

File = tuple[str, FileFields]
"""A file of a known layer: its path, and what its name says."""


def find(paths: SomePaths, *, folders: bool = False) -> list[str]:
    """Return the files that paths and glob patterns name, sorted within each pattern.

    Parameters
    ----------
    paths
        Paths or patterns; addresses of other file systems are taken as they are.
    folders
        Whether folders are returned too: those named, and those of a pattern that are called as a scene is.

    Raises
    ------
    InputError
        Where a pattern matches nothing, or a path is not there.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    found: list[str] = []
    for one in (os.fspath(g) for g in given):
        if one.startswith(REMOTE):
            found.append(one)
            continue
        plain = Path(one).is_file() or (folders and Path(one).is_dir())
        matches = [one] if plain else sorted(globbing.glob(one, recursive=True))  # noqa: PTH207 (absolute patterns too)
        matches = [
            m for m in matches if plain or Path(m).is_file() or (folders and is_scene_name(m) and Path(m).is_dir())
        ]
        if not matches:
            where = " (a folder: add a pattern such as '*.tif')" if Path(one).is_dir() else ""
            msg = f"Cannot find any file for {one!r}{where}. Pass an existing path or a pattern that matches."
            raise InputError(msg)
        found += matches
    if not found:
        msg = "Cannot open a layer from an empty list of paths. Pass at least one file."
        raise InputError(msg)
    return list(dict.fromkeys(found))


def gather(
    paths: SomePaths, facts: Product | None, *, bands: str | Sequence[str] | None, exclude: SomeFlags
) -> tuple[list[str], Product | None]:
    """Return the files that paths name, and the layer that they are of.

    A folder or an archive stands for the files of a known layer in it, at any depth: of the bands that are asked for,
    else of those that the layer opens by itself, and of the quality bands that masking needs. Of a band in several
    pixel sizes, the file is taken that has the sensor's own, else the finest.

    Parameters
    ----------
    paths
        Files, patterns, folders, archives.
    facts
        The layer; `None` for the one that names its files as those in the folders and archives are.
    bands
        Bands that are asked for.
    exclude
        What shall be taken out, by name.

    Raises
    ------
    InputError
        Where a folder holds no such files, a band is not among them, or they may be of several layers.
    ReadError
        Where an archive cannot be read.
    """
    places = find(paths, folders=True)
    inside = {place: list(_members(place)) for place in places if _holds(place)}
    if not inside:
        return places, facts
    known = facts or _layer_of(inside)
    held = {place: _known_in(place, files, known) for place, files in inside.items()}
    every = [file for files in held.values() for file in files]
    keep = _wanted(every, known, bands, exclude, next(iter(held)))
    out: list[str] = []
    for place in places:
        out += [place] if place not in held else _native([file for file in held[place] if _is(file, keep)], known)
    return list(dict.fromkeys(out)), known


def _holds(place: str) -> bool:
    return not place.startswith(REMOTE) and (Path(place).is_dir() or _system(place) is not None)


def _system(name: str) -> str | None:
    """Return GDAL's file system for an archive, by its ending; `None` for what is no archive."""
    return next((system for ending, system in ARCHIVES.items() if name.lower().endswith(ending)), None)


def _members(place: str) -> Iterable[str]:
    """Yield the paths of all files in a folder or archive, by which GDAL opens them; archives of scenes included."""
    system = _system(place)
    if system is not None and not Path(place).is_dir():
        yield from (f"{system}{{{place}}}/{name}" for name in sorted(_listed(place)))
        return
    for folder, folders, files in os.walk(place):
        folders.sort()
        for name in sorted(files):
            path = os.path.join(folder, name)  # noqa: PTH118 (keeps paths as they were given)
            if _system(name) is not None and is_scene_name(name):
                yield from _members(path)
            else:
                yield path


def _listed(archive: str) -> list[str]:
    try:
        if _system(archive) == "/vsizip/":
            with zipfile.ZipFile(archive) as zipped:
                return [name for name in zipped.namelist() if not name.endswith("/")]
        with tarfile.open(archive) as tarred:
            return [one.name.removeprefix("./") for one in tarred.getmembers() if one.isfile()]
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        msg = f"Cannot look into {archive!r}: {error}. Is the archive whole?"
        raise ReadError(msg) from error


def read_inside(path: str) -> bytes | None:
    """Return the content of a file on disk, or in an archive on disk; `None` where there is none.

    Raises
    ------
    ReadError
        Where there is one that cannot be read.
    """
    parts = _INSIDE.fullmatch(path)
    try:
        if parts is None:
            return Path(path).read_bytes() if not path.startswith(REMOTE) and Path(path).is_file() else None
        archive, name = parts[2] or parts[3], parts[4]
        if parts[1] == "zip":
            with zipfile.ZipFile(archive) as zipped:
                return zipped.read(name) if name in zipped.namelist() else None
        with tarfile.open(archive) as tarred:
            entry = next((one for one in tarred.getmembers() if one.name.removeprefix("./") == name), None)
            file = None if entry is None else tarred.extractfile(entry)
            return None if file is None else file.read()
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        msg = f"Cannot read {path!r}: {error}. Is the file whole?"
        raise ReadError(msg) from error


def _layer_of(inside: dict[str, list[str]]) -> Product:
    """Return the one layer that names its files as those in some folders and archives are named."""
    found: dict[str, tuple[Product, str]] = {}
    common: set[str] | None = None
    for path in (path for files in inside.values() for path in files):
        fitting = [one for one in match_path(path) if one.kind != "shapes"]
        found |= {one.name: (one, path) for one in fitting if one.name not in found}
        if fitting:
            names = {one.name for one in fitting}
            common = names if common is None else common & names
    if common is not None and len(common) == 1:
        return found[common.pop()][0]
    where = ", ".join(repr(place) for place in inside)
    if not found:
        seen = _seen([path for files in inside.values() for path in files])
        msg = f"Cannot find files of any known layer in {where}: {seen}."
        raise InputError(msg + " Pass product= of a known one, or a pattern such as '*.tif' for other files.")
    named = ", ".join(f"{name} ({path!r})" for name, (_, path) in found.items())
    msg = f"Cannot choose one layer for {where}: files in it may be of {named}. Pass product= of one of these."
    raise InputError(msg)


def _known_in(place: str, files: list[str], facts: Product) -> list[File]:
    """Return the files of a layer among those of a folder or archive."""
    named = ((path, facts.identify(path)) for path in files)
    found = [(path, says) for path, says in named if says is not None]
    if not found:
        forms = " or ".join(repr(pattern) for pattern in facts.patterns) or "a form that nobody knows"
        msg = f"Cannot find files of {facts.name} in {place!r}: names of the form {forms} were looked for; "
        raise InputError(msg + f"{_seen(files)}. Pass product= of another known layer, or a pattern for other files.")
    return found


def _seen(files: list[str]) -> str:
    if not files:
        return "it holds no file"
    some = ", ".join(repr(path.rsplit("/", 1)[-1]) for path in files[:3])
    return f"it holds {len(files)} files: {some}{', …' if len(files) > 3 else ''}"


def _wanted(
    files: Sequence[File], facts: Product, bands: str | Sequence[str] | None, exclude: SomeFlags, place: str
) -> dict[str, tuple[str, ...]]:
    """Return the bands to open, and how their files may spell them where a name says it: for any, nothing."""
    held = dict.fromkeys(says.band for _, says in files)
    keep: dict[str, tuple[str, ...]]
    if bands is not None:
        asked = resolve_bands(facts, bands)
        keep = {band.name: band.files for band in asked}
        lacking = [] if None in held else [band.name for band in asked if band.name not in held]
        if lacking:
            msg = f"Cannot find the bands {lacking} in {place!r}: its files have {sorted(map(str, held))}."
            raise InputError(msg + " Pass bands=… from these.")
    else:
        usual = [b.name for b in resolve_bands(facts)] if facts.bands else []
        measured = [band.name for band in facts.bands]
        choices = ([name for name in some if name in held] for some in (usual, measured, held))
        keep = {str(name): () for name in next((some for some in choices if some), ())}
    if exclude:
        keep |= {band: () for band in quality_tests(facts, exclude, scene=files[0][1].scene) if band not in keep}
    return keep


def _is(file: File, keep: dict[str, tuple[str, ...]]) -> bool:
    band, spelt = file[1].band, file[1].file
    return band is None or (band in keep and (not keep[band] or spelt in keep[band]))


def _native(files: Sequence[File], facts: Product) -> list[str]:
    """Return one file for each band of each scene: of several pixel sizes the sensor's own, else the finest."""
    own = {band.name: band.resolution for band in (*facts.bands, *facts.extras)}
    groups: dict[tuple[str, str | None], dict[int, str]] = {}
    out: list[str] = []
    for path, says in files:
        size = re.fullmatch(r"(\d+)m", str(says.fields.get("resolution", "")))
        if size is None or says.band is None:
            out.append(path)
        else:
            groups.setdefault((says.scene, says.band), {}).setdefault(int(size[1]), path)
    for (_, band), sizes in groups.items():
        native = own.get(str(band))
        out.append(sizes[int(native)] if native in sizes else sizes[min(sizes)])
    return out

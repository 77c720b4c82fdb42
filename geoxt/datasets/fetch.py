"""Bring a dataset to disk: download, verify, extract, and leave nothing half-done.

A folder `.geoxt` below the root holds a lock, what is being extracted, and a note for each archive that is in place:
what it made, a line each.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from geoxt.datasets.catalog import get
from geoxt.datasets.download import download, require_checksum
from geoxt.datasets.extract import extract, is_archive, move_into
from geoxt.datasets.spec import Archive, Spec
from geoxt.errors import InputError, OutputError, ReadError
from geoxt.types import SomePath


def fetch(
    name: str | Spec, root: SomePath, *, checksum: bool = True, progress: bool = False, again: bool = False
) -> Path:
    """Download and extract all files of a dataset into a folder.

    Existing files are kept, and interrupted downloads resume. Processes that fetch into the same folder wait for each
    other.

    Parameters
    ----------
    name
        One of `names()`, or a spec.
    root
        Where to put it; it is made.
    checksum
        Compare every file with its published checksum before it is used.
    progress
        Show a bar for each download (with tqdm).
    again
        Extract archives anew that are in place, over what is broken or missing; those that are still there are not
        downloaded again.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ReadError
        Where a file cannot be had, is not what was published, or cannot be extracted; or where an account stands before
        it: the message then says what to put where.
    OutputError
        Where the folder cannot be written.
    """
    spec = get(name) if isinstance(name, str) else name
    place = Path(root).expanduser()
    if place.is_file():
        msg = f"Cannot fetch {spec.name!r} into {str(place)!r}: it is a file. Pass root= of a folder."
        raise OutputError(msg)
    if not any(archive.url for archive in spec.archives) and by_hand(spec, place):
        raise ReadError(_refused(spec, place))  # before a folder is made for nothing
    try:
        place.mkdir(parents=True, exist_ok=True)
        (place / ".geoxt").mkdir(exist_ok=True)
        with FileLock(place / ".geoxt" / "lock"):
            for left in (place / ".geoxt").glob("extract-*"):
                shutil.rmtree(left)
            for group in sorted(_groups(spec), key=lambda some: some[0].url is None):  # what needs no one first
                if group[0].apart and group[0].url is None and not (place / group[0].file).is_file():
                    continue
                _bring(spec, group, place, checksum=checksum, progress=progress, again=again)
    except ReadError:
        raise
    except OSError as error:
        msg = f"Cannot write {spec.name!r} to {str(place)!r}: {error}. Pass root= of a folder with room."
        raise OutputError(msg) from error
    return place


def by_hand(spec: Spec, root: Path) -> str:
    """Return the manual-download instructions for missing archives, or an empty string."""
    places: dict[str, list[str]] = {}
    for one in spec.archives:
        if not (one.url or one.apart or in_place(one, root) or (root / one.file).is_file()):
            places.setdefault(one.manual or f"See {spec.homepage}.", []).append(repr(str(root / one.file)))
    return " ".join(f"{how} Put it at {' and '.join(paths)}." for how, paths in places.items())


def _refused(spec: Spec, root: Path) -> str:
    msg = f"Cannot download {spec.name!r}: what is missing is given to people, not to programs. {by_hand(spec, root)} "
    return msg + "Then fetch again."


def in_place(archive: Archive, root: Path) -> bool:
    """Return whether all files of an archive are below the root."""
    if (root / ".geoxt" / f"{_flat(archive)}.moving").exists():
        return False
    done = root / ".geoxt" / f"{_flat(archive)}.done"
    if done.exists():
        return all((root / path).exists() for path in done.read_text(encoding="utf-8").splitlines())
    if not is_archive(archive.join or archive.file):
        return all(_begins(root, start) for start in archive.holds or (archive.file,))
    return bool(archive.holds) and all(_begins(root, start, but=archive.file) for start in archive.holds)


def _begins(root: Path, start: str, *, but: str | None = None) -> bool:
    """Tell whether any path begins so, but that of the archive itself and what has come of it."""
    path = root / start
    if start.endswith("/"):
        return path.is_dir() and any(path.iterdir())
    own = {} if but is None else {root / but, root / f"{but}.part", root / f"{but}.part.tag"}
    return path.exists() or any(other not in own for other in path.parent.glob(f"{path.name}*"))


def _groups(spec: Spec) -> list[list[Archive]]:
    """Return the archives, parts of one together."""
    groups: dict[str, list[Archive]] = {}
    for archive in spec.archives:
        groups.setdefault(archive.join or archive.file, []).append(archive)
    return list(groups.values())


def _bring(spec: Spec, group: Sequence[Archive], root: Path, *, checksum: bool, progress: bool, again: bool) -> None:
    first, target = group[0], _target(group[0], root)
    notes = root / ".geoxt"
    done = notes / f"{_flat(first)}.done"
    name = first.join or first.file
    if in_place(first, root) and not (again and is_archive(name)):
        if checksum and target.is_file() and (again or not done.exists()):
            require_checksum(first, target)
            done.write_text(_below(target, root), encoding="utf-8")
        return
    paths = [_have(spec, archive, root, checksum=checksum, progress=progress) for archive in group]
    if not is_archive(name):
        if paths[0] != target:
            target.parent.mkdir(parents=True, exist_ok=True)
            paths[0].replace(target)
        done.write_text(_below(target, root), encoding="utf-8")
        return
    folder = extract(name, paths, notes)
    made = "\n".join(_below(root / first.into / path.name, root) for path in sorted(folder.iterdir()))
    moving = notes / f"{_flat(first)}.moving"
    moving.touch()
    move_into(folder, root / first.into)
    done.write_text(made, encoding="utf-8")
    moving.unlink()


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _have(spec: Spec, archive: Archive, root: Path, *, checksum: bool, progress: bool) -> Path:
    """Return a file that is there, verified, or download it."""
    path = root / archive.file
    if path.is_file():
        if checksum:
            require_checksum(archive, path)
        return path
    if archive.url is None:
        raise ReadError(_refused(spec, root))
    if not archive.url.startswith(("http://", "https://", "ftp://", "s3://", "file://")):
        msg = f"Cannot download {archive.url!r}: only http, https, ftp and s3 are known. Mend the spec."
        raise InputError(msg)
    return download(archive, root, checksum=checksum, progress=progress)


def _target(archive: Archive, root: Path) -> Path:
    """Return where a file that is no archive belongs."""
    return root / (archive.holds[0] if archive.holds else archive.file)


def _flat(archive: Archive) -> str:
    return (archive.join or archive.file).replace("/", "_")

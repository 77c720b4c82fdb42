"""Fetch a dataset: download its archives, verify checksums and extract them, safely under interruption.

A folder `.geoxt` below the root holds a lock, unfinished extractions, and for each complete archive a text file
`*.done` that lists the extracted top-level paths, one per line.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from geoxt.datasets.catalog import get
from geoxt.datasets.download import download, require_checksum
from geoxt.datasets.extract import extract, is_archive, move_into
from geoxt.datasets.spec import Archive, Spec
from geoxt.errors import InputError, OutputError, ReadError
from geoxt.storage import STALE
from geoxt.types import SomePath


def fetch(
    name: str | Spec, root: SomePath, *, checksum: bool = True, progress: bool = False, again: bool = False
) -> Path:
    """Download and extract all files of a dataset into a folder.

    Existing files are kept, and interrupted downloads resume. A file lock serializes processes that fetch into the
    same folder.

    Parameters
    ----------
    name
        Name of a dataset (see `names`), or a spec.
    root
        Folder of the dataset; it is created if missing.
    checksum
        Verify the published checksum of every file.
    progress
        Show a progress bar for each download (needs tqdm).
    again
        Extract complete archives again, over broken or missing files. Archives on disk are not downloaded again.

    Returns
    -------
    Path
        The folder of the dataset.

    Raises
    ------
    ReadError
        If a file cannot be downloaded or extracted, or its checksum differs; also if a file has to be downloaded
        manually (the message then has the instructions).
    OutputError
        If the folder cannot be written.
    """
    spec = get(name) if isinstance(name, str) else name
    folder = Path(root).expanduser()
    if folder.is_file():
        raise OutputError(
            f"Cannot fetch {spec.name!r} into {str(folder)!r}: it is a file.",
            remedy="Pass {root} of a folder.",
            argument="root",
        )
    if not any(archive.url for archive in spec.archives) and manual_instructions(spec, folder):
        raise _manual_download_error(spec, folder)  # before an empty folder is created
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".geoxt").mkdir(exist_ok=True)
        with FileLock(folder / ".geoxt" / "lock"):
            for unfinished in (folder / ".geoxt").glob("extract-*"):
                shutil.rmtree(unfinished)
            _remove_stale_downloads(folder)
            # Downloads come first: a missing manual archive raises only after they are complete.
            for group in sorted(_groups(spec), key=lambda archives: archives[0].url is None):
                if group[0].optional and group[0].url is None and not (folder / group[0].file).is_file():
                    continue
                _fetch_group(spec, group, folder, checksum=checksum, progress=progress, again=again)
    except ReadError:
        raise
    except OSError as error:
        raise OutputError(
            f"Cannot write {spec.name!r} to {str(folder)!r}: {error}.",
            remedy="Pass {root} of a writable folder with enough disk space.",
            argument="root",
        ) from error
    return folder


def _remove_stale_downloads(folder: Path) -> None:
    """Remove temporary files of pooch (`tmp` and 8 characters), left by a process that was killed at a checksum."""
    for path in folder.glob("tmp????????"):
        if path.is_file() and not path.suffix and time.time() - path.stat().st_mtime > STALE:
            path.unlink()


def manual_instructions(spec: Spec, root: Path) -> str:
    """Return the manual-download instructions for missing archives, or an empty string."""
    targets: dict[str, list[str]] = {}
    for archive in spec.archives:
        if not (archive.url or archive.optional or is_complete(archive, root) or (root / archive.file).is_file()):
            targets.setdefault(archive.instructions or f"See {spec.homepage}.", []).append(
                repr(str(root / archive.file))
            )
    return " ".join(f"{text} Put it at {' and '.join(paths)}." for text, paths in targets.items())


def _manual_download_error(spec: Spec, root: Path) -> ReadError:
    instructions = manual_instructions(spec, root).replace("{", "{{").replace("}", "}}")
    return ReadError(
        f"Cannot download {spec.name!r}: its missing archives need a manual download.",
        remedy=f"{instructions} Then fetch again.".strip(),
    )


def is_complete(archive: Archive, root: Path) -> bool:
    """Return whether all files of an archive are below the root."""
    if (root / ".geoxt" / f"{_flat_name(archive)}.moving").exists():
        return False
    done = root / ".geoxt" / f"{_flat_name(archive)}.done"
    if done.exists():
        return all((root / path).exists() for path in done.read_text(encoding="utf-8").splitlines())
    if not is_archive(archive.part_of or archive.file):
        return all(_exists(root, prefix) for prefix in archive.members or (archive.file,))
    return bool(archive.members) and all(_exists(root, prefix, exclude=archive.file) for prefix in archive.members)


def _exists(root: Path, prefix: str, *, exclude: str | None = None) -> bool:
    """Return whether any path has the prefix, except an archive and its partial download."""
    path = root / prefix
    if prefix.endswith("/"):
        return path.is_dir() and any(path.iterdir())
    excluded = {} if exclude is None else {root / exclude, root / f"{exclude}.part", root / f"{exclude}.part.tag"}
    return path.exists() or any(other not in excluded for other in path.parent.glob(f"{path.name}*"))


def _groups(spec: Spec) -> list[list[Archive]]:
    """Return the archives, grouped by the multi-part archive that they belong to."""
    groups: dict[str, list[Archive]] = {}
    for archive in spec.archives:
        groups.setdefault(archive.part_of or archive.file, []).append(archive)
    return list(groups.values())


def _fetch_group(
    spec: Spec, group: Sequence[Archive], root: Path, *, checksum: bool, progress: bool, again: bool
) -> None:
    first, target = group[0], _target(group[0], root)
    state = root / ".geoxt"
    done = state / f"{_flat_name(first)}.done"
    name = first.part_of or first.file
    if is_complete(first, root) and not (again and is_archive(name)):
        if checksum and target.is_file() and (again or not done.exists()):
            require_checksum(first, target)
            done.write_text(_relative(target, root), encoding="utf-8")
        return
    paths = [_local_file(spec, archive, root, checksum=checksum, progress=progress) for archive in group]
    if not is_archive(name):
        if paths[0] != target:
            target.parent.mkdir(parents=True, exist_ok=True)
            paths[0].replace(target)
        done.write_text(_relative(target, root), encoding="utf-8")
        return
    folder = extract(name, paths, state)
    extracted = "\n".join(_relative(root / first.extract_to / path.name, root) for path in sorted(folder.iterdir()))
    # A crash between touch and unlink leaves `.moving`: the archive then counts as incomplete and is extracted again.
    moving = state / f"{_flat_name(first)}.moving"
    moving.touch()
    move_into(folder, root / first.extract_to)
    done.write_text(extracted, encoding="utf-8")
    moving.unlink()


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _local_file(spec: Spec, archive: Archive, root: Path, *, checksum: bool, progress: bool) -> Path:
    """Return the verified file of an archive; download it if missing."""
    path = root / archive.file
    if path.is_file():
        if checksum:
            require_checksum(archive, path)
        return path
    if archive.url is None:
        raise _manual_download_error(spec, root)
    if not archive.url.startswith(("http://", "https://", "ftp://", "s3://", "file://")):
        raise InputError(
            f"Cannot download {archive.url!r}: the scheme is not one of http, https, ftp, s3 and file.",
            remedy="Correct the URL in the spec.",
        )
    return download(archive, root, checksum=checksum, progress=progress)


def _target(archive: Archive, root: Path) -> Path:
    """Return the final path of a file that is not an archive."""
    return root / (archive.members[0] if archive.members else archive.file)


def _flat_name(archive: Archive) -> str:
    return (archive.part_of or archive.file).replace("/", "_")

"""Fetch a dataset: download its archives, verify checksums and extract them, safely under interruption.

A folder `.geoxt` below the root holds a lock, unfinished extractions, and records of complete archives (see
`geoxt.datasets.archive_records`).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from geoxt.datasets.archive_records import STATE, is_complete, moving_path, record_path, require_members, write_record
from geoxt.datasets.catalog import get
from geoxt.datasets.download import download, require_checksum
from geoxt.datasets.extract import extract, is_archive, move_into
from geoxt.datasets.parts import Part, Where, check_splits, make_part
from geoxt.datasets.spec import Archive, Spec
from geoxt.errors import GeoxtError, InputError, OutputError, ReadError
from geoxt.storage import STALE
from geoxt.types import SomePath


def fetch(
    name: str | Spec,
    root: SomePath,
    *,
    split: str | Sequence[str] | None = None,
    assets: Sequence[str] | None = None,
    where: Where | None = None,
    checksum: bool = True,
    progress: bool = False,
    force: bool = False,
    keep_archives: bool = True,
) -> Path:
    """Download and extract the files of a dataset, or of a part of it, into a folder.

    Existing files are not downloaded again, and interrupted downloads resume. A file lock serializes processes that
    fetch into the same folder. If all files exist, nothing is written.

    Parameters
    ----------
    name
        Name of a dataset (see `names`), or a spec.
    root
        Folder of the dataset; it is created if missing.
    split
        Names of splits: archives of other splits are not downloaded.
    assets
        Keys of assets: archives of others are not downloaded, and their files in shared archives not extracted.
    where
        Values by field of the paths, such as `{"season": "ROIs1158_spring"}`: archives of other values are not
        downloaded, and their files in shared archives not extracted.
    checksum
        Whether to verify the published checksums.
    progress
        Whether to show a progress bar for each download, in terminals and notebooks.
    force
        Whether to extract complete archives again, over broken or missing files. Archives on disk are not downloaded
        again.
    keep_archives
        Whether to keep archives after their extraction. If not, archives with a URL are removed; `load` and
        `Dataset.verify` do not need them.

    Returns
    -------
    Path
        The folder of the dataset.

    Raises
    ------
    InputError
        If the name, a split, an asset or a field is unknown.
    ReadError
        If a file cannot be downloaded or extracted, its checksum differs, or an archive lacks files; or if a file
        must be downloaded manually (the message has instructions).
    OutputError
        If the folder cannot be written, or its disk is full.

    Examples
    --------
    >>> import geoxt.datasets
    >>> geoxt.datasets.fetch("sen12ms", "data", assets=("image", "mask"))  # doctest: +SKIP
    """
    spec = get(name) if isinstance(name, str) else name
    splits = (split,) if isinstance(split, str) else tuple(split or ())
    check_splits(spec, splits)
    part = make_part(spec, splits=splits, assets=assets, where=where)
    folder = Path(root).expanduser()
    groups = _groups(part)
    task = _Task(part=part, root=folder, checksum=checksum, progress=progress, force=force, keep_archives=keep_archives)
    try:
        if folder.is_file():
            msg = f"Cannot fetch {spec.name!r} into {str(folder)!r}: it is a file."
            raise OutputError(msg, remedy="Pass {root} of a folder.", argument="root")
        if not any(archive.url for group in groups for archive in group) and manual_instructions(part, folder):
            raise _manual_download_error(part, folder)  # before an empty folder is created
        if task.is_finished(groups):
            return folder
        with ExitStack() as stack:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / STATE).mkdir(exist_ok=True)
                stack.enter_context(FileLock(folder / STATE / "lock"))
            except OSError:  # a read-only folder
                if not task.is_complete(groups):
                    raise
                task.verify(groups)
                return folder
            task.run(groups)
    except GeoxtError:
        raise
    except OSError as error:
        msg = f"Cannot write {spec.name!r} to {str(folder)!r}: {error}."
        remedy = "Pass {root} of a folder that can be read and written."
        raise OutputError(msg, remedy=remedy, argument="root") from error
    return folder


def _remove_stale_downloads(folder: Path) -> None:
    """Remove temporary files of pooch (`tmp` and 8 characters), left by a process that was killed at a checksum."""
    for path in folder.glob("tmp????????"):
        if path.is_file() and not path.suffix and time.time() - path.stat().st_mtime > STALE:
            path.unlink()


def manual_instructions(part: Part, root: Path) -> str:
    """Return the manual-download instructions for missing archives, or an empty string."""
    targets: dict[str, list[str]] = {}
    for archive in part.spec.archives:
        if archive.url or archive.optional or not part.prefixes(archive):
            continue
        if not (is_complete(archive, root, part) or (root / archive.file).is_file()):
            targets.setdefault(archive.instructions or f"See {part.spec.homepage}.", []).append(
                repr(str(root / archive.file))
            )
    return " ".join(f"{text} Put it at {' and '.join(paths)}." for text, paths in targets.items())


def _manual_download_error(part: Part, root: Path) -> ReadError:
    instructions = manual_instructions(part, root).replace("{", "{{").replace("}", "}}")
    return ReadError(
        f"Cannot download {part.spec.name!r}: its missing archives need a manual download.",
        remedy=f"{instructions} Then fetch again.".strip(),
    )


def _groups(part: Part) -> list[list[Archive]]:
    """Return the archives of a part, grouped by the multi-part archive that they belong to."""
    groups: dict[str, list[Archive]] = {}
    for archive in part.spec.archives:
        if part.prefixes(archive):
            groups.setdefault(archive.part_of or archive.file, []).append(archive)
    return list(groups.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """Part of a release to fetch, and options."""

    part: Part
    root: Path
    checksum: bool
    progress: bool
    force: bool
    keep_archives: bool

    def is_finished(self, groups: Sequence[Sequence[Archive]]) -> bool:
        """Whether no file is left to download, verify, extract or remove."""
        state = self.root / STATE
        if not self.is_complete(groups) or not state.is_dir() or any(state.glob("extract-*")):
            return False
        removable = () if self.keep_archives else (path for group in groups for path in self._removable(group))
        return not any(True for _ in removable) and not any(self._is_unverified(group[0]) for group in groups)

    def is_complete(self, groups: Sequence[Sequence[Archive]]) -> bool:
        """Whether no file is left to download or extract."""
        required = [group[0] for group in groups if not self._is_skipped(group)]
        return not self.force and all(is_complete(archive, self.root, self.part) for archive in required)

    def verify(self, groups: Sequence[Sequence[Archive]]) -> None:
        """Verify the checksums of files that were not downloaded by `fetch`."""
        for group in groups:
            if self._is_unverified(group[0]):
                require_checksum(group[0], _target(group[0], self.root))

    def run(self, groups: Sequence[Sequence[Archive]]) -> None:
        """Download and extract archives; the lock is held."""
        for unfinished in (self.root / STATE).glob("extract-*"):  # of killed processes: a live one holds the lock
            shutil.rmtree(unfinished)
        _remove_stale_downloads(self.root)
        # Downloads come first: a missing manual archive raises only after they are complete.
        for group in sorted(groups, key=lambda archives: archives[0].url is None):
            if not self._is_skipped(group):
                self._fetch_group(group)

    def _is_skipped(self, group: Sequence[Archive]) -> bool:
        """Whether an archive was published separately, and is absent."""
        return group[0].optional and group[0].url is None and not (self.root / group[0].file).is_file()

    def _is_unverified(self, archive: Archive) -> bool:
        """Whether a complete file has a checksum to verify."""
        if not self.checksum or is_archive(archive.part_of or archive.file) or not (archive.sha256 or archive.md5):
            return False
        return _target(archive, self.root).is_file() and not record_path(self.root, archive).exists()

    def _removable(self, group: Sequence[Archive]) -> Iterator[Path]:
        """Yield the files of an extracted archive that can be downloaded again."""
        if is_archive(group[0].part_of or group[0].file):
            yield from (path for a in group if a.url is not None and (path := self.root / a.file).is_file())

    def _fetch_group(self, group: Sequence[Archive]) -> None:
        first = group[0]
        name = first.part_of or first.file
        if is_complete(first, self.root, self.part) and not (self.force and is_archive(name)):
            if self._is_unverified(first) or (self.force and self.checksum and _target(first, self.root).is_file()):
                require_checksum(first, _target(first, self.root))
                write_record(self.root, first, [_target(first, self.root)])
        else:
            paths = [self._local_file(archive) for archive in group]
            if is_archive(name):
                self._extract(group, paths)
            else:
                target = _target(first, self.root)
                if paths[0] != target:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    paths[0].replace(target)
                write_record(self.root, first, [target])
        if not self.keep_archives:
            for path in self._removable(group):
                path.unlink()

    def _extract(self, group: Sequence[Archive], paths: Sequence[Path]) -> None:
        first = group[0]
        below = f"{first.extract_to}/" if first.extract_to else ""
        reserved = {STATE, *(a.file for a in self.part.spec.archives if is_archive(a.part_of or a.file))}
        excluded: list[str] = []

        def selects(path: str) -> bool:
            if self.part.is_filtered and not self.part.contains(f"{below}{path}"):
                excluded.append(path)
                return False
            return True

        folder = extract(
            first.part_of or first.file,
            paths,
            self.root / STATE,
            selects=selects,
            reserved=frozenset(path.removeprefix(below).lower() for path in reserved if path.startswith(below)),
        )
        try:
            require_members(self.part, group, folder, paths[0])
            extracted = [self.root / first.extract_to / path.name for path in folder.iterdir()]
            # A crash between the two lines leaves `.moving`: the archive is incomplete, and is extracted again.
            moving = moving_path(self.root, first)
            moving.touch()
            move_into(folder, self.root / first.extract_to)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        write_record(self.root, first, extracted, part=self.part if excluded else None)
        moving.unlink()

    def _local_file(self, archive: Archive) -> Path:
        """Return the verified file of an archive; download it if missing."""
        path = self.root / archive.file
        if path.is_file():
            if self.checksum:
                require_checksum(archive, path)
            return path
        if archive.url is None:
            raise _manual_download_error(self.part, self.root)
        if not archive.url.startswith(("http://", "https://", "ftp://", "s3://", "file://")):
            msg = f"Cannot download {archive.url!r}: the scheme is not one of http, https, ftp, s3 and file."
            raise InputError(msg, remedy="Correct the URL in the spec.")
        return download(archive, self.root, checksum=self.checksum, progress=self.progress)


def _target(archive: Archive, root: Path) -> Path:
    """Return the final path of a file that is not an archive."""
    return root / (archive.members[0] if archive.members else archive.file)

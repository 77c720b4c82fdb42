"""Verify a dataset on disk against its spec: missing, unreadable and extra files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from geoxt.datasets.entries import Entry, name_of
from geoxt.datasets.find_files import is_shared
from geoxt.datasets.image_windows import first_windows
from geoxt.datasets.read_sample import Reader
from geoxt.datasets.spec import FolderSplit, ListSplit
from geoxt.errors import GeoxtError
from geoxt.template import Template

SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Result of the verification of a dataset."""

    samples: int
    """Number of samples on disk; for samples that are windows of images, number of images."""
    expected: int | None
    """Number of samples of the full release, if known."""
    problems: tuple[str, ...]
    """Missing and unreadable files, one line each with the path."""
    extra: tuple[str, ...]
    """Files that the spec does not describe; they are ignored."""

    @property
    def ok(self) -> bool:
        """Whether the dataset has no problems."""
        return not self.problems

    def __str__(self) -> str:
        lines = [f"{self.samples} samples" + (f" of {self.expected}" if self.expected else "")]
        for kind, messages in (("problem", self.problems), ("extra file", self.extra)):
            lines += [f"{kind}: {message}" for message in messages[:SHOWN]]
            lines += [f"{kind}: and {len(messages) - SHOWN} more"] if len(messages) > SHOWN else []
        return "\n".join(lines)


def check(
    reader: Reader, entries: Sequence[Entry], skipped: Sequence[str], *, complete: bool, deep: bool = False
) -> Report:
    """Return a report of missing and extra files and, if `deep`, of unreadable samples."""
    spec, root = reader.spec, reader.root
    expected, count = spec.samples if complete else None, len(first_windows(entries))
    problems = list(skipped)
    described: set[str] = set()
    for entry in entries:
        for key in entry.files:
            paths = set(entry.paths(key, spec.assets[key]).values()) - described
            problems += [f"{root / path} is missing" for path in sorted(paths) if not (root / path).is_file()]
            described |= paths
        if deep:
            problems += _unreadable(reader, entry)
    if expected is not None and count != expected:
        problems.append(f"{count} samples, but the release has {expected}")
    return Report(
        samples=count,
        expected=expected,
        problems=tuple(problems),
        extra=tuple(sorted(_extra(reader, described))) if complete else (),
    )


def _unreadable(reader: Reader, entry: Entry) -> list[str]:
    try:
        reader.read(entry)
    except GeoxtError as error:
        return [f"{name_of(entry.fields)}: {error}"]
    return []


def _extra(reader: Reader, described: set[str]) -> Iterator[str]:
    """Yield the files below the root that are not assets, split lists or archives."""
    spec, root = reader.spec, reader.root
    shared = [t for asset in spec.assets.values() if is_shared(asset) for t in asset.templates]
    shared += [Template(spec.splits.path)] if isinstance(spec.splits, ListSplit) else []
    archives = {archive.file for archive in spec.archives}
    extra = spec.splits.extra if isinstance(spec.splits, FolderSplit) else ()
    others = [t for asset in spec.assets.values() for t in asset.templates] if extra else []
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if not name.startswith(".")]
        for file in files:
            path = os.path.relpath(os.path.join(folder, file), root).replace(os.sep, "/")  # noqa: PTH118
            if path in described or path in archives or any(t.match(path) is not None for t in shared):
                continue
            if not any((t.match(path) or {}).get("split") in extra for t in others):
                yield path

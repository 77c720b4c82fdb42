"""Compare a dataset on disk with its spec: what is missing, what is too much, what cannot be read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from geoxt.datasets.entries import Entry, name_of
from geoxt.datasets.find_files import is_shared
from geoxt.datasets.image_windows import first_windows
from geoxt.datasets.read_sample import Reader
from geoxt.datasets.spec import Folders, Lists
from geoxt.errors import GeoxtError
from geoxt.template import Template

SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found."""

    samples: int
    """Samples that are there; of windows, the images that they are cut from."""
    expected: int | None
    """Samples that the whole release has, where known."""
    problems: tuple[str, ...]
    """What is missing or cannot be read, each with its path."""
    extra: tuple[str, ...]
    """Files that are nothing the spec knows; they are passed over."""

    @property
    def ok(self) -> bool:
        """Whether nothing is missing or broken."""
        return not self.problems

    def __str__(self) -> str:
        lines = [f"{self.samples} samples" + (f" of {self.expected}" if self.expected else "")]
        for what, found in (("problem", self.problems), ("extra file", self.extra)):
            lines += [f"{what}: {one}" for one in found[:SHOWN]]
            lines += [f"{what}: and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        return "\n".join(lines)


def check(
    reader: Reader, entries: Sequence[Entry], left_out: Sequence[str], *, whole: bool, deep: bool = False
) -> Report:
    """Return what is missing, too much, or with `deep` cannot be read."""
    spec, root = reader.spec, reader.root
    expected, count = spec.samples if whole else None, len(first_windows(entries))
    problems = list(left_out)
    known: set[str] = set()
    for entry in entries:
        for key in entry.files:
            paths = set(entry.paths(key, spec.assets[key]).values()) - known
            problems += [f"{root / path} is missing" for path in sorted(paths) if not (root / path).is_file()]
            known |= paths
        if deep:
            problems += _unreadable(reader, entry)
    if expected is not None and count != expected:
        problems.append(f"{count} samples, where the release has {expected}")
    return Report(
        samples=count,
        expected=expected,
        problems=tuple(problems),
        extra=tuple(sorted(_extra(reader, known))) if whole else (),
    )


def _unreadable(reader: Reader, entry: Entry) -> list[str]:
    try:
        reader.read(entry)
    except GeoxtError as error:
        return [f"{name_of(entry.fields)}: {error}"]
    return []


def _extra(reader: Reader, known: set[str]) -> Iterator[str]:
    """Yield files below the folders of the dataset that no asset, list or archive is."""
    spec, root = reader.spec, reader.root
    shared = [t for asset in spec.assets.values() if is_shared(asset) for t in asset.templates]
    shared += [Template(spec.splits.path)] if isinstance(spec.splits, Lists) else []
    archives = {archive.file for archive in spec.archives}
    apart = spec.splits.apart if isinstance(spec.splits, Folders) else ()
    others = [t for asset in spec.assets.values() for t in asset.templates] if apart else []
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if not name.startswith(".")]
        for file in files:
            path = os.path.relpath(os.path.join(folder, file), root).replace(os.sep, "/")  # noqa: PTH118
            if path in known or path in archives or any(t.match(path) is not None for t in shared):
                continue
            if not any((t.match(path) or {}).get("split") in apart for t in others):
                yield path

"""Records of extracted archives, and the archives of a part of a release that are absent from a folder.

For each archive the folder `.geoxt` below the root holds a text file `*.done` that lists the extracted top-level paths,
one per line; or, if only a part of the archive was extracted, a JSON file `*.parts` that lists the parts and their
paths. A marker file `*.moving` exists while extracted files are moved.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from geoxt.datasets.extract import is_archive
from geoxt.datasets.parts import Part
from geoxt.datasets.spec import Archive
from geoxt.errors import ReadError
from geoxt.reprs import abbreviate

STATE = ".geoxt"
"""Folder of the records, below the root."""
SHOWN = 5


def record_path(root: Path, archive: Archive) -> Path:
    """Return the path of the record of a complete archive or file."""
    return root / STATE / f"{_flat_name(archive)}.done"


def moving_path(root: Path, archive: Archive) -> Path:
    """Return the path of the marker file of an unfinished move."""
    return root / STATE / f"{_flat_name(archive)}.moving"


def _flat_name(archive: Archive) -> str:
    return (archive.part_of or archive.file).replace("/", "_")


def write_record(root: Path, archive: Archive, extracted: Iterable[Path], *, part: Part | None = None) -> None:
    """Record the extracted top-level paths of an archive, or of a part of it."""
    paths = sorted(path.relative_to(root).as_posix() for path in extracted)
    done, parts = record_path(root, archive), record_path(root, archive).with_suffix(".parts")
    if part is None:
        done.write_text("\n".join(paths), encoding="utf-8")
        parts.unlink(missing_ok=True)
    elif not done.exists():
        where = {name: [str(value) for value in values] for name, values in part.where.items()}
        record = {"assets": list(part.assets), "where": where, "paths": paths}
        parts.write_text(json.dumps([*_records(parts), record]), encoding="utf-8")


def _records(path: Path) -> list[Any]:
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return []
    return records if isinstance(records, list) else []


def is_complete(archive: Archive, root: Path, part: Part) -> bool:
    """Return whether all files of a part of an archive are below the root."""
    if moving_path(root, archive).exists():
        return False
    done = record_path(root, archive)
    if done.exists():
        return all((root / path).exists() for path in done.read_text(encoding="utf-8").splitlines())
    if parts := _records(done.with_suffix(".parts")):
        return any(_covers(record, part) and all((root / p).exists() for p in record["paths"]) for record in parts)
    prefixes = part.prefixes(archive)
    if not is_archive(archive.part_of or archive.file):
        return all((root / prefix).exists() for prefix in prefixes)
    return bool(archive.members) and all(_exists(root, prefix, exclude=archive.file) for prefix in prefixes)


def _covers(record: Any, part: Part) -> bool:
    """Return whether a recorded part includes another part."""
    assets, where = record["assets"], record["where"]
    if assets and not (part.assets and set(part.assets) <= set(assets)):
        return False
    return all(
        name in part.where and {str(value) for value in part.where[name]} <= set(values)
        for name, values in where.items()
    )


def _exists(root: Path, prefix: str, *, exclude: str | None = None) -> bool:
    """Return whether any path has the prefix, except an archive and its partial download."""
    path = root / prefix
    if prefix.endswith("/"):
        return path.is_dir() and any(path.iterdir())
    excluded = {} if exclude is None else {root / exclude, root / f"{exclude}.part", root / f"{exclude}.part.tag"}
    return path.exists() or any(other not in excluded for other in path.parent.glob(f"{path.name}*"))


def require_members(part: Part, group: Sequence[Archive], folder: Path, path: Path) -> None:
    """Raise if an extracted archive lacks files of the spec.

    Parameters
    ----------
    part
        Part of the release that was extracted.
    group
        The archive, or the parts of a multi-part archive.
    folder
        Folder with the extracted files.
    path
        Path of the archive, for errors.

    Raises
    ------
    ReadError
        With the missing paths, and the paths in the archive.
    """
    below = f"{group[0].extract_to}/" if group[0].extract_to else ""
    expected = dict.fromkeys(prefix for archive in group for prefix in archive.members if part.prefixes(archive))
    required = {prefix for archive in group for prefix in part.prefixes(archive)}
    absent = [p for p in expected if p in required and not _exists(folder, p.removeprefix(below))]
    if not absent or _has_other_layout(part, folder, below):
        return
    names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in folder.iterdir())
    msg = f"Cannot use {str(path)!r}: it lacks {', '.join(f'{prefix}*' for prefix in absent)}. It has "
    msg += f"{abbreviate(names, SHOWN) or 'no files'}. Nothing was extracted."
    raise ReadError(msg, remedy="Remove it and fetch it again, or use the release that the homepage describes.")


def _has_other_layout(part: Part, folder: Path, below: str) -> bool:
    """Return whether extracted files follow an alternative path template of an asset."""
    others = [t for asset in part.spec.assets.values() for t in asset.templates[1:]]
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*")) if others else iter(())
    return any(template.match(f"{below}{path}") is not None for path in paths for template in others)


def absent_archives(part: Part, root: Path) -> Iterator[str]:
    """Yield a description of each absent archive, or folder of an archive, of a part of a release."""
    described: set[str] = set()
    for archive in part.spec.archives:
        if archive.optional or archive.assets:
            continue
        for prefix in part.prefixes(archive):
            text = part.describe(archive, prefix)
            if text not in described and part.holds_samples(prefix) and not _exists(root, prefix, exclude=archive.file):
                described.add(text)
                yield text

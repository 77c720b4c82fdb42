"""Cache of sample indexes, so that large datasets open in seconds.

A cached index is valid while the modification times of all listed folders and the relevant fields of the spec are
unchanged.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from geoxt.datasets.entries import Entry
from geoxt.datasets.sample_index import build
from geoxt.datasets.spec import ListSplit, Spec
from geoxt.storage import atomic_write, cache_folder
from geoxt.template import Template, Value

FORMAT = 2
"""Version of the file layout; an index of another version is rebuilt."""
MIN_SAMPLES = 1000
"""Minimum number of samples for which an index is cached."""


def indexed(spec: Spec, root: Path) -> tuple[list[Entry], list[str]]:
    """Return the index entries of a dataset and notes about them, from the cached index if it is valid."""
    cache_path = _cache_path(spec, root)
    folders: set[str] = set()
    with _gc_disabled():
        if cache_path is not None and (cached := _load(cache_path)) is not None:
            return cached
        entries, notes = build(spec, root, listed=folders.add)
    # Rows of arrays are not cached: counting them is faster than reading an index of them.
    in_arrays = "row" in (entries[0].fields if entries else {})
    if cache_path is not None and len(entries) >= MIN_SAMPLES and not in_arrays:
        watched = [str(root / folder) for folder in sorted(folders)]
        watched += [str(path) for path in _split_lists(spec, root)]
        _save(cache_path, entries, notes, watched)
    return entries, notes


@contextmanager
def _gc_disabled() -> Iterator[None]:
    """Disable cyclic garbage collection: it would take most of the time while millions of objects are created."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _split_lists(spec: Spec, root: Path) -> Iterable[Path]:
    if isinstance(spec.splits, ListSplit):
        yield root
        yield from (path for path, _ in Template(spec.splits.path).find(root))


def _cache_path(spec: Spec, root: Path) -> Path | None:
    """Return the path of the cached index, or None without a cache folder."""
    folder = cache_folder("datasets")
    if folder is None:
        return None
    assets = [f"{key}: {asset.path}, {asset.where}, {asset.optional}" for key, asset in spec.assets.items()]
    key_text = "\n".join([str(FORMAT), str(root.resolve()), spec.name, *assets, repr(spec.splits)])
    return folder / f"{spec.name}-{hashlib.sha256(key_text.encode()).hexdigest()[:24]}.json"


def _modification_times(paths: Sequence[str]) -> list[int]:
    return [os.stat(path).st_mtime_ns for path in paths]  # noqa: PTH116 (many files: no Path objects)


def _load(path: Path) -> tuple[list[Entry], list[str]] | None:
    """Return the cached samples and notes; `None` if a folder has changed, or the file is not an index."""
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        return _decoded(index) if _modification_times(index["watched"]) == index["stamps"] else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _decoded(index: dict[str, Any]) -> tuple[list[Entry], list[str]]:
    names, assets = index["names"], index["assets"]
    by_rule: dict[str, dict[str, Any]] = {}  # samples whose files follow the templates refer to one dict
    entries = []
    for values, files, split, problem in index["entries"]:
        fields = {name: _value(value) for name, value in zip(names, values, strict=True) if value is not None}
        slots_by_asset = {key: _slots(slots) for key, slots in zip(assets, files, strict=True) if slots != 0}
        if not any(slots_by_asset.values()):
            slots_by_asset = by_rule.setdefault(",".join(slots_by_asset), slots_by_asset)
        entries.append(Entry(fields=fields, files=slots_by_asset, listed=split, problem=problem))
    return entries, index["notes"]


def _save(path: Path, entries: Sequence[Entry], notes: list[str], watched: list[str]) -> None:
    """Write the index atomically; without write access, later calls list the folders again."""
    names = list(dict.fromkeys(name for entry in entries for name in entry.fields))
    assets = list(dict.fromkeys(key for entry in entries for key in entry.files))
    rows = [
        [
            [_text(e.fields.get(name)) for name in names],
            [_flat(e.files[key]) if key in e.files else 0 for key in assets],
            e.listed,
            e.problem,
        ]
        for e in entries
    ]
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        header = {
            "watched": watched,
            "stamps": _modification_times(watched),
            "names": names,
            "assets": assets,
            "notes": notes,
        }
        text = json.dumps(
            {**header, "entries": rows}, separators=(",", ":")
        )  # json.dump is far slower: it encodes in Python
        with atomic_write(path, fsync=False) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _flat(slots: Any) -> list[list[Any]] | None:
    return None if slots is None else [[_text(time), _text(band), path] for (time, band), path in slots.items()]


def _slots(flat: list[list[Any]] | None) -> Any:
    return None if flat is None else {(_value(time), _value(band)): path for time, band, path in flat}


def _text(value: Value | None) -> Any:
    return [value.isoformat()] if isinstance(value, datetime) else value


def _value(value: Any) -> Any:
    return datetime.fromisoformat(value[0]) if isinstance(value, list) else value

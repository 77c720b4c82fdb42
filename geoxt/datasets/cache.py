"""The index of a dataset kept beside other caches of the user, so that a large one opens in seconds.

It holds as long as every folder that was listed has the time of change that it had, and the spec says the same.
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
from geoxt.datasets.sample_index import Missing, build
from geoxt.datasets.spec import ListSplit, Spec
from geoxt.storage import atomic_write, cache_folder
from geoxt.template import Template, Value

FORMAT = 1
"""Number of the layout; an index of another is made anew."""
WORTHWHILE = 1000
"""Samples from which an index is kept."""


def indexed(spec: Spec, root: Path, *, missing: Missing = "raise") -> tuple[list[Entry], list[str]]:
    """Return the samples of a dataset and what was left out, from the cached index where it still holds."""
    place = _place(spec, root, missing)
    folders: set[str] = set()
    with _uncollected():
        if place is not None and (kept := _load(place)) is not None:
            return kept
        entries, problems = build(spec, root, listed=folders.add, missing=missing)
    rows = "row" in (entries[0].fields if entries else {})  # of arrays: quickly counted, and many
    if place is not None and len(entries) >= WORTHWHILE and not rows:
        watched = [str(root / folder) for folder in sorted(folders)]
        watched += [str(path) for path in _lists(spec, root)]
        _save(place, entries, problems, watched)
    return entries, problems


@contextmanager
def _uncollected() -> Iterator[None]:
    """Leave out the search for circles while very many objects without any are made: it takes most of the time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _lists(spec: Spec, root: Path) -> Iterable[Path]:
    if isinstance(spec.splits, ListSplit):
        yield root
        yield from (path for path, _ in Template(spec.splits.path).find(root))


def _place(spec: Spec, root: Path, missing: str) -> Path | None:
    """Return where the index is kept; `None` where nothing is to be kept."""
    folder = cache_folder("datasets")
    if folder is None:
        return None
    assets = [f"{key}: {asset.path}, {asset.only}, {asset.optional}" for key, asset in spec.assets.items()]
    says = "\n".join([str(FORMAT), str(root.resolve()), missing, spec.name, *assets, repr(spec.splits)])
    return folder / f"{spec.name}-{hashlib.sha256(says.encode()).hexdigest()[:24]}.json"


def _stamps(paths: Sequence[str]) -> list[int]:
    return [os.stat(path).st_mtime_ns for path in paths]  # noqa: PTH116 (very many, without making paths)


def _load(place: Path) -> tuple[list[Entry], list[str]] | None:
    try:
        kept = json.loads(place.read_text(encoding="utf-8"))
        if _stamps(kept["watched"]) != kept["stamps"]:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    names, assets = kept["names"], kept["assets"]
    by_rule: dict[str, dict[str, Any]] = {}  # samples whose files the templates give share what says so
    entries = []
    for values, files, split in kept["entries"]:
        fields = {name: _value(value) for name, value in zip(names, values, strict=True) if value is not None}
        own = {key: _slots(slots) for key, slots in zip(assets, files, strict=True) if slots != 0}
        if not any(own.values()):
            own = by_rule.setdefault(",".join(own), own)
        entries.append(Entry(fields=fields, files=own, listed=split))
    return entries, kept["problems"]


def _save(path: Path, entries: Sequence[Entry], problems: list[str], watched: list[str]) -> None:
    """Write the index whole; where that cannot be done, the next opening lists the folders again."""
    names = list(dict.fromkeys(name for entry in entries for name in entry.fields))
    assets = list(dict.fromkeys(key for entry in entries for key in entry.files))
    rows = [
        [
            [_text(e.fields.get(name)) for name in names],
            [_flat(e.files[key]) if key in e.files else 0 for key in assets],
            e.listed,
        ]
        for e in entries
    ]
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        head = {"watched": watched, "stamps": _stamps(watched), "names": names, "assets": assets, "problems": problems}
        text = json.dumps({**head, "entries": rows}, separators=(",", ":"))  # json.dump takes far longer
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

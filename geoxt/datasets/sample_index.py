"""The index of a dataset: every sample's fields and files, assets joined on the fields that they share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from geoxt.datasets.assets import Asset, Raster
from geoxt.datasets.entries import Entry, name_of
from geoxt.datasets.find_files import Found, find_asset, is_shared
from geoxt.datasets.spec import FieldSplit, ListSplit, Spec
from geoxt.datasets.splits import read_lists
from geoxt.errors import ReadError
from geoxt.template import Fields, Value

Missing = Literal["raise", "skip"]
SHOWN = 3


def build(
    spec: Spec, root: Path, *, listed: Callable[[str], None], missing: Missing = "raise"
) -> tuple[list[Entry], list[str]]:
    """Return the samples of a dataset in the order of their names, and what was left out and why.

    Raises
    ------
    ReadError
        Where a sample lacks files that it needs, and `missing` is "raise".
    """
    lead_key, lead = next(iter(spec.assets.items()))
    others = {k: a for k, a in spec.assets.items() if k != lead_key and not is_shared(a)}
    base = find_asset(lead, root, listed)
    entries = [
        Entry(fields=dict(zip(base.names, key, strict=True)), files={lead_key: slots})
        for key, slots in base.rows.items()
        if lead.belongs(dict(zip(base.names, key, strict=True)))
    ]
    entries.sort(key=lambda entry: [_order(value) for value in entry.fields.values()])
    unseen: list[str] = []
    if isinstance(spec.splits, ListSplit):
        entries, unseen = _with_lists(entries, read_lists(spec.splits, root), base.names)
    elif isinstance(spec.splits, FieldSplit):
        unseen = _unnamed(entries, spec.splits)
    problems = [p for p in (_incomplete(lead_key, lead, entry) for entry in entries) if p]
    for key, asset in others.items():
        entries, lost = _join(entries, key, asset, find_asset(asset, root, listed))
        problems += lost
    if problems and missing == "raise":
        raise ReadError(_says(spec, root, problems))
    bad = {problem.partition(":")[0] for problem in problems}
    if unseen:
        problems.append(f"{len(unseen):,} samples that the splits name are not there, such as {unseen[0]}")
    return [entry for entry in entries if name_of(entry.fields) not in bad], problems


def _order(value: Value | None) -> tuple[str, float, str]:
    return (type(value).__name__, float(value), "") if isinstance(value, int) else (type(value).__name__, 0, str(value))


def _with_lists(
    entries: list[Entry], lists: Iterable[tuple[str | None, Fields]], names: tuple[str, ...]
) -> tuple[list[Entry], list[str]]:
    """Tell each sample its split, and the fields that the lists say more than its path; name those not there."""
    said: dict[tuple[Value, ...], tuple[str | None, Fields]] = {}
    shared: tuple[str, ...] = ()
    for split, fields in lists:
        shared = shared or tuple(name for name in names if name in fields)
        said[tuple(fields[name] for name in shared)] = split, fields
    out = []
    for entry in entries:
        split, more = said.get(tuple(entry.fields[name] for name in shared), (None, {}))
        out.append(Entry(fields={**entry.fields, **more}, files=entry.files, listed=split))
    there = {tuple(entry.fields[name] for name in shared) for entry in entries}
    return out, [name_of(dict(zip(shared, own, strict=True))) for own in said if own not in there]


def _unnamed(entries: Sequence[Entry], splits: FieldSplit) -> list[str]:
    """Return what the splits name of which there is no sample."""
    there = {entry.fields[splits.field] for entry in entries}
    return [name_of({splits.field: one}) for some in splits.values.values() for one in some if one not in there]


def _join(entries: list[Entry], key: str, asset: Asset, found: Found) -> tuple[list[Entry], list[str]]:
    """Give each sample its files of one more asset, and say which samples have none."""
    shared = tuple(name for name in found.names if any(name in entry.fields for entry in entries))
    by_shared: dict[tuple[Value, ...], tuple[Fields, Any]] = {}
    for row, slots in found.rows.items() if shared or not found.names else ():
        fields = dict(zip(found.names, row, strict=True))
        held = by_shared.setdefault(tuple(fields[name] for name in shared), (fields, slots))
        if held[0] != fields:
            msg = f"Cannot join {key}: {name_of(held[0])} and {name_of(fields)} may both belong to one sample. "
            raise ReadError(msg + "Remove the one that does not.")
    out, lost = [], []
    for entry in entries:
        if not asset.belongs(entry.fields):
            out.append(entry)
            continue
        mine = tuple(entry.fields[name] for name in shared if name in entry.fields)
        match = by_shared.get(mine) if len(mine) == len(shared) else None
        if match is None:
            if not asset.optional:
                lost.append(f"{name_of(entry.fields)}: no {key} ({asset.templates[0].pattern})")
            out.append(entry)
            continue
        joined = Entry(fields={**entry.fields, **match[0]}, files={**entry.files, key: match[1]}, listed=entry.listed)
        problem = _incomplete(key, asset, joined)
        lost += [problem] if problem else []
        out.append(joined)
    return out, lost


def _incomplete(key: str, asset: Asset, entry: Entry) -> str | None:
    """Return which bands and times of a fixed choice a sample lacks, where its files were seen."""
    slots = entry.files[key]
    bands = asset.templates[0].choices("band") if isinstance(asset, Raster) else ()
    times = asset.templates[0].choices("time")
    if slots is None or not (bands or times):
        return None
    steps = times or sorted({time for time, _ in slots}, key=str)
    gone = [f"{t or ''}{b or ''}" for t in steps for b in bands or (None,) if (t, b) not in slots]
    return f"{name_of(entry.fields)}: no {', '.join(gone)} of {key}" if gone else None


def _says(spec: Spec, root: Path, problems: list[str]) -> str:
    shown = "; ".join(problems[:SHOWN]) + (f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else "")
    return (
        f"Cannot open {spec.name!r} in {str(root)!r}: {len(problems)} samples lack files: {shown}. "
        "Fetch it again, or pass missing='skip' to leave these samples out."
    )


__all__ = ["Entry", "Missing", "build", "name_of"]

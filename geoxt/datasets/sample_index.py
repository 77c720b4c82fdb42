"""Build the index of a dataset: fields and files of each sample, with assets joined on common fields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from geoxt.datasets.assets import Asset, Raster
from geoxt.datasets.entries import Entry, name_of
from geoxt.datasets.find_files import AssetFiles, find_asset, is_shared
from geoxt.datasets.spec import FieldSplit, ListSplit, Spec
from geoxt.datasets.splits import read_lists
from geoxt.errors import ReadError
from geoxt.reprs import abbreviate
from geoxt.template import Fields, Value

Missing = Literal["raise", "skip"]
SHOWN = 3


def build(spec: Spec, root: Path, *, listed: Callable[[str], None]) -> tuple[list[Entry], list[str]]:
    """Return the index entries of a dataset in the order of their names, and notes about missing samples.

    Entries of incomplete samples have a `problem`.

    Raises
    ------
    ReadError
        If a sample is in the lists of several splits.
    """
    lead_key, lead = next(iter(spec.assets.items()))
    others = {k: a for k, a in spec.assets.items() if k != lead_key and not is_shared(a)}
    base = find_asset(lead, root, listed)
    entries = [
        Entry(fields=dict(zip(base.names, key, strict=True)), files={lead_key: slots})
        for key, slots in base.rows.items()
        if lead.applies_to(dict(zip(base.names, key, strict=True)))
    ]
    entries.sort(key=lambda entry: [_order(value) for value in entry.fields.values()])
    absent: list[str] = []
    if isinstance(spec.splits, ListSplit):
        lists = ((split, row) for split, row in read_lists(spec.splits, root) if _is_selected(lead, row))
        entries, absent = _join_lists(entries, lists, base.names)
    elif isinstance(spec.splits, FieldSplit):
        absent = [name_of(row) for row in _absent_values(entries, spec.splits) if _is_selected(lead, row)]
    entries = [_with_problem(entry, _incomplete(lead_key, lead, entry)) for entry in entries]
    notes = [f"{len(absent):,} samples of the splits do not exist, such as {absent[0]}"] if absent else []
    for key, asset in others.items():
        files = find_asset(asset, root, listed)
        if spec.samples is None and (unused := _unused_files(entries, lead, files)):
            notes.append(f"{len(unused):,} files of {key} have no {lead_key}, such as that of {unused[0]}")
        entries = _join_asset(entries, key, asset, files)
    return entries, notes


def _unused_files(entries: Sequence[Entry], lead: Asset, files: AssetFiles) -> list[str]:
    """Return the names of an asset's files that belong to no sample."""
    common_fields = [name for name in files.names if name in lead.names]
    existing = {tuple(entry.fields[name] for name in common_fields) for entry in entries}
    rows = [dict(zip(files.names, row, strict=True)) for row in files.rows]
    return [
        name_of(row)
        for row in rows
        if _is_selected(lead, row) and tuple(row[name] for name in common_fields) not in existing
    ]


def _with_problem(entry: Entry, problem: str | None) -> Entry:
    """Return an entry with its first problem."""
    return entry if problem is None or entry.problem is not None else replace(entry, problem=problem)


def _order(value: Value | None) -> tuple[str, float, str]:
    return (type(value).__name__, float(value), "") if isinstance(value, int) else (type(value).__name__, 0, str(value))


def _join_lists(
    entries: list[Entry], lists: Iterable[tuple[str | None, Fields]], names: tuple[str, ...]
) -> tuple[list[Entry], list[str]]:
    """Return the entries with split and fields of the lists, and the names of listed samples without files."""
    rows: dict[tuple[Value, ...], tuple[str | None, Fields]] = {}
    common_fields: tuple[str, ...] = ()
    for split, fields in lists:
        common_fields = common_fields or tuple(name for name in names if name in fields)
        key = tuple(fields[name] for name in common_fields)
        other = rows[key][0] if key in rows else None
        if other is not None and split is not None and other != split:
            sample = name_of(dict(zip(common_fields, key, strict=True)))
            msg = f"Cannot split by lists: {sample} is in {other!r} and {split!r}."
            raise ReadError(msg, remedy="Remove it from one of the lists, or fetch them again.")
        rows[key] = split, fields
    out = []
    for entry in entries:
        split, extra_fields = rows.get(tuple(entry.fields[name] for name in common_fields), (None, {}))
        out.append(Entry(fields={**entry.fields, **extra_fields}, files=entry.files, listed=split))
    existing = {tuple(entry.fields[name] for name in common_fields) for entry in entries}
    return out, [name_of(dict(zip(common_fields, key, strict=True))) for key in rows if key not in existing]


def _is_selected(lead: Asset, fields: Fields) -> bool:
    """Return whether the fields of a list may be of a sample that has the first asset."""
    return all(fields[name] in values for name, values in lead.where.items() if name in fields)


def _absent_values(entries: Sequence[Entry], splits: FieldSplit) -> list[Fields]:
    """Return the field values of the splits without a sample."""
    existing = {entry.fields[splits.field] for entry in entries}
    return [{splits.field: v} for values in splits.values.values() for v in values if v not in existing]


def _join_asset(entries: list[Entry], key: str, asset: Asset, asset_files: AssetFiles) -> list[Entry]:
    """Return the entries with the files of an asset."""
    common_fields = tuple(name for name in asset_files.names if any(name in entry.fields for entry in entries))
    by_shared: dict[tuple[Value, ...], tuple[Fields, Any]] = {}
    for row, slots in asset_files.rows.items() if common_fields or not asset_files.names else ():
        fields = dict(zip(asset_files.names, row, strict=True))
        first = by_shared.setdefault(tuple(fields[name] for name in common_fields), (fields, slots))
        if first[0] != fields:
            msg = f"Cannot join {key}: {name_of(first[0])} and {name_of(fields)} may both belong to one sample."
            raise ReadError(msg, remedy="Remove the file that does not belong to it.")
    out = []
    for entry in entries:
        if not asset.applies_to(entry.fields):
            out.append(entry)
            continue
        values = tuple(entry.fields[name] for name in common_fields if name in entry.fields)
        match = by_shared.get(values) if len(values) == len(common_fields) else None
        if match is None:
            text = f"{name_of(entry.fields)}: no {key} ({asset.templates[0].pattern})"
            out.append(_with_problem(entry, None if asset.optional else text))
            continue
        joined = Entry(
            fields={**entry.fields, **match[0]},
            files={**entry.files, key: match[1]},
            listed=entry.listed,
            problem=entry.problem,
        )
        out.append(_with_problem(joined, _incomplete(key, asset, joined)))
    return out


def _incomplete(key: str, asset: Asset, entry: Entry) -> str | None:
    """Describe the bands and times that a sample lacks; `None` if it is complete or its files were not listed."""
    slots = entry.files[key]
    bands = asset.templates[0].choices("band") if isinstance(asset, Raster) else ()
    times = asset.templates[0].choices("time")
    if slots is None or not (bands or times):
        return None
    steps = times or sorted({time for time, _ in slots}, key=str)
    absent = [f"{t or ''}{b or ''}" for t in steps for b in bands or (None,) if (t, b) not in slots]
    return f"{name_of(entry.fields)}: no {', '.join(absent)} of {key}" if absent else None


def missing_files_error(spec: Spec, root: Path, problems: Sequence[str]) -> ReadError:
    """Return the error for samples without all of their files."""
    listed = abbreviate(problems, SHOWN, separator="; ")
    return ReadError(
        f"Cannot open {spec.name!r} in {str(root)!r}: {len(problems)} samples lack files: {listed}.",
        remedy="Fetch it again. Or pass {missing:'skip'} to leave these samples out.",
    )

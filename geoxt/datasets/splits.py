"""Assign samples to splits: by folder, list, field value, order, or seeded random groups."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import shapely

from geoxt.datasets.entries import Entry
from geoxt.datasets.spec import FieldSplit, FolderSplit, ListSplit, RandomSplit, SequentialSplit, Spec
from geoxt.datasets.table_rows import read_rows
from geoxt.errors import InputError
from geoxt.template import Fields, Template, Value
from geoxt.types import Array

_ROUNDING = 1e-4
"""Fraction of the smaller image up to which an overlap counts as rounding error of adjacent outlines."""


def read_lists(lists: ListSplit, root: Path) -> Iterator[tuple[str | None, Fields]]:
    """Yield the split and the fields of each row of the existing lists."""
    template = Template(lists.path)
    files = template.find(root) if root.is_dir() else iter(())
    for path, path_fields in files:
        for row_fields, _ in read_rows(path, lists.columns, separator=lists.separator):
            fields = {**path_fields, **row_fields}
            split = str(fields.pop("split")) if "split" in fields else None
            yield (lists.names.get(split, split) if split else None), fields


def assign(spec: Spec, entries: Sequence[Entry], *, footprints: Array | None = None) -> list[str | None]:
    """Return the split of each sample, or `None` for a sample of no split.

    Parameters
    ----------
    spec
        The dataset.
    entries
        All samples.
    footprints
        Image outlines (sample,), in metres; needed for random splits by blocks.
    """
    match spec.splits:
        case None:
            return [None] * len(entries)
        case FolderSplit(names=names):
            return [names.get(str(e.fields["split"]), str(e.fields["split"])) for e in entries]
        case ListSplit():
            return [e.listed for e in entries]
        case FieldSplit(field=field, values=values):
            return [
                next((name for name, members in values.items() if e.fields[field] in members), None) for e in entries
            ]
        case SequentialSplit(fractions=fractions):
            return _in_order(fractions, len(entries))
        case RandomSplit() as rule:
            return _random(rule, entries, footprints, spec.window)
        case _:
            raise AssertionError(spec.splits)


def hold_out(
    spec: Spec, entries: Sequence[Entry], fraction: float, *, seed: int = 0, footprints: Array | None = None
) -> list[bool | None]:
    """Return whether each sample is held out: a random fraction of the groups of related samples.

    `None` for a sample that is not held out and overlaps one that is.

    Parameters
    ----------
    spec
        The dataset; `spec.group` or the fields of the files identify a group.
    entries
        The samples.
    fraction
        Fraction of the groups to hold out.
    seed
        Random seed.
    footprints
        Image outlines (sample,), in metres; needed for datasets that are split by blocks.
    """
    if not 0 < fraction < 1:
        msg = f"Cannot hold out a fraction of {fraction:g}."
        raise InputError(msg, remedy="Pass {fraction} between 0 and 1.", value=fraction, argument="fraction")
    rule = spec.splits if isinstance(spec.splits, RandomSplit) else RandomSplit()
    group = spec.group or rule.group
    window = spec.window if isinstance(spec.splits, RandomSplit) and not group else None  # of one location on all dates
    rule = replace(
        rule,
        fractions={"kept": 1 - fraction, "held": fraction},
        seed=seed,
        group=group if group or window else file_fields(spec, entries),
    )
    splits = _random(rule, entries, footprints, window)
    if not {"kept", "held"} <= set(splits):
        # Classes have few groups each: hold out one group of the dataset, or all but one.
        groups = _groups(rule, entries, footprints, window)
        order = sorted(set(groups), key=lambda name: _digest(rule, name))
        held_out = order[1:] if "held" in splits else order[-1:]
        names = ["held" if group in held_out else "kept" for group in groups]
        splits = list(names) if footprints is None else _without_overlap(names, footprints, list(rule.fractions))
    return [None if split is None else split == "held" for split in splits]


def file_fields(spec: Spec, entries: Sequence[Entry]) -> tuple[str, ...]:
    """Return the fields that identify a file of the first asset, or a row of it."""
    row = ("row",) if entries and "row" in entries[0].fields else ()
    return (*spec.first_asset.names, *row)


def _in_order(fractions: Mapping[str, float], count: int) -> list[str | None]:
    """Return the split of samples in order, in consecutive ranges."""
    ends = [0, *(int(count * round(total, 9)) for total in accumulate(fractions.values()))]
    return [name for name, start, end in zip(fractions, ends, ends[1:], strict=False) for _ in range(start, end)]


def _random(
    rule: RandomSplit, entries: Sequence[Entry], footprints: Array | None, window: int | None
) -> list[str | None]:
    """Return the split of each sample: groups in the order of a hash of their names, divided by the fractions."""
    if abs(sum(rule.fractions.values()) - 1) > 1e-9 or min(rule.fractions.values()) < 0:
        msg = f"Cannot split by {dict(rule.fractions)}: the fractions are negative or sum to "
        msg = f"{msg}{sum(rule.fractions.values())} instead of 1."
        raise InputError(msg, remedy="Pass {fractions} of 0 to 1 that sum to 1.")
    groups = _groups(rule, entries, footprints, window)
    # A group by label lies in one stratum; other groups may have samples of several labels, and are not stratified.
    stratified = (not rule.group or "label" in rule.group) and rule.block is None and window is None
    strata: dict[Value | None, dict[str, bytes]] = {}
    for group, entry in zip(groups, entries, strict=True):
        stratum = entry.fields.get("label") if stratified else None
        strata.setdefault(stratum, {})[group] = _digest(rule, group)
    split_of: dict[tuple[Value | None, str], str] = {}
    for stratum, keys in strata.items():
        order = sorted(keys, key=lambda group: keys[group])
        for rank, group in enumerate(order):
            split_of[stratum, group] = _split_at(rule.fractions, (rank + 0.5) / len(order))
    splits = [split_of[e.fields.get("label") if stratified else None, g] for g, e in zip(groups, entries, strict=True)]
    return list(splits) if footprints is None else _without_overlap(splits, footprints, list(rule.fractions))


def _digest(rule: RandomSplit, group: str) -> bytes:
    """Return the hash by which groups are ordered."""
    return hashlib.sha256(f"{rule.seed}:{group}".encode()).digest()


def _groups(rule: RandomSplit, entries: Sequence[Entry], footprints: Array | None, window: int | None) -> list[str]:
    """Return the group of each sample: its block, its group fields, or all its fields."""
    if rule.block is not None and footprints is not None:
        centers = shapely.get_coordinates(shapely.centroid(footprints)) // rule.block
        return [f"{x:.0f},{y:.0f}" for x, y in centers.tolist()]
    return ["/".join(_group_parts(rule, entry, window)) for entry in entries]


def _group_parts(rule: RandomSplit, entry: Entry, window: int | None) -> Iterator[str]:
    """Yield the parts of a group's name; a window belongs to the block of its upper left pixel."""
    fields = {**entry.fields, **_derived_fields(rule, entry)}
    names = rule.group if rule.group or window else tuple(entry.fields)
    absent = [name for name in names if name not in fields]
    if absent:
        msg = f"Cannot split by {absent[0]!r}: the fields of a sample are {', '.join(fields)}."
        raise InputError(msg, remedy="Pass {group} of these names.", value=absent[0], argument="group")
    yield from (str(fields[name]) for name in names)
    if entry.crop is not None and window:
        yield f"{entry.crop.window.row // window},{entry.crop.window.col // window}"


def _derived_fields(rule: RandomSplit, entry: Entry) -> Fields:
    """Return the named groups of the rule's patterns in the fields of a sample."""
    derived: Fields = {}
    for name, pattern in rule.patterns.items():
        value = entry.fields.get(name)
        match = re.fullmatch(pattern, str(value))
        if match is None:
            msg = f"Cannot split by {', '.join(rule.group)}: {name} {value!r} does not match {pattern!r}."
            raise InputError(msg, remedy="Correct {patterns} of the split rule.", argument="patterns")
        derived |= match.groupdict()
    return derived


def _without_overlap(splits: Sequence[str], footprints: Array, order: Sequence[str]) -> list[str | None]:
    """Return the splits, with `None` for samples that overlap a sample of a later split."""
    pairs = shapely.STRtree(footprints).query(footprints, predicate="intersects").T
    rank = np.array([order.index(split) for split in splits])
    pairs = pairs[rank[pairs[:, 0]] < rank[pairs[:, 1]]]
    earlier, later = footprints[pairs[:, 0]], footprints[pairs[:, 1]]
    overlap = shapely.area(shapely.intersection(earlier, later))
    pairs = pairs[overlap > _ROUNDING * np.minimum(shapely.area(earlier), shapely.area(later))]
    out: list[str | None] = list(splits)
    for index in pairs[:, 0].tolist():
        out[index] = None
    return out


def _split_at(fractions: Mapping[str, float], position: float) -> str:
    """Return the split at a position (0 to 1) of the order."""
    total = 0.0
    for name, fraction in fractions.items():
        total += fraction
        if position < total:
            return name
    return next(reversed(list(fractions)))

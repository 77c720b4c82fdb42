"""Which split a sample is in: by folder, by lists, by name, by place in the order, or by a seeded rule of our own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
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
"""Share of an image that one beside it may seem to cover."""


def read_lists(lists: ListSplit, root: Path) -> Iterator[tuple[str | None, Fields]]:
    """Yield split and fields of each row of the lists that are there."""
    template = Template(lists.path)
    found = template.find(root) if root.is_dir() else iter(())
    for path, outer in found:
        for fields, _ in read_rows(path, lists.columns, separator=lists.separator):
            known = {**outer, **fields}
            split = str(known.pop("split")) if "split" in known else None
            yield (lists.names.get(split, split) if split else None), known


def assign(spec: Spec, entries: Sequence[Entry], *, places: Array | None = None) -> list[str | None]:
    """Return the split of each sample; `None` for those that are in none.

    Parameters
    ----------
    spec
        The dataset.
    entries
        All of its samples.
    places
        Outlines of their images (sample,), in metres, for a rule by blocks.
    """
    match spec.splits:
        case None:
            return [None] * len(entries)
        case FolderSplit(names=names):
            return [names.get(str(e.fields["split"]), str(e.fields["split"])) for e in entries]
        case ListSplit():
            return [e.listed for e in entries]
        case FieldSplit(field=field, values=values):
            return [next((s for s, some in values.items() if e.fields[field] in some), None) for e in entries]
        case SequentialSplit(fractions=fractions):
            return _in_runs(fractions, len(entries))
        case RandomSplit() as rule:
            return _by_rule(rule, entries, places, spec.window)
        case _:
            raise AssertionError(spec.splits)


def _in_runs(fractions: Mapping[str, float], count: int) -> list[str | None]:
    """Cut the order of samples by the fractions."""
    ends = [0, *(int(count * round(share, 9)) for share in accumulate(fractions.values()))]
    return [name for name, start, end in zip(fractions, ends, ends[1:], strict=False) for _ in range(start, end)]


def _by_rule(rule: RandomSplit, entries: Sequence[Entry], places: Array | None, window: int | None) -> list[str | None]:
    """Order the groups of each class by a hash of their names, and cut the order by the fractions."""
    if abs(sum(rule.fractions.values()) - 1) > 1e-9 or min(rule.fractions.values()) < 0:
        msg = f"Cannot split by {dict(rule.fractions)}: the fractions sum to {sum(rule.fractions.values())}, not to 1, "
        raise InputError(msg + "or are negative. Pass fractions= that are shares.")
    groups = _groups(rule, entries, places, window)
    alone = not rule.group and rule.block is None and window is None
    strata: dict[Value | None, dict[str, bytes]] = {}
    for group, entry in zip(groups, entries, strict=True):
        stratum = entry.fields.get("label") if alone else None
        strata.setdefault(stratum, {})[group] = hashlib.sha256(f"{rule.seed}:{group}".encode()).digest()
    of: dict[tuple[Value | None, str], str] = {}
    for stratum, keys in strata.items():
        order = sorted(keys, key=lambda group: keys[group])
        for place, group in enumerate(order):
            of[stratum, group] = _part(rule.fractions, (place + 0.5) / len(order))
    parts = [of[e.fields.get("label") if alone else None, g] for g, e in zip(groups, entries, strict=True)]
    return list(parts) if places is None else _apart(parts, places, list(rule.fractions))


def _groups(rule: RandomSplit, entries: Sequence[Entry], places: Array | None, window: int | None) -> list[str]:
    """Return the group of each sample: its block, or the fields that its group shares, or itself."""
    if rule.block is not None and places is not None:
        centres = shapely.get_coordinates(shapely.centroid(places)) // rule.block
        return [f"{x:.0f},{y:.0f}" for x, y in centres.tolist()]
    return ["/".join(_shared(rule, entry, window)) for entry in entries]


def _shared(rule: RandomSplit, entry: Entry, window: int | None) -> Iterator[str]:
    """Yield what samples of one group share; a window that was moved inwards is in the block that it begins in."""
    names = rule.group if rule.group or window else tuple(entry.fields)
    yield from (str(entry.fields[name]) for name in names)
    if entry.crop is not None and window:
        yield f"{entry.crop.window.row // window},{entry.crop.window.col // window}"


def _apart(parts: Sequence[str], places: Array, order: Sequence[str]) -> list[str | None]:
    """Take samples out of a split that overlap one of a later split by more than rounding."""
    pairs = shapely.STRtree(places).query(places, predicate="intersects").T
    rank = np.array([order.index(part) for part in parts])
    pairs = pairs[rank[pairs[:, 0]] < rank[pairs[:, 1]]]
    one, other = places[pairs[:, 0]], places[pairs[:, 1]]
    common = shapely.area(shapely.intersection(one, other))
    pairs = pairs[common > _ROUNDING * np.minimum(shapely.area(one), shapely.area(other))]
    out: list[str | None] = list(parts)
    for at in pairs[:, 0].tolist():
        out[at] = None
    return out


def _part(fractions: Mapping[str, float], at: float) -> str:
    total = 0.0
    for name, share in fractions.items():
        total += share
        if at < total:
            return name
    return next(reversed(list(fractions)))

"""Which split a sample is in: by folder, by lists, by name, by place in the order, or by a seeded rule of our own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

from geoxt.datasets.entries import Entry
from geoxt.datasets.rows import read_rows
from geoxt.datasets.spec import Folders, Lists, Named, Rule, Runs, Spec
from geoxt.errors import InputError
from geoxt.template import Fields, Template, Value

Places = Sequence[tuple[float, float]]
"""Centres of the samples' images, in metres."""


def read_lists(lists: Lists, root: Path) -> Iterator[tuple[str | None, Fields]]:
    """Yield split and fields of each row of the lists that are there."""
    template = Template(lists.path)
    found = template.find(root) if root.is_dir() else iter(())
    for path, outer in found:
        for fields, _ in read_rows(path, lists.columns, separator=lists.separator):
            known = {**outer, **fields}
            split = str(known.pop("split")) if "split" in known else None
            yield (lists.names.get(split, split) if split else None), known


def assign(spec: Spec, entries: Sequence[Entry], *, places: Places | None = None) -> list[str | None]:
    """Return the split of each sample; `None` for those that are in none.

    Parameters
    ----------
    spec
        The dataset.
    entries
        All of its samples.
    places
        Where their images lie, for a rule by blocks.
    """
    match spec.splits:
        case None:
            return [None] * len(entries)
        case Folders(names=names):
            return [names.get(str(e.fields["split"]), str(e.fields["split"])) for e in entries]
        case Lists():
            return [e.listed for e in entries]
        case Named(field=field, values=values):
            return [next((s for s, some in values.items() if e.fields[field] in some), None) for e in entries]
        case Runs(fractions=fractions):
            return _in_runs(fractions, len(entries))
        case Rule() as rule:
            return _by_rule(rule, entries, places)
        case _:
            raise AssertionError(spec.splits)


def _in_runs(fractions: Mapping[str, float], count: int) -> list[str | None]:
    """Cut the order of samples by the fractions."""
    ends = [0, *(int(count * round(share, 9)) for share in accumulate(fractions.values()))]
    return [name for name, start, end in zip(fractions, ends, ends[1:], strict=False) for _ in range(start, end)]


def _by_rule(rule: Rule, entries: Sequence[Entry], places: Places | None) -> list[str | None]:
    """Order the groups of each class by a hash of their names, and cut the order by the fractions."""
    if abs(sum(rule.fractions.values()) - 1) > 1e-9:
        msg = f"Cannot split by {dict(rule.fractions)}: the fractions sum to {sum(rule.fractions.values())}, not to 1."
        raise InputError(msg + " Pass fractions= that do.")
    groups = [_group(rule, e.fields, None if places is None else places[at]) for at, e in enumerate(entries)]
    alone = not rule.group and rule.block is None
    strata: dict[Value | None, dict[str, bytes]] = {}
    for group, entry in zip(groups, entries, strict=True):
        stratum = entry.fields.get("label") if alone else None
        strata.setdefault(stratum, {})[group] = hashlib.sha256(f"{rule.seed}:{group}".encode()).digest()
    of: dict[tuple[Value | None, str], str] = {}
    for stratum, keys in strata.items():
        order = sorted(keys, key=lambda group: keys[group])
        for place, group in enumerate(order):
            of[stratum, group] = _part(rule.fractions, (place + 0.5) / len(order))
    return [of[e.fields.get("label") if alone else None, g] for g, e in zip(groups, entries, strict=True)]


def _group(rule: Rule, fields: Mapping[str, Value], place: tuple[float, float] | None) -> str:
    if rule.block is not None and place is not None:
        return f"{place[0] // rule.block:.0f},{place[1] // rule.block:.0f}"
    names = rule.group or tuple(fields)
    return "/".join(str(fields[name]) for name in names)


def _part(fractions: Mapping[str, float], at: float) -> str:
    total = 0.0
    for name, share in fractions.items():
        total += share
        if at < total:
            return name
    return next(reversed(list(fractions)))

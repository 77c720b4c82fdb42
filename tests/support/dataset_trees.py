"""Small generated trees and archives of datasets, by their specs: real layout, dtypes and proportions."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from geoxt.datasets.assets import Asset, HDF5Array
from geoxt.datasets.spec import FieldSplit, FolderSplit, ListSplit, RandomSplit, SequentialSplit, Spec
from geoxt.template import Template, Value
from support.sample_files import SIDE, write_asset, write_table

__all__ = ["Tree", "fields_of", "make_tree", "pack"]

_EACH = 5
"""Samples of a class where our own rule splits: enough for each split to have one."""
_ACROSS = 3
"""Windows across an image, where samples are windows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A generated tree."""

    root: Path
    """Folder with the files."""
    spec: Spec
    """The spec, with as many samples as the tree has, and windows as small as its images."""
    samples: tuple[Mapping[str, Value], ...]
    """Fields of each sample, those of all assets and passed-over ones too."""
    splits: Mapping[str, int]
    """Samples of each split, where folders, lists or names say so."""


def make_tree(spec: Spec, root: Path) -> Tree:
    """Write a dataset's tree.

    Parameters
    ----------
    spec
        The dataset.
    root
        An empty folder.
    """
    samples = fields_of(spec)
    for key, asset in spec.assets.items():
        having = [fields for fields in samples if asset.applies_to(fields)]
        for path, of_file in _by_file(asset, having).items():
            write_asset(spec, key, asset, root / path, of_file, samples)
    extra = spec.splits.extra if isinstance(spec.splits, FolderSplit) else ()
    count = sum(fields.get("split") not in extra for fields in samples)
    # The samples show one value of a field without choices, and so not all archives of a release.
    archives = tuple(a for a in spec.archives if not a.members or any(_begins(root, start) for start in a.members))
    small = replace(spec, samples=count, window=spec.window and -(-SIDE // _ACROSS), archives=archives)
    return Tree(root=root, spec=small, samples=samples, splits=_write_lists(spec, root, samples))


def _begins(root: Path, start: str) -> bool:
    """Whether a path below a folder begins so."""
    path = root / start
    return path.exists() or (not start.endswith("/") and any(path.parent.glob(f"{path.name}*")))


def fields_of(spec: Spec) -> tuple[Mapping[str, Value], ...]:
    """Return the fields of samples that show every class, split and choice of a dataset once."""
    fields: dict[str, Template] = {}
    for asset in spec.assets.values():
        for template in asset.templates[:1]:
            fields |= {name: template for name in template.needs if name not in {"time", "band"}}
    if isinstance(spec.splits, ListSplit):
        held = spec.splits.columns.values() if isinstance(spec.splits.columns, Mapping) else spec.splits.columns
        for template in map(Template, held):
            fields |= {name: template for name in template.needs if name not in {*fields, "split"}}
    named = {spec.splits.field: [v for values in spec.splits.values.values() for v in values]} if isinstance(
        spec.splits, FieldSplit) else {}  # fmt: skip
    lead = [name for name in fields if not name.startswith("_") and name in spec.first_asset.names]
    wheels = [name for name in lead if name == "label" or fields[name].choices(name) or name in named]
    sizes = [len(named.get(name) or _choices(spec, name, fields[name])) for name in wheels]
    rows = isinstance(spec.first_asset, HDF5Array)
    repeats = _EACH if isinstance(spec.splits, RandomSplit) and not spec.window else 1 if wheels and not rows else 3
    repeats = max(repeats, -(-len(spec.classes or ()) // max(int(np.prod(sizes)), 1))) if rows else repeats
    count = int(np.prod(sizes)) * repeats
    out, counts = [], dict[str, int]()
    for at in range(count):
        sample_fields: dict[str, Value] = {}
        remainder = at
        for name, size in zip(wheels, sizes, strict=True):
            sample_fields[name] = (named.get(name) or _choices(spec, name, fields[name]))[remainder % size]
            remainder //= size
        for name, template in fields.items():
            if name not in sample_fields and not name.startswith("_"):
                sample_fields[name] = _value(spec, name, template, at)
        part = str(sample_fields.get("split", ""))
        if rows:
            sample_fields["row"] = counts[part] = counts.get(part, -1) + 1
        for name, template in fields.items():
            if name.startswith("_"):
                sample_fields[name] = _passed(spec, name, template, sample_fields, at)
        out.append(sample_fields)
    return tuple(out)


def _choices(spec: Spec, name: str, template: Template) -> Sequence[str]:
    if name != "label" or template.choices(name):
        return template.choices(name)
    assert spec.classes is not None
    texts = {class_name: text for text, class_name in spec.class_names.items()}
    return [_fitting(template, texts.get(class_name, class_name)) for class_name in spec.classes.names]


def _fitting(template: Template, name: str) -> str:
    """Return a class name as the form of `{label}` takes it: with blanks, underscores or neither."""
    form = template.form("label")
    spelt = (name, name.replace(" ", "_"), name.replace(" ", ""), name.replace(" ", "-"))
    return next(text for text in spelt if not form or re.fullmatch(form, text))


def _value(spec: Spec, name: str, template: Template, at: int) -> Value:
    example = spec.examples.get(name)
    if example:
        return example[at] if at < len(example) else _vary(str(example[-1]), at)
    form = template.form(name)
    if re.fullmatch(r"\d*d", form):
        return at + 1
    if "%" in form:
        day = datetime(2020, 1, 1) + timedelta(days=31 * at)  # noqa: DTZ001 - dates in names are UTC without saying so
        return datetime.strptime(day.strftime(form), form)  # noqa: DTZ007 - a month has no day
    return f"s{at:03d}"


def _vary(text: str, at: int) -> str:
    """Return an example with another last number, or last letters, of the same width."""
    digits = re.search(r"(\d+)(?=\D*$)", text)
    if digits:
        width = len(digits[1])
        return f"{text[: digits.start()]}{(int(digits[1]) + at) % 10**width:0{width}d}{text[digits.end() :]}"
    return text[:-2] + chr(97 + at // 26 % 26) + chr(97 + at % 26)


def _passed(spec: Spec, name: str, template: Template, fields: Mapping[str, Value], at: int) -> Value:
    """Return the text of an ignored field; of several choices, the one at the index of the sample's split."""
    choices = template.choices(name)
    if not choices:
        return _value(spec, name, template, 0 if name in spec.examples else at)
    splits = next((c for a in spec.assets.values() if (c := a.templates[0].choices("split"))), ())
    index = splits.index(str(fields["split"])) if fields.get("split") in splits else 0
    return choices[min(index, len(choices) - 1)]


def _by_file(asset: Asset, samples: Sequence[Mapping[str, Value]]) -> dict[str, list[Mapping[str, Value]]]:
    """Return the samples of each file of an asset, with its time and band."""
    template = asset.templates[0]
    names = template.needs
    out: dict[str, list[Mapping[str, Value]]] = {}
    for fields in samples:
        for time in _steps(template):
            for band in template.choices("band") or (None,):
                slot = {**fields, **({} if time is None else {"time": time}), **({"band": band} if band else {})}
                path = template.fill({name: slot[name] for name in names})
                out.setdefault(path, []).append(slot)
    return out


def _steps(template: Template) -> Sequence[Value | None]:
    if "time" not in template.names:
        return (None,)
    choices = template.choices("time")
    return choices or [datetime(2020, month, 1) for month in (1, 6)]  # noqa: DTZ001


def _write_lists(spec: Spec, root: Path, samples: Sequence[Mapping[str, Value]]) -> Mapping[str, int]:
    """Write the lists of a split, and return how many samples each split has."""
    match spec.splits:
        case ListSplit() as lists:
            held = lists.columns.values() if isinstance(lists.columns, Mapping) else lists.columns
            texts = next(c for p in (lists.path, *held) if (c := Template(p).choices("split")))
            listed = [{**fields, "split": texts[at % len(texts)]} for at, fields in enumerate(samples)]
            groups: dict[str, list[Mapping[str, Value]]] = {}
            for fields in listed:
                names = Template(lists.path).needs
                path = Template(lists.path).fill({name: fields[name] for name in names})
                groups.setdefault(path, []).append(fields)
            for path, rows in groups.items():
                write_table(root / path, lists.columns, rows, separator=lists.separator)
            return _counted([lists.names.get(str(fields["split"]), str(fields["split"])) for fields in listed])
        case FieldSplit(field=name, values=values):
            return _counted(
                [s for fields in samples for s, listed_values in values.items() if fields[name] in listed_values]
            )
        case RandomSplit() | SequentialSplit() | None:
            return {}
        case folders:
            return _counted([folders.names.get(str(f["split"]), str(f["split"])) for f in samples])


def _counted(splits: Sequence[str]) -> dict[str, int]:
    return {split: splits.count(split) for split in dict.fromkeys(splits)}


def pack(tree: Tree, folder: Path, url: str) -> Spec:
    """Pack a tree into the archives that its spec names, and return the spec with their addresses and checksums.

    Parameters
    ----------
    tree
        The tree.
    folder
        Where the archives go.
    url
        Where that folder is served.
    """
    files = sorted(path.relative_to(tree.root).as_posix() for path in tree.root.rglob("*") if path.is_file())
    groups: dict[str, list[Any]] = {}
    for archive in tree.spec.archives:
        groups.setdefault(archive.part_of or archive.file, []).append(archive)
    out = []
    for name, parts in groups.items():
        starts = tuple(start for part in parts for start in part.members) or (name,)
        held = [file for file in files if file.startswith(starts)]
        content = _packed(name, tree.root, held, parts[0].extract_to)
        cut = -(-len(content) // len(parts))
        for index, part in enumerate(parts):
            piece = content[index * cut : (index + 1) * cut]
            path = folder / part.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(piece)
            out.append(
                replace(
                    part,
                    url=f"{url}/{part.file}".replace(" ", "%20"),
                    md5=hashlib.md5(piece, usedforsecurity=False).hexdigest(),
                    sha256=hashlib.sha256(piece).hexdigest(),
                    size=len(piece),
                )
            )
    return replace(tree.spec, archives=tuple(out))


def _packed(name: str, root: Path, files: Sequence[str], into: str) -> bytes:
    """Return the bytes of an archive, or of a file that is none."""
    inside = [file.removeprefix(f"{into}/" if into else "") for file in files]
    out = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(out, "w") as archive:
            for file, members in zip(files, inside, strict=True):
                archive.write(root / file, members)
        return out.getvalue()
    if re.search(r"\.(tar|tgz|tbz2?)(\.|$)", name):
        mode: Any = "w:bz2" if "bz" in name else "w:gz" if "gz" in name else "w"
        with tarfile.open(fileobj=out, mode=mode) as archive:
            for file, members in zip(files, inside, strict=True):
                archive.add(root / file, members)
        return out.getvalue()
    if name.endswith((".bz2", ".gz")):
        return (bz2 if name.endswith("2") else gzip).compress((root / files[0]).read_bytes())
    return (root / files[0]).read_bytes() if files else json.dumps({}).encode()

"""Select splits, bands and assets of a dataset for `load`, and describe missing files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from geoxt.datasets.archive_records import absent_archives
from geoxt.datasets.assets import HDF5Array, Raster, Table, Vector
from geoxt.datasets.entries import Entry, name_of
from geoxt.datasets.fetch import manual_instructions
from geoxt.datasets.find_files import is_shared
from geoxt.datasets.image_windows import first_windows, instances_of_other_splits
from geoxt.datasets.labels import folder_label
from geoxt.datasets.locations import footprints
from geoxt.datasets.parts import Part, check_assets, check_splits
from geoxt.datasets.read_sample import Reader
from geoxt.datasets.sample_index import Missing, missing_files_error
from geoxt.datasets.spec import FolderSplit, ListSplit, RandomSplit, SequentialSplit, Spec
from geoxt.datasets.splits import assign
from geoxt.errors import DatasetWarning, InputError, ReadError
from geoxt.reprs import abbreviate
from geoxt.template import Template

SHOWN = 3


def check_selection(spec: Spec, splits: Sequence[str], window: int | None) -> None:
    """Raise if a split is unknown, or the images cannot be cut into windows."""
    check_splits(spec, splits)
    if window is not None:
        if spec.window or window < 1:
            reason = f"its samples are windows of {spec.window} pixels" if spec.window else "the side is not positive"
            msg = f"Cannot cut {spec.name!r} into windows of {window} pixels: {reason}."
            raise InputError(msg, remedy="Leave {window} out.", value=window, argument="window")
        replace(spec, window=window)  # raises for assets that cannot be cut


def select_release(spec: Spec, splits: Sequence[str]) -> Spec:
    """Return the spec without the separately published splits that are not selected."""
    if not isinstance(spec.splits, FolderSplit) or not spec.splits.extra:
        return spec
    key, lead = next(iter(spec.assets.items()))
    main = [name for name in spec.split_names if name not in spec.splits.extra]
    names = splits if any(name in spec.splits.extra for name in splits) else main
    texts = tuple(t for t in lead.templates[0].choices("split") if spec.splits.names.get(t, t) in names)
    return replace(spec, assets={**spec.assets, key: replace(lead, where={**lead.where, "split": texts})})


def select_split(reader: Reader, entries: list[Entry], names: Sequence[str]) -> tuple[Reader, list[Entry]]:
    """Return the reader and the entries of some splits."""
    spec, root = reader.spec, reader.root
    if isinstance(spec.splits, ListSplit) and all(entry.listed is None for entry in entries):
        files = list(Template(spec.splits.path).find(root))
        reason = "they name none of its samples" if files else "they do not exist"
        msg = f"Cannot split {spec.name!r} by the lists {spec.splits.path!r} below {str(root)!r}: {reason}."
        raise ReadError(msg, remedy="Pass {download:True} to download them.")
    count = len(first_windows(entries))
    if isinstance(spec.splits, RandomSplit | SequentialSplit) and spec.samples is not None and count != spec.samples:
        msg = f"{spec.name!r} in {str(root)!r} has {count:,} samples, the release {spec.samples:,}: its splits are "
        warnings.warn(
            f"{msg}made from the samples on disk, and differ from those of the release.", DatasetWarning, stacklevel=3
        )
    image_footprints = (
        footprints(spec, root, entries) if isinstance(spec.splits, RandomSplit) and spec.splits.block else None
    )
    splits = assign(spec, entries, footprints=image_footprints)
    for name in names:
        if name not in splits:
            raise empty_split(spec, root, name, splits)
    if isinstance(spec.splits, RandomSplit) and spec.splits.instances:
        foreign = instances_of_other_splits(reader, entries, splits, names, spec.splits.instances)
        reader = replace(reader, foreign_instances=tuple(foreign))
    return reader, [entry for entry, name in zip(entries, splits, strict=True) if name in names]


def select_bands(spec: Spec, names: str | Sequence[str] | None) -> tuple[dict[str, tuple[int, ...]], frozenset[str]]:
    """Return the indices of bands by asset, and the images without any of the bands."""
    banded = {k: a for k, a in spec.assets.items() if isinstance(a, Raster | HDF5Array) and a.bands}
    if names is None:
        return {key: tuple(range(len(asset.bands))) for key, asset in banded.items()}, frozenset()
    indices: dict[str, list[int]] = {key: [] for key in banded}
    for name in [names] if isinstance(names, str) else names:
        matches = [
            (key, index)
            for key, asset in banded.items()
            for index, band in enumerate(asset.bands)
            if name.lower() in {band.name.lower(), (band.common or "").lower()}
        ]
        if not matches:
            labels = ", ".join(f"{b.name} ({b.common})" if b.common else b.name for b in spec.bands)
            msg = f"Cannot find band {name!r} of {spec.name!r}: it has {labels or 'none'}."
            raise InputError(msg, remedy="Pass {bands} of these names.", value=name, argument="bands")
        for key, index in matches:
            indices[key].append(index)
    selected = {key: tuple(index) for key, index in indices.items() if index}
    return selected, frozenset(key for key in banded if key not in selected)


@contextmanager
def readable(spec: Spec, root: Path) -> Iterator[None]:
    """Raise a `ReadError` if a folder may not be listed in the `with` block."""
    try:
        yield
    except PermissionError as error:
        msg = f"Cannot open {spec.name!r} in {str(root)!r}: {error.strerror}: {str(error.filename or root)!r}."
        remedy = "Grant read and search permission for the folder and all folders below it."
        raise ReadError(msg, remedy=remedy) from error


def check_folder(spec: Spec, root: Path) -> None:
    """Raise if the root is not a folder, or has a partly extracted archive."""
    if root.is_file():
        msg = f"Cannot open {spec.name!r} in {str(root)!r}: it is a file."
        raise ReadError(msg, remedy="Pass {root} of its folder, and {download:True} to extract it.")
    if not root.is_dir():
        raise no_files(spec, root)
    partial = sorted(path.name for path in (root / ".geoxt").glob("*.moving"))
    if partial:
        archive = partial[0].removesuffix(".moving")
        msg = f"Cannot open {spec.name!r} in {str(root)!r}: the extraction of {archive!r} was interrupted."
        raise ReadError(msg, remedy="Fetch the dataset again, or pass {download:True}, to complete it.")


def empty_split(spec: Spec, root: Path, split: str | None, splits: Sequence[str | None] = ()) -> ReadError:
    """Return the error for a split without samples."""
    selection = "outside of separately published splits" if split is None else f"of split {split!r}"
    counts = ", ".join(f"{splits.count(name):,} of {name!r}" for name in spec.split_names if name in splits)
    archive = next((a for a in spec.archives if a.instructions and (split is None or f"{split}/" in a.members)), None)
    remedy = "Pass {download:True} to download it, or {root} of a folder with all files."
    if archive is not None:
        remedy = (
            f"{_literal(f'{archive.instructions} Put it at {str(root / archive.file)!r}')}, and pass {{download:True}}."
        )
    problem = f"Cannot find samples of {spec.name!r} {selection} in {str(root)!r}"
    return ReadError(f"{problem}: there are {counts or 'only others'}.", remedy=remedy)


def no_files(spec: Spec, root: Path) -> ReadError:
    """Return the error for a folder without samples."""
    instructions = _literal(manual_instructions(Part(spec=spec), root))
    return ReadError(
        f"Cannot find {spec.name!r} in {str(root)!r}: no file matches {spec.first_asset.templates[0].pattern!r}.",
        remedy=f"{instructions} Then pass {{download:True}}."
        if instructions
        else "Pass {download:True} to download it, or {root} of its folder.",
    )


def _literal(text: str) -> str:
    """Return text with its braces doubled, for use in a remedy."""
    return text.replace("{", "{{").replace("}", "}}")


def check_classes(spec: Spec, root: Path, entries: Sequence[Entry]) -> None:
    """Raise on folders that are not classes, and warn of classes without samples."""
    if "label" not in spec.first_asset.names or spec.classes is None:
        return
    texts: dict[str, Entry] = {}
    for entry in entries:
        texts.setdefault(str(entry.fields["label"]), entry)
    key = next(iter(spec.assets))
    codes = {
        folder_label(spec, text, str(root / next(iter(entry.paths(key, spec.first_asset).values()))))
        for text, entry in texts.items()
    }
    absent = [spec.classes.name(code) for code in spec.classes.codes if code not in codes]
    if absent:
        msg = f"{spec.name!r} in {str(root)!r} has no samples of {len(absent)} of its classes: {', '.join(absent)}."
        warnings.warn(msg, DatasetWarning, stacklevel=3)


def select_assets(spec: Spec, keys: Sequence[str] | None) -> Spec:
    """Return the spec with a subset of its assets, by key.

    Raises
    ------
    InputError
        If a key is unknown.
    """
    if keys is None:
        return spec
    check_assets(spec, keys)
    return replace(spec, assets={key: asset for key, asset in spec.assets.items() if key in set(keys)})


def without_assets(spec: Spec, excluded: frozenset[str]) -> Spec:
    """Return the spec without assets that are not read, so that their files may be missing.

    The first asset, which identifies the samples, and assets whose grid others use are kept.
    """
    first = next(iter(spec.assets))
    used = {first, *(asset.like for asset in spec.assets.values() if isinstance(asset, Vector))}
    assets = {key: asset for key, asset in spec.assets.items() if key in used or key not in excluded}
    return replace(spec, assets=assets)


def check_archives(part: Part, root: Path, *, missing: Missing) -> list[str]:
    """Return descriptions of absent archives of a part of a release.

    Raises
    ------
    ReadError
        If archives are absent, and `missing` is "raise".
    """
    absent = list(absent_archives(part, root))
    if absent and missing == "raise":
        listed = abbreviate(absent, SHOWN, separator="; ")
        options = [
            *(["{split}"] if isinstance(part.spec.splits, FolderSplit) else []),
            *(["{assets}"] if len(part.spec.assets) > 1 else []),
            "{where}",
        ]
        msg = f"Cannot open all of {part.spec.name!r} in {str(root)!r}: it lacks the files of {listed}."
        remedy = f"Pass {{download:True}} to download them. Or pass {', '.join(options)} of a part of the release. "
        remedy += "Or pass {missing:'skip'} for the samples on disk."
        raise ReadError(msg, remedy=remedy)
    return [f"the files of {text} are absent" for text in absent]


def complete_samples(reader: Reader, entries: Sequence[Entry], *, missing: Missing) -> tuple[list[Entry], list[str]]:
    """Return the entries of samples with all files and table rows, and descriptions of the others.

    Rows of tables are looked up if `missing` is "skip" only: otherwise reading the sample raises.

    Raises
    ------
    ReadError
        If files are missing, and `missing` is "raise".
    """
    problems = list(dict.fromkeys(entry.problem for entry in entries if entry.problem is not None))
    if problems and missing == "raise":
        raise missing_files_error(reader.spec, reader.root, problems)
    complete = [entry for entry in entries if entry.problem is None]
    if missing == "raise":
        return complete, problems
    for key, asset in reader.spec.assets.items():
        if isinstance(asset, Table) and is_shared(asset) and not asset.optional and key not in reader.excluded:
            absent = {id(e) for e in complete if asset.applies_to(e.fields) and not reader.has_row(key, asset, e)}
            problems += [f"{name_of(e.fields)}: no row of {key} ({asset.path})" for e in complete if id(e) in absent]
            complete = [e for e in complete if id(e) not in absent]
    return complete, problems

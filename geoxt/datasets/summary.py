"""The facts of a dataset in words: splits, sizes, classes, counts and a summary of all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from geoxt.datasets.assets import Raster
from geoxt.datasets.catalog import get
from geoxt.datasets.spec import Archive, FieldSplit, FolderSplit, ListSplit, RandomSplit, SequentialSplit, Spec


def describe(name: str | Spec) -> str:
    """Return the facts of a dataset as text: task, sizes, splits, classes, bands, files and licence.

    Parameters
    ----------
    name
        One of `names()`, or a spec.

    Raises
    ------
    InputError
        If no dataset has this name.

    Examples
    --------
    >>> print(describe("EuroSAT").splitlines()[0])
    EuroSAT (eurosat): classification
    """
    spec = get(name) if isinstance(name, str) else name
    lines = [f"{spec.title} ({spec.name}): {spec.task}", ""]
    lines += [f"{what:<12}{value}" for what, value in _facts(spec) if value]
    for title, rows in (
        ("classes", [f"{code} {name}" for code, name in zip(*_classes(spec), strict=True)]),
        ("levels", [f"{name}: {len(level.classes)} classes" for name, level in spec.levels.items()]),
        ("bands", [f"{b.name} {b.common or ''} {number_words(b.wavelength)}".rstrip() for b in spec.bands]),
        ("samples", [f"{key}: {_path(asset.path)}" for key, asset in spec.assets.items()]),
        ("files", [_archive(archive) for archive in spec.archives]),
        ("to know", [*spec.quirks, *(f"unverified: {fact}" for fact in spec.unverified)]),
    ):
        lines += ["", f"{title}:", *(f"  {row}" for row in rows)] if rows else []
    return "\n".join(lines)


def split_words(spec: Spec) -> str:
    """Return how a dataset is split, in words."""
    sizes = ", ".join(f"{name} {count:,}" for name, count in spec.sizes.items())
    match spec.splits:
        case None:
            return "none"
        case RandomSplit() as rule:
            return f"ours, {rule.words(spec.window)}"
        case FolderSplit(apart=apart) if apart:
            own, more = (
                ", ".join(f"{name} {count:,}" for name, count in spec.sizes.items() if (name in apart) is further)
                for further in (False, True)
            )
            return f"official: {own}; apart from it: {more or ', '.join(apart)}"
        case ListSplit(official=False):
            return f"lists by others: {sizes or ', '.join(spec.split_names)}"
        case FolderSplit() | ListSplit() | FieldSplit() | SequentialSplit():
            return f"official: {sizes or ', '.join(spec.split_names)}"
        case _:
            raise AssertionError(spec.splits)


def size_words(spec: Spec) -> str:
    """Return the size of the images in pixels."""
    first = next((a for a in spec.assets.values() if isinstance(a, Raster)), None)
    whole = spec.size or (f"{first.shape[0]:,}x{first.shape[1]:,}" if first else "")
    return f"{spec.window}x{spec.window} of {whole}" if spec.window else whole


def class_words(spec: Spec) -> str:
    """Return the number of classes, without those that mean that there is no label."""
    without = {code for asset in spec.assets.values() for code in getattr(asset, "ignore", ())}
    counts = {name: len({*level.classes.codes} - without) for name, level in spec.levels.items()}
    more = "; ".join(f"`{name}` {count}" for name, count in counts.items())
    own = str(len({*spec.classes.codes} - without)) if spec.classes else "-"
    return f"{own} ({more})" if more else own


def sum_words(spec: Spec) -> str:
    """Return the number of samples, as far as it is known; of windows, images times windows of each."""
    total = spec.samples or sum(spec.sizes.values())
    each = f" x {spec.windows} windows" if spec.window else ""
    return f"{total:,}{each}" if total else "?"


def _facts(spec: Spec) -> Iterable[tuple[str, str]]:
    yield "source", spec.source
    yield "samples", sum_words(spec)
    yield "splits", split_words(spec)
    yield "size", f"{size_words(spec)} pixels"
    yield "resolution", " to ".join(number_words(value) for value in spec.resolution) + " m"
    yield "licence", spec.licence or "none stated"
    yield "cite", spec.cite
    yield "homepage", spec.homepage


def _classes(spec: Spec) -> tuple[Sequence[int], Sequence[str]]:
    return (spec.classes.codes, spec.classes.names) if spec.classes else ((), ())


def _path(path: str | tuple[str, ...]) -> str:
    return path if isinstance(path, str) else " or ".join(path)


def _archive(archive: Archive) -> str:
    size = f" ({archive.size / 1e9:.2f} GB)" if archive.size else ""
    return f"{archive.file}{size} {archive.url or archive.manual or ''}".rstrip()


def number_words(value: float | None) -> str:
    """Return a number with thousands separators, an empty string for `None`."""
    return "" if value is None else f"{value:,g}" if value < 1000 else f"{value:,.0f}"

"""Text summaries of dataset specs: splits, sizes, classes and sample counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from geoxt.datasets.assets import Raster
from geoxt.datasets.catalog import get
from geoxt.datasets.spec import Archive, FieldSplit, FolderSplit, ListSplit, RandomSplit, SequentialSplit, Spec


def describe(name: str | Spec) -> str:
    """Return a summary of a dataset as text: task, sizes, splits, classes, bands, files and license.

    Parameters
    ----------
    name
        Name of a dataset (see `names`), or a spec.

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
    lines += [f"{heading:<12}{value}" for heading, value in _metadata(spec) if value]
    for title, rows in (
        ("classes", [f"{code} {name}" for code, name in zip(*_classes(spec), strict=True)]),
        ("levels", [f"{name}: {len(level.classes)} classes" for name, level in spec.levels.items()]),
        ("bands", [f"{b.name} {b.common or ''} {format_number(b.wavelength)}".rstrip() for b in spec.bands]),
        ("samples", [f"{key}: {_path(asset.path)}" for key, asset in spec.assets.items()]),
        ("files", [_archive(archive) for archive in spec.archives]),
        ("to know", [*spec.quirks, *(f"unverified: {field}" for field in spec.unverified)]),
    ):
        lines += ["", f"{title}:", *(f"  {row}" for row in rows)] if rows else []
    return "\n".join(lines)


def format_splits(spec: Spec) -> str:
    """Return a description of the splits of a dataset."""
    sizes = ", ".join(f"{name} {count:,}" for name, count in spec.split_sizes.items())
    match spec.splits:
        case None:
            return "none"
        case RandomSplit() as rule:
            return f"ours, {rule.describe(spec.window)}"
        case FolderSplit(extra=extra) if extra:
            main, separate = (
                ", ".join(
                    f"{name} {count:,}" for name, count in spec.split_sizes.items() if (name in extra) is is_separate
                )
                for is_separate in (False, True)
            )
            return f"official: {main}; extra: {separate or ', '.join(extra)}"
        case ListSplit(official=False):
            return f"lists by others: {sizes or ', '.join(spec.split_names)}"
        case FolderSplit() | ListSplit() | FieldSplit() | SequentialSplit():
            return f"official: {sizes or ', '.join(spec.split_names)}"
        case _:
            raise AssertionError(spec.splits)


def format_size(spec: Spec) -> str:
    """Return the size of the images in pixels."""
    raster = next((a for a in spec.assets.values() if isinstance(a, Raster)), None)
    size = spec.image_size or (f"{raster.shape[0]:,}x{raster.shape[1]:,}" if raster else "")
    return f"{spec.window}x{spec.window} of {size}" if spec.window else size


def format_classes(spec: Spec) -> str:
    """Return the number of classes, excluding ignored codes."""
    ignored = {code for asset in spec.assets.values() for code in getattr(asset, "ignore", ())}
    counts = {name: len({*level.classes.codes} - ignored) for name, level in spec.levels.items()}
    levels = "; ".join(f"`{name}` {count}" for name, count in counts.items())
    class_count = str(len({*spec.classes.codes} - ignored)) if spec.classes else "-"
    return f"{class_count} ({levels})" if levels else class_count


def format_samples(spec: Spec) -> str:
    """Return the number of samples, or `?`; for windows, the number of images times windows per image."""
    total = spec.samples or sum(spec.split_sizes.values())
    windows = f" x {spec.windows} windows" if spec.window else ""
    return f"{total:,}{windows}" if total else "?"


def _metadata(spec: Spec) -> Iterable[tuple[str, str]]:
    yield "source", spec.source
    yield "samples", format_samples(spec)
    yield "splits", format_splits(spec)
    yield "size", f"{format_size(spec)} pixels"
    yield "resolution", " to ".join(format_number(value) for value in spec.resolution) + " m"
    yield "license", spec.license or "none stated"
    yield "cite", spec.cite
    yield "homepage", spec.homepage


def _classes(spec: Spec) -> tuple[Sequence[int], Sequence[str]]:
    return (spec.classes.codes, spec.classes.names) if spec.classes else ((), ())


def _path(path: str | tuple[str, ...]) -> str:
    return path if isinstance(path, str) else " or ".join(path)


def _archive(archive: Archive) -> str:
    size = f" ({archive.size / 1e9:.2f} GB)" if archive.size else ""
    return f"{archive.file}{size} {archive.url or archive.instructions or ''}".rstrip()


def format_number(value: float | None) -> str:
    """Return a number with thousands separators, or an empty string for None."""
    return "" if value is None else f"{value:,g}" if value < 1000 else f"{value:,.0f}"

"""The catalogue as tables of text: what the paper's Tables 1 and 2 show, from the specs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from geoxt.datasets.assets import Raster
from geoxt.datasets.catalog import info, names
from geoxt.datasets.spec import Archive, Folders, Lists, Named, Rule, Runs, Spec
from geoxt.layers.products import get as layer_spec
from geoxt.layers.products import names as layer_names
from geoxt.tasks import TASKS


def benchmark_table() -> str:
    """Return the benchmark datasets as a table in Markdown, as Table 1 of the paper has them."""
    head = ("dataset", "name", "task", "source", "samples", "classes", "size (px)", "resolution (m)", "bands", "splits")
    return _markdown(head, [_row(info(name)) for name in names()])


def layer_table() -> str:
    """Return the known layers as a table in Markdown, as Table 2 of the paper has them."""
    rows = []
    for name in layer_names():
        spec = layer_spec(name)
        what = _many(len(spec.legend), "class", "classes") if spec.legend else _many(len(spec.bands), "band", "bands")
        sizes = [spec.resolution] if spec.resolution else [b.resolution for b in spec.bands if b.resolution]
        unknown = "-" if spec.kind == "shapes" else "varies"
        resolution = "-".join(map(_number, sorted({min(sizes), max(sizes)}))) if sizes else unknown
        rows.append((spec.title, f"`{name}`", spec.kind, what, resolution, spec.licence or "none stated"))
    return _markdown(("layer", "name", "kind", "what", "resolution (m)", "licence"), rows)


def corrections() -> str:
    """Return where Table 1 of the paper says other than the releases, as a list in Markdown."""
    return "\n".join(f"* {info(name).title}: {info(name).paper}." for name in names() if info(name).paper)


def gallery() -> str:
    """Return the pictures of samples, which the build of the docs draws, in Markdown."""
    return "\n\n".join(f"![A sample of {info(name).title}](_static/datasets/{name}.png)" for name in names())


def describe(spec: Spec) -> str:
    """Return all that is known of a dataset, for people."""
    lines = [f"{spec.title} ({spec.name}): {spec.task}", ""]
    lines += [f"{what:<12}{value}" for what, value in _facts(spec) if value]
    for title, rows in (
        ("classes", [f"{code} {name}" for code, name in zip(*_classes(spec), strict=True)]),
        ("levels", [f"{name}: {len(level.classes)} classes" for name, level in spec.levels.items()]),
        ("bands", [f"{b.name} {b.common or ''} {_number(b.wavelength)}".rstrip() for b in spec.bands]),
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
        case Rule() as rule:
            return f"ours, {rule.words(spec.window)}"
        case Folders(apart=apart) if apart:
            own, more = (
                ", ".join(f"{name} {count:,}" for name, count in spec.sizes.items() if (name in apart) is further)
                for further in (False, True)
            )
            return f"official: {own}; apart from it: {more or ', '.join(apart)}"
        case Lists(official=False):
            return f"lists by others: {sizes or ', '.join(spec.split_names)}"
        case Folders() | Lists() | Named() | Runs():
            return f"official: {sizes or ', '.join(spec.split_names)}"
        case _:
            raise AssertionError(spec.splits)


def size_words(spec: Spec) -> str:
    """Return the size of the images in pixels."""
    first = next((a for a in spec.assets.values() if isinstance(a, Raster)), None)
    whole = spec.size or (f"{first.shape[0]:,}x{first.shape[1]:,}" if first else "")
    return f"{spec.window}x{spec.window} of {whole}" if spec.window else whole


def _row(spec: Spec) -> tuple[str, ...]:
    return (
        spec.title,
        f"`{spec.name}`",
        TASKS[spec.task].letter,
        spec.source,
        sum_words(spec),
        class_words(spec),
        size_words(spec),
        "-".join(_number(value) for value in spec.resolution),
        spec.modality,
        split_words(spec),
    )


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
    yield "resolution", " to ".join(_number(value) for value in spec.resolution) + " m"
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


def _many(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,g}" if value < 1000 else f"{value:,.0f}"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)


def filled(text: str) -> str:
    """Return a page of the docs with its tables made anew."""
    for name, content in (
        ("table 1", benchmark_table()),
        ("pictures", gallery()),
        ("corrections", corrections()),
        ("table 2", layer_table()),
    ):
        start, end = f"<!-- {name}", f"<!-- end of {name} -->"
        before, _, rest = text.partition(start)
        head, _, inside = rest.partition("-->\n")
        _, _, after = inside.partition(end)
        text = f"{before}{start}{head}-->\n\n{content}\n\n{end}{after}"
    return text


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")

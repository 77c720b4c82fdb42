"""Markdown tables of the dataset and product catalogs: Tables 1 and 2 of the paper, from the specs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from geoxt.datasets.catalog import get, names
from geoxt.datasets.spec import Spec
from geoxt.datasets.summary import format_classes, format_number, format_samples, format_size, format_splits
from geoxt.layers import products
from geoxt.tasks import TASKS


def benchmark_table() -> str:
    """Return the benchmark datasets as a Markdown table, with the columns of Table 1 of the paper."""
    head = ("dataset", "name", "task", "source", "samples", "classes", "size (px)", "resolution (m)", "bands", "splits")
    return _markdown_table(head, [_row(get(name)) for name in names()])


def layer_table() -> str:
    """Return the known products as a Markdown table, with the columns of Table 2 of the paper."""
    rows = []
    for name in products.names():
        spec = products.get(name)
        contents = (
            _count(len(spec.legend), "class", "classes") if spec.legend else _count(len(spec.bands), "band", "bands")
        )
        sizes = [spec.resolution] if spec.resolution else [b.resolution for b in spec.bands if b.resolution]
        unknown = "-" if spec.kind == "shapes" else "varies"
        resolution = "-".join(map(format_number, sorted({min(sizes), max(sizes)}))) if sizes else unknown
        rows.append((spec.title, f"`{name}`", spec.kind, contents, resolution, spec.license or "none stated"))
    return _markdown_table(("product", "name", "kind", "content", "resolution (m)", "license"), rows)


def corrections() -> str:
    """Return the corrections of Table 1 of the paper as a Markdown list."""
    return "\n".join(
        f"* {get(name).title}: {get(name).paper_differences}." for name in names() if get(name).paper_differences
    )


def gallery() -> str:
    """Return Markdown images of samples; the docs build draws the figures."""
    return "\n\n".join(f"![A sample of {get(name).title}](../_static/datasets/{name}.png)" for name in names())


def _row(spec: Spec) -> tuple[str, ...]:
    return (
        spec.title,
        f"`{spec.name}`",
        TASKS[spec.task].letter,
        spec.source,
        format_samples(spec),
        format_classes(spec),
        format_size(spec),
        "-".join(format_number(value) for value in spec.resolution),
        spec.modality,
        format_splits(spec),
    )


def _count(count: int, singular: str, plural: str) -> str:
    return f"{count} {singular if count == 1 else plural}"


def _markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)


def render_page(text: str) -> str:
    """Return a docs page with its tables generated from the specs."""
    for name, content in (
        ("table 1", benchmark_table()),
        ("pictures", gallery()),
        ("corrections", corrections()),
        ("table 2", layer_table()),
    ):
        start, end = f"<!-- {name}", f"<!-- end of {name} -->"
        before, _, remainder = text.partition(start)
        comment, _, section = remainder.partition("-->\n")
        _, _, after = section.partition(end)
        text = f"{before}{start}{comment}-->\n\n{content}\n\n{end}{after}"
    return text


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(render_page(page.read_text(encoding="utf-8")), encoding="utf-8")

"""The catalogue as tables of text: what the paper's Tables 1 and 2 show, from the specs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from geoxt.datasets.catalog import get, names
from geoxt.datasets.spec import Spec
from geoxt.datasets.summary import class_words, number_words, size_words, split_words, sum_words
from geoxt.layers.products import get as layer_spec
from geoxt.layers.products import names as layer_names
from geoxt.tasks import TASKS


def benchmark_table() -> str:
    """Return the benchmark datasets as a table in Markdown, as Table 1 of the paper has them."""
    head = ("dataset", "name", "task", "source", "samples", "classes", "size (px)", "resolution (m)", "bands", "splits")
    return _markdown(head, [_row(get(name)) for name in names()])


def layer_table() -> str:
    """Return Table 2 of the paper, the known products, in Markdown."""
    rows = []
    for name in layer_names():
        spec = layer_spec(name)
        what = _many(len(spec.legend), "class", "classes") if spec.legend else _many(len(spec.bands), "band", "bands")
        sizes = [spec.resolution] if spec.resolution else [b.resolution for b in spec.bands if b.resolution]
        unknown = "-" if spec.kind == "shapes" else "varies"
        resolution = "-".join(map(number_words, sorted({min(sizes), max(sizes)}))) if sizes else unknown
        rows.append((spec.title, f"`{name}`", spec.kind, what, resolution, spec.licence or "none stated"))
    return _markdown(("product", "name", "kind", "content", "resolution (m)", "license"), rows)


def corrections() -> str:
    """Return where Table 1 of the paper says other than the releases, as a list in Markdown."""
    return "\n".join(f"* {get(name).title}: {get(name).paper}." for name in names() if get(name).paper)


def gallery() -> str:
    """Return the pictures of samples, which the build of the docs draws, in Markdown."""
    return "\n\n".join(f"![A sample of {get(name).title}](_static/datasets/{name}.png)" for name in names())


def _row(spec: Spec) -> tuple[str, ...]:
    return (
        spec.title,
        f"`{spec.name}`",
        TASKS[spec.task].letter,
        spec.source,
        sum_words(spec),
        class_words(spec),
        size_words(spec),
        "-".join(number_words(value) for value in spec.resolution),
        spec.modality,
        split_words(spec),
    )


def _many(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"


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

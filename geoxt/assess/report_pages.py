"""Assessment reports as a self-contained HTML page and as Markdown."""

from __future__ import annotations

from html import escape

from geoxt.assess.report_content import Block, Cell, Document, Figure, Table

STYLE = """
:root { color-scheme: light dark; --page: #fcfbf8; --ink: #22262b; --muted: #62686f; --rule: #dcd9d1;
  --accent: #2a6a86; --panel: #f4f2ec; --depth: 60%; }
@media (prefers-color-scheme: dark) { :root { --page: #15181b; --ink: #e4e2dc; --muted: #9aa0a6; --rule: #343a40;
  --accent: #7fbad2; --panel: #1d2125; --depth: 45%; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 6px; font-weight: 650; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 48px 0 12px; padding-top: 14px; border-top: 1px solid var(--rule); font-weight: 650; }
p { max-width: 68ch; margin: 0 0 16px; }
.subtitle, figcaption, .detail { color: var(--muted); }
.subtitle { overflow-wrap: anywhere; }
figcaption { font-size: 0.875rem; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 18px 28px;
  margin: 28px 0 8px; }
.numbers dt { color: var(--muted); font-size: 0.875rem; }
.numbers dd { margin: 0; font-size: 1.45rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.numbers div:first-child dd { color: var(--accent); font-weight: 650; }
figure { margin: 0 0 28px; }
figcaption { max-width: 78ch; margin-bottom: 8px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.925rem; font-variant-numeric: tabular-nums; }
.data { width: 100%; border-collapse: separate; border-spacing: 0; }
th, td { padding: 7px 14px 7px 0; text-align: right; vertical-align: top; border-bottom: 1px solid var(--rule); }
.data td { white-space: nowrap; }
thead th { color: var(--muted); font-weight: 500; font-size: 0.85rem; vertical-align: bottom; }
tbody th { font-weight: 500; }
th:first-child { text-align: left; overflow-wrap: break-word; min-width: 7rem; max-width: 16rem; position: sticky;
  left: 0;
  background: var(--page); }
th:last-child, td:last-child { padding-right: 0; }
.facts { width: 100%; }
.facts th { width: 12rem; min-width: 6.5rem; color: var(--muted); font-weight: 400; }
.facts td { text-align: left; overflow-wrap: anywhere; }
.detail { display: block; font-size: 0.78rem; line-height: 1.35; }
th:has(> .swatch), li:has(> .swatch) { padding-left: 1.4em; text-indent: -1.4em; }
.swatch { display: inline-block; width: 0.8em; height: 0.8em; margin-right: 0.6em; border-radius: 2px; text-indent: 0;
  box-shadow: inset 0 0 0 1px rgb(128 128 128 / 45%); print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.matrix th, .matrix td { border: 0; padding: 0; }
.matrix tbody th { padding: 0 12px 0 0; vertical-align: middle; text-align: left; }
.matrix tbody th:has(> .swatch) { padding-left: 1.4em; }
.matrix thead th:first-child { padding: 0 12px 8px 0; }
.matrix thead th + th { text-align: center; }
.matrix thead th + th span { display: inline-block; writing-mode: vertical-rl; transform: rotate(180deg);
  max-height: 12rem;
  margin-bottom: 8px; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; line-height: 1.3;
  text-align: left; }
.matrix td { width: 68px; min-width: 68px; height: 46px; vertical-align: middle; text-align: center;
  border: 2px solid var(--page);
  background: color-mix(in srgb, var(--accent) calc(var(--shade) * var(--depth)), var(--panel));
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.matrix td .detail { color: inherit; padding: 0 3px; }
.bar { display: block; width: 104px; height: 9px; margin: 3px 0 1px auto; }
.bar .axis { stroke: var(--rule); stroke-width: 1; }
.bar .range { stroke: var(--accent); stroke-width: 3; opacity: 0.55; }
.bar circle { fill: var(--accent); }
.picture { display: flex; flex-wrap: wrap; gap: 12px 28px; align-items: flex-start; }
.picture figcaption { flex: 0 0 100%; max-width: none; margin: 0; }
.picture img { display: block; width: min(100%, 680px); max-height: 720px; height: auto; object-fit: contain;
  object-position: left top;
  image-rendering: pixelated; }
.key { list-style: none; margin: 0; padding: 0; font-size: 0.925rem; max-width: 100%; columns: auto 11rem;
  min-width: 9rem;
  flex: 1 1 9rem; }
.key li { overflow-wrap: anywhere; break-inside: avoid; padding-bottom: 2px; }
.diagram { display: block; width: 100%; max-width: 400px; height: auto; }
.diagram text { fill: var(--muted); font-size: 11px; font-variant-numeric: tabular-nums; }
.diagram .grid { stroke: var(--rule); stroke-width: 0.8; }
.diagram .diagonal { stroke: var(--muted); stroke-dasharray: 4 4; }
.diagram .curve { stroke: var(--accent); stroke-width: 1.8; fill: none; }
.diagram .former { stroke: var(--muted); stroke-width: 1.4; }
.diagram circle, .diagram rect { fill: var(--accent); }
.diagram .count { opacity: 0.3; }
@media (max-width: 560px) { main { padding: 24px 16px 48px; } h1 { font-size: 1.5rem; } h2 { margin-top: 36px; }
  .numbers { grid-template-columns: 1fr 1fr; gap: 14px 18px; } .numbers dd { font-size: 1.15rem; }
  th, td { padding-right: 10px; } .data th:first-child, .matrix tbody th { min-width: 5.5rem; max-width: 8rem; }
  .bar { width: 78px; }
  .facts th:first-child { position: static; }
  .facts tr { display: block; padding: 6px 0; border-bottom: 1px solid var(--rule); }
  .facts th, .facts td { display: block; padding: 0; border: 0; max-width: none; width: auto; } }
@media print { :root { color-scheme: light; --page: #fff; --ink: #000; --muted: #444; --rule: #bbb; --accent: #2a6a86;
  --panel: #f4f2ec; --depth: 60%; }
  body { font-size: 11pt; } main { max-width: none; padding: 0; } .scroll { overflow: visible; }
  figure, tr { break-inside: avoid; } h2 { break-after: avoid; } }
"""
"""Style sheet of the page."""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Content security policy: the page loads no file and runs no script."""


def html_page(document: Document) -> str:
    """Return a report as one HTML page without references to other files."""
    parts = [f"<h1>{escape(document.title)}</h1>", f'<p class="subtitle">{escape(document.subtitle)}</p>']
    numbers = "".join(f"<div><dt>{escape(n)}</dt><dd>{escape(v)}</dd></div>" for n, v in document.key_numbers)
    parts.append(f'<dl class="numbers">{numbers}</dl>')
    for section in document.sections:
        parts.append(f"<section><h2>{escape(section.title)}</h2>")
        parts += [_html_block(block) for block in section.blocks]
        parts.append("</section>")
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(document.title)}</title>",
            f"<style>{STYLE}</style></head><body><main>",
            *parts,
            "</main></body></html>",
            "",
        ]
    )


def _html_block(block: Block) -> str:
    match block:
        case str():
            return f"<p>{escape(block)}</p>"
        case Figure():
            items = "".join(f"<li>{_swatch(color)}{escape(name)}</li>" for name, color in block.key)
            key = f'<ul class="key">{items}</ul>' if items else ""
            caption = f"<figcaption>{escape(block.caption)}</figcaption>"
            return f'<figure class="picture">{caption}{block.graphic}{key}</figure>'
        case Table():
            return _html_table(block)


def _html_table(table: Table) -> str:
    kind = "matrix" if table.matrix else "data" if table.columns else "facts"
    header = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in table.columns)
    head = f"<thead><tr>{header}</tr></thead>" if header else ""
    rows = []
    for first, *others in table.rows:
        cells = "".join(f"<td{_shade(cell)}>{_html_cell(cell)}</td>" for cell in others)
        rows.append(f'<tr><th scope="row">{_html_cell(first)}</th>{cells}</tr>')
    body = f'<table class="{kind}">{head}<tbody>{"".join(rows)}</tbody></table>'
    caption = escape(table.caption)
    return (
        f'<figure><figcaption>{caption}</figcaption><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{caption}">{body}</div></figure>'
    )


def _html_cell(cell: Cell) -> str:
    detail = f'<span class="detail">{escape(cell.detail)}</span>' if cell.detail else ""
    return f"{_swatch(cell.color)}{escape(cell.text)}{cell.graphic}{detail}"


def _shade(cell: Cell) -> str:
    return "" if cell.shade is None else f' style="--shade: {cell.shade:.3f}"'


def _swatch(color: str) -> str:
    return f'<span class="swatch" style="background: {color}"></span>' if color else ""


def markdown_page(document: Document) -> str:
    """Return a report as Markdown, without pictures."""
    lines = [f"# {_plain(document.title)}", "", _plain(document.subtitle), ""]
    lines += [f"* {_plain(name)}: {_plain(value)}" for name, value in document.key_numbers]
    for section in document.sections:
        lines += ["", f"## {_plain(section.title)}"]
        for block in section.blocks:
            lines += ["", *_markdown_block(block)]
    return "\n".join([*lines, ""])


def _markdown_block(block: Block) -> list[str]:
    match block:
        case str():
            return [_plain(block)]
        case Figure():
            return [f"Figure in report.html: {_plain(block.caption)}"]
        case Table():
            width = max(len(table_row) for table_row in (block.columns, *block.rows))
            header = [*map(_plain, block.columns)] or [""] * width
            rows = [
                " | ".join(_plain(f"{cell.text} ({cell.detail})" if cell.detail else cell.text) for cell in row)
                for row in block.rows
            ]
            rule = " | ".join(["---", *["--:" if block.columns else "---"] * (width - 1)])
            table = [" | ".join(header), rule, *rows]
            return [f"**{_plain(block.caption)}**", "", *(f"| {row} |" for row in table)]


def _plain(text: str) -> str:
    """Return text as Markdown that renders it unchanged: no HTML, no links, no columns, one line."""
    marked = escape(" ".join(text.split()), quote=False).replace("\\", "\\\\")
    for mark in "|`*_[]":
        marked = marked.replace(mark, f"\\{mark}")
    return marked

"""Copies of the notebooks for the site, and its gallery: a card for each with title, first sentence, last figure."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any

CARD = """\
:::{{grid-item-card}} {title}
:link: /notebooks/{name}
:link-type: doc
{image}
{text}
:::
"""


def write(docs: Path) -> None:
    """Copy the notebooks; write `_gallery.md`, which gallery.md includes, and the thumbnails of executed notebooks.

    Sphinx resolves links between notebooks by their real paths, which must be below `docs`.
    """
    copy_notebooks(docs.parent / "notebooks", docs / "notebooks")
    cards = [card(path, docs / "_static" / "gallery") for path in sorted((docs / "notebooks").glob("*.ipynb"))]
    text = "::::{grid} 1 2 3 3\n:gutter: 3\n\n" + "\n".join(cards) + "::::\n"
    page = docs / "_gallery.md"
    if not page.is_file() or page.read_text("utf-8") != text:
        page.write_text(text, "utf-8")


def copy_notebooks(source: Path, target: Path) -> None:
    """Copy notebooks that have changed, and delete copies of notebooks that are gone."""
    target.mkdir(exist_ok=True)
    for path in source.glob("*.ipynb"):
        copy = target / path.name
        if not copy.is_file() or copy.read_bytes() != path.read_bytes():
            shutil.copyfile(path, copy)
    for copy in target.glob("*.ipynb"):
        if not (source / copy.name).is_file():
            copy.unlink()


def card(notebook: Path, images: Path) -> str:
    """Return the card of a notebook; without an image if it has no outputs."""
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    title, text = heading("".join(cells[0]["source"]))
    figure = last_figure(cells)
    if figure:
        images.mkdir(parents=True, exist_ok=True)
        (images / f"{notebook.stem}.png").write_bytes(figure)
    image = f":img-top: /_static/gallery/{notebook.stem}.png\n" if figure else ""
    return CARD.format(title=title, name=notebook.stem, image=image, text=text)


def heading(markdown: str) -> tuple[str, str]:
    """Return the title and the first sentence of a cell."""
    title, _, text = markdown.partition("\n")
    paragraph = " ".join(text.strip().partition("\n\n")[0].split())
    return title.lstrip("# "), re.split(r"(?<=\.)\s", paragraph)[0]


def last_figure(cells: list[dict[str, Any]]) -> bytes | None:
    """Return the last PNG of the outputs."""
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    figures = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    return base64.b64decode(figures[-1]) if figures else None

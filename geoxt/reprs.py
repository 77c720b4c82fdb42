"""HTML of objects in notebooks: tables and small maps, escaped, without scripts and external resources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

Rectangle = tuple[int, int, int, int]
"""Row, column, height and width in pixels."""
_MAX_RECTANGLES = 400
"""Maximum number of rectangles of a group on a map; more are thinned evenly."""
_SIDE = 220
"""Longest side of a map in screen pixels."""


def html_table(title: str, rows: Mapping[str, Any], *, below: str = "") -> str:
    """Return a titled table of names and values as HTML; both are escaped.

    Parameters
    ----------
    title
        Title above the table.
    rows
        Values by name.
    below
        HTML below the table.

    Examples
    --------
    >>> "&lt;b&gt;" in html_table("Layer", {"name": "<b>"})
    True
    """
    style = "text-align:left;padding:1px 10px 1px 0"
    cells = "".join(
        f"<tr><th style='{style}'>{escape(str(name))}</th><td style='{style}'>{escape(str(value))}</td></tr>"
        for name, value in rows.items()
    )
    return f"<div><strong>{escape(title)}</strong><table>{cells}</table>{below}</div>"


def svg_map(shape: Sequence[int], groups: Iterable[tuple[str, Iterable[Rectangle]]]) -> str:
    """Return the rectangles of a grid as an SVG image.

    Parameters
    ----------
    shape
        Height and width of the grid in pixels.
    groups
        Color `#rrggbb` and rectangles of each group, drawn in this order.

    Examples
    --------
    >>> svg_map((8, 8), [("#ff0000", [(0, 0, 4, 4)])]).count("<rect")
    2
    """
    height, width = shape
    scale = _SIDE / max(height, width, 1)
    size = f"width='{max(width * scale, 1):.0f}' height='{max(height * scale, 1):.0f}'"
    parts = [
        f"<rect width='{width}' height='{height}' fill='#f2f2f2' stroke='#999999' stroke-width='{1 / scale:.4g}'/>"
    ]
    for color, rectangles in groups:
        listed = list(rectangles)
        thinned = listed[:: -(-len(listed) // _MAX_RECTANGLES) or 1]
        shapes = "".join(f"<rect x='{c}' y='{r}' width='{w}' height='{h}'/>" for r, c, h, w in thinned)
        style = f"fill='{color}' fill-opacity='0.55' stroke='{color}' stroke-width='{0.6 / scale:.4g}'"
        parts.append(f"<g {style}>{shapes}</g>")
    return f"<svg xmlns='http://www.w3.org/2000/svg' {size} viewBox='0 0 {width} {height}'>{''.join(parts)}</svg>"


def abbreviate(names: Iterable[object], count: int = 6, *, separator: str = ", ") -> str:
    """Return the first `count` names, and the number of the other names.

    Examples
    --------
    >>> abbreviate(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    listed = [str(name) for name in names]
    text = separator.join(listed[:count])
    return text if len(listed) <= count else f"{text} and {len(listed) - count} more"

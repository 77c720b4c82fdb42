"""Legends of classes below figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from geoxt.legend import Legend

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LETTERS = (10.0, 7.0)
"""Font size in points of a legend, and of a legend of many classes."""
MANY = 12
"""Number of classes above which the legend has small letters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LegendLayout:
    """Layout of a legend below a figure."""

    columns: int
    """Columns of the legend."""
    points: float
    """Font size, in points."""
    width: float
    """Width of the figure in inches, at least that of a class."""
    height: float
    """Height in inches; 0 without a legend."""


def legend_layout(legend: Legend | None, width: float) -> LegendLayout:
    """Return the layout of a legend with the fewest rows for a width in inches."""
    if not legend:
        return LegendLayout(columns=1, points=LETTERS[0], width=width, height=0)
    count, longest = len(legend.names), max(map(len, legend.names))
    points = LETTERS[count > MANY]
    entry_width = points / 72 * (5 + 0.62 * longest)  # swatch and gaps of 5 em; a letter is 0.62 em wide
    rows = -(-count // max(int(width / entry_width), 1))
    return LegendLayout(
        columns=-(-count // rows), points=points, width=max(width, entry_width), height=0.3 + 1.7 * rows * points / 72
    )


def draw_legend(figure: Figure, legend: Legend, layout: LegendLayout) -> None:
    """Draw a legend below all panels."""
    from matplotlib.patches import Patch

    patches = [
        Patch(facecolor=color, edgecolor="0.3", linewidth=0.5, label=name)
        for name, color in zip(legend.names, legend.colors, strict=True)
    ]
    columns, points = layout.columns, layout.points
    figure.legend(handles=patches, loc="outside lower center", ncols=columns, fontsize=points, frameon=False)

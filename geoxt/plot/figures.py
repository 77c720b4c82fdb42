"""Figures without a window, which need no display."""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING

from geoxt.errors import optional_import

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a width and height in inches, with the resolution of matplotlib's `figure.dpi`."""
    with optional_import("matplotlib", "plot", "plot"):
        from matplotlib.figure import Figure
    figure = Figure(figsize=(width, height), layout="constrained")
    # Notebooks show a figure only after pyplot is imported; with this method they always do.
    figure._repr_png_ = partial(_png, figure)  # type: ignore[attr-defined]
    return figure


def _png(figure: Figure) -> bytes:
    """Return a figure as PNG bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()

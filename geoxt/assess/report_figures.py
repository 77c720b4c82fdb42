"""Figures of an assessment report: maps as PNG, diagrams as SVG that take the colors of the page."""

from __future__ import annotations

import base64
import struct
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from geoxt.assess.map_strata import blocks_of
from geoxt.grid import full_window, grid_of
from geoxt.legend import Legend
from geoxt.source import view_of
from geoxt.types import Array, Floats, Mask

PIXELS = 900
"""Largest height or width of a map in a report."""
_MAX_CLASSES = 255
"""Classes of an indexed PNG, beside nodata."""
_RAMP = ("#f3efe2", "#9cc2a8", "#3f8a8c", "#1f4e79")
"""Colors of numbers, from low to high."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """A layer at reduced size: every n-th pixel of every n-th row."""

    values: Array
    """Values (y, x)."""
    valid: Mask
    """Valid mask (y, x)."""
    step: int
    """Distance of the pixels."""
    counts: Counter[int]
    """Valid pixels of the whole layer by code; empty for layers of numbers."""


def overview(layer: xr.DataArray) -> Overview:
    """Return a layer at reduced size, from one pass over its blocks."""
    view, grid = view_of(layer), grid_of(layer)
    step = max(-(-max(grid.shape) // PIXELS), 1)
    shape = tuple(-(-side // step) for side in grid.shape)
    values, valid = np.zeros(shape, layer.dtype), np.zeros(shape, bool)
    counts: Counter[int] = Counter()
    for block in blocks_of(full_window(grid)):
        pixels, ok = (part[0, 0] for part in view.read(block))
        if layer.dtype.kind in "iub":
            codes, numbers = np.unique(pixels[ok], return_counts=True)
            counts.update(dict(zip(codes.tolist(), numbers.tolist(), strict=True)))
        first = -block.row % step, -block.col % step
        target = tuple(
            slice((start + offset) // step, -(-stop // step))
            for start, offset, stop in zip((block.row, block.col), first, block.stop, strict=True)
        )
        values[target] = pixels[first[0] :: step, first[1] :: step]
        valid[target] = ok[first[0] :: step, first[1] :: step]
    return Overview(values=values, valid=valid, step=step, counts=counts)


def class_image(reduced: Overview, legend: Legend, title: str) -> str:
    """Return an image element of a class map; nodata is transparent."""
    map_legend = Legend.from_rows([*zip(legend.codes, legend.names, legend.colors, strict=True)][:_MAX_CLASSES])
    index = np.where(reduced.valid, map_legend.encode(reduced.values, missing=-1) + 1, 0).astype(np.uint8)
    return _image(index, [(0, 0, 0, 0), *map_legend.colormap().values()], title)


def number_image(reduced: Overview, title: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return an image element of a map of numbers, and its key from the 2nd to the 98th percentile."""
    valid = reduced.valid & np.isfinite(reduced.values)
    known = reduced.values[valid]
    low, high = np.percentile(known, [2, 98]) if known.size else (0.0, 1.0)
    scaled = np.clip((np.where(valid, reduced.values, low) - low) / max(high - low, 1e-300), 0, 1)
    index = np.where(valid, 1 + np.round(254 * scaled), 0).astype(np.uint8)
    stops = np.array([[int(color[k : k + 2], 16) for k in (1, 3, 5)] for color in _RAMP])
    at = np.linspace(0, len(_RAMP) - 1, 255)
    ramp = np.stack([np.interp(at, np.arange(len(_RAMP)), stops[:, k]) for k in range(3)], 1).round().astype(int)
    colors = [(0, 0, 0, 0), *((int(r), int(g), int(b), 255) for r, g, b in ramp)]
    values = np.linspace(low, high, len(_RAMP))
    key = tuple((f"{value:.4g}", color) for value, color in zip(values.tolist(), _RAMP, strict=True))
    return _image(index, colors, title), key


def _image(index: npt.NDArray[np.uint8], colors: Sequence[tuple[int, int, int, int]], title: str) -> str:
    """Return an image element that holds an indexed PNG.

    References
    ----------
    W3C, Portable Network Graphics, sections 5 and 11. https://www.w3.org/TR/png-3/
    """
    height, width = index.shape
    table = np.array(colors, np.uint8)
    rows = np.pad(index, ((0, 0), (1, 0))).tobytes()  # each row starts with the number of its filter, 0: none
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0),  # 8 bits, palette
        b"PLTE": table[:, :3].tobytes(),
        b"tRNS": table[:, 3].tobytes(),
        b"IDAT": zlib.compress(rows, 9),
        b"IEND": b"",
    }
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks.items()
    )
    data = base64.b64encode(png).decode("ascii")
    return f'<img src="data:image/png;base64,{data}" width="{width}" height="{height}" alt="{title}">'


def interval_bar(value: float, lower: float, upper: float) -> str:
    """Return a bar from 0 to 1 with an interval and a mark at the estimate."""
    ends = (float(np.clip(end, 0, 1)) * 96 + 2 for end in (lower, upper, value))
    start, stop, mark = (f"{end:.1f}" for end in ends)
    return (
        '<svg class="bar" viewBox="0 0 100 8" aria-hidden="true"><path class="axis" d="M2 4H98"/>'
        f'<path class="range" d="M{start} 4H{stop}"/><circle cx="{mark}" cy="4" r="2.6"/></svg>'
    )


def reliability_diagram(curves: Sequence[tuple[Floats, Floats]], counts: Array) -> str:
    """Return a diagram of accuracy against confidence, with the fraction of pixels of each bin below.

    Parameters
    ----------
    curves
        Mean confidence and accuracy of each bin, NaN for empty bins. The last curve has points.
    counts
        Pixels in each bin of the last curve, at equal widths from 0 to 1.
    """
    size, left, top = 260, 44, 10

    def at(x: float, y: float) -> str:
        return f"{left + size * x:.1f} {top + size * (1 - y):.1f}"

    parts: list[str] = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x, y = at(tick, tick).split()
        parts.append(f'<path class="grid" d="M{at(tick, 0)}L{at(tick, 1)}M{at(0, tick)}L{at(1, tick)}"/>')
        parts.append(f'<text x="{x}" y="{top + size + 16}" text-anchor="middle">{tick:g}</text>')
        parts.append(f'<text x="{left - 6}" y="{y}" dy="0.35em" text-anchor="end">{tick:g}</text>')
    width = size / max(len(counts), 1)
    for k, fraction in enumerate((counts / max(counts.sum(), 1)).tolist()):
        corner = f'x="{left + k * width + 1:.1f}" y="{top + size - 60 * fraction:.1f}"'
        parts.append(f'<rect class="count" {corner} width="{width - 2:.1f}" height="{60 * fraction:.1f}"/>')
    parts.append(f'<path class="diagonal" d="M{at(0, 0)}L{at(1, 1)}"/>')
    for number, (confidence, accuracy) in enumerate(curves, 1 - len(curves)):
        known = np.isfinite(confidence) & np.isfinite(accuracy)
        points = [at(*point) for point in zip(confidence[known].tolist(), accuracy[known].tolist(), strict=True)]
        if points:
            parts.append(f'<path class="{"former " if number else ""}curve" d="M{"L".join(points)}"/>')
        if not number:
            marks = (point.split() for point in points)
            parts += [f'<circle cx="{x}" cy="{y}" r="3.2"/>' for x, y in marks]
    parts.append(f'<text x="{left + size / 2}" y="{top + size + 34}" text-anchor="middle">Confidence</text>')
    turned = f'transform="translate(12 {top + size / 2}) rotate(-90)"'
    parts.append(f'<text {turned} text-anchor="middle">Fraction correct</text>')
    title = "Reliability diagram: fraction of correct pixels by confidence"
    box = f"0 0 {left + size + 16} {top + size + 42}"
    return f'<svg class="diagram" viewBox="{box}" role="img" aria-label="{title}">{"".join(parts)}</svg>'


def bar_chart(names: Sequence[object], fractions: Floats) -> str:
    """Return horizontal bars of fractions, with their percentages; names are numbers."""
    row, left, size = 22, 30, 220
    parts: list[str] = []
    for k, (name, fraction) in enumerate(zip(names, fractions.tolist(), strict=True)):
        middle, width = row * k + row / 2, max(size * fraction, 0.5)
        parts.append(f'<text x="{left - 8}" y="{middle}" dy="0.35em" text-anchor="end">{name}</text>')
        parts.append(f'<rect x="{left}" y="{middle - 7}" width="{width:.1f}" height="14"/>')
        parts.append(f'<text x="{left + width + 6:.1f}" y="{middle}" dy="0.35em">{100 * fraction:.1f} %</text>')
    box = f"0 0 {left + size + 56} {row * len(fractions)}"
    return f'<svg class="diagram" viewBox="{box}" role="img" aria-label="Fractions">{"".join(parts)}</svg>'

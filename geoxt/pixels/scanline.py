"""Outlines in pixels of a grid -> the pixels they cover, decided edge by edge so that no window changes the answer.

Vertices are multiples of 2**-16 pixel and every edge is taken from its upper end, whichever way it was drawn. Where an
edge crosses a row then depends on nothing but the edge: not on the window, and not on which of two neighbours asks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geoxt.types import Array, Floats, Mask
from geoxt.windows import Window

QUANTUM = 2.0**-16
RUN = 32
"""Edges in a run, which is passed over as a whole where it lies above or below a window."""
BATCH = 1 << 22
"""Pixels painted at once."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelGeometries:
    """Polygons, lines and points as rows of vertices; a point is an edge of no length."""

    points: Floats
    """(vertices, 2): column and row in pixels, 0 at the grid's corner."""
    rings: Ints
    """(rings + 1,): the first vertex of each ring or line, then their number."""
    parts: Ints
    """(parts + 1,): the first ring of each part, then their number."""
    areas: Mask
    """(parts,): whether the part is a polygon."""
    runs: Ints
    """(runs, 2): the first vertex of the first edge of each run, and of the edge after its last."""
    heights: Floats
    """(runs, 2): the least and greatest row of each run."""
    part_runs: Ints
    """(parts + 1,): the first run of each part, then their number."""

    @classmethod
    def of(cls, points: Floats, rings: Ints, parts: Ints, areas: Mask) -> PixelGeometries:
        """Return outlines with their runs."""
        edges = np.diff(rings) - 1
        counts = -(-edges // RUN)
        ring = np.repeat(np.arange(len(counts)), counts)
        first = rings[:-1][ring] + RUN * concatenate_ranges(np.zeros_like(counts), counts)
        last = np.minimum(first + RUN, rings[1:][ring] - 1)
        rows = np.append(points[:, 1], 0.0)
        ends = np.c_[first, last + 1].ravel()
        low, high = (np.empty(0), np.empty(0)) if not len(first) else (
            np.minimum.reduceat(rows, ends)[::2], np.maximum.reduceat(rows, ends)[::2],
        )  # fmt: skip
        runs_before = np.concatenate(([0], np.cumsum(counts)))
        return cls(
            points=points, rings=rings, parts=parts, areas=areas, runs=np.c_[first, last],
            heights=np.c_[low, high], part_runs=runs_before[parts],
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.areas)

    def bounds(self) -> Floats:
        """Return (parts, 4): the least column and row, the greatest column and row."""
        starts = self.rings[self.parts[:-1]]
        if not len(starts):
            return np.empty((0, 4))
        return np.c_[np.minimum.reduceat(self.points, starts), np.maximum.reduceat(self.points, starts)]

    def take(self, which: Ints, shift: float = 0.0) -> tuple[Floats, Ints, Ints, Mask]:
        """Return points, rings, parts and areas of some of the parts, moved by some columns."""
        first, last = self.parts[which], self.parts[which + 1]
        ring = concatenate_ranges(first, last)
        points = self.points[concatenate_ranges(self.rings[ring], self.rings[ring + 1])] + (shift, 0.0)
        rings = np.concatenate(([0], np.cumsum(self.rings[ring + 1] - self.rings[ring])))
        return points, rings, np.concatenate(([0], np.cumsum(last - first))), self.areas[which]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """Pixels side by side in one row of a window, in the order in which they are painted."""

    rank: Ints
    """(spans,): position of the part, among those that were asked for."""
    start: Ints
    """(spans,): the first pixel, counted along the window's rows."""
    length: Ints
    """(spans,): pixels."""


def find_spans(outlines: PixelGeometries, parts: Ints, window: Window, *, all_touched: bool) -> Spans:
    """Return what parts cover of a window.

    Parameters
    ----------
    outlines
        All outlines.
    parts
        Which of them, in the order of painting.
    window
        Rectangle of the grid.
    all_touched
        A polygon covers the pixels whose inside it shares, instead of those whose centre it holds.

    Notes
    -----
    A centre on a left or upper edge belongs to the polygon, on a right or lower edge it does not: of two polygons that
    share an edge, each such centre belongs to one. A line covers the pixels whose inside it passes through; where it
    runs along the edge of pixels, those right of and below it. So does a point.
    """
    rank, x0, y0, x1, y1 = _edges(outlines, parts, window)
    area = outlines.areas[parts][rank]
    found = []
    if area.any():
        found.append(_filled(rank[area], x0[area], y0[area], x1[area], y1[area], window))
    crossing = np.ones_like(area) if all_touched else ~area
    if crossing.any():
        corners = x0[crossing], y0[crossing], x1[crossing], y1[crossing]
        found.append(_touched(rank[crossing], *corners, ~area[crossing], window))
    if not found:
        empty = np.empty(0, np.int64)
        return Spans(rank=empty, start=empty, length=empty)
    if len(found) == 1:
        return Spans(rank=found[0][0], start=found[0][1], length=found[0][2])
    rank, start, length = (np.concatenate(both) for both in zip(*found, strict=True))
    order = np.argsort(rank, kind="stable")
    return Spans(rank=rank[order], start=start[order], length=length[order])


def burn(out: Array, found: Spans, values: Array) -> None:
    """Give the pixels of spans their part's value; a later one wins.

    Parameters
    ----------
    out
        (height, width), C-contiguous; changed in place.
    found
        What to paint.
    values
        (parts,): a value for each part.
    """
    flat, ends = out.reshape(-1), np.cumsum(found.length)
    first = 0
    while first < len(ends):
        done = ends[first] - found.length[first]
        last = max(int(np.searchsorted(ends, done + BATCH)), first + 1)
        start, length = found.start[first:last], found.length[first:last]
        # numpy promises no order where a place stands twice, but assigns from first to last; the tests hold it to that
        flat[concatenate_ranges(start, start + length)] = np.repeat(values[found.rank[first:last]], length)
        first = last


def concatenate_ranges(starts: Ints, stops: Ints) -> Ints:
    """Return whole numbers from each start up to its stop, one after another."""
    lengths = stops - starts
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int64) + np.repeat(starts - ends + lengths, lengths)


def _edges(outlines: PixelGeometries, parts: Ints, window: Window) -> tuple[Ints, Floats, Floats, Floats, Floats]:
    """Return rank, upper end and lower end of the edges of parts that reach the rows of a window."""
    top, bottom = window.row, window.stop[0]
    starts, stops = outlines.part_runs[parts], outlines.part_runs[parts + 1]
    run, rank = concatenate_ranges(starts, stops), np.repeat(np.arange(len(parts)), stops - starts)
    heights = outlines.heights[run]
    near = (heights[:, 0] <= bottom) & (heights[:, 1] >= top)
    run, rank = run[near], rank[near]
    first, last = outlines.runs[run].T
    edge, rank = concatenate_ranges(first, last), np.repeat(rank, last - first)
    (xa, ya), (xb, yb) = outlines.points[edge].T, outlines.points[edge + 1].T
    near = (np.minimum(ya, yb) <= bottom) & (np.maximum(ya, yb) >= top)
    rank, xa, ya, xb, yb = rank[near], xa[near], ya[near], xb[near], yb[near]
    turn = (yb < ya) | ((yb == ya) & (xb < xa))
    return rank, np.where(turn, xb, xa), np.where(turn, yb, ya), np.where(turn, xa, xb), np.where(turn, ya, yb)


def _filled(rank: Ints, x0: Floats, y0: Floats, x1: Floats, y1: Floats, window: Window) -> tuple[Ints, Ints, Ints]:
    """Return the spans between the first and second, third and fourth, ... edge that a row's centres cross."""
    (height, width), (top, left) = window.shape, (window.row, window.col)
    first = np.maximum(np.ceil(y0 - 0.5).astype(np.int64), top)
    last = np.minimum(np.ceil(y1 - 0.5).astype(np.int64), top + height)
    counts = np.maximum(last - first, 0)
    edge, row = np.repeat(np.arange(len(rank)), counts), concatenate_ranges(first, first + counts)
    base = np.floor(x0 - 0.5)  # what follows is small and the same wherever the grid begins: no bit is lost to size
    dx, dy = (x1 - x0)[edge], (y1 - y0)[edge]
    crossed = (x0 - 0.5 - base)[edge] + (row + 0.5 - y0[edge]) * dx / dy
    col = np.clip((base[edge] + np.ceil(crossed)).astype(np.int64) - left, 0, width)
    keys = np.sort((rank[edge] * height + row - top) * (width + 1) + col)
    begin, length = keys[::2], keys[1::2] - keys[::2]
    seen = length > 0
    line, col = np.divmod(begin[seen], width + 1)
    ranks, line = np.divmod(line, height)
    return ranks, line * width + col, length[seen]


def _touched(
    rank: Ints, x0: Floats, y0: Floats, x1: Floats, y1: Floats, closed: Mask, window: Window
) -> tuple[Ints, Ints, Ints]:
    """Return the spans of pixels whose inside edges pass through; `closed`: and those right of and below others."""
    (height, width), (top, left) = window.shape, (window.row, window.col)
    first = np.floor(y0).astype(np.int64)
    last = np.ceil(y1).astype(np.int64)
    last = np.where(closed, np.maximum(last, first + 1), last)
    first, last = np.maximum(first, top), np.minimum(last, top + height)
    counts = np.maximum(last - first, 0)
    edge, row = np.repeat(np.arange(len(rank)), counts), concatenate_ranges(first, first + counts)
    base = np.floor(x0)
    begin, end = (x0 - base)[edge], (x1 - base)[edge]
    y0, y1 = y0[edge], y1[edge]
    dx, dy = end - begin, np.where(y1 > y0, y1 - y0, 1)
    enter = np.where(row <= y0, begin, begin + (row - y0) * dx / dy)
    leave = np.where(row + 1 >= y1, end, begin + (row + 1 - y0) * dx / dy)
    low = np.floor(np.minimum(enter, leave))
    high = np.ceil(np.maximum(enter, leave))
    high = np.where(closed[edge], np.maximum(high, low + 1), high)
    from_, to = ((base[edge] + c).astype(np.int64) - left for c in (low, high))
    from_, to = np.maximum(from_, 0), np.minimum(to, width)
    seen = to > from_
    return rank[edge][seen], ((row - top) * width + from_)[seen], (to - from_)[seen]

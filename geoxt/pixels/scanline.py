"""Rasterization of geometries by scanlines, so that a pixel has the same value in every window.

Vertices are multiples of 2**-16 pixel, and every edge is traversed from its upper end (from its left end if it is
horizontal), whichever way it was digitized. The column at which an edge crosses a row is then computed from the edge
alone by the same floating-point operations: it depends neither on the window, nor on which of two polygons that share
the edge is burned. `GDALRasterizeGeometries` instead computes crossings in pixels of the raster that it is given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geoxt.types import Array, Floats, Mask
from geoxt.windows import Window

QUANTUM = 2.0**-16
RUN = 32
"""Edges in a run, which is skipped as a whole if it lies above or below a window."""
BATCH = 1 << 22
"""Pixels burned at once."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelGeometries:
    """Polygons, lines and points as arrays of vertices in pixels; a point is an edge of length zero.

    As in GeoArrow, offsets delimit lists: ring i has the vertices `rings[i]` to `rings[i + 1]`.
    """

    points: Floats
    """(vertices, 2): column and row in pixels, 0 at the grid's corner."""
    rings: Ints
    """(rings + 1,): offsets into `points` of each ring or line."""
    parts: Ints
    """(parts + 1,): offsets into `rings` of each part: one polygon, line or point."""
    areas: Mask
    """(parts,): whether the part is a polygon."""
    runs: Ints
    """(runs, 2): first vertex of the first edge of each run, and of the edge after its last."""
    heights: Floats
    """(runs, 2): minimum and maximum row of each run."""
    part_runs: Ints
    """(parts + 1,): offsets into `runs` of each part."""

    @classmethod
    def of(cls, points: Floats, rings: Ints, parts: Ints, areas: Mask) -> PixelGeometries:
        """Return geometries with their edges grouped in runs."""
        edges = np.diff(rings) - 1
        counts = -(-edges // RUN)
        ring = np.repeat(np.arange(len(counts)), counts)
        first = rings[:-1][ring] + RUN * concatenate_ranges(np.zeros_like(counts), counts)
        last = np.minimum(first + RUN, rings[1:][ring] - 1)
        rows = np.append(points[:, 1], 0.0)
        ends = np.c_[first, last + 1].ravel()
        # reduceat also reduces the gaps between runs: every second result is one
        low, high = (np.empty(0), np.empty(0)) if not len(first) else (
            np.minimum.reduceat(rows, ends)[::2], np.maximum.reduceat(rows, ends)[::2],
        )  # fmt: skip
        run_offsets = np.concatenate(([0], np.cumsum(counts)))
        return cls(
            points=points, rings=rings, parts=parts, areas=areas, runs=np.c_[first, last],
            heights=np.c_[low, high], part_runs=run_offsets[parts],
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.areas)

    def bounds(self) -> Floats:
        """Return (parts, 4): minimum column and row, maximum column and row."""
        starts = self.rings[self.parts[:-1]]
        if not len(starts):
            return np.empty((0, 4))
        return np.c_[np.minimum.reduceat(self.points, starts), np.maximum.reduceat(self.points, starts)]

    def take(self, indices: Ints, shift: float = 0.0) -> tuple[Floats, Ints, Ints, Mask]:
        """Return points, rings, parts and areas of the selected parts, moved by `shift` columns."""
        first, last = self.parts[indices], self.parts[indices + 1]
        ring = concatenate_ranges(first, last)
        points = self.points[concatenate_ranges(self.rings[ring], self.rings[ring + 1])] + (shift, 0.0)
        rings = np.concatenate(([0], np.cumsum(self.rings[ring + 1] - self.rings[ring])))
        return points, rings, np.concatenate(([0], np.cumsum(last - first))), self.areas[indices]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """Runs of pixels in rows of a window, in the order in which they are burned."""

    rank: Ints
    """(spans,): position of the part among the requested parts."""
    start: Ints
    """(spans,): flat index of the first pixel in the window."""
    length: Ints
    """(spans,): pixels."""


def find_spans(geometries: PixelGeometries, parts: Ints, window: Window, *, all_touched: bool) -> Spans:
    """Return the pixels of a window that parts cover.

    Parameters
    ----------
    geometries
        All geometries.
    parts
        Indices of parts, in the order in which they are burned.
    window
        Window of the grid.
    all_touched
        Whether a polygon covers every pixel whose interior it intersects, instead of those whose centre it contains.

    Notes
    -----
    A centre on a left or upper edge belongs to the polygon, on a right or lower edge it does not: of two polygons that
    share an edge, exactly one covers such a pixel. A line covers the pixels whose interior it crosses; along pixel
    edges, the pixels right of and below it. So does a point.
    """
    rank, x0, y0, x1, y1 = _edges(geometries, parts, window)
    area = geometries.areas[parts][rank]
    spans = []
    if area.any():
        spans.append(_filled_spans(rank[area], x0[area], y0[area], x1[area], y1[area], window))
    crossing = np.ones_like(area) if all_touched else ~area
    if crossing.any():
        corners = x0[crossing], y0[crossing], x1[crossing], y1[crossing]
        spans.append(_touched_spans(rank[crossing], *corners, ~area[crossing], window))
    if not spans:
        empty = np.empty(0, np.int64)
        return Spans(rank=empty, start=empty, length=empty)
    if len(spans) == 1:
        return Spans(rank=spans[0][0], start=spans[0][1], length=spans[0][2])
    rank, start, length = (np.concatenate(both) for both in zip(*spans, strict=True))
    order = np.argsort(rank, kind="stable")
    return Spans(rank=rank[order], start=start[order], length=length[order])


def burn(out: Array, spans: Spans, values: Array) -> None:
    """Burn the values of parts into the pixels of their spans; later spans overwrite earlier ones.

    Parameters
    ----------
    out
        (height, width), C-contiguous; changed in place.
    spans
        Pixels to burn.
    values
        (parts,): value of each part.
    """
    flat, ends = out.reshape(-1), np.cumsum(spans.length)
    first = 0
    while first < len(ends):
        done = ends[first] - spans.length[first]
        last = max(int(np.searchsorted(ends, done + BATCH)), first + 1)
        start, length = spans.start[first:last], spans.length[first:last]
        # NumPy documents no order for repeated indices, but assigns first to last; tests/pixels checks that it does
        flat[concatenate_ranges(start, start + length)] = np.repeat(values[spans.rank[first:last]], length)
        first = last


def concatenate_ranges(starts: Ints, stops: Ints) -> Ints:
    """Return the integers of several ranges, one range after another.

    Examples
    --------
    >>> concatenate_ranges(np.array([0, 7]), np.array([2, 9])).tolist()
    [0, 1, 7, 8]
    """
    lengths = stops - starts
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int64) + np.repeat(starts - ends + lengths, lengths)


def _edges(geometries: PixelGeometries, parts: Ints, window: Window) -> tuple[Ints, Floats, Floats, Floats, Floats]:
    """Return rank, upper end and lower end of the edges that reach the rows of a window."""
    top, bottom = window.row, window.stop[0]
    starts, stops = geometries.part_runs[parts], geometries.part_runs[parts + 1]
    run, rank = concatenate_ranges(starts, stops), np.repeat(np.arange(len(parts)), stops - starts)
    heights = geometries.heights[run]
    near = (heights[:, 0] <= bottom) & (heights[:, 1] >= top)
    run, rank = run[near], rank[near]
    first, last = geometries.runs[run].T
    edge, rank = concatenate_ranges(first, last), np.repeat(rank, last - first)
    (xa, ya), (xb, yb) = geometries.points[edge].T, geometries.points[edge + 1].T
    near = (np.minimum(ya, yb) <= bottom) & (np.maximum(ya, yb) >= top)
    rank, xa, ya, xb, yb = rank[near], xa[near], ya[near], xb[near], yb[near]
    # One direction for both polygons that share the edge: from its upper, then its left end.
    swap = (yb < ya) | ((yb == ya) & (xb < xa))
    return rank, np.where(swap, xb, xa), np.where(swap, yb, ya), np.where(swap, xa, xb), np.where(swap, ya, yb)


def _filled_spans(
    rank: Ints, x0: Floats, y0: Floats, x1: Floats, y1: Floats, window: Window
) -> tuple[Ints, Ints, Ints]:
    """Return the spans between the first and second, third and fourth, ... edge that a row of centres crosses.

    This is the even-odd rule. An edge crosses the row of centres at y = row + 0.5 if y0 <= y < y1: half-open, so that a
    vertex on the row counts once, and horizontal edges never. There x = x0 + (y - y0) * (x1 - x0) / (y1 - y0).
    """
    (height, width), (top, left) = window.shape, (window.row, window.col)
    first = np.maximum(np.ceil(y0 - 0.5).astype(np.int64), top)
    last = np.minimum(np.ceil(y1 - 0.5).astype(np.int64), top + height)
    counts = np.maximum(last - first, 0)
    edge, row = np.repeat(np.arange(len(rank)), counts), concatenate_ranges(first, first + counts)
    # Relative to the column of the edge, numbers are small and the same in every window: no bit is lost to their size.
    base = np.floor(x0 - 0.5)
    dx, dy = (x1 - x0)[edge], (y1 - y0)[edge]
    crossing = (x0 - 0.5 - base)[edge] + (row + 0.5 - y0[edge]) * dx / dy
    # The first centre at or right of the crossing. Clipping to the window keeps the number of crossings even.
    col = np.clip((base[edge] + np.ceil(crossing)).astype(np.int64) - left, 0, width)
    # Sorting by (part, row, column) at once pairs the crossings of each row; keys are unique per part and row.
    keys = np.sort((rank[edge] * height + row - top) * (width + 1) + col)
    begin, length = keys[::2], keys[1::2] - keys[::2]
    covered = length > 0
    line, col = np.divmod(begin[covered], width + 1)
    ranks, line = np.divmod(line, height)
    return ranks, line * width + col, length[covered]


def _touched_spans(
    rank: Ints, x0: Floats, y0: Floats, x1: Floats, y1: Floats, closed: Mask, window: Window
) -> tuple[Ints, Ints, Ints]:
    """Return the spans of pixels whose interior the edges cross.

    `closed` edges, those of lines and points, also cover the pixels right of and below them if they run along pixel
    edges. Within a row, an edge covers the columns between the x at which it enters and the x at which it leaves it.
    """
    (height, width), (top, left) = window.shape, (window.row, window.col)
    first = np.floor(y0).astype(np.int64)
    last = np.ceil(y1).astype(np.int64)
    last = np.where(closed, np.maximum(last, first + 1), last)  # a horizontal edge on a pixel edge has last == first
    first, last = np.maximum(first, top), np.minimum(last, top + height)
    counts = np.maximum(last - first, 0)
    edge, row = np.repeat(np.arange(len(rank)), counts), concatenate_ranges(first, first + counts)
    base = np.floor(x0)  # as in _filled_spans: independent of the window
    begin, end = (x0 - base)[edge], (x1 - base)[edge]
    y0, y1 = y0[edge], y1[edge]
    dx, dy = end - begin, np.where(y1 > y0, y1 - y0, 1)
    enter = np.where(row <= y0, begin, begin + (row - y0) * dx / dy)
    leave = np.where(row + 1 >= y1, end, begin + (row + 1 - y0) * dx / dy)
    low = np.floor(np.minimum(enter, leave))
    high = np.ceil(np.maximum(enter, leave))
    high = np.where(closed[edge], np.maximum(high, low + 1), high)
    start, stop = ((base[edge] + c).astype(np.int64) - left for c in (low, high))
    start, stop = np.maximum(start, 0), np.minimum(stop, width)
    covered = stop > start
    return rank[edge][covered], ((row - top) * width + start)[covered], (stop - start)[covered]

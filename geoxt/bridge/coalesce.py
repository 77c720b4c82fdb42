"""Coalesced reads: neighbouring windows of a batch, read as one rectangle.

A window read alone equals that part of any larger window, bit for bit, so neighbours can be read and warped together.
Shared blocks are then decoded once, and the overhead of a read is paid once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from geoxt.windows import Window

MAX_WINDOWS = 16
"""Windows of one read: larger rectangles do not fit the CPU cache."""
MIN_WINDOWS = 8
"""Windows of one read if more threads than reads are left: smaller rectangles have more pixels at their edges."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoalescedRead:
    """Windows of equal rows that overlap or touch, from left to right."""

    window: Window
    """The rectangle that covers them."""
    start: int
    """Index of the first window in the batch; the others follow it."""
    offsets: tuple[int, ...]
    """First column of each window within the rectangle."""


def coalesce(windows: Sequence[Window], *, max_windows: int = MAX_WINDOWS) -> list[CoalescedRead]:
    """Return the reads of windows of equal size, in order; a window without neighbours is a separate read.

    Examples
    --------
    >>> reads = coalesce([Window(0, 0, 4, 4), Window(0, 2, 4, 4), Window(9, 0, 4, 4)])
    >>> [(read.window.shape, read.offsets) for read in reads]
    [((4, 6), (0, 2)), ((4, 4), (0,))]
    """
    reads: list[CoalescedRead] = []
    for index, window in enumerate(windows):
        joined = _extend_read(reads[-1], window) if reads and len(reads[-1].offsets) < max_windows else None
        if joined is None:
            reads.append(CoalescedRead(window=window, start=index, offsets=(0,)))
        else:
            reads[-1] = joined
    return reads


def windows_per_read(count: int, threads: int) -> int:
    """Return the maximum of windows per read for which each thread has a read of a batch.

    Examples
    --------
    >>> windows_per_read(32, 1), windows_per_read(32, 2), windows_per_read(32, 16)
    (16, 16, 8)
    """
    return min(max(count // threads, MIN_WINDOWS), MAX_WINDOWS)


def _extend_read(read: CoalescedRead, window: Window) -> CoalescedRead | None:
    """Return a read with one more window, or `None` if it is not in the same rows right of the last window."""
    first, offset = read.window, window.col - read.window.col
    last = read.offsets[-1]
    same = (first.row, first.time, first.node) == (window.row, window.time, window.node)
    if not same or not last <= offset <= last + window.width:
        return None
    return CoalescedRead(
        window=replace(first, width=offset + window.width), start=read.start, offsets=(*read.offsets, offset)
    )

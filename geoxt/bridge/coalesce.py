"""Runs: windows of a batch that lie side by side, read as one.

A window read alone is that part of any larger window, bit for bit, so neighbours can be read and warped together. What
they share is then read once, and the cost of a call is paid once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from geoxt.windows import Window

LONGEST = 8
"""Windows of one run: longer ones leave the processor's cache, and threads without work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Neighbours in a row."""

    whole: Window
    """The rectangle that they cover."""
    start: int
    """Position of the first of them in the batch."""
    lefts: tuple[int, ...]
    """Column of each within the rectangle."""


def runs(windows: Sequence[Window], *, longest: int = LONGEST) -> list[Run]:
    """Return windows of one shape as runs of so many at most, in their order; most are a run of their own."""
    found: list[Run] = []
    for place, window in enumerate(windows):
        joined = _joined(found[-1], window) if found and len(found[-1].lefts) < longest else None
        if joined is None:
            found.append(Run(whole=window, start=place, lefts=(0,)))
        else:
            found[-1] = joined
    return found


def _joined(run: Run, window: Window) -> Run | None:
    """Return a run with one more window, where that starts within or at the end of the last and in its rows."""
    first, left = run.whole, window.col - run.whole.col
    last = run.lefts[-1]
    near = first.row == window.row and first.time == window.time and last <= left <= last + window.width
    if not near:
        return None
    return Run(whole=replace(first, width=left + window.width), start=run.start, lefts=(*run.lefts, left))

"""Pixels of recent reads of a layer: rows of a grid of windows overlap, and are read and resampled once.

A window read alone equals that part of any larger window, bit for bit, so it can be put together from parts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from geoxt.pixels.file_version import BatchVersions, FileVersion, this_batch, used_versions
from geoxt.source import Mosaic, View
from geoxt.types import Array, Mask
from geoxt.windows import Window

LIMIT = 128 * 2**20
"""Bytes of values kept per layer and process: a row of a grid sampler."""
MAX_READS = 2
"""Parts of a window that are read anew; if there are more, the window is read as a whole."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Pixels of a window."""

    window: Window
    values: Array
    """(time, band, height, width)"""
    valid: Mask
    """Valid mask of the same shape."""
    versions: tuple[FileVersion, ...] = ()
    """Versions of the files."""

    def crop(self, window: Window) -> Part:
        """Return the pixels of a window inside this one, without a copy."""
        rows, cols = window.within(self.window)
        return Part(window, self.values[..., rows, cols], self.valid[..., rows, cols])

    def is_current(self, batch: BatchVersions) -> bool:
        """Return whether no file changed before it was read for a batch."""
        return all(batch.is_current(version) for version in self.versions)


class RecentParts:
    """Parts that were read last, the oldest removed first. Pickles empty.

    Parameters
    ----------
    limit
        Bytes of values.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit, self._size = limit, 0
        self._parts: deque[Part] = deque()
        self._lock = Lock()

    def __reduce__(self) -> tuple[type[RecentParts], tuple[int]]:
        return RecentParts, (self._limit,)

    def read(self, view: View, window: Window, dtype: np.dtype[Any]) -> list[Part]:
        """Return the parts of a window, in the order of a mosaic without overlaps; only missing ones are read."""
        batch = this_batch()
        if batch is None:
            return [Part(window, *view.read(window, dtype=dtype))]
        with self._lock:
            same = [part for part in self._parts if part.window.time == window.time and part.values.dtype == dtype]
        near = [part for part in reversed(same) if part.window.intersect(window) is not None]
        parts, gaps = cover(window, (part for part in near if part.is_current(batch)))
        if len(gaps) > MAX_READS:
            parts, gaps = [], [window]
        for gap in gaps:
            with used_versions() as used:
                values, valid = view.read(gap, dtype=dtype)
            versions = tuple(version for version in used if version is not None)
            parts.append(Part(gap, values, valid, versions))
            if len(versions) == len(used):
                self._keep(parts[-1])
        return parts

    def _keep(self, part: Part) -> None:
        with self._lock:
            self._parts.append(part)
            self._size += part.values.nbytes
            while self._size > self._limit:
                self._size -= self._parts.popleft().values.nbytes


def cover(window: Window, parts: Iterable[Part]) -> tuple[list[Part], list[Window]]:
    """Return crops of parts that cover a window without overlaps, and the windows that no part covers."""
    covered, gaps = [], [window]
    for part in parts:
        remaining = []
        for gap in gaps:
            shared = gap.intersect(part.window)
            if shared is None:
                remaining.append(gap)
            else:
                covered.append(part.crop(shared))
                remaining += outside(gap, shared)
        gaps = remaining
        if not gaps:
            break
    return covered, gaps


def outside(outer: Window, inner: Window) -> list[Window]:
    """Return the windows above, below, left and right of a window inside another.

    Examples
    --------
    >>> [part.shape for part in outside(Window(0, 0, 4, 6), Window(0, 0, 2, 5))]
    [(2, 6), (2, 1)]
    """
    (top, left), (bottom, right) = (outer.row, outer.col), outer.stop
    end_row, end_col = inner.stop
    sides = (
        (top, left, inner.row - top, outer.width),
        (end_row, left, bottom - end_row, outer.width),
        (inner.row, left, inner.height, inner.col - left),
        (inner.row, end_col, inner.height, right - end_col),
    )
    return [Window(*side, outer.time, outer.node) for side in sides if min(side[2:]) > 0]


def of_local_files(view: View) -> bool:
    """Return whether all pixels of a layer come from unsigned local files, whose changes are noticed."""
    source = view.source
    if not isinstance(source, Mosaic) or source.remote:
        return False
    signed = source.credentials is not None and source.credentials.sign is not None
    return not signed and all(a is None or a.array is None for scene in source.scenes for a in scene.assets)

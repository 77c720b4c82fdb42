"""Pixels of recent reads of a layer: rows of a grid of windows overlap, and are read and resampled once.

A window read alone equals that part of any larger window, bit for bit, so it can be put together from parts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any

import numpy as np
from torch.utils.data import get_worker_info

from geoxt.bridge.shared_parts import Part, SharedParts
from geoxt.pixels.file_version import this_batch, used_versions
from geoxt.source import Mosaic, View
from geoxt.windows import Window

LIMIT = 128 * 2**20
"""Maximum bytes of values per layer and process: a row of a grid sampler."""
MAX_READS = 2
"""Maximum number of parts of a window that are read; if more are missing, the whole window is read."""


class RecentParts:
    """Parts that were read last, the oldest removed first. Pickles empty.

    Parameters
    ----------
    limit
        Bytes of values.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit, self._size = limit, 0
        self._parts: deque[tuple[int, int, int, int, Part]] = deque()
        """First and last row and column, and the part."""
        self._lock = Lock()
        self._shared: tuple[SharedParts, int] | None = None

    def __reduce__(self) -> tuple[Callable[..., RecentParts], tuple[Any, ...]]:
        return _empty, (self._limit, self._shared)

    def share(self, parts: SharedParts, layer: int) -> None:
        """Let worker processes share the parts of this layer, the one with a given number."""
        self._shared = parts, layer

    def read(self, view: View, window: Window, dtype: np.dtype[Any], use: Callable[[list[Part]], None]) -> None:
        """Read the missing parts of a window, and call `use` with all its parts, which do not overlap.

        Workers that share their parts call it again if a part was overwritten while it was used.
        """
        batch, shared = this_batch(), None
        if batch is not None and _among_workers():
            batch, shared = (None, None) if self._shared is None else (batch, self._shared)
        if batch is None:
            use([Part(window, *view.read(window, dtype=dtype))])
            return
        near = self._find(window) if shared is None else shared[0].find(shared[1], window)
        parts, gaps = cover(window, (p for p in near if p.values.dtype == dtype and p.is_current(batch)))
        if len(gaps) > MAX_READS:
            parts, gaps = [], [window]
        for gap in gaps:
            with used_versions() as used:
                values, valid = view.read(gap, dtype=dtype)
            versions = tuple(version for version in used if version is not None)
            parts.append(Part(gap, values, valid, versions))
            if len(versions) == len(used):
                self._keep(parts[-1]) if shared is None else shared[0].add(shared[1], parts[-1])
        use(parts)
        if shared is not None and not shared[0].holds(parts):
            use([Part(window, *view.read(window, dtype=dtype))])

    def _find(self, window: Window) -> list[Part]:
        """Return the parts of this process that overlap a window, the newest first."""
        (row, col), (bottom, right), time = (window.row, window.col), window.stop, window.time
        with self._lock:
            return [
                part
                for top, left, down, across, part in reversed(self._parts)
                if top < bottom and down > row and left < right and across > col and part.window.time == time
            ]

    def _keep(self, part: Part) -> None:
        with self._lock:
            self._parts.append((part.window.row, part.window.col, *part.window.stop, part))
            self._size += part.values.nbytes
            while self._size > self._limit:
                self._size -= self._parts.popleft()[-1].values.nbytes


def _empty(limit: int, shared: tuple[SharedParts | None, int] | None) -> RecentParts:
    parts = RecentParts(limit)
    if shared is not None and shared[0] is not None:
        parts.share(shared[0], shared[1])
    return parts


def _among_workers() -> bool:
    """Return whether this is one of several worker processes, which seldom read neighbouring rows of windows."""
    worker = get_worker_info()
    return worker is not None and worker.num_workers > 1


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

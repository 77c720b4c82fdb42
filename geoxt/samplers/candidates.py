"""Places: all positions at which a window may lie in a region; drawing takes each with the same probability."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import shapely

from geoxt.errors import OverlapError
from geoxt.samplers.constraints import Scope
from geoxt.samplers.sequence import Table
from geoxt.types import Mask
from geoxt.windows import Window

TRIES = 200
"""Rounds of drawing before a sampler gives up on finding windows that hold what they must."""
_AT_ONCE = 2048
"""Windows that are tried in a round after the first, at least."""
_CELLS = 2048
"""Rectangles into which places are cut, at most, to leave out those where no window can hold what it must."""
_ROUNDS = 10

Propose = Callable[[np.random.Generator, npt.NDArray[np.int64]], Table]
"""Returns a window for each of some slots."""


class Places:
    """Positions of the first row and column of a window, as rectangles that share none.

    Parameters
    ----------
    scope
        Where windows may lie; footprints and outline serve to leave out places, never to let in.
    """

    def __init__(self, scope: Scope) -> None:
        self.size = scope.size
        corners, room = _rectangles(scope)
        fitting = (room > 0).all(1)
        if not fitting.any():
            largest = max(((w.height, w.width) for w in scope.region), default=(0, 0))
            msg = (
                f"Cannot place a window of {self.size[0]} x {self.size[1]} pixels: the largest rectangle of the region "
                f"is {largest[0]} x {largest[1]}. Pass a smaller size, or split into larger blocks."
            )
            raise OverlapError(msg)
        self.outer, self.span = corners[fitting], room[fitting]
        self.corners, self.room = _possible(self.outer, self.span, scope)
        self.ends = np.cumsum(self.room.prod(1))
        if not len(self.ends):
            raise no_windows(scope, 1, 0)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def draw(self, rng: np.random.Generator, count: int) -> Table:
        """Return (count, 4): row, column, height, width."""
        place = rng.integers(0, self.ends[-1], count)
        which = np.searchsorted(self.ends, place, side="right")
        within = place - np.where(which > 0, self.ends[which - 1], 0)
        row, col = np.divmod(within, self.room[which, 1])
        return self.windows(self.corners[which] + np.c_[row, col])

    def holds(self, table: Table) -> Mask:
        """Tell which windows lie at one of the places, before they are cut down by footprints."""
        out = np.zeros(len(table), bool)
        step = max(10_000_000 // len(self.outer), 1)
        for start in range(0, len(table), step):
            part = table[start : start + step, None, :2]
            inside: Mask = (part >= self.outer) & (part < self.outer + self.span)
            out[start : start + step] = np.any(inside.all(2), axis=1)
        return out

    def within(self, table: Table) -> npt.NDArray[np.int64]:
        """Return which of the outer rectangles holds each window, which must lie in one."""
        inside = [((self.outer <= p) & (p < self.outer + self.span)).all(1).argmax() for p in table[:, :2]]
        return np.array(inside, "int64")

    def windows(self, corners: Table) -> Table:
        """Return windows at positions."""
        sizes = np.broadcast_to(self.size, corners.shape)
        return np.concatenate((corners, sizes), axis=1).astype("int64")


def _rectangles(scope: Scope) -> tuple[Table, Table]:
    """Return first positions and how many there are along each axis, for each rectangle of a region."""
    outers = list(scope.region)
    if scope.outline is not None and outers:
        low, high = np.min([(w.row, w.col) for w in outers], 0), np.max([w.stop for w in outers], 0)
        outers = [Window(*low.tolist(), *(high - low).tolist())]
    before, after = np.array(scope.reach).T
    sizes = np.array([w.shape for w in outers], "int64").reshape(-1, 2)
    corners = np.array([(w.row, w.col) for w in outers], "int64").reshape(-1, 2) - before
    return corners, sizes + before + after - scope.size + 1


def _possible(corners: Table, room: Table, scope: Scope) -> tuple[Table, Table]:
    """Return the rectangles without those where no window can hold what it must, cut finer near the edges."""
    pixels = scope.size[0] * scope.size[1]
    footprint = scope.footprints[0] if scope.groups == 1 else shapely.union_all(list(scope.footprints))
    asked = [(footprint, scope.min_covered * pixels)]
    if scope.outline is not None:
        asked.append((scope.outline, pixels if scope.placement == "inside" else 1.0))
    done: list[tuple[Table, Table]] = []
    for turn in range(_ROUNDS):
        reach = corners + room - 1 + scope.size
        boxes = shapely.box(corners[:, 1], corners[:, 0], reach[:, 1], reach[:, 0])
        able, sure = np.ones(len(corners), bool), np.ones(len(corners), bool)
        for geometry, least in asked:
            held = _covers(geometry, boxes)
            sure &= held
            rest = np.flatnonzero(able & ~held)
            common = shapely.area(shapely.intersection(boxes[rest], geometry))
            able[rest] = (common > 0) & (common >= least - 1e-6)
        done.append((corners[able & sure], room[able & sure]))
        corners, room = corners[able & ~sure], room[able & ~sure]
        if not len(corners) or 4 * len(corners) > _CELLS or turn == _ROUNDS - 1 or (room == 1).all():
            break
        corners, room = _quartered(corners, room)
    done.append((corners, room))
    return np.concatenate([c for c, _ in done]), np.concatenate([r for _, r in done])


def _covers(geometry: shapely.Geometry, boxes: npt.NDArray[np.object_]) -> Mask:
    shapely.prepare(geometry)
    return np.asarray(shapely.covers(geometry, boxes))


def _quartered(corners: Table, room: Table) -> tuple[Table, Table]:
    half = room // 2
    parts = []
    for down in (False, True):
        for across in (False, True):
            later = np.array((down, across))
            parts.append((corners + np.where(later, half, 0), np.where(later, room - half, half)))
    all_corners, all_room = np.concatenate([c for c, _ in parts]), np.concatenate([r for _, r in parts])
    some = (all_room > 0).all(1)
    return all_corners[some], all_room[some]


def fill(
    scope: Scope,
    rng: np.random.Generator,
    count: int,
    propose: Propose,
    *,
    fits: Callable[[Table, npt.NDArray[np.int64]], Mask] | None = None,
    group: npt.NDArray[np.int64] | None = None,
    otherwise: Table | None = None,
) -> tuple[Table, npt.NDArray[np.int64]]:
    """Return windows and their groups of time steps, drawn anew until each holds what it must.

    Parameters
    ----------
    scope
        What windows must hold.
    rng
        Draws groups of time steps.
    count
        Number of windows.
    propose
        Returns a window for each of some slots (0 to count - 1).
    fits
        Tells which proposals will do otherwise, given with their slots.
    group
        The group of each window. By default drawn with it, or in turn, as the times say.
    otherwise
        Windows for the slots that find none in all rounds; by default that is an error.
    """
    table, at = np.zeros((count, 4), "int64"), np.zeros(count, "int64")
    fixed = group
    if fixed is None and scope.times is not None and scope.times.order == "sequential":
        fixed = np.arange(count) % scope.groups
    pending = np.arange(count)
    for turn in range(TRIES):
        repeat = 1 if scope.min_valid > 0 or turn == 0 else max(_AT_ONCE // len(pending), 1)
        slots = np.repeat(pending, repeat)
        drawn = rng.integers(0, scope.groups, len(slots)) if fixed is None else fixed[slots]
        found = propose(rng, slots)
        good = np.ones(len(slots), bool) if fits is None else fits(found, slots)
        good[good] = scope.accepts(found[good], drawn[good])
        chosen = np.flatnonzero(good)
        slot, first = np.unique(slots[chosen], return_index=True)
        table[slot], at[slot] = found[chosen[first]], drawn[chosen[first]]
        pending = np.setdiff1d(pending, slot, assume_unique=True)
        if not len(pending):
            return table, at
    if otherwise is not None and fixed is not None:
        table[pending], at[pending] = otherwise[pending], fixed[pending]
        return table, at
    raise no_windows(scope, count, count - len(pending))


def no_windows(scope: Scope, wanted: int, found: int) -> OverlapError:
    """Return the error of a sampler that finds too few windows."""
    valid = f" and valid to {scope.min_valid:g}" if scope.min_valid > 0 else ""
    return OverlapError(
        f"Cannot find {wanted} windows of {scope.size[0]} x {scope.size[1]} pixels covered to "
        f"{scope.min_covered:g}{valid}: {found} found in {TRIES} rounds. Pass a smaller size or share (min_covered=, "
        "min_valid=), or another region."
    )

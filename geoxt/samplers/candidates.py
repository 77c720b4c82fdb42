"""Candidate positions of windows in a region, all equally likely, and drawing until windows fulfil the constraints."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import shapely

from geoxt.errors import OverlapError
from geoxt.samplers.constraints import Constraints
from geoxt.samplers.sequence import Table
from geoxt.types import Mask
from geoxt.windows import Window

MAX_ROUNDS = 200
"""Maximum number of rounds of drawing before a sampler raises."""
_PROPOSALS = 2048
"""Minimum number of windows proposed in each round after the first."""
_MAX_RECTANGLES = 2048
"""Maximum number of rectangles into which candidates are subdivided."""
_MAX_SUBDIVISIONS = 10

Propose = Callable[[np.random.Generator, npt.NDArray[np.int64]], Table]
"""Function that proposes one window for each slot (position in the result)."""


class Candidates:
    """Candidate positions (first row and column of a window), as disjoint rectangles of positions.

    Parameters
    ----------
    constraints
        Footprints and outline only exclude positions at which no window can fulfil them; the windows drawn must still
        be tested.
    """

    def __init__(self, constraints: Constraints) -> None:
        self.size = constraints.size
        corners, counts = _rectangles(constraints)
        fitting = (counts > 0).all(1)
        if not fitting.any():
            largest = max(((w.height, w.width) for w in constraints.region), default=(0, 0))
            raise OverlapError(
                f"Cannot place a window of {self.size[0]} x {self.size[1]} pixels: the largest rectangle of the region "
                f"is {largest[0]} x {largest[1]}.",
                remedy="Pass a smaller {size}, or split into larger blocks.",
                argument="size",
            )
        self.outer, self.span = corners[fitting], counts[fitting]
        self.corners, self.counts = _exclude(self.outer, self.span, constraints)
        self.ends = np.cumsum(self.counts.prod(1))
        if not len(self.ends):
            raise too_few_windows(constraints, 1, 0)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def draw(self, rng: np.random.Generator, count: int) -> Table:
        """Return (count, 4): row, column, height, width of windows at uniform positions."""
        position = rng.integers(0, self.ends[-1], count)
        rectangle = np.searchsorted(self.ends, position, side="right")
        within = position - np.where(rectangle > 0, self.ends[rectangle - 1], 0)
        row, col = np.divmod(within, self.counts[rectangle, 1])
        return self.windows(self.corners[rectangle] + np.c_[row, col])

    def contains(self, table: Table) -> Mask:
        """Return which windows lie at a position of the region, regardless of footprints."""
        out = np.zeros(len(table), bool)
        step = max(10_000_000 // len(self.outer), 1)  # bounds the memory of the comparison
        for start in range(0, len(table), step):
            corners = table[start : start + step, None, :2]
            inside: Mask = (corners >= self.outer) & (corners < self.outer + self.span)
            out[start : start + step] = np.any(inside.all(2), axis=1)
        return out

    def rectangle_of(self, table: Table) -> npt.NDArray[np.int64]:
        """Return the index of the rectangle of the region in which each window lies; each must lie in one."""
        index = [((self.outer <= p) & (p < self.outer + self.span)).all(1).argmax() for p in table[:, :2]]
        return np.array(index, "int64")

    def windows(self, corners: Table) -> Table:
        """Return windows (n, 4) at positions (n, 2)."""
        sizes = np.broadcast_to(self.size, corners.shape)
        return np.concatenate((corners, sizes), axis=1).astype("int64")


def _rectangles(constraints: Constraints) -> tuple[Table, Table]:
    """Return the first position, and the number of positions along each axis, for each rectangle of a region."""
    outers = list(constraints.region)
    if constraints.outline is not None and outers:
        low, high = np.min([(w.row, w.col) for w in outers], 0), np.max([w.stop for w in outers], 0)
        outers = [Window(*low.tolist(), *(high - low).tolist())]
    before, after = np.array(constraints.reach).T
    sizes = np.array([w.shape for w in outers], "int64").reshape(-1, 2)
    corners = np.array([(w.row, w.col) for w in outers], "int64").reshape(-1, 2) - before
    return corners, sizes + before + after - constraints.size + 1


def _exclude(corners: Table, counts: Table, constraints: Constraints) -> tuple[Table, Table]:
    """Return the rectangles of positions without those where no window can fulfil the constraints.

    Rectangles across an edge of the footprint or outline are quartered, up to `_MAX_RECTANGLES`.
    """
    pixels = constraints.size[0] * constraints.size[1]
    footprints = constraints.footprints
    footprint = footprints[0] if constraints.groups == 1 else shapely.union_all(list(footprints))
    required = [(footprint, constraints.min_covered * pixels)]
    if constraints.outline is not None:
        required.append((constraints.outline, pixels if constraints.placement == "inside" else 1.0))
    finished: list[tuple[Table, Table]] = []
    for round_number in range(_MAX_SUBDIVISIONS):
        stop = corners + counts - 1 + constraints.size
        boxes = shapely.box(corners[:, 1], corners[:, 0], stop[:, 1], stop[:, 0])
        possible, certain = np.ones(len(corners), bool), np.ones(len(corners), bool)
        for geometry, min_area in required:
            covered = _covers(geometry, boxes)
            certain &= covered
            partial = np.flatnonzero(possible & ~covered)
            shared = shapely.area(shapely.intersection(boxes[partial], geometry))
            possible[partial] = (shared > 0) & (shared >= min_area - 1e-6)
        finished.append((corners[possible & certain], counts[possible & certain]))
        corners, counts = corners[possible & ~certain], counts[possible & ~certain]
        last = round_number == _MAX_SUBDIVISIONS - 1 or 4 * len(corners) > _MAX_RECTANGLES
        if not len(corners) or last or (counts == 1).all():
            break
        corners, counts = _quarter(corners, counts)
    finished.append((corners, counts))
    return np.concatenate([c for c, _ in finished]), np.concatenate([n for _, n in finished])


def _covers(geometry: shapely.Geometry, boxes: npt.NDArray[np.object_]) -> Mask:
    shapely.prepare(geometry)
    return np.asarray(shapely.covers(geometry, boxes))


def _quarter(corners: Table, counts: Table) -> tuple[Table, Table]:
    half = counts // 2
    quarters = []
    for down in (False, True):
        for across in (False, True):
            second = np.array((down, across))
            quarters.append((corners + np.where(second, half, 0), np.where(second, counts - half, half)))
    all_corners, all_counts = np.concatenate([c for c, _ in quarters]), np.concatenate([n for _, n in quarters])
    nonempty = (all_counts > 0).all(1)
    return all_corners[nonempty], all_counts[nonempty]


def draw_accepted(
    constraints: Constraints,
    rng: np.random.Generator,
    count: int,
    propose: Propose,
    *,
    fits: Callable[[Table, npt.NDArray[np.int64]], Mask] | None = None,
    group: npt.NDArray[np.int64] | None = None,
    fallback: Table | None = None,
) -> tuple[Table, npt.NDArray[np.int64]]:
    """Draw windows and their groups of time steps by rejection sampling, until all fulfil the constraints.

    Parameters
    ----------
    constraints
        Constraints of the windows.
    rng
        Generator of the groups of time steps.
    count
        Number of windows.
    propose
        Function that proposes one window for each slot (0 to count - 1).
    fits
        Further test of proposals, called with the windows and their slots.
    group
        The group of each window. By default drawn with it, or in turn for times with order="sequential".
    fallback
        Windows for slots without an accepted proposal; by default that raises.
    """
    table, groups = np.zeros((count, 4), "int64"), np.zeros(count, "int64")
    fixed_groups = group
    if fixed_groups is None and constraints.times is not None and constraints.times.order == "sequential":
        fixed_groups = np.arange(count) % constraints.groups
    pending = np.arange(count)
    for round_number in range(MAX_ROUNDS):
        # testing valid pixels reads them: then each slot gets one proposal a round
        repeat = 1 if constraints.min_valid > 0 or round_number == 0 else max(_PROPOSALS // len(pending), 1)
        slots = np.repeat(pending, repeat)
        drawn_groups = rng.integers(0, constraints.groups, len(slots)) if fixed_groups is None else fixed_groups[slots]
        proposals = propose(rng, slots)
        accepted = np.ones(len(slots), bool) if fits is None else fits(proposals, slots)
        accepted[accepted] = constraints.accepts(proposals[accepted], drawn_groups[accepted])
        index = np.flatnonzero(accepted)
        slot, first = np.unique(slots[index], return_index=True)
        table[slot], groups[slot] = proposals[index[first]], drawn_groups[index[first]]
        pending = np.setdiff1d(pending, slot, assume_unique=True)
        if not len(pending):
            return table, groups
    if fallback is not None and fixed_groups is not None:
        table[pending], groups[pending] = fallback[pending], fixed_groups[pending]
        return table, groups
    raise too_few_windows(constraints, count, count - len(pending))


def too_few_windows(constraints: Constraints, count: int, accepted: int) -> OverlapError:
    """Return the error of a sampler that cannot draw as many windows as requested."""
    valid = f" and valid to {constraints.min_valid:g}" if constraints.min_valid > 0 else ""
    return OverlapError(
        f"Cannot find {count} windows of {constraints.size[0]} x {constraints.size[1]} pixels covered to "
        f"{constraints.min_covered:g}{valid}: {accepted} found in {MAX_ROUNDS} rounds.",
        remedy="Pass a smaller {size}, {min_covered} or {min_valid}, or another {region}.",
    )

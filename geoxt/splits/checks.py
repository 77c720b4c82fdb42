"""Proof that no two parts of a split share a pixel at a time step, buffer included."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import shapely

from geoxt.errors import InputError
from geoxt.grid import pixel_offset
from geoxt.regions.region import Region, TreeRegion
from geoxt.splits.block_lattice import moved, near
from geoxt.splits.split import Split
from geoxt.splits.tree_split import TreeSplit
from geoxt.types import Array

_SEGMENT = 32
"""Pixels: edges of a region are split to this length before they are brought to another CRS."""
_TOUCH = 1e-3
"""Pixels: area that regions may share by the rounding of their edges."""
SomePart = Region | TreeRegion


def check(train: Split | TreeSplit | SomePart, val: SomePart | None = None, test: SomePart | None = None) -> None:
    """Prove that no two parts of a split share a pixel, or that they share no time step.

    Of a tree, every child's regions are compared with those of every other child as well, on the ground.

    Parameters
    ----------
    train
        A split; or its first region, followed by the others.
    val, test
        The other regions, where the first is given.

    Raises
    ------
    InputError
        Where two parts share pixels at the same time, their buffers meet, or they are closer in time than the gap; the
        message names them and how much it is.
    """
    if isinstance(train, (Split, TreeSplit)):
        parts, gap = dict[str, SomePart](train.parts), train.gap
    else:
        given = {"train": train, "val": val, "test": test}
        parts, gap = {name: region for name, region in given.items() if region is not None}, None
    for a, b in combinations(parts, 2):
        for (node, first), (other, second) in product(_regions(parts[a]), _regions(parts[b])):
            if not len(first) or not len(second) or _apart_in_time(a, first, b, second, gap):
                continue
            if node == other or pixel_offset(second.grid, first.grid) is not None:
                _require_apart(a, first, b, second)
            else:
                _require_apart_on_the_ground(f"{a} in {node}", first, f"{b} in {other}", second)


def _regions(part: SomePart) -> list[tuple[str, Region]]:
    return list(part.parts.items()) if isinstance(part, TreeRegion) else [("", part)]


def _require_apart_on_the_ground(a: str, first: Region, b: str, second: Region) -> None:
    """Check that regions of two CRSs share no ground, their margins around them included."""
    place = near(first.grid, second.grid)
    reach = max(second.margin or 0, 1)
    rows, cols = second.grid.shape
    if place is not None and not place.buffer(reach).intersects(
        shapely.box(-reach, -reach, cols + reach, rows + reach)
    ):
        return
    mine = moved(shapely.segmentize(_grown(first), _SEGMENT), first.grid, second.grid)
    shared = shapely.area(shapely.intersection(mine, _grown(second)))
    if shared > _TOUCH:
        margins = f", with their buffers of {first.margin or 0} and {second.margin or 0}" if first.margin else ""
        msg = f"Cannot use the split: {a} and {b} share the ground of {shared:.3g} pixels{margins}. Make them apart."
        raise InputError(msg)


def _grown(region: Region) -> shapely.Geometry:
    """Return a region in pixels, with its margin around each of its rectangles."""
    m = region.margin or 0
    table = np.array([(w.col - m, w.row - m, w.stop[1] + m, w.stop[0] + m) for w in region], "float64")
    return shapely.union_all(shapely.box(*table.T))


def _apart_in_time(a: str, first: Region, b: str, second: Region, gap: np.timedelta64 | None) -> bool:
    """Tell whether two parts share no time step; where they do not, they must keep the gap."""
    if first.times is None or second.times is None or not (len(first) and len(second)):
        return False
    mine, other = (np.sort(np.array(r.times, "datetime64[ns]")) for r in (first, second))
    if np.isin(mine, other).any():
        return False
    least = nearest(mine, other).min() if len(mine) and len(other) else None
    if gap is not None and least is not None and least < gap:
        msg = f"Cannot use the split: {a} and {b} are {_days(least)} days apart, less than the gap of {_days(gap)}. "
        raise InputError(msg + "Make their intervals apart.")
    return True


def nearest(stamps: Array, others: Array) -> Array:
    """Return the time from each stamp to the nearest of others, which are sorted."""
    after = np.searchsorted(others, stamps)
    low, high = others[np.maximum(after - 1, 0)], others[np.minimum(after, len(others) - 1)]
    return np.asarray(np.minimum(np.abs(stamps - low), np.abs(high - stamps)))


def _require_apart(a: str, first: Region, b: str, second: Region) -> None:
    second = second.on(first.grid)
    shared = _common(first, second, 0)
    if shared:
        msg = f"Cannot use the split: {a} and {b} share {shared} pixels. Make their regions apart."
        raise InputError(msg)
    margin = (first.margin or 0) + (second.margin or 0)
    if margin and _common(first, second, margin):
        msg = f"Cannot use the split: {a} and {b} lie less than their buffers apart, {margin} pixels. Make them apart."
        raise InputError(msg)


def _common(first: Region, second: Region, grown: int) -> int:
    """Return the pixels that rectangles of two regions share, when those of the first are grown."""
    mine, other = (np.array([(w.row, w.col, *w.stop) for w in r], "int64").reshape(-1, 4) for r in (first, second))
    mine = mine + np.array((-grown, -grown, grown, grown))
    boxes, others = (shapely.box(t[:, 1], t[:, 0], t[:, 3], t[:, 2]) for t in (mine, other))
    i, j = shapely.STRtree(others).query(boxes)
    span = np.minimum(mine[i, 2:], other[j, 2:]) - np.maximum(mine[i, :2], other[j, :2])
    return int(np.maximum(span, 0).prod(1).sum())


def _days(step: np.timedelta64) -> str:
    return f"{step / np.timedelta64(1, 'D'):g}"

"""Dealing blocks to parts: in number as the shares say, in pixels of every class as near to them as swaps get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import LabelError
from geoxt.samplers.sequence import Table
from geoxt.samplers.strata import MOST_CODES, by_code
from geoxt.samplers.streaming import BLOCK, inside, plane_of
from geoxt.types import Floats
from geoxt.windows import Window

_SWEEPS = 4
_PARTNERS = 256
"""Blocks with which one is compared for a swap, at most."""


def deal(count: int, shares: Sequence[float]) -> list[int]:
    """Return whole numbers that add up to a count, in proportion; every part with a share gets one where it can."""
    ideal = np.array(shares) * count
    dealt = np.floor(ideal).astype(int)
    dealt += (dealt == 0) & (np.array(shares) > 0)
    while dealt.sum() < count:
        dealt[np.argmax(ideal - dealt)] += 1
    while dealt.sum() > count and dealt.max() > 1:
        dealt[np.argmax(np.where(dealt > 1, dealt - ideal, -np.inf))] -= 1
    return [int(d) for d in dealt]


def class_counts(labels: xr.DataArray, grid: GeoBox, blocks: Sequence[Window]) -> Floats:
    """Return (block, class): the valid pixels of each class in each block; the labels are read once.

    Raises
    ------
    LabelError
        Where the layer holds no valid pixel in any block, or more values than class codes could be.
    """
    return table_of(class_rows(labels, grid, [[block] for block in blocks]), repr(labels.name))


def class_rows(labels: xr.DataArray, grid: GeoBox, blocks: Sequence[Sequence[Window]]) -> list[dict[int, int]]:
    """Return the valid pixels of each class, by code, in each block, which is some rectangles."""
    view = plane_of(labels, grid, what="labels")
    rows: list[dict[int, int]] = []
    for block in blocks:
        row: dict[int, int] = {}
        corners = np.array([(w.row, w.col, *w.stop) for w in block], "int64").reshape(-1, 4)
        for tile in _tiles(corners):
            values, valid = (part[0, 0] for part in view.read(tile))
            if len(block) > 1:
                valid = valid & inside(corners, tile)
            for code, place in by_code(values, valid):
                row[code] = row.get(code, 0) + len(place)
        rows.append(row)
    return rows


def table_of(rows: Sequence[Mapping[int, float]], name: str) -> Floats:
    """Return (block, class) of the counts by code in each block."""
    codes = sorted(set().union(*rows))
    if not 0 < len(codes) <= MOST_CODES:
        msg = f"Cannot split by the classes of {name}: it has {len(codes)} in the blocks. Pass labels= a "
        raise LabelError(msg + f"layer of 1 to {MOST_CODES} class codes.")
    return np.array([[row.get(code, 0) for code in codes] for row in rows], "float64")


def _tiles(corners: Table) -> list[Window]:
    """Return windows that cover some rectangles (top, left, bottom, right)."""
    if not len(corners):
        return []
    (top, left), (bottom, right) = corners[:, :2].min(0).tolist(), corners[:, 2:].max(0).tolist()
    return [
        Window(row, col, min(BLOCK, bottom - row), min(BLOCK, right - col))
        for row in range(top, bottom, BLOCK)
        for col in range(left, right, BLOCK)
    ]


def balanced(
    counts: Floats, part: npt.NDArray[np.int64], shares: Sequence[float], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return parts in which blocks were swapped, as long as that brings the classes nearer to the shares.

    Parameters
    ----------
    counts
        (block, class): pixels.
    part
        The part of each block to begin with. How many blocks a part has does not change.
    shares
        What each part should have of every class; each class counts alike, and so do all pixels together.
    rng
        Chooses what is tried.
    """
    part = part.copy()
    weight = np.c_[counts, counts.sum(1)]
    weight = weight / np.maximum(weight.sum(0), 1)
    off = np.array([weight[part == p].sum(0) - share for p, share in enumerate(shares)])
    for _ in range(_SWEEPS):
        swapped = False
        for block in rng.permutation(len(part)):
            others = np.flatnonzero(part != part[block])
            if len(others) > _PARTNERS:
                others = rng.choice(others, _PARTNERS, replace=False)
            if not len(others):
                return part
            step = weight[others] - weight[block]
            mine, theirs = off[part[block]], off[part[others]]
            gain = ((mine + step) ** 2 - mine**2 + (theirs - step) ** 2 - theirs**2).sum(1)
            best = int(gain.argmin())
            if gain[best] < -1e-12:
                other = others[best]
                off[part[block]] += step[best]
                off[part[other]] -= step[best]
                part[block], part[other] = part[other], part[block]
                swapped = True
        if not swapped:
            break
    return part

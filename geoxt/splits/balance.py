"""Assignment of blocks to parts: counts in proportion to fractions, and similar fractions of every class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.alignment.label_roles import require_codes, unknown_codes
from geoxt.errors import LabelError
from geoxt.samplers.sequence import Table
from geoxt.samplers.strata import MAX_CODES, pixels_by_code
from geoxt.samplers.streaming import BLOCK, inside, view_on_grid
from geoxt.types import Floats
from geoxt.windows import Window

_MAX_SWEEPS = 4
_MAX_PARTNERS = 256
"""Maximum number of blocks compared with one block for a swap."""


def apportion(count: int, fractions: Sequence[float]) -> list[int]:
    """Return whole numbers that add up to `count`, in proportion to fractions.

    Every part with a fraction above 0 gets at least 1, if possible: otherwise the sum exceeds `count`.
    """
    ideal = np.array(fractions) * count
    counts = np.floor(ideal).astype(int)
    counts += (counts == 0) & (np.array(fractions) > 0)
    while counts.sum() < count:
        counts[np.argmax(ideal - counts)] += 1
    while counts.sum() > count and counts.max() > 1:
        counts[np.argmax(np.where(counts > 1, counts - ideal, -np.inf))] -= 1
    return [int(n) for n in counts]


def class_rows(labels: xr.DataArray, grid: GeoBox, blocks: Sequence[Sequence[Window]]) -> list[dict[int, int]]:
    """Return the valid pixels of each class, by code, in each block; the labels are read once.

    Parameters
    ----------
    labels
        Class codes (y, x) on the grid.
    grid
        Grid of the blocks.
    blocks
        Disjoint rectangles of each block.
    """
    require_codes(labels, labels.name)
    view = view_on_grid(labels, grid, argument="labels")
    unknown = unknown_codes(labels)
    rows: list[dict[int, int]] = []
    for block in blocks:
        row: dict[int, int] = {}
        corners = np.array([(w.row, w.col, *w.stop) for w in block], "int64").reshape(-1, 4)
        for tile in _tiles(corners):
            values, valid = (part[0, 0] for part in view.read(tile))
            if len(block) > 1:
                valid = valid & inside(corners, tile)
            for code, pixels in pixels_by_code(values, valid, unknown):
                row[code] = row.get(code, 0) + len(pixels)
        rows.append(row)
    return rows


def class_table(rows: Sequence[Mapping[int, float]], name: str) -> Floats:
    """Return (block, class) from the counts by code in each block.

    Raises
    ------
    LabelError
        If there are no codes, or more than class codes could be.
    """
    codes = sorted(set().union(*rows))
    if not 0 < len(codes) <= MAX_CODES:
        raise LabelError(
            f"Cannot split by the classes of {name}: it has {len(codes)} in the blocks.",
            remedy=f"Pass {{labels}} a layer of 1 to {MAX_CODES} class codes.",
            argument="labels",
        )
    return np.array([[row.get(code, 0) for code in codes] for row in rows], "float64")


def _tiles(corners: Table) -> list[Window]:
    """Return windows that cover the bounds of rectangles (n, 4): top, left, bottom, right."""
    if not len(corners):
        return []
    (top, left), (bottom, right) = corners[:, :2].min(0).tolist(), corners[:, 2:].max(0).tolist()
    return [
        Window(row, col, min(BLOCK, bottom - row), min(BLOCK, right - col))
        for row in range(top, bottom, BLOCK)
        for col in range(left, right, BLOCK)
    ]


def balance_classes(
    counts: Floats, part: npt.NDArray[np.int64], fractions: Sequence[float], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return the part of each block after swaps that bring the classes of all parts closer to their fractions.

    Greedy descent: a block is swapped with the block of another part that reduces the sum of squared deviations most,
    until a sweep over all blocks finds no such swap.

    Parameters
    ----------
    counts
        (block, class): pixels.
    part
        (block,): initial part of each block. The number of blocks in each part does not change.
    fractions
        Desired fraction of every class in each part. Classes count equally, and so do all pixels together.
    rng
        Chooses the order of blocks and partners.
    """
    part = part.copy()
    weight = np.c_[counts, counts.sum(1)]
    weight = weight / np.maximum(weight.sum(0), 1)
    deviation = np.array([weight[part == p].sum(0) - fraction for p, fraction in enumerate(fractions)])
    for _ in range(_MAX_SWEEPS):
        swapped = False
        for block in rng.permutation(len(part)):
            others = np.flatnonzero(part != part[block])
            if len(others) > _MAX_PARTNERS:
                others = rng.choice(others, _MAX_PARTNERS, replace=False)
            if not len(others):
                return part
            change = weight[others] - weight[block]
            ours, theirs = deviation[part[block]], deviation[part[others]]
            gain = ((ours + change) ** 2 - ours**2 + (theirs - change) ** 2 - theirs**2).sum(1)
            best = int(gain.argmin())
            if gain[best] < -1e-12:
                other = others[best]
                deviation[part[block]] += change[best]
                deviation[part[other]] -= change[best]
                part[block], part[other] = part[other], part[block]
                swapped = True
        if not swapped:
            break
    return part

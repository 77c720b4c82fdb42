"""Checks that no two parts of a split share a pixel at the same time step, buffers included."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import shapely

from geoxt.errors import InputError
from geoxt.grid import pixel_offset
from geoxt.regions.region import GridRegion, Region
from geoxt.splits.block_lattice import outline_in, reproject
from geoxt.splits.split import Split
from geoxt.types import Array

_SEGMENT = 32
"""Pixels: edges of a region are cut into segments of at most this length before they are reprojected."""
_TOLERANCE = 1e-3
"""Pixels: area that two regions may share due to rounding of their reprojected edges."""
SomePart = Region | GridRegion


def check(train: Split | SomePart, val: SomePart | None = None, test: SomePart | None = None) -> None:
    """Raise if two parts of a split share a pixel at the same time step.

    In a tree, the regions of every node are compared with those of every other node as well, on the ground.

    Parameters
    ----------
    train
        A split, or its training region.
    val, test
        The other regions, if the first is a region.

    Raises
    ------
    InputError
        If two parts share pixels at the same time, their buffers overlap, or they are closer in time than the gap; the
        message names the parts and the size of the overlap.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> from geoxt.splits import by_block, check
    >>> layer = make_layer(np.zeros((64, 64)))
    >>> check(by_block(layer, size=8, seed=0))
    """
    if isinstance(train, Split):
        parts, gap = dict[str, SomePart](train.parts), train.gap
    else:
        regions = {"train": train, "val": val, "test": test}
        parts, gap = {name: region for name, region in regions.items() if region is not None}, None
    nodes = {name: region.nodes if isinstance(region, Region) else {"": region} for name, region in parts.items()}
    for a, b in combinations(parts, 2):
        for (node, first), (other, second) in product(nodes[a].items(), nodes[b].items()):
            if not len(first) or not len(second) or _disjoint_in_time(a, first, b, second, gap):
                continue
            if node == other or pixel_offset(second.grid, first.grid) is not None:
                _require_disjoint(a, first, b, second)
            else:
                _require_disjoint_on_ground(f"{a} in {node}", first, f"{b} in {other}", second)


def _require_disjoint_on_ground(a: str, first: GridRegion, b: str, second: GridRegion) -> None:
    """Raise if regions on two grids, with their margins, share ground."""
    outline = outline_in(first.grid, second.grid)
    reach = max(second.margin or 0, 1)
    rows, cols = second.grid.shape
    surroundings = shapely.box(-reach, -reach, cols + reach, rows + reach)
    if outline is not None and not outline.buffer(reach).intersects(surroundings):
        return
    reprojected = reproject(shapely.segmentize(_with_margin(first), _SEGMENT), first.grid, second.grid)
    shared = shapely.area(shapely.intersection(reprojected, _with_margin(second)))
    if shared > _TOLERANCE:
        margins = f", with their buffers of {first.margin or 0} and {second.margin or 0}" if first.margin else ""
        raise InputError(
            f"Cannot use the split: {a} and {b} share the area of {shared:.3g} pixels{margins}.",
            remedy="Pass regions that do not overlap.",
        )


def _with_margin(region: GridRegion) -> shapely.Geometry:
    """Return the union of a region's rectangles in pixel coordinates, each enlarged by the margin."""
    m = region.margin or 0
    bounds = np.array([(w.col - m, w.row - m, w.stop[1] + m, w.stop[0] + m) for w in region], "float64")
    return shapely.union_all(shapely.box(*bounds.T))


def _disjoint_in_time(a: str, first: GridRegion, b: str, second: GridRegion, gap: np.timedelta64 | None) -> bool:
    """Return whether two parts share no time step; raises if they are closer in time than the gap."""
    if first.times is None or second.times is None or not (len(first) and len(second)):
        return False
    stamps, others = (np.sort(np.array(r.times, "datetime64[ns]")) for r in (first, second))
    if np.isin(stamps, others).any():
        return False
    distance = distance_to_nearest(stamps, others).min() if len(stamps) and len(others) else None
    if gap is not None and distance is not None and distance < gap:
        raise InputError(
            f"Cannot use the split: {a} and {b} are {_days(distance)} days apart, less than the gap of {_days(gap)}.",
            remedy="Pass intervals that are further apart, or split by a smaller gap.",
        )
    return True


def distance_to_nearest(stamps: Array, others: Array) -> Array:
    """Return the time from each time stamp to the nearest of `others`, which are sorted."""
    after = np.searchsorted(others, stamps)
    low, high = others[np.maximum(after - 1, 0)], others[np.minimum(after, len(others) - 1)]
    return np.asarray(np.minimum(np.abs(stamps - low), np.abs(high - stamps)))


def _require_disjoint(a: str, first: GridRegion, b: str, second: GridRegion) -> None:
    """Raise if regions on grids with the same pixels, with their margins, share pixels."""
    second = second.on(first.grid)
    shared = _shared_pixels(first, second, 0)
    if shared:
        raise InputError(
            f"Cannot use the split: {a} and {b} share {shared} pixels.", remedy="Pass regions that do not overlap."
        )
    margin = (first.margin or 0) + (second.margin or 0)
    if margin and _shared_pixels(first, second, margin):
        raise InputError(
            f"Cannot use the split: {a} and {b} lie less than their buffers apart, {margin} pixels.",
            remedy="Pass regions that are further apart, or split by a smaller buffer.",
        )


def _shared_pixels(first: GridRegion, second: GridRegion, margin: int) -> int:
    """Return the number of pixels that two regions share, with the rectangles of the first enlarged by a margin."""
    corners, others = (np.array([(w.row, w.col, *w.stop) for w in r], "int64").reshape(-1, 4) for r in (first, second))
    corners = corners + np.array((-margin, -margin, margin, margin))
    boxes, other_boxes = (shapely.box(t[:, 1], t[:, 0], t[:, 3], t[:, 2]) for t in (corners, others))
    i, j = shapely.STRtree(other_boxes).query(boxes)
    span = np.minimum(corners[i, 2:], others[j, 2:]) - np.maximum(corners[i, :2], others[j, :2])
    return int(np.maximum(span, 0).prod(1).sum())


def _days(step: np.timedelta64) -> str:
    return f"{step / np.timedelta64(1, 'D'):g}"

"""Which of several detections are the same thing: greedy suppression over a whole scene."""

from __future__ import annotations

import numpy as np
import shapely

from geoxt.types import Array, Floats, Mask

CUT = 0.5
"""Share of an outline that is cut off by its tile's edge which must lie in another one for these to be the same."""


def suppress(
    shapes: Array,
    scores: Floats,
    classes: Array,
    cut: Mask,
    *,
    threshold: float,
    tiles: Array | None = None,
    agnostic: bool = False,
) -> Array:
    """Return the positions of the detections that stay, best first.

    Parameters
    ----------
    shapes
        Polygons, in one system of coordinates.
    scores, classes
        Of each.
    cut
        Which reach an edge of their tile beyond which the scene goes on. A whole one goes before a cut one, whatever
        their scores, and a cut one goes where half of it lies in a better one of its class.
    threshold
        Intersection over union above which the better one alone stays.
    tiles
        Polygons, where given: the tile of each. Of a better one, a cut one is compared with what its tile shows.
    agnostic
        Whether those of other classes suppress each other as well, by the threshold.
    """
    order = np.lexsort((np.arange(len(scores)), -scores, cut))
    rank = np.empty(len(order), int)
    rank[order] = np.arange(len(order))
    worse, better = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    pairs = (rank[worse] > rank[better]) & (agnostic | (classes[worse] == classes[better]))
    worse, better = worse[pairs], better[pairs]
    area, shared = shapely.area(shapes), shapely.area(shapely.intersection(shapes[worse], shapes[better]))
    seen = area[better]
    if tiles is not None and len(worse):
        seen = np.where(cut[worse], shapely.area(shapely.intersection(shapes[better], tiles[worse])), seen)
    same = shared > threshold * (area[worse] + seen - shared)
    same |= cut[worse] & (shared > CUT * area[worse]) & (classes[worse] == classes[better])
    rivals: dict[int, list[int]] = {}
    for one, other in zip(worse[same].tolist(), better[same].tolist(), strict=True):
        rivals.setdefault(one, []).append(other)
    kept = np.zeros(len(order), bool)
    for place in order.tolist():
        kept[place] = not any(kept[other] for other in rivals.get(place, ()))
    found: Array = np.flatnonzero(kept)
    return found[np.argsort(-scores[found], kind="stable")]

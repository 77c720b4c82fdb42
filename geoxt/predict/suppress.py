"""Which of several detections are the same thing: greedy suppression over a whole scene."""

from __future__ import annotations

import numpy as np
import shapely

from geoxt.types import Array, Floats, Mask

CUT = 0.5
"""Share of an outline that is cut off by its tile's edge which must lie in another one for these to be the same."""


def suppress(shapes: Array, scores: Floats, classes: Array, cut: Mask, *, threshold: float) -> Array:
    """Return the positions of the detections that stay, best first.

    Parameters
    ----------
    shapes
        Polygons, in one system of coordinates.
    scores, classes
        Of each; only those of one class suppress each other.
    cut
        Which reach an edge of their tile beyond which the scene goes on. A whole one goes before a cut one, whatever
        their scores, and a cut one goes where half of it lies in a better one.
    threshold
        Intersection over union above which the better one alone stays.
    """
    order = np.lexsort((np.arange(len(scores)), -scores, cut))
    rank = np.empty(len(order), int)
    rank[order] = np.arange(len(order))
    worse, better = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    pairs = (rank[worse] > rank[better]) & (classes[worse] == classes[better])
    worse, better = worse[pairs], better[pairs]
    shared = shapely.area(shapely.intersection(shapes[worse], shapes[better]))
    area = shapely.area(shapes)
    union = area[worse] + area[better] - shared
    same = shared > threshold * union
    same |= cut[worse] & (shared > CUT * area[worse])
    rivals: dict[int, list[int]] = {}
    for one, other in zip(worse[same].tolist(), better[same].tolist(), strict=True):
        rivals.setdefault(one, []).append(other)
    kept = np.zeros(len(order), bool)
    for place in order.tolist():
        kept[place] = not any(kept[other] for other in rivals.get(place, ()))
    found: Array = np.flatnonzero(kept)
    return found[np.argsort(-scores[found], kind="stable")]

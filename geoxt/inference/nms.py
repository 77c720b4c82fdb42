"""Non-maximum suppression (NMS) of polygons over a scene of overlapping tiles."""

from __future__ import annotations

import numpy as np
import shapely

from geoxt.types import Array, Floats, Mask

CUT_OVERLAP = 0.5
"""Fraction of a truncated polygon that must lie in a better one of its class to be suppressed by it."""


def nms(
    polygons: Array,
    scores: Floats,
    classes: Array,
    truncated: Mask,
    *,
    iou_threshold: float,
    tiles: Array | None = None,
    class_agnostic: bool = False,
) -> Array:
    """Return the indices of the detections that remain, by descending score.

    Greedy: a detection is suppressed if a better one that remains is the same object. Complete polygons are better than
    truncated ones, whatever their scores.

    Parameters
    ----------
    polygons
        (n,) of shapely polygons in one coordinate system.
    scores, classes
        (n,) of each detection.
    truncated
        (n,) whether the polygon is cut off by an edge of its tile within the scene. Such a polygon is also suppressed
        if half of it lies in a better one of its class.
    iou_threshold
        IoU of two polygons above which the worse one is suppressed.
    tiles
        (n,) polygons of the tiles of each detection, if given: a truncated polygon is compared with the part of the
        better one that lies in its tile.
    class_agnostic
        Class-agnostic NMS: whether detections of different classes suppress each other by IoU.
    """
    order = np.lexsort((np.arange(len(scores)), -scores, truncated))
    rank = np.empty(len(order), int)
    rank[order] = np.arange(len(order))
    worse, better = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    pairs = (rank[worse] > rank[better]) & (class_agnostic | (classes[worse] == classes[better]))
    worse, better = worse[pairs], better[pairs]
    area = shapely.area(polygons)
    intersection = shapely.area(shapely.intersection(polygons[worse], polygons[better]))
    visible = area[better]
    if tiles is not None and len(worse):
        in_tile = shapely.area(shapely.intersection(polygons[better], tiles[worse]))
        visible = np.where(truncated[worse], in_tile, visible)
    # IoU = intersection / (a + b - intersection) > threshold, without the division by an area that may be 0.
    same = intersection > iou_threshold * (area[worse] + visible - intersection)
    same |= truncated[worse] & (intersection > CUT_OVERLAP * area[worse]) & (classes[worse] == classes[better])
    rivals: dict[int, list[int]] = {}
    for index, rival in zip(worse[same].tolist(), better[same].tolist(), strict=True):
        rivals.setdefault(index, []).append(rival)
    remains = np.zeros(len(order), bool)
    for index in order.tolist():
        remains[index] = not any(remains[rival] for rival in rivals.get(index, ()))
    remaining: Array = np.flatnonzero(remains)
    return remaining[np.argsort(-scores[remaining], kind="stable")]

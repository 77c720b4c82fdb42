"""Items of one acquisition that was processed several times, such as Sentinel-2 scenes of two processing baselines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pystac
import shapely
import shapely.geometry

from geoxt.layers.radiometry import baseline_of
from geoxt.types import Floats

MAX_SECONDS = 1.0
"""Maximum difference of the start times of one acquisition; two processings may round it differently."""
MIN_OVERLAP = 0.8
"""Minimum intersection over union of the footprints of one acquisition."""
_PROCESSING_TIMES = ("processing:datetime", "s2:generation_time", "sentinel:generation_time")
_METADATA_TIMES = ("updated", "created")
_CELL = ("grid:code", "s2:mgrs_tile", "landsat:wrs_path", "landsat:wrs_row", "sat:relative_orbit")
"""Properties that are equal in all items of an acquisition, if stated."""
_NAMES = ("s2:product_uri", "s2:product_id", "sentinel:product_id", "title")
_DATE = re.compile(r"(?<!\d)(\d{8}(?:T\d{6})?)(?!\d)")


def newest_first(items: Sequence[pystac.Item], *, deduplicate: bool = False) -> list[pystac.Item]:
    """Sort the items of each acquisition by processing, the newest first.

    They are permuted among their positions; all other items keep theirs. Items are of one acquisition if collection,
    platform and grid cell are equal, start times within `MAX_SECONDS`, and footprints overlap by `MIN_OVERLAP`.

    They are sorted by processing time (`processing:datetime`, or the generation time of Sentinel-2), processing
    baseline or version, last date in the product id, `updated` or `created`: by the first of these criteria that all
    items of the acquisition state, with different values.

    Parameters
    ----------
    items
        Items in any order.
    deduplicate
        Whether to leave out all but the newest item of each acquisition.
    """
    result: list[pystac.Item | None] = list(items)
    for group in _acquisitions(items):
        sorted_items = _by_processing([items[i] for i in group])
        for position, item in zip(group, sorted_items, strict=True):
            result[position] = item
        if deduplicate:
            for position in group[1:]:
                result[position] = None
    return [item for item in result if item is not None]


def _acquisitions(items: Sequence[pystac.Item]) -> Iterator[list[int]]:
    """Yield the ascending indices of items of one acquisition, for each acquisition with several."""
    groups: dict[Any, list[tuple[float, int]]] = {}
    for index, item in enumerate(items):
        seconds = _start(item)
        if seconds is not None:
            properties = item.properties
            key = item.collection_id, properties.get("platform"), properties.get("end_datetime")
            groups.setdefault(key, []).append((seconds, index))
    for group in groups.values():
        group.sort()
        times = np.array([seconds for seconds, _ in group])
        for run in np.split(np.arange(len(group)), np.flatnonzero(np.diff(times) > MAX_SECONDS) + 1):
            if len(run) > 1:
                yield from _acquisitions_at_one_time(items, [group[k] for k in run])


def _acquisitions_at_one_time(items: Sequence[pystac.Item], group: Sequence[tuple[float, int]]) -> Iterator[list[int]]:
    """Yield the indices of the items of each acquisition among items of nearly the same time."""
    indices = [index for _, index in group]
    seconds = np.array([time for time, _ in group])
    sides = np.array([_box(items[index]) for index in indices])
    boxes = shapely.box(*sides.T)
    first, second = shapely.STRtree(boxes).query(boxes, predicate="intersects")
    near = (first < second) & (abs(seconds[first] - seconds[second]) <= MAX_SECONDS)
    first, second = first[near], second[near]
    near = _overlap_of_boxes(sides[first], sides[second]) >= MIN_OVERLAP
    parent = list(range(len(indices)))
    for a, b in zip(first[near].tolist(), second[near].tolist(), strict=True):
        first, other = items[indices[a]], items[indices[b]]
        if (
            parent[a] != parent[b]
            and _alike(first, other)
            and _overlap(_footprint(first), _footprint(other)) >= MIN_OVERLAP
        ):
            parent = [parent[a] if root == parent[b] else root for root in parent]
    members: dict[int, list[int]] = {}
    for position, root in enumerate(parent):
        members.setdefault(root, []).append(indices[position])
    yield from (sorted(group) for group in members.values() if len(group) > 1)


def _overlap(a: Any, b: Any) -> Any:
    """Return intersection over union of geometries."""
    shared = shapely.area(shapely.intersection(a, b))
    return shared / np.maximum(shapely.area(a) + shapely.area(b) - shared, 1e-300)


def _overlap_of_boxes(a: Floats, b: Floats) -> Floats:
    """Return intersection over union of boxes (n, 4): x, y, x, y of opposite corners."""
    low = np.maximum(np.minimum(a[:, :2], a[:, 2:]), np.minimum(b[:, :2], b[:, 2:]))
    high = np.minimum(np.maximum(a[:, :2], a[:, 2:]), np.maximum(b[:, :2], b[:, 2:]))
    shared = np.clip(high - low, 0, None).prod(1)
    areas = np.abs(a[:, 2:] - a[:, :2]).prod(1) + np.abs(b[:, 2:] - b[:, :2]).prod(1)
    return np.asarray(shared / np.maximum(areas - shared, 1e-300))


def _box(item: pystac.Item) -> Sequence[float]:
    """Return west, south, east and north of an item; NaN if neither box nor geometry is usable."""
    box = item.bbox
    if box is not None and len(box) == 4 and all(isinstance(n, (int, float)) for n in box):
        return box
    bounds: Sequence[float] = _footprint(item).bounds
    return bounds


def _alike(a: pystac.Item, b: pystac.Item) -> bool:
    """Return whether two items do not state different cells, and share at least half of their asset keys."""
    values = ((a.properties.get(name), b.properties.get(name)) for name in _CELL)
    if any(x is not None and y is not None and x != y for x, y in values):
        return False
    return 2 * len(a.assets.keys() & b.assets.keys()) >= max(len(a.assets), len(b.assets))


def _footprint(item: pystac.Item) -> shapely.Geometry:
    """Return the footprint of an item, else its box; empty if neither is usable."""
    try:
        if item.geometry is not None:
            return shapely.make_valid(shapely.geometry.shape(item.geometry))
        if item.bbox is not None and len(item.bbox) == 4:
            return shapely.box(*item.bbox)
    except (AttributeError, KeyError, TypeError, ValueError, shapely.errors.ShapelyError):
        pass
    return shapely.Polygon()


def _by_processing(items: Sequence[pystac.Item]) -> list[pystac.Item]:
    """Return items of one acquisition from the newest to the oldest; unchanged if no field states it."""
    for criterion in (*_PROCESSING_TIMES, _version, _last_date, *_METADATA_TIMES):
        keys = [criterion(item) if callable(criterion) else _seconds(item.properties.get(criterion)) for item in items]
        stated_keys = [key for key in keys if key is not None]
        if len(stated_keys) == len(items) and len(set(stated_keys)) > 1:
            order = sorted(range(len(items)), key=stated_keys.__getitem__, reverse=True)
            return [items[i] for i in order]
    return list(items)


def _version(item: pystac.Item) -> tuple[int, ...] | None:
    """Return the processing baseline or version as numbers: (4, 0) of "04.00" and "0400"."""
    text = baseline_of(item.properties, item.id)
    if text is None or not re.fullmatch(r"[vV]?\d+(\.\d+)*", text):
        return None
    text = text.lstrip("vV")
    parts = [text[:2], text[2:]] if text.isdigit() and len(text) == 4 else text.split(".")
    return tuple(map(int, parts))


def _last_date(item: pystac.Item) -> float | None:
    """Return the last date in the product id of an item, which is that of processing in product ids of ESA and USGS."""
    names: Mapping[str, Any] = item.properties
    text = next((str(names[name]) for name in _NAMES if name in names and _DATE.search(str(names[name]))), item.id)
    dates = [seconds for match in _DATE.findall(text) if (seconds := _seconds(match)) is not None]
    return dates[-1] if dates else None


def _start(item: pystac.Item) -> float | None:
    start = item.properties.get("start_datetime")
    return _seconds(start) if start is not None else _seconds(item.datetime)


def _seconds(time: object) -> float | None:
    """Return a time in seconds since 1970 (UTC); `None` if it cannot be parsed."""
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time)
        except ValueError:
            return None
    if not isinstance(time, datetime):
        return None
    return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()

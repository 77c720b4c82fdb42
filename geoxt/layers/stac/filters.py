"""Selection of STAC items by collection, area and time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pystac
import shapely
import shapely.geometry

from geoxt.errors import InputError
from geoxt.layers.area import Area
from geoxt.layers.time import to_datetime64

SomeTimes = str | datetime | np.datetime64 | Sequence[Any]
"""A day or month ("2020-06"), an interval ("2020-06-01/2020-08-31"; ".." for an open end), or a pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Criteria for STAC items."""

    collections: tuple[str, ...] | None = None
    """Ids of collections; `None` for any."""
    area: Area | None = None
    """Area that items intersect."""
    times: tuple[np.datetime64 | None, np.datetime64 | None] | None = None
    """Start and end of the interval that items intersect (UTC); `None` for an open end."""
    query: str | Mapping[str, Any] | None = None
    """A CQL2 filter, as text or JSON; for an API."""
    limit: int | None = None
    """Maximum number of items."""


def parse_times(times: SomeTimes | None) -> tuple[np.datetime64 | None, np.datetime64 | None] | None:
    """Return start and end of an interval (UTC); `None` for an open end.

    Raises
    ------
    InputError
        If it is not a date, an interval or a pair.
    """
    if times is None:
        return None
    parts = times.split("/") if isinstance(times, str) else list(times) if isinstance(times, Sequence) else [times]
    try:
        first, last = parts if len(parts) == 2 else (*parts, *parts)
        start, end = _bound(first, end=False), _bound(last, end=True)
    except (TypeError, ValueError) as error:
        problem = f"Cannot read an interval of time from {times!r}."
        remedy = "Pass {datetime} as '2020-06', '2020-06-01/2020-08-31' or a pair."
        raise InputError(problem, remedy=remedy, value=times, argument="datetime") from error
    if start is not None and end is not None and end < start:
        problem = f"Cannot select the interval {times!r}: its end is before its start."
        raise InputError(
            problem, remedy="Pass {datetime} with the earlier date first.", value=times, argument="datetime"
        )
    return start, end


def _bound(time: Any, *, end: bool) -> np.datetime64 | None:
    if time is None or time in {"", ".."}:
        return None
    if isinstance(time, str) and not re.match(r"\d{4}", time):
        raise ValueError(time)  # pandas reads 01.02.2022 as the second of January
    if isinstance(time, str) and "T" not in time:
        period = pd.Period(time)
        return (period.end_time if end else period.start_time).to_datetime64()
    stamp = pd.Timestamp(time)
    return (stamp.tz_convert(None) if stamp.tzinfo is not None else stamp).to_datetime64()


def interval(item: pystac.Item) -> tuple[np.datetime64 | None, np.datetime64 | None]:
    """Return start and end of an item (UTC), by `start_datetime` and `end_datetime`, else `datetime`.

    Raises
    ------
    InputError
        If a time of the item is not in ISO 8601.
    """
    common = item.common_metadata
    try:
        start, end = common.start_datetime or item.datetime, common.end_datetime or item.datetime
    except (TypeError, ValueError) as error:
        problem = f"Cannot read the times of item {item.id!r}: {error}."
        raise InputError(problem, remedy="Correct its 'start_datetime' and 'end_datetime'.") from error
    return to_datetime64(start), to_datetime64(end)


def select_items(
    items: Iterable[pystac.Item], selection: Selection, collections: set[str] | None = None
) -> Iterator[pystac.Item]:
    """Yield the items of the selected collections that intersect the area and the interval.

    `collections` holds the ids of collections that the source has besides those of `items`.

    Raises
    ------
    InputError
        At the end, if the source has items, but none of the selected collections.
    """
    collections = set() if collections is None else collections
    for item in items:
        collections.add(str(item.collection_id))
        selected = selection.collections is None or item.collection_id in selection.collections
        if selected and _intersects(item, selection):
            yield item
    if selection.collections is None or not collections or not {*selection.collections}.isdisjoint(collections):
        return
    problem = f"Cannot find items of the collections {list(selection.collections)}: there are {sorted(collections)}."
    raise InputError(problem, remedy="Pass {collections} from these.", argument="collections")


def _intersects_area(item: pystac.Item, area: Area) -> bool:
    """Return whether an item intersects an area, by its geometry, else by its `bbox`; True if neither is usable."""
    for footprint in (item.geometry, item.bbox):
        try:
            if isinstance(footprint, Mapping):
                if any(footprint.get(name) for name in ("coordinates", "geometries")):
                    return area.intersects(footprint)
            elif footprint:
                west, south, *_, north = map(float, [*footprint[:2], footprint[len(footprint) // 2 + 1]])
                east = float(footprint[len(footprint) // 2])
                shape = shapely.box(west, south, east + 360 if east < west else east, north)
                return area.intersects(shapely.geometry.mapping(shape))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, shapely.errors.ShapelyError):
            continue
    return True


def _intersects(item: pystac.Item, selection: Selection) -> bool:
    if selection.area is not None and not _intersects_area(item, selection.area):
        return False
    if selection.times is None:
        return True
    (first, last), (start, end) = selection.times, interval(item)
    late = last is not None and start is not None and start > last
    early = first is not None and end is not None and end < first
    return not (late or early)

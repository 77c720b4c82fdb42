"""Selection of STAC items: by collection, place and time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pystac

from geoxt.errors import InputError
from geoxt.layers.area import Area
from geoxt.layers.time import moment

SomeTimes = str | datetime | np.datetime64 | Sequence[Any]
"""As STAC has them: a day or month ("2020-06"), an interval ("2020-06-01/2020-08-31", open at ".."), or a pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which items are taken."""

    collections: tuple[str, ...] | None = None
    """Ids of their collections; `None` for any."""
    area: Area | None = None
    """What they touch."""
    times: tuple[np.datetime64 | None, np.datetime64 | None] | None = None
    """First and last moment of the interval that they touch; `None` at an open end."""
    query: str | Mapping[str, Any] | None = None
    """A CQL2 filter, as text or JSON; for an API."""
    limit: int | None = None
    """The most items taken."""


def times_of(given: SomeTimes | None) -> tuple[np.datetime64 | None, np.datetime64 | None] | None:
    """Return the first and the last moment of an interval (UTC), `None` at an open end.

    Raises
    ------
    InputError
        Where it is none.
    """
    if given is None:
        return None
    parts = given.split("/") if isinstance(given, str) else list(given) if isinstance(given, Sequence) else [given]
    try:
        first, last = parts if len(parts) == 2 else (*parts, *parts)
        return _edge(first, last=False), _edge(last, last=True)
    except ValueError as error:
        msg = f"Cannot read an interval of time from {given!r}."
        raise InputError(msg + " Pass datetime= as '2020-06', '2020-06-01/2020-08-31' or a pair.") from error


def _edge(given: Any, *, last: bool) -> np.datetime64 | None:
    if given is None or given in {"", ".."}:
        return None
    if isinstance(given, str) and "T" not in given:
        period = pd.Period(given)
        return (period.end_time if last else period.start_time).to_datetime64()
    moment = pd.Timestamp(given)
    return (moment.tz_convert(None) if moment.tzinfo is not None else moment).to_datetime64()


def interval(item: pystac.Item) -> tuple[np.datetime64 | None, np.datetime64 | None]:
    """Return the first and the last moment of an item (UTC), from its interval, else from its date."""
    common = item.common_metadata
    return moment(common.start_datetime or item.datetime), moment(common.end_datetime or item.datetime)


def chosen_of(items: Iterable[pystac.Item], chosen: Selection) -> Iterator[pystac.Item]:
    """Yield the items of the collections, times and area that are asked for."""
    wanted, seen, kept = chosen.collections, set(), False
    for item in items:
        seen.add(str(item.collection_id))
        if wanted is not None and item.collection_id not in wanted:
            continue
        kept = True
        if _meets(item, chosen):
            yield item
    if wanted is not None and not kept:
        msg = f"Cannot find items of the collections {list(wanted)}: there are {sorted(seen)}."
        raise InputError(msg + " Pass collections= from these.")


def _meets(item: pystac.Item, chosen: Selection) -> bool:
    if chosen.area is not None and not chosen.area.touches(item.geometry):
        return False
    if chosen.times is None:
        return True
    (first, last), (start, end) = chosen.times, interval(item)
    late = last is not None and start is not None and start > last
    early = first is not None and end is not None and end < first
    return not (late or early)

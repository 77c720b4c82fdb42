"""Scenes -> time steps: which scenes a step holds, in which order of priority, and when it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from geoxt.errors import InputError
from geoxt.layers.extent import longitudes
from geoxt.source import Scene
from geoxt.source.composite import Reduction

GroupBy = str | None
"""`None`, "mosaic", "time", "day", "solar_day", or a frequency of pandas such as "MS" or "7D"."""
Composite = Literal["first", "latest", "least cloudy", "median", "mean", "min", "max"]
"""How the scenes of a step become one image."""
Steps = tuple[tuple[int, ...], ...]


def steps_of(scenes: Sequence[Scene], groupby: GroupBy) -> tuple[Steps, Any]:
    """Return the scenes of each time step, and the steps' times (`None` without a time dimension).

    Parameters
    ----------
    scenes
        With the interval of each.
    groupby
        "mosaic": all scenes in one step without a time. `None`: a step a scene. "time": one for each moment at which
        scenes begin. "day": one for each day (UTC). "solar_day": one for each day by the sun, at the longitude of the
        scene's centre, so that a pass that crosses midnight UTC stays together. Else a frequency of pandas.

    Returns
    -------
    steps : positions of the scenes of each step, the earliest first; in a mosaic as they are given
    times : datetime64[ns], when the earliest scene of each step begins; for a frequency, the label of its bin

    Raises
    ------
    InputError
        Where a scene has no date, or pandas knows no such frequency.
    """
    if groupby == "mosaic":
        return (tuple(range(len(scenes))),), None
    starts = _starts(scenes, f"group scenes by {groupby or 'scene'}", "groupby='mosaic'")
    keys, labels = _keys(scenes, starts, groupby)
    groups: dict[Any, list[int]] = {}
    for i in sorted(range(len(scenes)), key=lambda i: (starts[i], i)):
        groups.setdefault(keys[i], []).append(i)
    times = labels if labels is not None else starts
    return tuple(tuple(g) for g in groups.values()), np.array([times[g[0]] for g in groups.values()], "datetime64[ns]")


def ordered(scenes: Sequence[Scene], steps: Steps, composite: Composite) -> tuple[Steps, Reduction]:
    """Return steps in the order of priority that a composite asks for, and how their scenes become one image.

    Raises
    ------
    InputError
        Where scenes lack the date or the cloud cover that it goes by.
    """
    match composite:
        case "first" | "median" | "mean" | "min" | "max":
            return steps, composite
        case "latest":
            starts = _starts(scenes, "take the latest scene", "composite='first'")
            return _by(steps, lambda i: -(scenes[i].end or starts[i]).astype("int64")), "first"
        case "least cloudy":
            lacking = [s.id for s in scenes if s.cloud_cover is None]
            if lacking:
                msg = f"Cannot take the least cloudy scene: {lacking[0]!r} does not say its cloud cover."
                raise InputError(msg + " Pass another composite=, or items that have eo:cloud_cover.")
            return _by(steps, lambda i: scenes[i].cloud_cover), "first"
        case _:
            known = ", ".join(map(repr, get_args(Composite)))
            msg = f"Cannot compose scenes by {composite!r}: pass composite= one of {known}."
            raise InputError(msg)


def _by(steps: Steps, key: Callable[[int], Any]) -> Steps:
    return tuple(tuple(sorted(step, key=key)) for step in steps)


def _starts(scenes: Sequence[Scene], what: str, remedy: str) -> list[np.datetime64]:
    starts = [s.start for s in scenes if s.start is not None]
    if len(starts) < len(scenes):
        lacking = next(s.id for s in scenes if s.start is None)
        msg = f"Cannot {what}: scene {lacking!r} has no date. Pass {remedy}."
        raise InputError(msg)
    return starts


def _keys(
    scenes: Sequence[Scene], starts: list[np.datetime64], groupby: GroupBy
) -> tuple[Sequence[Any], Sequence[Any] | None]:
    """Return what the scenes of one step have in common, and times for the steps where these are not the first's."""
    match groupby:
        case None:
            return range(len(scenes)), None
        case "time":
            return starts, None
        case "day":
            return [s.astype("datetime64[D]") for s in starts], None
        case "solar_day":
            return [(s + ahead).astype("datetime64[D]") for s, ahead in zip(starts, _solar(scenes), strict=True)], None
        case _:
            labels = _bins(starts, groupby)
            return labels, labels


def _solar(scenes: Sequence[Scene]) -> list[np.timedelta64]:
    """Return how far the sun is ahead of UTC at the centre of each scene."""
    grids = list(dict.fromkeys(s.grid for s in scenes))
    ahead = np.nan_to_num(longitudes(grids)) / 360 * 86_400e9
    known = {g: np.timedelta64(round(one), "ns") for g, one in zip(grids, ahead.tolist(), strict=True)}
    return [known[s.grid] for s in scenes]


def _bins(starts: Sequence[np.datetime64], frequency: str) -> list[Any]:
    """Return the label of each moment's bin."""
    index = pd.DatetimeIndex(np.array(starts, "datetime64[ns]"))
    try:
        grouped = pd.Series(np.arange(len(index)), index=index).groupby(pd.Grouper(freq=frequency))
        labels = {place: pd.Timestamp(str(label)) for label, some in grouped for place in some}
    except ValueError as error:
        known = "groupby='mosaic', 'time', 'day', 'solar_day' or None, or a frequency of pandas such as 'MS' or '7D'"
        msg = f"Cannot group scenes by {frequency!r}: {error}. Pass {known}."
        raise InputError(msg) from error
    return [labels[i].to_datetime64() for i in range(len(index))]


def moment(when: datetime | None) -> np.datetime64 | None:
    """Return a time as numpy's, in nanoseconds of UTC; one without a zone is UTC."""
    if when is None:
        return None
    stamp = pd.Timestamp(when)
    return np.datetime64(stamp.tz_convert(None) if stamp.tzinfo is not None else stamp, "ns")

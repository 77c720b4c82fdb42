"""Group scenes into time steps, and order the scenes of each step by priority."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import xarray as xr

from geoxt.errors import InputError
from geoxt.layers.extent import longitudes
from geoxt.source import Scene
from geoxt.source.composite import Reduction

GroupBy = str | None
"""`None`, "mosaic", "time", "day", "solar_day", or a frequency of pandas such as "MS" or "7D"."""
Composite = Literal["first", "latest", "least cloudy", "median", "mean", "min", "max"]
"""Reduction of the scenes of a step."""
Steps = tuple[tuple[int, ...], ...]


def require_time_order(layer: xr.DataArray | xr.Dataset, use: str) -> None:
    """Raise if time steps are not in chronological order, which models of several dates need."""
    times = layer.coords.get("time")
    if times is None or times.ndim != 1 or times.dtype.kind != "M":
        return
    steps = times.to_numpy()
    if (later := np.flatnonzero(steps[1:] < steps[:-1])).size:
        first, second = (str(steps[index].astype("datetime64[s]")) for index in (later[0], later[0] + 1))
        problem = f"Cannot {use}: the time step {first} comes before {second}."
        raise InputError(problem, remedy="Sort it by sortby('time').", value=first)


def steps_of(scenes: Sequence[Scene], groupby: GroupBy) -> tuple[Steps, Any]:
    """Group scenes into time steps; times are `None` without a time dimension.

    Parameters
    ----------
    scenes
        Scenes with their intervals.
    groupby
        "mosaic": all scenes in one step without a time. `None`: one step per scene. "time": one per start time. "day":
        one per day (UTC). "solar_day": one per solar day at the scene's center longitude, so that a pass across
        midnight UTC stays together. Else a pandas frequency.

    Returns
    -------
    steps : indices of the scenes of each step, earliest first; of a mosaic in the given order
    times : datetime64[ns], start of the earliest scene of each step; for a frequency, the label of the bin

    Raises
    ------
    InputError
        If a scene has no date, or the frequency is invalid.
    """
    if groupby == "mosaic":
        return (tuple(range(len(scenes))),), None
    starts = _starts(scenes, f"group scenes by {groupby or 'scene'}", "Pass {groupby:'mosaic'}.")
    keys, labels = _keys(scenes, starts, groupby)
    groups: dict[Any, list[int]] = {}
    for i in sorted(range(len(scenes)), key=lambda i: (starts[i], i)):
        groups.setdefault(keys[i], []).append(i)
    times = labels if labels is not None else starts
    return tuple(tuple(g) for g in groups.values()), np.array([times[g[0]] for g in groups.values()], "datetime64[ns]")


def sort_steps(scenes: Sequence[Scene], steps: Steps, composite: Composite) -> tuple[Steps, Reduction]:
    """Return steps in the order of priority of a composite, and the reduction of their scenes.

    Raises
    ------
    InputError
        If scenes lack the date or the cloud cover that the composite orders by.
    """
    match composite:
        case "first" | "median" | "mean" | "min" | "max":
            return steps, composite
        case "latest":
            starts = _starts(scenes, "take the latest scene", "Pass {composite:'first'}.")
            return _sort_each(steps, lambda i: -(scenes[i].end or starts[i]).astype("int64")), "first"
        case "least cloudy":
            missing = [s.id for s in scenes if s.cloud_cover is None]
            if missing:
                problem = f"Cannot take the least cloudy scene: {missing[0]!r} does not state its cloud cover."
                raise InputError(problem, remedy="Pass another {composite}. Or pass items that have eo:cloud_cover.")
            return _sort_each(steps, lambda i: scenes[i].cloud_cover), "first"
        case _:
            choices = ", ".join(map(repr, get_args(Composite)))
            problem = f"Cannot compose scenes by {composite!r}."
            raise InputError(
                problem, remedy=f"Pass {{composite}}, one of {choices}.", value=composite, argument="composite"
            )


def _sort_each(steps: Steps, key: Callable[[int], Any]) -> Steps:
    return tuple(tuple(sorted(step, key=key)) for step in steps)


def _starts(scenes: Sequence[Scene], purpose: str, remedy: str) -> list[np.datetime64]:
    starts = [s.start for s in scenes if s.start is not None]
    if len(starts) < len(scenes):
        undated = next(s.id for s in scenes if s.start is None)
        raise InputError(f"Cannot {purpose}: scene {undated!r} has no date.", remedy=remedy)
    return starts


def _keys(
    scenes: Sequence[Scene], starts: list[np.datetime64], groupby: GroupBy
) -> tuple[Sequence[Any], Sequence[Any] | None]:
    """Return the group key of each scene, and the times of steps if they are not the start of the first scene."""
    match groupby:
        case None:
            return range(len(scenes)), None
        case "time":
            return starts, None
        case "day":
            return [s.astype("datetime64[D]") for s in starts], None
        case "solar_day":
            offsets = _solar_offsets(scenes)
            return [(s + offset).astype("datetime64[D]") for s, offset in zip(starts, offsets, strict=True)], None
        case _:
            labels = _bins(starts, groupby)
            return labels, labels


def _solar_offsets(scenes: Sequence[Scene]) -> list[np.timedelta64]:
    """Return mean solar time minus UTC at the center of each scene: 24 h per 360 degrees of longitude."""
    grids = list(dict.fromkeys(s.grid for s in scenes))
    nanoseconds = np.nan_to_num(longitudes(grids)) / 360 * 86_400e9
    offsets = {grid: np.timedelta64(round(ns), "ns") for grid, ns in zip(grids, nanoseconds.tolist(), strict=True)}
    return [offsets[s.grid] for s in scenes]


def _bins(starts: Sequence[np.datetime64], frequency: str) -> list[Any]:
    """Return the label of the bin of each time."""
    index = pd.DatetimeIndex(np.array(starts, "datetime64[ns]"))
    try:
        grouped = pd.Series(np.arange(len(index)), index=index).groupby(pd.Grouper(freq=frequency))
        labels = {i: pd.Timestamp(str(label)) for label, group in grouped for i in group}
    except ValueError as error:
        problem = f"Cannot group scenes by {frequency!r}: it is no frequency of pandas."
        remedy = "Pass {groupby:'mosaic'}, 'time', 'day', 'solar_day', None, or a frequency such as 'MS' or '7D'."
        raise InputError(problem, remedy=remedy, value=frequency, argument="groupby") from error
    return [labels[i].to_datetime64() for i in range(len(index))]


def to_datetime64(time: datetime | None) -> np.datetime64 | None:
    """Return a datetime as datetime64[ns] in UTC; one without a time zone is UTC."""
    if time is None:
        return None
    offset = time.utcoffset()
    if type(time) is datetime and 1678 <= time.year < 2262:  # 20 times as fast as by pandas
        return np.datetime64(time.replace(tzinfo=None) - offset if offset else time.replace(tzinfo=None), "ns")
    stamp = pd.Timestamp(time)
    return np.datetime64(stamp.tz_convert(None) if stamp.tzinfo is not None else stamp, "ns")

"""Time steps of windows: single steps or runs of steps, calendar periods, and intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, overload

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from geoxt.errors import InputError
from geoxt.trees import SomeData, nodes_of
from geoxt.types import Array

Order = Literal["random", "sequential"]
SomeTime = Any
"""Anything `pandas.Timestamp` accepts: "2021-06-01", a datetime, a numpy datetime64. As the end of an interval,
"2021-06" or "2021" includes the whole month or year."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Groups of time steps; each window has the time steps of one group."""

    groups: tuple[tuple[int, ...], ...]
    """Positions along time of each group, ascending."""
    order: Order = "random"
    """How samplers choose groups: at random or in turn. A `GridSampler` takes every group in turn."""
    take: int | None = None
    """Number of steps drawn from a window's group, in order of time; `None`: all."""

    def __post_init__(self) -> None:
        if self.order not in {"random", "sequential"}:
            raise InputError(
                f"Cannot take times by order={self.order!r}.",
                remedy="Pass {order} 'random' or 'sequential'.",
                argument="order",
            )
        groups = tuple(g for g in self.groups if len(g) >= (self.take or 1))
        if not groups or (self.take is not None and self.take < 1):
            largest = max(map(len, self.groups), default=0)
            required = "one step" if self.take is None else f"take={self.take} steps"
            raise InputError(
                f"Cannot take times: none of the {len(self.groups)} groups has {required}, the largest has {largest}.",
                remedy="Pass other periods, or a smaller {take} of 1 or more.",
                argument="take",
            )
        object.__setattr__(self, "groups", groups)

    def __len__(self) -> int:
        return len(self.groups)

    def within(self, positions: Sequence[int]) -> Times:
        """Return the groups whose steps are all among some positions along time.

        Raises
        ------
        InputError
            If there is no such group.
        """
        allowed = set(positions)
        groups = tuple(g for g in self.groups if allowed.issuperset(g))
        if not groups:
            raise InputError(
                f"Cannot take times: none of the {len(self)} groups lies wholly in the region's {len(allowed)} steps.",
                remedy="Pass {times} of shorter groups.",
                argument="times",
            )
        return replace(self, groups=groups)

    def table(self, rng: np.random.Generator, group: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return (n, k): the time steps of each window by its group; shorter rows are padded with -1."""
        longest = self.take or max(map(len, self.groups))
        if self.take is None:
            padded = np.full((len(self), longest), -1, "int64")
            for row, steps in zip(padded, self.groups, strict=True):
                row[: len(steps)] = steps
            return padded[group]
        rows = [np.sort(rng.choice(self.groups[g], self.take, replace=False)) for g in group.tolist()]
        return np.array(rows, "int64").reshape(-1, self.take)


@overload
def time_steps(data: xr.DataArray | xr.Dataset, **options: Any) -> Times: ...
@overload
def time_steps(data: xr.DataTree, **options: Any) -> dict[str, Times]: ...
def time_steps(  # type: ignore[misc]  # the overloads shorten its keyword arguments
    data: SomeData,
    *,
    length: int = 1,
    stride: int | None = None,
    spacing: int = 1,
    during: tuple[SomeTime, SomeTime] | None = None,
    order: Order = "random",
) -> Times | dict[str, Times]:
    """Return groups of single time steps, or of runs of consecutive time steps.

    Parameters
    ----------
    data
        A layer or a Dataset with a time dimension, or a tree of these.
    length
        Number of steps in a run.
    stride
        Steps between the starts of two runs; by default the length.
    spacing
        Steps between consecutive members of a run.
    during
        First and last time, both included.
    order
        Whether samplers choose runs at random or in turn.

    Returns
    -------
    Times
        For a tree, a dict of Times by node.

    Examples
    --------
    >>> import numpy as np, pandas as pd, xarray as xr
    >>> from geoxt.samplers import time_steps
    >>> times = pd.date_range("2020-01-01", periods=6, freq="20D")
    >>> layer = xr.DataArray(np.zeros((6, 8, 8)), dims=("time", "y", "x"), coords={"time": times})
    >>> time_steps(layer, length=3).groups
    ((0, 1, 2), (3, 4, 5))
    """
    if min(length, spacing, length if stride is None else stride) < 1:
        raise InputError(
            f"Cannot take runs of length={length}, stride={stride}, spacing={spacing}.",
            remedy="Pass {length}, {stride} and {spacing} of 1 or more.",
        )

    def make(ds: xr.Dataset) -> Times:
        candidates = np.arange(count_steps(ds)) if during is None else positions(ds, during)
        span = (length - 1) * spacing
        starts = range(0, len(candidates) - span, stride or length)
        groups = tuple(tuple(candidates[s : s + span + 1 : spacing].tolist()) for s in starts)
        if not groups:
            raise InputError(
                f"Cannot take runs of length={length}: there are {len(candidates)} time steps.",
                remedy="Pass a smaller {length}.",
                argument="length",
            )
        return Times(groups=groups, order=order)

    return _per_node(data, make)


@overload
def time_periods(data: xr.DataArray | xr.Dataset, period: str, **options: Any) -> Times: ...
@overload
def time_periods(data: xr.DataTree, period: str, **options: Any) -> dict[str, Times]: ...
def time_periods(  # type: ignore[misc]  # the overloads shorten its keyword arguments
    data: SomeData,
    period: str,
    *,
    take: int | None = None,
    during: tuple[SomeTime, SomeTime] | None = None,
    order: Order = "random",
) -> Times | dict[str, Times]:
    """Return the time steps of each calendar period, such as a month, as groups.

    Parameters
    ----------
    data
        A layer or a Dataset with a datetime64 time coordinate, or a tree of these.
    period
        A pandas period alias: "D", "W", "M", "Q", "Y", "3M", …
    take
        Number of steps drawn from a window's period; shorter periods are left out. By default all steps.
    during, order
        As for `time_steps`.

    Returns
    -------
    Times
        For a tree, a dict of Times by node.

    Examples
    --------
    >>> import numpy as np, pandas as pd, xarray as xr
    >>> from geoxt.samplers import time_periods
    >>> times = pd.date_range("2020-01-01", periods=6, freq="20D")
    >>> layer = xr.DataArray(np.zeros((6, 8, 8)), dims=("time", "y", "x"), coords={"time": times})
    >>> time_periods(layer, "M").groups
    ((0, 1), (2,), (3, 4), (5,))
    """

    def make(ds: xr.Dataset) -> Times:
        candidates = np.arange(count_steps(ds)) if during is None else positions(ds, during)
        try:
            ordinal = pd.DatetimeIndex(timestamps(ds)[candidates]).to_period(period).asi8
        except ValueError as error:
            raise InputError(
                f"Cannot take times by period={period!r}: {error}.",
                remedy="Pass {period} a pandas period such as 'M' or 'Q'.",
                argument="period",
            ) from error
        groups = tuple(tuple(candidates[ordinal == o].tolist()) for o in np.unique(ordinal))
        return Times(groups=groups, take=take, order=order)

    return _per_node(data, make)


@overload
def time_intervals(
    data: xr.DataArray | xr.Dataset, intervals: Sequence[tuple[SomeTime, SomeTime]], **options: Any
) -> Times: ...
@overload
def time_intervals(
    data: xr.DataTree, intervals: Sequence[tuple[SomeTime, SomeTime]], **options: Any
) -> dict[str, Times]: ...
def time_intervals(  # type: ignore[misc]  # the overloads shorten its keyword arguments
    data: SomeData,
    intervals: Sequence[tuple[SomeTime, SomeTime]],
    *,
    take: int | None = None,
    order: Order = "random",
) -> Times | dict[str, Times]:
    """Return the time steps in each of several intervals as groups; empty intervals are left out.

    Parameters
    ----------
    data
        A layer or a Dataset with a datetime64 time coordinate, or a tree of these.
    intervals
        First and last time of each, both included.
    take, order
        As for `time_periods`.

    Returns
    -------
    Times
        For a tree, a dict of Times by node.

    Examples
    --------
    >>> import numpy as np, pandas as pd, xarray as xr
    >>> from geoxt.samplers import time_intervals
    >>> times = pd.date_range("2020-01-01", periods=6, freq="20D")
    >>> layer = xr.DataArray(np.zeros((6, 8, 8)), dims=("time", "y", "x"), coords={"time": times})
    >>> time_intervals(layer, [("2020-01-01", "2020-01-31"), ("2020-03-01", "2020-03-31")]).groups
    ((0, 1), (3, 4))
    """

    def make(ds: xr.Dataset) -> Times:
        groups = tuple(tuple(positions(ds, interval).tolist()) for interval in intervals)
        return Times(groups=groups, take=take, order=order)

    return _per_node(data, make)


def _per_node(data: SomeData, make: Callable[[xr.Dataset], Times]) -> Times | dict[str, Times]:
    """Return the Times of each node that has matching time steps; for data on one grid, a single Times."""
    nodes = nodes_of(data)
    times: dict[str, Times] = {}
    first_error: InputError | None = None
    for node, ds in nodes.items():
        try:
            times[node] = make(ds)
        except InputError as error:
            first_error = first_error or error
    if not times:
        raise cast("InputError", first_error)
    return times[""] if list(nodes) == [""] else times


def positions(data: xr.Dataset, interval: tuple[SomeTime, SomeTime]) -> npt.NDArray[np.int64]:
    """Return the positions of the time steps in an interval, both ends included."""
    first, last = (_parse_time(end, end_of_period=is_end) for end, is_end in zip(interval, (False, True), strict=True))
    if last < first:
        raise InputError(
            f"Cannot take times from {interval[0]} to {interval[1]}: the end lies before.", remedy="Pass (first, last)."
        )
    stamps = timestamps(data)
    return np.flatnonzero((stamps >= first) & (stamps <= last))


def _parse_time(value: SomeTime, *, end_of_period: bool) -> np.datetime64:
    """Return a time in UTC; of a string such as "2021-06", the first or last moment."""
    try:
        if isinstance(value, str) and end_of_period and len(value) <= len("2021-06-01"):
            return pd.Period(value).end_time.to_datetime64()
        stamp = pd.Timestamp(value)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"Cannot read a time from {value!r}.", remedy="Pass a date such as '2021-06-01'.", value=value
        ) from error
    return (stamp.tz_convert(None) if stamp.tz is not None else stamp).to_datetime64()


def count_steps(data: xr.Dataset) -> int:
    """Return the number of time steps.

    Raises
    ------
    InputError
        If there is no time dimension.
    """
    if "time" not in data.dims:
        dims = tuple(map(str, data.dims))
        raise InputError(
            f"Cannot take times: the data has the dimensions {dims}, no 'time'.",
            remedy="Leave {times} out, or rename a dimension.",
            argument="times",
        )
    return int(data.sizes["time"])


def timestamps(data: xr.Dataset) -> Array:
    """Return the time coordinate, datetime64[ns].

    Raises
    ------
    InputError
        If there is no time coordinate of datetime64.
    """
    count_steps(data)
    if "time" not in data.coords or data["time"].dtype.kind != "M":
        raise InputError(
            "Cannot tell the dates of the time steps: there is no time coordinate of datetime64.",
            remedy="Assign one with assign_coords(time=…).",
        )
    return np.asarray(data["time"].to_numpy().astype("datetime64[ns]"))

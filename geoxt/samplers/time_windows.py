"""Times: which steps along time a window takes, in any sampler: steps or runs of them, calendar periods, intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from geoxt.errors import InputError
from geoxt.trees import children
from geoxt.types import Array

Order = Literal["random", "sequential"]
SomeTime = Any
"""Whatever `pandas.Timestamp` takes: "2021-06-01", a datetime, a numpy datetime64. An end such as "2021-06" or "2021"
takes in all of the month or year."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Groups of time steps; a window takes the steps of one group."""

    groups: tuple[tuple[int, ...], ...]
    """Positions along time of each group, rising."""
    order: Order = "random"
    """How windows get groups: each at random, or in turn (samplers that draw); a lattice takes every group in turn."""
    take: int | None = None
    """Steps that a window takes of its group, at random and in order of time; `None` takes all."""

    def __post_init__(self) -> None:
        if self.order not in {"random", "sequential"}:
            msg = f"Cannot take times by order={self.order!r}: pass 'random' or 'sequential'."
            raise InputError(msg)
        kept = tuple(g for g in self.groups if len(g) >= (self.take or 1))
        if not kept or (self.take is not None and self.take < 1):
            largest = max(map(len, self.groups), default=0)
            wanted = "one step" if self.take is None else f"take={self.take} steps"
            msg = f"Cannot take times: none of the {len(self.groups)} groups has {wanted}, the largest has {largest}."
            raise InputError(msg + " Pass other periods, or a smaller take of 1 or more.")
        object.__setattr__(self, "groups", kept)

    def __len__(self) -> int:
        return len(self.groups)

    def within(self, positions: Sequence[int]) -> Times:
        """Return only the groups all of whose steps are among some positions.

        Raises
        ------
        InputError
            Where there is none.
        """
        allowed = set(positions)
        kept = tuple(g for g in self.groups if allowed.issuperset(g))
        if not kept:
            msg = f"Cannot take times: none of the {len(self)} groups lies wholly in the region's {len(allowed)} steps."
            raise InputError(msg + " Pass shorter groups.")
        return replace(self, groups=kept)

    def table(self, rng: np.random.Generator, group: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return (n, k): the steps of each window by its group; rows with fewer steps are filled up with -1."""
        longest = self.take or max(map(len, self.groups))
        if self.take is None:
            wide = np.full((len(self), longest), -1, "int64")
            for row, steps in zip(wide, self.groups, strict=True):
                row[: len(steps)] = steps
            return wide[group]
        drawn = [np.sort(rng.choice(self.groups[g], self.take, replace=False)) for g in group.tolist()]
        return np.array(drawn, "int64").reshape(-1, self.take)


@overload
def time_steps(data: xr.DataArray | xr.Dataset, **options: Any) -> Times: ...
@overload
def time_steps(data: xr.DataTree, **options: Any) -> dict[str, Times]: ...
def time_steps(  # type: ignore[misc]  # options of the two above are its own
    data: xr.DataArray | xr.Dataset | xr.DataTree,
    *,
    length: int = 1,
    stride: int | None = None,
    spacing: int = 1,
    during: tuple[SomeTime, SomeTime] | None = None,
    order: Order = "random",
) -> Times | dict[str, Times]:
    """Return single time steps, or runs of steps that follow each other.

    Parameters
    ----------
    data
        A layer, or a Dataset, with a time dimension; or a tree of these, for the times of each child by node.
    length
        Steps in a run.
    stride
        Steps from the start of one run to that of the next; the length by default.
    spacing
        Steps from one of a run to the next.
    during
        Time of interest: first and last moment, both included.
    order
        Whether samplers take runs at random or in turn.
    """
    if isinstance(data, xr.DataTree):
        return _each(
            data,
            lambda d: time_steps(d, length=length, stride=stride, spacing=spacing, during=during, order=order),
        )
    if min(length, spacing, length if stride is None else stride) < 1:
        msg = f"Cannot take runs of length={length}, stride={stride}, spacing={spacing}: pass whole steps of 1 or more."
        raise InputError(msg)
    among = _during(data, during)
    reach = (length - 1) * spacing
    starts = range(0, len(among) - reach, stride or length)
    groups = tuple(tuple(among[s : s + reach + 1 : spacing].tolist()) for s in starts)
    if not groups:
        msg = f"Cannot take runs of length={length}: there are {len(among)} time steps. Pass a smaller length."
        raise InputError(msg)
    return Times(groups=groups, order=order)


@overload
def time_periods(data: xr.DataArray | xr.Dataset, period: str, **options: Any) -> Times: ...
@overload
def time_periods(data: xr.DataTree, period: str, **options: Any) -> dict[str, Times]: ...
def time_periods(  # type: ignore[misc]  # options of the two above are its own
    data: xr.DataArray | xr.Dataset | xr.DataTree,
    period: str,
    *,
    take: int | None = None,
    during: tuple[SomeTime, SomeTime] | None = None,
    order: Order = "random",
) -> Times | dict[str, Times]:
    """Return the steps of each calendar period, such as a month.

    Parameters
    ----------
    data
        A layer, or a Dataset, with a time coordinate.
    period
        A pandas period: "D", "W", "M", "Q", "Y", "3M", …
    take
        Steps that a window takes of its period, at random; periods with fewer are left out. By default all.
    during, order
        As for `time_steps`.
    """
    if isinstance(data, xr.DataTree):
        return _each(data, lambda d: time_periods(d, period, take=take, during=during, order=order))
    among = _during(data, during)
    try:
        names = pd.DatetimeIndex(stamps_of(data)[among]).to_period(period)
    except ValueError as error:
        msg = f"Cannot take times by period={period!r}: {error}. Pass a pandas period such as 'M' or 'Q'."
        raise InputError(msg) from error
    ordinal = names.asi8
    return Times(groups=tuple(tuple(among[ordinal == o].tolist()) for o in np.unique(ordinal)), take=take, order=order)


@overload
def time_intervals(
    data: xr.DataArray | xr.Dataset, intervals: Sequence[tuple[SomeTime, SomeTime]], **options: Any
) -> Times: ...
@overload
def time_intervals(
    data: xr.DataTree, intervals: Sequence[tuple[SomeTime, SomeTime]], **options: Any
) -> dict[str, Times]: ...
def time_intervals(  # type: ignore[misc]  # options of the two above are its own
    data: xr.DataArray | xr.Dataset | xr.DataTree,
    intervals: Sequence[tuple[SomeTime, SomeTime]],
    *,
    take: int | None = None,
    order: Order = "random",
) -> Times | dict[str, Times]:
    """Return the steps in each of some intervals; intervals without any are left out.

    Parameters
    ----------
    data
        A layer, or a Dataset, with a time coordinate.
    intervals
        First and last moment of each, both included.
    take, order
        As for `time_periods`.
    """
    if isinstance(data, xr.DataTree):
        return _each(data, lambda d: time_intervals(d, intervals, take=take, order=order))
    groups = tuple(tuple(positions(data, one).tolist()) for one in intervals)
    return Times(groups=groups, take=take, order=order)


def _each(tree: xr.DataTree, make: Callable[[xr.Dataset], Times]) -> dict[str, Times]:
    """Return the times of each child of a tree that has some."""
    found: dict[str, Times] = {}
    missed: InputError | None = None
    for node, child in children(tree).items():
        try:
            found[node] = make(child)
        except InputError as error:
            missed = missed or error
    if not found and missed is not None:
        raise missed
    return found


def positions(data: xr.DataArray | xr.Dataset, interval: tuple[SomeTime, SomeTime]) -> npt.NDArray[np.int64]:
    """Return the positions of the time steps in an interval, both ends included."""
    first, last = (_moment(end, late=late) for end, late in zip(interval, (False, True), strict=True))
    if last < first:
        msg = f"Cannot take times from {interval[0]} to {interval[1]}: the end lies before. Pass (first, last)."
        raise InputError(msg)
    stamps = stamps_of(data)
    return np.flatnonzero((stamps >= first) & (stamps <= last))


def _moment(value: SomeTime, *, late: bool) -> np.datetime64:
    """Return the first or last moment that a text names."""
    try:
        if isinstance(value, str) and late and len(value) <= len("2021-06-01"):
            return pd.Period(value).end_time.to_datetime64()
        stamp = pd.Timestamp(value)
    except (ValueError, TypeError) as error:
        msg = f"Cannot read a time from {value!r}: pass a date such as '2021-06-01'."
        raise InputError(msg) from error
    return (stamp.tz_convert(None) if stamp.tz is not None else stamp).to_datetime64()


def count_steps(data: xr.DataArray | xr.Dataset) -> int:
    """Return the number of time steps.

    Raises
    ------
    InputError
        Where there is no time dimension.
    """
    if "time" not in data.dims:
        found = tuple(map(str, data.dims))
        msg = f"Cannot take times: the data has the dimensions {found}, no 'time'. Leave times= out, or rename one."
        raise InputError(msg)
    return int(data.sizes["time"])


def stamps_of(data: xr.DataArray | xr.Dataset) -> Array:
    """Return when each time step is, datetime64[ns]."""
    count_steps(data)
    if "time" not in data.coords or data["time"].dtype.kind != "M":
        msg = "Cannot tell when the time steps are: there is no time coordinate of datetime64. Assign one."
        raise InputError(msg)
    return np.asarray(data["time"].to_numpy().astype("datetime64[ns]"))


def _during(data: xr.DataArray | xr.Dataset, during: tuple[SomeTime, SomeTime] | None) -> npt.NDArray[np.int64]:
    return np.arange(count_steps(data)) if during is None else positions(data, during)

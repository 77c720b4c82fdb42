"""Splits by time: each part the steps of an interval, with a gap between them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from geoxt.errors import InputError
from geoxt.grid import grid_of, whole
from geoxt.samplers.regions import Region
from geoxt.samplers.times import SomeTime, positions, stamps_of
from geoxt.splits.checks import check, nearest
from geoxt.splits.saving import PARTS
from geoxt.splits.values import Split
from geoxt.types import Array

Interval = tuple[SomeTime, SomeTime]


def by_time(
    data: xr.DataArray | xr.Dataset,
    *,
    train: Interval,
    val: Interval | None = None,
    test: Interval | None = None,
    gap: Any = None,
) -> Split:
    """Split the time steps of data: learn from the past, measure in the future.

    Parameters
    ----------
    data
        A layer, or a Dataset of layers, with a time coordinate.
    train, val, test
        First and last moment of each part, both included; a part may be left out.
    gap
        Least time between steps of two parts, such as "30D". Training steps nearer than that to a validation or test
        step are left out, and validation steps nearer to a test step.

    Returns
    -------
    Split
        The whole grid thrice, with time steps that are not shared. Samplers take only a part's own steps.

    Raises
    ------
    InputError
        Where intervals overlap, or one has no step left.
    """
    stamps, grid = stamps_of(data), grid_of(data)
    wait = np.timedelta64(0, "ns") if gap is None else pd.Timedelta(gap).to_timedelta64().astype("m8[ns]")
    if wait < np.timedelta64(0, "ns"):
        msg = f"Cannot keep parts apart by gap={gap!r}: pass a time of 0 or more, such as '30D'."
        raise InputError(msg)
    given = dict(zip(PARTS, (train, val, test), strict=True))
    own: dict[str, Array] = {}
    later = np.empty(0, "datetime64[ns]")
    for name in reversed(PARTS):
        interval = given[name]
        found = np.empty(0, later.dtype) if interval is None else stamps[positions(data, interval)]
        _require(name, interval, found, later)
        if gap is not None and len(later) and len(found):
            found = found[nearest(found, later) >= wait]
            _require(name, interval, found, later)
        own[name], later = found, np.sort(np.concatenate((later, found)))
    regions = {
        name: Region(grid, () if given[name] is None else (whole(grid),), times=tuple(own[name])) for name in PARTS
    }
    split = Split(**regions, gap=None if gap is None else wait)
    check(split)
    return split


def _require(name: str, interval: Interval | None, found: Array, later: Array) -> None:
    """Check that a part has time steps, none of which another has."""
    if interval is None:
        return
    both = found[np.isin(found, later)]
    if len(both):
        msg = f"Cannot split in time: {name} shares {len(both)} time steps with a later part, first {both[0]!s:.16}. "
        raise InputError(msg + f"Make {name}=… end before.")
    if not len(found):
        msg = f"Cannot split in time: {name} from {interval[0]} to {interval[1]} has no time step left. Pass a longer "
        raise InputError(msg + "interval, or a smaller gap.")

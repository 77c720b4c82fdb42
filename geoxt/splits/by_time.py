"""Splits by time: each part the steps of an interval, with a gap between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError
from geoxt.grid import full_window, grid_of
from geoxt.regions.region import Region
from geoxt.samplers.time_windows import SomeTime, positions, stamps_of
from geoxt.splits.checks import check, nearest
from geoxt.splits.split import Split
from geoxt.splits.split_files import PARTS
from geoxt.splits.tree_split import TreeSplit
from geoxt.trees import children
from geoxt.types import Array

Interval = tuple[SomeTime, SomeTime]


def by_time(
    data: xr.DataArray | xr.Dataset | xr.DataTree,
    *,
    train: Interval,
    val: Interval | None = None,
    test: Interval | None = None,
    gap: Any = None,
) -> Split | TreeSplit:
    """Split the time steps of data: learn from the past, measure in the future.

    Parameters
    ----------
    data
        A layer, or a Dataset of layers, with a time coordinate; or a tree of these, each with times of its own.
    train, val, test
        First and last moment of each part, both included; a part may be left out.
    gap
        Least time between steps of two parts, such as "30D". Training steps nearer than that to a validation or test
        step are left out, and validation steps nearer to a test step.

    Returns
    -------
    Split
        The whole grid thrice, with time steps that are not shared. Samplers take only a part's own steps.
    TreeSplit
        Of a tree: such a split of each child, with no time step shared between children either.

    Raises
    ------
    InputError
        Where intervals overlap, or one has no step left.
    """
    wait = np.timedelta64(0, "ns") if gap is None else pd.Timedelta(gap).to_timedelta64().astype("m8[ns]")
    if wait < np.timedelta64(0, "ns"):
        msg = f"Cannot keep parts apart by gap={gap!r}: pass a time of 0 or more, such as '30D'."
        raise InputError(msg)
    given = dict(zip(PARTS, (train, val, test), strict=True))
    every = children(data) if isinstance(data, xr.DataTree) else {"": data}
    own = _steps(every, given, None if gap is None else wait)
    splits = {
        node: Split(
            **{name: _region(grid_of(one), own[name][node], given[name]) for name in PARTS},
            gap=None if gap is None else wait,
        )
        for node, one in every.items()
    }
    split = TreeSplit(children=splits) if isinstance(data, xr.DataTree) else splits[""]
    check(split)
    return split


def _steps(
    every: Mapping[str, xr.DataArray | xr.Dataset], given: Mapping[str, Interval | None], gap: np.timedelta64 | None
) -> dict[str, dict[str, Array]]:
    """Return the time steps of each part, by its name and the node of a child."""
    own: dict[str, dict[str, Array]] = {}
    later: Array = np.empty(0, "datetime64[ns]")
    for name in reversed(PARTS):
        interval = given[name]
        found = {
            node: later[:0] if interval is None else stamps_of(one)[positions(one, interval)]
            for node, one in every.items()
        }
        _require(name, interval, _all(found), later)
        if gap is not None and len(later):
            found = {n: some[nearest(some, later) >= gap] if len(some) else some for n, some in found.items()}
            _require(name, interval, _all(found), later)
        own[name], later = found, np.unique(np.concatenate((later, _all(found))))
    return own


def _all(found: Mapping[str, Array]) -> Array:
    return np.concatenate(list(found.values()))


def _region(grid: GeoBox, stamps: Array, interval: Interval | None) -> Region:
    """Return all of a grid at some time steps; none of it where there are none."""
    return Region(grid, () if interval is None or not len(stamps) else (full_window(grid),), times=tuple(stamps))


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

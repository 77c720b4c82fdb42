"""Splits by time: an interval of time steps for each part, with a gap between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError
from geoxt.grid import full_window, grid_of
from geoxt.regions.region import GridRegion, Region
from geoxt.samplers.time_windows import SomeTime, positions, timestamps
from geoxt.splits.checks import check, distance_to_nearest
from geoxt.splits.split import Split
from geoxt.splits.split_files import PARTS
from geoxt.trees import SomeData, nodes_of
from geoxt.types import Array

Interval = tuple[SomeTime, SomeTime]


def by_time(
    data: SomeData,
    *,
    train: Interval,
    val: Interval | None = None,
    test: Interval | None = None,
    gap: Any = None,
) -> Split:
    """Split the time steps of data, such as the past for training and the future for test.

    Parameters
    ----------
    data
        A layer or a Dataset of layers with a datetime64 time coordinate, or a tree of these, each with its own times.
    train, val, test
        First and last time of each part, both included; a part may be left out.
    gap
        Minimum time between time steps of two parts, such as "30D". Training steps closer than that to a validation or
        test step are left out, and validation steps closer to a test step.

    Returns
    -------
    Split
        The whole grid for each part, with time steps that no other part has, in any node. Samplers take only the time
        steps of their region.

    Raises
    ------
    InputError
        If intervals overlap, or a part has no time step left.

    Examples
    --------
    >>> split = by_time(
    ...     layer, train=("2018", "2020"), val=("2021", "2021"), test=("2022", "2022"), gap="30D"
    ... )  # doctest: +SKIP
    """
    delta = None if gap is None else pd.Timedelta(gap).to_timedelta64().astype("m8[ns]")
    if delta is not None and delta < np.timedelta64(0, "ns"):
        raise InputError(
            f"Cannot separate parts by gap={gap!r}.",
            remedy="Pass {gap} a time of 0 or more, such as '30D'.",
            argument="gap",
        )
    intervals = dict(zip(PARTS, (train, val, test), strict=True))
    nodes = nodes_of(data)
    steps = _steps_of_parts(nodes, intervals, delta)
    regions = {
        name: Region(
            {node: _node_region(grid_of(ds), steps[name][node], intervals[name]) for node, ds in nodes.items()}
        )
        for name in PARTS
    }
    split = Split(**regions, gap=delta)
    check(split)
    return split


def _steps_of_parts(
    nodes: Mapping[str, xr.Dataset], intervals: Mapping[str, Interval | None], gap: np.timedelta64 | None
) -> dict[str, dict[str, Array]]:
    """Return the time steps of each part and node."""
    parts: dict[str, dict[str, Array]] = {}
    later: Array = np.empty(0, "datetime64[ns]")
    for name in reversed(PARTS):  # test has all its steps; earlier parts lose those within the gap
        interval = intervals[name]
        steps = {
            node: later[:0] if interval is None else timestamps(ds)[positions(ds, interval)]
            for node, ds in nodes.items()
        }
        _require_steps(name, interval, _concatenate(steps.values()), later)
        if gap is not None and len(later):
            steps = {
                node: stamps[distance_to_nearest(stamps, later) >= gap] if len(stamps) else stamps
                for node, stamps in steps.items()
            }
            _require_steps(name, interval, _concatenate(steps.values()), later)
        parts[name], later = steps, np.unique(np.concatenate((later, _concatenate(steps.values()))))
    return parts


def _concatenate(arrays: Iterable[Array]) -> Array:
    return np.concatenate(list(arrays))


def _node_region(grid: GeoBox, stamps: Array, interval: Interval | None) -> GridRegion:
    """Return the whole grid with some time steps; empty without any."""
    windows = () if interval is None or not len(stamps) else (full_window(grid),)
    return GridRegion(grid, windows, times=tuple(stamps))


def _require_steps(name: str, interval: Interval | None, stamps: Array, later: Array) -> None:
    """Raise if a part has no time steps, or shares some with a later part."""
    if interval is None:
        return
    shared = stamps[np.isin(stamps, later)]
    if len(shared):
        raise InputError(
            f"Cannot split in time: {name} shares {len(shared)} time steps with a later part, first {shared[0]!s:.16}.",
            remedy=f"Pass {{{name}}} that ends before.",
            argument=name,
        )
    if not len(stamps):
        raise InputError(
            f"Cannot split in time: {name} from {interval[0]} to {interval[1]} has no time step left.",
            remedy=f"Pass {{{name}}} a longer interval, or a smaller {{gap}}.",
            argument=name,
        )

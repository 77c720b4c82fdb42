"""Time steps of windows: runs, periods and intervals, at random or in turn, covered at the times of the window."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from geoxt.errors import InputError
from geoxt.grid import coordinates
from geoxt.regions.valid_footprint import footprints_of
from geoxt.samplers import (
    GridSampler,
    PointSampler,
    RandomBatchSampler,
    RandomSampler,
    Times,
    TripletSampler,
    time_intervals,
    time_periods,
    time_steps,
)
from geoxt.source import Asset, Mosaic, Scene, to_layer
from geoxt.testing import make_grid
from geoxt.windows import Window

STAMPS = pd.DatetimeIndex(["2021-01-05", "2021-01-20", "2021-02-03", "2021-04-01", "2021-04-30 18:00", "2022-01-01"])


def make_layer(shape=(20, 30)):
    coords = {"time": STAMPS, **coordinates(make_grid(shape))}
    return xr.DataArray(np.zeros((6, *shape), "uint8"), dims=("time", "y", "x"), coords=coords)


def test_runs_periods_and_intervals():
    layer = make_layer()
    assert time_steps(layer).groups == tuple((i,) for i in range(6))
    assert time_steps(layer, length=2).groups == ((0, 1), (2, 3), (4, 5))
    assert time_steps(layer, length=3, stride=1, spacing=2).groups == ((0, 2, 4), (1, 3, 5))
    assert time_steps(layer, during=("2021-01-20", "2021-04")).groups == ((1,), (2,), (3,), (4,))
    assert time_periods(layer, "M").groups == ((0, 1), (2,), (3, 4), (5,))
    assert time_periods(layer, "Q", during=("2021-01-10", "2021-12-31")).groups == ((1, 2), (3, 4))
    assert time_periods(layer, "M", take=2).groups == ((0, 1), (3, 4))
    times = time_intervals(layer, [("2021-01-01", "2021-04-30"), ("2021", "2021"), ("2023", "2024")])
    assert times.groups == ((0, 1, 2, 3, 4), (0, 1, 2, 3, 4))


def test_take_draws_steps_of_a_group_in_order_of_time():
    layer = make_layer()
    times = time_intervals(layer, [("2021", "2021")], take=2)
    drawn = [w.time for w in RandomSampler(layer, size=4, length=2000, times=times)]
    pairs, count = np.unique(np.array(drawn), axis=0, return_counts=True)
    assert len(pairs) == 10
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert abs(count - 200).max() < 60


def test_grids_and_points_repeat_for_every_group():
    layer = make_layer()
    spatial = [(w.row, w.col) for w in GridSampler(layer, size=10)]
    sampler = GridSampler(layer, size=10, times=time_periods(layer, "M"))
    assert [(w.row, w.col) for w in sampler] == spatial * 4
    assert [w.time for w in sampler][:: len(spatial)] == [(0, 1), (2,), (3, 4), (5,)]
    points = [(600_100, 4_549_900), (600_500, 4_549_500)]
    windows = PointSampler(layer, points=points, size=5, times=time_steps(layer, length=3))
    assert [(w.time, i) for w, i in zip(windows, windows.index, strict=True)] == [
        ((0, 1, 2), 0), ((0, 1, 2), 1), ((3, 4, 5), 0), ((3, 4, 5), 1),
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"2 random time steps on a lattice. Pass times= without take"):
        GridSampler(layer, size=10, times=time_periods(layer, "M", take=2))


def test_batches_and_triplets_have_one_group_of_time_steps():
    layer = make_layer()
    times = time_steps(layer)
    batches = RandomBatchSampler(layer, size=4, length=40, batch_size=4, times=times)
    triplets = TripletSampler(layer, size=4, length=40, radius=6, times=times)
    for windows in (batches, triplets):
        steps = windows.steps.reshape(-1, windows.unit)
        assert (steps == steps[:, :1]).all()
        assert len(np.unique(steps)) > 3


def test_coverage_counts_footprints_of_the_windows_time_step():
    """Two scenes beside each other, at two times: footprints count by time step."""
    grid = make_grid((20, 60))
    scenes = tuple(
        Scene(id=str(i), assets=(Asset(href="none", band=1, grid=grid[:, a:b], dtype="uint8"),))
        for i, (a, b) in enumerate(((0, 30), (40, 60)))
    )
    source = Mosaic(grid=grid, scenes=scenes, steps=((0,), (1,), (0, 1)), bands=("a",), dtype=np.dtype("uint8"))
    layer = to_layer(source, dims=("time", "y", "x"), coords={"time": STAMPS[:3]}, attrs={})
    assert [f.area for f in footprints_of(layer, [(0,), (1,), (2,), None])] == [600, 400, 1000, 1000]
    assert footprints_of(layer.isel(time=[1]), [None])[0].area == 400
    windows = list(RandomSampler(layer, size=10, length=400, times=time_steps(layer), min_covered=1))
    spans = {
        t: [Window(0, a, 20, b - a) for a, b in s] for t, s in enumerate([[(0, 30)], [(40, 60)], [(0, 30), (40, 60)]])
    }
    assert all(any(s.contains(w) for s in spans[w.time[0]]) for w in windows)
    fraction = np.bincount([w.time[0] for w in windows]) / 400
    assert np.abs(fraction - np.array([21, 11, 32]) / 64).max() < 0.08


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda a: time_steps(a, length=9), r"runs of length=9: there are 6 time steps"),
        (lambda a: time_steps(a, spacing=0), r"spacing=0. Pass length=, stride= and spacing="),
        (lambda a: time_steps(a.isel(time=0)), r"no 'time'. Leave times= out"),
        (lambda a: time_periods(a.drop_vars("time"), "M"), r"no time coordinate of datetime64. Assign one"),
        (lambda a: time_periods(a, "fortnight"), r"period='fortnight'.*Pass period= a pandas period"),
        (lambda a: time_periods(a, "M", take=3), r"none of the 4 groups has take=3 steps, the largest has 2"),
        (lambda a: time_intervals(a, [("2023", "2024")]), r"none of the 1 groups has one step"),
        (lambda a: time_intervals(a, [("2022", "2021")]), r"from 2022 to 2021: the end lies before"),
        (lambda a: time_intervals(a, [("soon", "2021")]), r"Cannot read a time from 'soon'. Pass a date"),
        (lambda a: time_steps(a, order="reverse"), r"order='reverse'. Pass order= 'random' or 'sequential'"),
        (lambda a: RandomSampler(a, size=4, length=1, times=Times(groups=((7,),))), r"time step 7 of 6"),
    ],
)
def test_invalid_times_raise(make, message):
    with pytest.raises(InputError, match=message):
        make(make_layer())

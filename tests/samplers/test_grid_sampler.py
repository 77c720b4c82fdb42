"""Windows on a lattice: every pixel is covered, and no window extends beyond the grid unless padded."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from geoxt.errors import InputError
from geoxt.grid import coordinates, full_window, grid_of
from geoxt.samplers import GridRegion, GridSampler
from geoxt.testing import make_grid
from geoxt.windows import Window


def make_layer(shape):
    return xr.DataArray(np.zeros(shape, "uint8"), dims=("y", "x"), coords=coordinates(make_grid(shape)))


def cover(windows, shape, margin=64):
    board = np.zeros((shape[0] + 2 * margin, shape[1] + 2 * margin), int)
    for window in windows:
        board[window.within(Window(-margin, -margin, *board.shape))] += 1
    return board[margin:-margin, margin:-margin], board.sum()


sizes = st.tuples(st.integers(1, 20), st.integers(1, 20))


@given(st.tuples(st.integers(1, 60), st.integers(1, 60)), sizes, st.sampled_from(["shift", "pad", "drop"]))
def test_adjacent_windows_cover_every_pixel(shape, size, edge):
    layer = make_layer(shape)
    fits = size[0] <= shape[0] and size[1] <= shape[1]
    if not fits and edge != "pad":
        with pytest.raises(InputError, match=rf"window of {size[0]} x {size[1]} pixels with edge='{edge}'.*smaller"):
            GridSampler(layer, size=size, edge=edge)
        return
    sampler = GridSampler(layer, size=size, edge=edge)
    windows = list(sampler)
    assert len(windows) == len(sampler) == len(set(windows))
    count, total = cover(windows, shape)
    match edge:
        case "shift":
            assert count.min() == 1
            assert count.sum() == total
        case "pad":
            assert (count == 1).all()
            assert total >= count.sum()
        case _:
            whole_rows, whole_cols = (n // s * s for n, s in zip(shape, size, strict=True))
            assert (count[:whole_rows, :whole_cols] == 1).all()
            assert count.sum() == whole_rows * whole_cols == total


@given(st.tuples(st.integers(20, 60), st.integers(20, 60)), sizes, st.data())
def test_overlapping_windows_leave_no_gap(shape, size, data):
    stride = tuple(data.draw(st.integers(1, s)) for s in size)
    count, _ = cover(GridSampler(make_layer(shape), size=size, stride=stride), shape)
    assert count.min() >= 1
    rows, cols = (-(-s // t) for s, t in zip(size, stride, strict=True))
    assert count.max() <= (rows + 1) * (cols + 1)


def test_windows_are_in_row_major_order():
    windows = [(w.row, w.col) for w in GridSampler(make_layer((50, 40)), size=20)]
    assert windows == [(0, 0), (0, 20), (20, 0), (20, 20), (30, 0), (30, 20)]


@pytest.mark.parametrize("edge", ["shift", "drop"])
def test_windows_lie_in_one_rectangle_of_the_region(edge):
    layer = make_layer((60, 60))
    region = GridRegion(grid_of(layer), (Window(3, 4, 25, 30), Window(40, 0, 17, 60)))
    windows = list(GridSampler(layer, size=8, region=region, edge=edge))
    assert all(sum(r.contains(w) for r in region) == 1 for w in windows)
    count, _ = cover(windows, (60, 60))
    assert (count > 0).sum() == (region.pixels if edge == "shift" else 24 * 24 + 16 * 56)


def test_epochs_are_equal_and_slices_are_sequences():
    sampler = GridSampler(make_layer((60, 60)), size=16)
    assert sampler.at(9) is sampler
    assert list(sampler[2:5]) == list(sampler)[2:5]
    with pytest.raises(IndexError):
        sampler[len(sampler)]


def test_window_of_grid_size_is_the_whole_grid():
    layer = make_layer((60, 50))
    assert list(GridSampler(layer, size=(60, 50))) == [full_window(grid_of(layer))]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 16, "edge": "wrap"}, r"edge='wrap'. Pass edge= 'shift', 'pad' or 'drop'"),
        ({"size": 16, "stride": 0}, r"stride=0. Pass stride= whole pixels"),
    ],
)
def test_invalid_lattices_raise(options, message):
    with pytest.raises(InputError, match=message):
        GridSampler(make_layer((60, 60)), **options)

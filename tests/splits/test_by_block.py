"""Splits by block: disjoint parts with buffers, in proportion to the fractions."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import assume, given
from hypothesis import strategies as st

from geoxt.errors import InputError
from geoxt.grid import coordinates, full_window, grid_of
from geoxt.samplers import GridRegion, GridSampler, RandomBatchSampler, RandomSampler, Region
from geoxt.splits import Split, by_block, check
from geoxt.testing import make_grid
from geoxt.windows import Window


def make_layer(shape):
    return xr.DataArray(np.zeros(shape, "uint8"), dims=("y", "x"), coords=coordinates(make_grid(shape)))


def pixels(windows, shape):
    board = np.zeros(shape, bool)
    for window in windows:
        board[window.within(Window(0, 0, *shape))] = True
    return board


@given(
    st.tuples(st.integers(48, 200), st.integers(48, 200)),
    st.integers(12, 24),
    st.integers(0, 4),
    st.integers(0, 99),
    st.sampled_from([(0.6, 0.2, 0.2), (0.8, 0.1, 0.1), (0.5, 0.5, 0.0), (1 / 3, 1 / 3, 1 / 3)]),
)
def test_parts_are_disjoint_with_their_buffers(shape, size, buffer, seed, fractions):
    split = by_block(make_layer(shape), size=size, fractions=fractions, buffer=buffer, seed=seed)
    check(split)
    parts = [pixels(p, shape) for p in (split.train, split.val, split.test)]
    assert (sum(p.astype(int) for p in parts) <= 1).all()
    for n, windows in enumerate((split.train, split.val, split.test)):
        enlarged = pixels([w.pad(2 * buffer).intersect(Window(0, 0, *shape)) for w in windows], shape)
        assert not any((enlarged & other).any() for m, other in enumerate(parts) if m != n)
    count = sum(map(len, (split.train, split.val, split.test)))
    for windows, fraction in zip((split.train, split.val, split.test), fractions, strict=True):
        assert abs(len(windows) - fraction * count) < 2
        assert (len(windows) > 0) == (fraction > 0)


def test_blocks_without_buffer_cover_every_pixel():
    split = by_block(make_layer((128, 96)), size=32)
    total = sum(part.pixels for part in (split.train, split.val, split.test))
    assert total == 128 * 96


def test_windows_of_two_parts_never_share_a_pixel():
    layer = make_layer((160, 160))
    split = by_block(layer, size=40, buffer=2, seed=1)
    drawn = {}
    for name in ("train", "val", "test"):
        region = getattr(split, name)
        windows = [
            *RandomSampler(layer, size=16, length=300, region=region),
            *RandomBatchSampler(layer, size=16, length=64, batch_size=8, region=region),
            *GridSampler(layer, size=16, region=region),
        ]
        drawn[name] = pixels(windows, (160, 160))
    assert not (drawn["train"] & drawn["val"]).any()
    assert not (drawn["train"] & drawn["test"]).any()
    assert not (drawn["val"] & drawn["test"]).any()


def test_equal_seeds_give_equal_splits():
    layer = make_layer((160, 160))
    assert by_block(layer, size=32, seed=4) == by_block(layer, size=32, seed=4)
    assert len({by_block(layer, size=32, seed=s).test.windows for s in range(6)}) > 3
    assert by_block(layer, size=32).grid == grid_of(layer)


def test_check_detects_shared_pixels():
    grid = make_grid((40, 40))
    regions = [
        Region({"": GridRegion(grid, (Window(*w),))}) for w in ((0, 0, 20, 20), (30, 30, 5, 5), (18, 18, 10, 10))
    ]
    with pytest.raises(InputError, match="train and test share 4 pixels.*do not overlap"):
        check(Split(train=regions[0], val=regions[1], test=regions[2]))


@pytest.mark.parametrize("fractions", [(0.5, 0.2, 0.2), (0.9, 0.1), (1.2, -0.1, -0.1)])
def test_fractions_must_be_three_and_sum_to_one(fractions):
    with pytest.raises(InputError, match=r"fractions=.*three numbers that add up to 1"):
        by_block(make_layer((64, 64)), size=16, fractions=fractions)


@pytest.mark.parametrize(
    ("shape", "options"), [((64, 128), {"size": 64}), ((64, 128), {"size": 32, "buffer": 16}), ((9, 9), {"size": 9})]
)
def test_too_few_blocks_raise(shape, options):
    with pytest.raises(InputError, match=r"Cannot divide [012] blocks of .*Pass a smaller size="):
        by_block(make_layer(shape), **options)


def test_negative_buffer_raises():
    with pytest.raises(InputError, match=r"buffer=-4.*Pass buffer="):
        by_block(make_layer((64, 64)), size=16, buffer=-4)


@given(st.integers(1, 60), st.integers(1, 60))
def test_blocks_lie_on_the_grid(rows, cols):
    assume(rows * cols > 300)
    layer = make_layer((rows, cols))
    split = by_block(layer, size=8)
    assert all(full_window(split.grid).contains(w) for part in (split.train, split.val, split.test) for w in part)

"""Random windows: inside the region, uniform, repeatable by seed, and close together in a batch."""

import pickle

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from geoxt.errors import InputError, OverlapError
from geoxt.grid import coordinates, full_window, grid_of, window_grid
from geoxt.samplers import GridRegion, RandomBatchSampler, RandomSampler
from geoxt.testing import make_grid
from geoxt.windows import Window


def make_layer(shape=(60, 80), **options):
    return xr.DataArray(np.zeros(shape, "uint8"), dims=("y", "x"), coords=coordinates(make_grid(shape, **options)))


def region_on(layer, *windows):
    return GridRegion(grid_of(layer), tuple(Window(*w) for w in windows))


@given(st.integers(1, 60), st.integers(1, 80), st.integers(1, 40), st.integers(0, 2**40))
def test_length_windows_inside_the_grid(height, width, length, seed):
    layer = make_layer()
    sampler = RandomSampler(layer, size=(height, width), length=length, seed=seed)
    windows = list(sampler)
    assert len(windows) == len(sampler) == length
    assert all(w.shape == (height, width) for w in windows)
    assert all(full_window(grid_of(layer)).contains(w) for w in windows)
    assert windows == [sampler[i] for i in range(length)]
    assert windows == list(RandomSampler(layer, size=(height, width), length=length, seed=seed))


def test_epochs_and_seeds_differ_and_repeat():
    layer = make_layer()
    first = RandomSampler(layer, size=8, length=50, seed=3)
    assert first.at(0) == first
    assert first.at(4) == first.at(4) == first.at(2).at(4)
    assert (
        len({tuple(map(str, s)) for s in (first, first.at(1), first.at(2), RandomSampler(layer, size=8, length=50))})
        == 4
    )
    assert first.at(7) == pickle.loads(pickle.dumps(first)).at(7)


def test_equal_seeds_give_equal_windows():
    sampler = RandomSampler(make_layer(), size=(8, 9), length=4, seed=1)
    assert [(w.row, w.col) for w in sampler] == [
        (w.row, w.col) for w in RandomSampler(make_layer(), size=(8, 9), length=4, seed=1)
    ]
    assert all(isinstance(w.row, int) for w in sampler)


def test_positions_in_two_rectangles_are_equally_likely():
    """Chi-square over all positions at which a window fits into two rectangles of different size."""
    layer = make_layer()
    region = region_on(layer, (0, 0, 12, 14), (30, 40, 10, 25))
    sampler = RandomSampler(layer, size=8, length=26_000, seed=0, region=region)
    positions = {(r, c) for r in range(5) for c in range(7)} | {(30 + r, 40 + c) for r in range(3) for c in range(18)}
    windows = [(w.row, w.col) for w in sampler]
    assert set(windows) == positions
    counts = np.unique(np.array(windows), axis=0, return_counts=True)[1]
    expected = len(windows) / len(positions)
    chi = ((counts - expected) ** 2 / expected).sum()
    freedom = len(positions) - 1
    assert abs(chi - freedom) < 4 * np.sqrt(2 * freedom)


def test_every_pixel_can_be_drawn():
    layer = make_layer((20, 24))
    covered = np.zeros((20, 24), bool)
    for window in RandomSampler(layer, size=(6, 7), length=4000, seed=0):
        covered[window.within(Window(0, 0, 20, 24))] = True
    assert covered.all()


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 50), st.integers(4, 20), st.integers(4, 30)),
        min_size=1,
        max_size=1,
    )
)
def test_windows_lie_in_one_rectangle_of_the_region(rectangles):
    layer = make_layer()
    region = region_on(layer, *rectangles, (55, 70, 5, 9))
    for window in RandomSampler(layer, size=4, length=60, region=region):
        assert sum(r.contains(window) for r in region) == 1


def test_windows_are_covered_by_every_layer():
    image = make_layer((60, 80))
    mask = np.zeros((60, 80), "uint8")
    ds = xr.Dataset({"image": image, "mask": (("y", "x"), mask)})
    assert len(RandomSampler(ds, size=16, length=10)) == 10


def test_region_of_a_layer_applies_to_its_slices():
    layer = make_layer()
    region = region_on(layer, (20, 30, 20, 20))
    cut = layer.isel(y=slice(10, 60), x=slice(25, 80))
    for window in RandomSampler(cut, size=8, length=40, region=region):
        assert Window(10, 5, 20, 20).contains(window)
    outside = region_on(make_layer(), (0, 0, 5, 5))
    with pytest.raises(InputError, match="Cannot sample: the region is empty"):
        RandomSampler(cut, size=8, length=4, region=outside)


@pytest.mark.parametrize("side", [4, 9])
def test_batches_lie_in_a_block(side):
    layer = make_layer((200, 200))
    sampler = RandomBatchSampler(layer, size=16, length=20 * side, batch_size=side, seed=2)
    windows = list(sampler)
    assert len(windows) == 20 * side
    spread = []
    for start in range(0, len(windows), side):
        batch = windows[start : start + side]
        rows, cols = [w.row for w in batch], [w.col for w in batch]
        assert max(rows) - min(rows) + 16 <= sampler.samplers[""].block[0]
        assert max(cols) - min(cols) + 16 <= sampler.samplers[""].block[1]
        spread.append((min(rows), min(cols)))
    assert len(set(spread)) > 10
    assert all(full_window(grid_of(layer)).contains(w) for w in windows)


def test_batches_stay_in_the_region_and_repeat_by_seed():
    layer = make_layer((200, 200))
    region = region_on(layer, (10, 10, 40, 40), (100, 100, 60, 80))
    options = {"size": 16, "length": 44, "batch_size": 8, "block": 64, "region": region}
    sampler = RandomBatchSampler(layer, **options, seed=5)
    assert all(any(r.contains(w) for r in region) for w in sampler)
    assert len(sampler) == 44
    assert sampler == RandomBatchSampler(layer, **options, seed=5)
    assert sampler.at(3) == sampler.at(3) != sampler


def test_batches_cover_every_pixel():
    sampler = RandomBatchSampler(make_layer((40, 40)), size=16, length=8000, batch_size=4, seed=0)
    covered = np.zeros((40, 40), bool)
    for window in sampler:
        covered[window.within(Window(0, 0, 40, 40))] = True
    assert covered.all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 90, "length": 1}, r"window of 90 x 90 pixels: the largest rectangle .* is 60 x 80.*smaller size="),
        ({"size": 0, "length": 1}, r"size=0. Pass size= whole pixels"),
        ({"size": 8, "length": 0}, r"Cannot draw 0 windows. Pass length=1"),
        ({"size": 8, "length": 3, "seed": -1}, r"seed=-1.*Pass 0 or more"),
    ],
)
def test_invalid_arguments_raise(options, message):
    with pytest.raises(InputError, match=message):
        RandomSampler(make_layer(), **options)


def test_layer_outside_its_files_is_not_covered(tmp_path):
    from geoxt.alignment import align
    from geoxt.layers import open_cogs
    from geoxt.testing import write_cog

    path = write_cog(tmp_path / "a.tif", np.ones((60, 60), "uint8"), grid=make_grid((60, 60)), tiled=False)
    corner = align(open_cogs(path), make_grid((60, 60), left=600_000 + 30 * 54, top=4_550_000 - 30 * 54))
    with pytest.raises(OverlapError, match=r"windows of 32 x 32 pixels covered to 0.5: 0 found.*smaller"):
        RandomSampler(corner, size=32, length=4)
    assert len(RandomSampler(corner, size=32, length=4, min_covered=0)) == 4


def test_window_of_part_equals_window_of_whole():
    grid = make_grid((60, 80))
    window = Window(3, 4, 5, 6)
    assert window_grid(window_grid(grid, Window(10, 10, 40, 40)), window) == window_grid(grid, window.shift(10, 10))

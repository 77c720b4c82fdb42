"""Windows in block order: those of the plain sampler, each once, near their neighbours, and still well mixed."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from geoxt.errors import InputError
from geoxt.grid import coordinates
from geoxt.samplers import RandomSampler
from geoxt.samplers.locality import local_order
from geoxt.testing import make_grid

SHAPE = 2048, 2048
LENGTH = 4096
BATCH = 32


def make_layer(shape=SHAPE):
    return xr.DataArray(np.zeros(shape, "uint8"), dims=("y", "x"), coords=coordinates(make_grid(shape)))


def sampler(*, length=LENGTH, **options):
    return RandomSampler(make_layer(), size=32, length=length, seed=5, **options)


def rows(windows):
    return np.c_[windows.table, windows.node_index]


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 80), st.integers(0, 2**32))
def test_local_order_is_a_permutation(groups, buffer, seed):
    groups = np.array(groups, "int64")
    order = local_order(groups, np.random.default_rng(seed), buffer=buffer)
    assert sorted(order.tolist()) == list(range(len(groups)))


@pytest.mark.parametrize("epoch", [0, 3])
@pytest.mark.parametrize("buffer", [1, 100, 10**6])
def test_windows_are_those_of_the_plain_sampler_each_once(epoch, buffer):
    plain, local = sampler().at(epoch), sampler(locality="block", buffer=buffer).at(epoch)
    assert np.array_equal(np.sort(rows(plain).view("i8,i8,i8,i8,i8").ravel()),
                          np.sort(rows(local).view("i8,i8,i8,i8,i8").ravel()))  # fmt: skip
    assert plain != local
    assert local == sampler(locality="block", buffer=buffer).at(epoch)


def test_shards_and_resumed_epochs_are_parts_of_the_order():
    windows = sampler(locality="block", length=1001)
    parts = [windows.shard(rank, 4, even=False) for rank in range(4)]
    assert sorted(map(tuple, np.concatenate([part.table for part in parts]).tolist())) == sorted(
        map(tuple, windows.table.tolist())
    )
    assert np.array_equal(windows.skip(300).table, windows.table[300:])


def blocks_in_use(windows, cache=64):
    """Return the number of times that a block of 256 pixels is decoded, with the latest `cache` blocks in memory."""
    recent, decoded = dict[tuple[int, int], None](), 0
    for row, col, height, width in windows.table.tolist():
        for down in range(row // 256, (row + height - 1) // 256 + 1):
            for across in range(col // 256, (col + width - 1) // 256 + 1):
                decoded += recent.pop((down, across), 0) is not None
                recent[down, across] = None
                if len(recent) > cache:
                    del recent[next(iter(recent))]
    return decoded


def test_blocks_are_decoded_a_few_times_instead_of_once_per_window():
    layer = make_layer((8192, 8192))  # 1024 blocks
    plain = RandomSampler(layer, size=32, length=4 * LENGTH, seed=5)
    local = RandomSampler(layer, size=32, length=4 * LENGTH, seed=5, locality="block", block=512, buffer=128)
    assert blocks_in_use(plain) > 4 * LENGTH
    assert blocks_in_use(local) < 2.5 * 1024
    assert spread_of_ranks(local) > 0.75


def spread_of_ranks(windows):
    """Return the mean over batches of the variance of positions, relative to that of all windows."""
    position = windows.table[:, :2].astype(float)
    batches = position[: len(position) // BATCH * BATCH].reshape(-1, BATCH, 2)
    return batches.var(1, ddof=1).mean() / position.var(0).mean()


def test_batches_spread_over_the_grid():
    """A uniformly random order has 1, and blocks in order nearly 0; the buffer decides where a local order lies."""
    assert spread_of_ranks(sampler()) == pytest.approx(1, abs=0.03)
    assert spread_of_ranks(sampler(locality="block", block=256, buffer=1)) < 0.2
    assert spread_of_ranks(sampler(locality="block", block=256, buffer=256)) > 0.75
    assert spread_of_ranks(sampler(locality="block", block=256, buffer=LENGTH)) == pytest.approx(1, abs=0.03)


def test_class_shares_of_batches_vary_little_more_than_at_random():
    """Standard deviation over batches of the fraction of a class that covers half of the grid, in patches of 512 px."""

    def deviation(windows):
        share = ((windows.table[:, 0] // 512 + windows.table[:, 1] // 512) % 2 == 0).astype(float)
        return share[: len(share) // BATCH * BATCH].reshape(-1, BATCH).mean(1).std()

    binomial = 0.5 / BATCH**0.5
    assert deviation(sampler()) == pytest.approx(binomial, rel=0.15)
    assert deviation(sampler(locality="block", block=256, buffer=256)) < 2 * binomial
    assert deviation(sampler(locality="block", block=256, buffer=1)) > 3 * binomial


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"locality": "scene"}, "locality"),
        ({"block": 128}, "block"),
        ({"locality": "block", "buffer": 0}, "buffer"),
        ({"locality": "block", "block": 0}, "block"),
    ],
)
def test_bad_options_are_errors(options, argument):
    with pytest.raises(InputError, match=argument):
        sampler(length=10, **options)

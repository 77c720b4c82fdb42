"""Uniformity by chi-square with fixed seeds: over positions, pixels, weights, batches and time steps."""

from dataclasses import replace

import numpy as np
import pytest
import shapely
import xarray as xr

from geoxt.errors import InputError, OverlapError
from geoxt.grid import coordinates, grid_of
from geoxt.samplers import GridRegion, RandomBatchSampler, RandomSampler, TripletSampler, time_steps
from geoxt.samplers.candidates import Candidates
from geoxt.samplers.constraints import parse_constraints
from geoxt.testing import make_grid
from geoxt.windows import Window

SHAPE = (16, 20)


def make_layer(shape=SHAPE, **dims):
    sizes = (*dims.values(), *shape)
    return xr.DataArray(np.zeros(sizes, "uint8"), dims=(*dims, "y", "x"), coords=coordinates(make_grid(shape)))


def deviation(counts, expected):
    """Return how many standard deviations a chi-square statistic lies from its mean."""
    counts, expected = np.ravel(counts), np.broadcast_to(expected, np.shape(counts)).ravel()
    chi = ((counts - expected) ** 2 / expected).sum()
    freedom = len(counts) - 1
    return abs(chi - freedom) / np.sqrt(2 * freedom)


def tally(windows, shape, pad=0):
    count = np.zeros((shape[0] + 2 * pad, shape[1] + 2 * pad), int)
    for w in windows:
        count[w.row + pad, w.col + pad] += 1
    return count


def pixels(windows, shape):
    board = np.zeros(shape, int)
    for window in windows:
        shared = window.intersect(Window(0, 0, *shape))
        board[shared.within(Window(0, 0, *shape))] += 1
    return board


@pytest.mark.parametrize(
    ("placement", "positions"), [("inside", (12, 15)), ("centred", (16, 20)), ("touching", (20, 25))]
)
def test_every_position_is_equally_likely(placement, positions):
    sampler = RandomSampler(make_layer(), size=(5, 6), length=12_000, placement=placement, min_covered=0)
    count = tally(sampler, SHAPE, pad=6)
    count = count[np.ix_(count.any(1), count.any(0))]
    assert count.shape == positions
    assert deviation(count, 12_000 / count.size) < 4


def test_touching_windows_are_uniform_over_pixels():
    """One drawn pixel of each window that lies on the grid, so that counts are independent."""
    rng = np.random.default_rng(0)
    count = np.zeros(SHAPE, int)
    for w in RandomSampler(make_layer(), size=(5, 6), length=20_000, placement="touching", min_covered=0):
        row, col = w.row + rng.integers(5), w.col + rng.integers(6)
        if 0 <= row < 16 and 0 <= col < 20:
            count[row, col] += 1
    assert deviation(count, count.sum() / count.size) < 4


def test_inside_windows_sample_pixels_by_the_number_of_their_positions():
    """The documented edge effect: a corner pixel lies in one position, an inner pixel in 5 x 6."""
    board = pixels(RandomSampler(make_layer(), size=(5, 6), length=60_000), SHAPE)
    rows = np.minimum(np.minimum(np.arange(16) + 1, 5), 16 - np.arange(16))
    cols = np.minimum(np.minimum(np.arange(20) + 1, 6), 20 - np.arange(20))
    expected = 60_000 * np.outer(rows, cols) / (12 * 15)
    assert abs(board / expected - 1).max() < 0.2
    assert abs((board / expected)[5:-5, 6:-6] - 1).max() < 0.05


def test_windows_of_batches_are_uniform():
    """One window of each batch, at each position in it: also near edges, and in rectangles of different size."""
    layer = make_layer()
    region = GridRegion(grid_of(layer), (Window(0, 0, 9, 20), Window(10, 3, 6, 9)))
    sampler = RandomBatchSampler(layer, size=4, block=7, length=4 * 12_000, batch_size=4, region=region)
    positions = {(r, c) for r in range(6) for c in range(17)} | {(10 + r, 3 + c) for r in range(3) for c in range(6)}
    for nth in range(4):
        count = tally([sampler[i] for i in range(nth, len(sampler), 4)], SHAPE)
        assert {tuple(p) for p in np.argwhere(count)} == positions
        assert deviation(count[count > 0], 12_000 / len(positions)) < 4


def test_windows_follow_the_weights():
    layer = make_layer()
    weights = layer.astype("float32") + np.arange(20, dtype="float32")
    sampler = RandomSampler(layer, size=5, length=20_000, weights=weights, placement="centred")
    count = tally([w.shift(2, 2) for w in sampler], SHAPE)
    assert count[:, 0].sum() == 0
    assert deviation(count[:, 1:], 20_000 * weights.to_numpy()[:, 1:] / float(weights.sum())) < 4
    for bad in (-weights, weights * 0):
        with pytest.raises(InputError, match=r"Cannot draw by the weights.*Pass"):
            RandomSampler(layer, size=5, length=1, weights=bad)
    with pytest.raises(InputError, match=r"as weights: it lies on another grid.*align"):
        RandomSampler(layer, size=5, length=1, weights=weights[1:])


def test_positions_in_a_rasterized_geometry_are_equally_likely():
    layer = make_layer()
    grid = grid_of(layer)
    ring = shapely.Polygon([(0, 0), (20, 0), (20, 16), (0, 16)], [[(8, 6), (12, 6), (12, 10), (8, 10)]])
    area = shapely.affinity.affine_transform(ring, [30, 0, 0, -30, grid.affine.c, grid.affine.f])
    sampler = RandomSampler(layer, size=4, length=30_000, region=area)
    free = np.ones(SHAPE, bool)
    free[6:10, 8:12] = False
    fits = np.array([[free[r : r + 4, c : c + 4].all() for c in range(17)] for r in range(13)])
    count = tally(sampler, SHAPE)[:13, :17]
    assert ((count > 0) == fits).all()
    assert deviation(count[fits], 30_000 / fits.sum()) < 4
    touching = tally(
        RandomSampler(layer, size=2, length=9000, region=area, placement="touching", min_covered=0), SHAPE, pad=1
    )
    padded = np.pad(free, 1)
    touched = np.array([[padded[r : r + 2, c : c + 2].any() for c in range(21)] for r in range(17)])
    assert ((touching[:17, :21] > 0) == touched).all()


def test_positions_and_times_are_drawn_together():
    layer = make_layer((6, 7), time=5)
    sampler = RandomSampler(layer, size=3, length=20_000, times=time_steps(layer, length=2, stride=1))
    count = np.zeros((4, 4, 5), int)
    for w in sampler:
        assert w.time[1] == w.time[0] + 1
        count[w.time[0], w.row, w.col] += 1
    assert deviation(count, 20_000 / count.size) < 4
    turns = RandomSampler(layer, size=3, length=11, times=time_steps(layer, order="sequential"))
    assert [w.time for w in turns] == [(i % 5,) for i in range(11)]


def test_triplets_are_near_and_far_and_uniform():
    layer = make_layer((24, 24))
    sampler = TripletSampler(layer, size=4, length=8000, radius=5, distance=9)
    assert len(sampler) == 24_000
    table = sampler.table.reshape(-1, 3, 4)[:, :, :2].astype(float)
    near, far = (np.hypot(*(table[:, i] - table[:, 0]).T) for i in (1, 2))
    assert near.min() > 0
    assert near.max() <= 5
    assert far.min() > 9
    count = tally([sampler[i] for i in range(0, len(sampler), 3)], (21, 21))
    assert deviation(count, 8000 / count.size) < 4
    inner = ((table[:, 0] >= 5) & (table[:, 0] <= 15)).all(1)
    steps = (table[inner, 1] - table[inner, 0]).astype(int) + 5
    disc = np.hypot(*np.mgrid[-5:6, -5:6]) <= 5
    disc[5, 5] = False
    counts = np.zeros((11, 11), int)
    np.add.at(counts, tuple(steps.T), 1)
    assert ((counts > 0) == disc).all()
    assert deviation(counts[disc], inner.sum() / disc.sum()) < 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": 0.5, "length": 3}, r"radius=0.5. Pass radius= whole pixels"),
        (
            {"radius": 9, "distance": 4, "length": 3},
            r"distant windows at 4 pixels: neighbours lie at up to 9 pixels. Pass distance=",
        ),
        ({"radius": 30, "length": 3}, r"Cannot find 3 windows.*0 found"),
    ],
)
def test_invalid_triplets_raise(options, message):
    with pytest.raises(InputError, match=message):
        TripletSampler(make_layer(), size=4, **options)


def test_candidates_exclude_positions_outside_the_footprint():
    """A diagonal footprint in a large grid: at most 20 candidates for each accepted position."""
    layer = make_layer((150, 150))
    constraints = parse_constraints(layer.to_dataset(name="image"), 10, min_covered=1.0)
    thin = shapely.Polygon([(0, 0), (14, 0), (150, 136), (150, 150), (136, 150), (0, 14)])
    constraints = replace(constraints, footprints=(thin,))
    candidates = Candidates(constraints)
    rows, cols = np.divmod(np.arange(141 * 141), 141)
    table = np.c_[rows, cols, np.full((len(rows), 2), 10)]
    allowed = table[constraints.accepts(table)]
    assert len(allowed) <= len(candidates) < 20 * len(allowed)
    corner, count = candidates.corners, candidates.counts
    held = ((allowed[:, None, :2] >= corner) & (allowed[:, None, :2] < corner + count)).all(2).sum(1)
    assert (held == 1).all()
    with pytest.raises(OverlapError, match="0 found"):
        Candidates(replace(constraints, footprints=(shapely.box(0, 0, 9, 9),)))

"""Batches of one scene: the scene that shows at the centre of one window shows at those of all in the batch."""

import numpy as np
import pytest
import xarray as xr

from geoxt.grid import coordinates, grid_of
from geoxt.layers import open_cogs
from geoxt.samplers import RandomBatchSampler, time_steps
from geoxt.samplers.constraints import scope_of
from geoxt.samplers.scene_ownership import territories
from geoxt.testing import distinct, make_grid, write_bands, write_cog

SIZES = {"a": ((60, 50), 600_000, 4_550_000), "b": ((60, 60), 600_900, 4_549_700), "c": ((40, 40), 601_000, 4_548_700)}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("territories")
    return [
        str(write_cog(folder / f"{n}.tif", distinct(shape), grid=make_grid(shape, left=left, top=top), tiled=False))
        for n, (shape, left, top) in SIZES.items()
    ]


def shown(layer):
    """Which scene shows at each pixel, worked out pixel by pixel: the first whose rectangle holds it."""
    grid = grid_of(layer)
    board = np.full(grid.shape, -1)
    for number, (shape, left, top) in reversed(list(enumerate(SIZES.values()))):
        row, col = round((grid.affine.f - top) / 30), round((left - grid.affine.c) / 30)
        board[row : row + shape[0], col : col + shape[1]] = number
    return board


def test_a_batch_keeps_to_the_scene_that_shows(scenes):
    layer = open_cogs(scenes)
    board = shown(layer)
    sampler = RandomBatchSampler(layer, size=8, length=402, batch_size=6, block=60)
    assert len(sampler) == 402
    homes = []
    for start in range(0, 402, 6):
        found = {int(board[w.row + 4, w.col + 4]) for w in sampler[start : start + 6]}
        assert len(found) == 1
        homes.append(found.pop())
    assert set(homes) >= {0, 1, 2}  # and windows whose centre lies beside all of them, in batches of their own
    assert sampler == RandomBatchSampler(layer, size=8, length=402, batch_size=6, block=60)


def test_windows_are_as_uniform_as_without_scenes(scenes):
    layer = open_cogs(scenes)
    board = shown(layer)
    sampler = RandomBatchSampler(layer, size=(5, 5), length=30_000, batch_size=3, block=20, min_covered=0)
    count = np.zeros(3)
    for index in range(0, 30_000, 3):  # one window of each batch, so that they are independent
        w = sampler[index + 1 + index % 2]
        home = board[w.row + 2, w.col + 2]
        count[home] += home >= 0
    rows, cols = board.shape
    inner = board[2 : rows - 2, 2 : cols - 2]
    expected = np.array([(inner == n).sum() for n in range(3)])
    expected = expected / expected.sum() * count.sum()
    assert ((count - expected) ** 2 / expected).sum() < 14  # chi-square of two degrees of freedom, 1 in 1,000


def test_one_scene_or_several_steps_at_once_have_no_territories(scenes, tmp_path):
    assert territories(open_cogs(scenes[:1]), scope_of(open_cogs(scenes[:1]), 8)) is None
    array = xr.DataArray(np.zeros((60, 60)), dims=("y", "x"), coords=coordinates(make_grid((60, 60))))
    assert territories(array, scope_of(array, 8)) is None
    for n, (day, left) in enumerate((("0701", 600_000), ("0701", 600_900), ("0717", 600_000))):
        name = f"LC08_L2SP_02603{n}_2019{day}_20200827_02_T1_SR_B2.TIF"
        write_bands(tmp_path, distinct((1, 60, 60)), names=[name], grid=make_grid((60, 60), left=left), tiled=False)
    series = open_cogs(str(tmp_path / "*.TIF"), product="landsat8", groupby="day")
    assert territories(series, scope_of(series, 8)) is None
    found = territories(series, scope_of(series, 8, times=time_steps(series)))
    assert [len(trees) for trees in found.trees] == [1, 0]

"""Batches in mosaics: the same scene is on top at the centres of all windows of a batch."""

import numpy as np
import pytest
import xarray as xr

from geoxt.grid import coordinates, grid_of
from geoxt.layers import open_cogs
from geoxt.samplers import RandomBatchSampler, time_steps
from geoxt.samplers.constraints import parse_constraints
from geoxt.samplers.scene_ownership import scene_ownership
from geoxt.testing import distinct, make_grid, write_bands, write_cog

SIZES = {"a": ((60, 50), 600_000, 4_550_000), "b": ((60, 60), 600_900, 4_549_700), "c": ((40, 40), 601_000, 4_548_700)}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    return [
        str(write_cog(folder / f"{n}.tif", distinct(shape), grid=make_grid(shape, left=left, top=top), tiled=False))
        for n, (shape, left, top) in SIZES.items()
    ]


def scene_on_top(layer):
    """Return (y, x): the number of the first scene whose rectangle contains each pixel, -1 for none."""
    grid = grid_of(layer)
    board = np.full(grid.shape, -1)
    for number, (shape, left, top) in reversed(list(enumerate(SIZES.values()))):
        row, col = round((grid.affine.f - top) / 30), round((left - grid.affine.c) / 30)
        board[row : row + shape[0], col : col + shape[1]] = number
    return board


def test_windows_of_a_batch_have_the_same_scene_on_top(scenes):
    layer = open_cogs(scenes)
    board = scene_on_top(layer)
    sampler = RandomBatchSampler(layer, size=8, length=402, batch_size=6, block=60)
    assert len(sampler) == 402
    scenes_of_batches = []
    for start in range(0, 402, 6):
        on_top = {int(board[w.row + 4, w.col + 4]) for w in sampler[start : start + 6]}
        assert len(on_top) == 1
        scenes_of_batches.append(on_top.pop())
    assert set(scenes_of_batches) >= {0, 1, 2}  # and -1: batches of windows with centres outside all scenes
    assert sampler == RandomBatchSampler(layer, size=8, length=402, batch_size=6, block=60)


def test_batches_by_scene_are_uniform_over_pixels(scenes):
    layer = open_cogs(scenes)
    board = scene_on_top(layer)
    sampler = RandomBatchSampler(layer, size=(5, 5), length=30_000, batch_size=3, block=20, min_covered=0)
    count = np.zeros(3)
    for index in range(0, 30_000, 3):  # one window of each batch, so that they are independent
        w = sampler[index + 1 + index % 2]
        scene = board[w.row + 2, w.col + 2]
        count[scene] += scene >= 0
    rows, cols = board.shape
    inner = board[2 : rows - 2, 2 : cols - 2]
    expected = np.array([(inner == n).sum() for n in range(3)])
    expected = expected / expected.sum() * count.sum()
    assert ((count - expected) ** 2 / expected).sum() < 14  # chi-square of two degrees of freedom, 1 in 1,000


def test_single_scenes_and_several_time_steps_have_no_ownership(scenes, tmp_path):
    array = xr.DataArray(np.zeros((60, 60)), dims=("y", "x"), coords=coordinates(make_grid((60, 60))), name="image")
    for ds in (open_cogs(scenes[:1]).to_dataset(name="image"), array.to_dataset()):
        assert scene_ownership(ds, parse_constraints(ds, 8)) is None
    for n, (day, left) in enumerate((("0701", 600_000), ("0701", 600_900), ("0717", 600_000))):
        name = f"LC08_L2SP_02603{n}_2019{day}_20200827_02_T1_SR_B2.TIF"
        write_bands(tmp_path, distinct((1, 60, 60)), names=[name], grid=make_grid((60, 60), left=left), tiled=False)
    series = open_cogs(str(tmp_path / "*.TIF"), product="landsat8", groupby="day")
    ds = series.to_dataset(name="image")
    assert scene_ownership(ds, parse_constraints(ds, 8)) is None
    ownership = scene_ownership(ds, parse_constraints(ds, 8, times=time_steps(ds)))
    assert [len(trees) for trees in ownership.trees] == [1, 0]

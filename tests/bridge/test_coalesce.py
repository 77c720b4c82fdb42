"""Coalesced reads equal single reads, bit for bit."""

import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoxt.bridge import read_batch
from geoxt.bridge.coalesce import MAX_WINDOWS, coalesce
from geoxt.bridge.layer_reader import readers_of
from geoxt.errors import ReadWarning
from geoxt.layers import open_cogs
from geoxt.samplers import GridSampler
from geoxt.testing import distinct, make_grid, write_cog
from geoxt.windows import Window

WINDOWS = st.lists(st.builds(Window, st.integers(0, 3), st.integers(-5, 60), st.just(7), st.just(10)), min_size=1)


@given(WINDOWS)
def test_coalesced_reads_cover_exactly_the_windows(windows):
    reads = coalesce(windows)
    positions = [read.start + n for read in reads for n in range(len(read.offsets))]
    assert positions == list(range(len(windows)))
    for read in reads:
        inside = [Window(read.window.row, read.window.col + left, 7, 10) for left in read.offsets]
        assert inside == windows[read.start : read.start + len(inside)]
        columns = np.unique([c for w in inside for c in range(w.col, w.col + 10)])
        assert read.window.width == len(columns)
        assert len(read.offsets) <= MAX_WINDOWS


def test_windows_of_other_rows_or_times_are_not_coalesced():
    windows = [
        Window(0, 0, 4, 4),
        Window(0, 4, 4, 4),
        Window(1, 8, 4, 4),
        Window(1, 9, 4, 4, (0,)),
        Window(1, 8, 4, 4, (0,)),
    ]
    assert [len(read.offsets) for read in coalesce(windows)] == [2, 1, 1, 1]


def test_coalesced_reads_equal_single_reads(ds):
    plan = list(GridSampler(ds, size=32, stride=16, edge="pad"))
    assert len(coalesce(plan)) < len(plan) / 3
    nodes = readers_of(ds)
    together = read_batch(nodes, plan)
    for position, window in enumerate(plan):
        alone = read_batch(nodes, [window])
        for key in ("image", "mask", "image_valid", "mask_valid", "bounds"):
            assert torch.equal(alone[key][0], together[key][position]), (key, window)


def test_read_error_as_nodata_affects_one_window_only(tmp_path):
    path = write_cog(tmp_path / "a.tif", distinct((1, 64, 128)), grid=make_grid((64, 128)), nodata=0, blocksize=32)
    layer = open_cogs(path, errors="nodata")
    os.truncate(path, os.path.getsize(path) - 200)  # noqa: PTH202
    windows = [Window(row, col, 16, 16) for row in (0, 16, 32, 48) for col in range(0, 128, 16)]
    nodes = readers_of(layer)
    with pytest.warns(ReadWarning, match="treated as nodata"):
        together = read_batch(nodes, windows)
    alone = [read_batch(nodes, [window]) for window in windows]
    assert torch.equal(together["image_valid"], torch.cat([sample["image_valid"] for sample in alone]))
    assert 0 < together["image_valid"].float().mean() < 1

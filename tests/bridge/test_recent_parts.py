"""Windows of a grid are put together from parts read before: the same bits, with fewer pixels read."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geoxt.bridge import recent_parts
from geoxt.bridge.layer_reader import readers_of
from geoxt.bridge.read_batch import read_batch
from geoxt.bridge.recent_parts import RecentParts, cover, of_local_files
from geoxt.layers import open_cogs
from geoxt.pixels.file_version import BatchVersions
from geoxt.samplers import GridSampler
from geoxt.source import View, view_of
from geoxt.testing import make_grid, write_cog
from geoxt.windows import Window

pytestmark = pytest.mark.usefixtures("settled")


def reads(monkeypatch):
    """Record the windows that are read."""
    windows, read = [], View.read
    monkeypatch.setattr(View, "read", lambda self, window, **kw: windows.append(window) or read(self, window, **kw))
    return windows


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_grid_windows_equal_windows_read_alone(ds, data):
    height, width, down, right = (data.draw(st.integers(5, 40)) for _ in range(4))
    windows = [Window(row, col, height, width) for row in range(20, 80, down) for col in range(-9, 70, right)]
    nodes, size = readers_of(ds), data.draw(st.integers(2, 20))
    for start in range(0, len(windows), size):
        chunk = windows[start : start + size]
        batch = read_batch(nodes, chunk)
        alone = [read_batch(nodes, [window]) for window in chunk]
        for name in ("image", "image_valid", "mask", "mask_valid"):
            assert torch.equal(batch[name], torch.cat([sample[name] for sample in alone]))


def test_overlapping_rows_are_read_once(path, monkeypatch):
    nodes, windows = readers_of(open_cogs(path)), reads(monkeypatch)
    for row in (0, 10, 20):
        read_batch(nodes, [Window(row, col, 20, 20) for col in (0, 10, 20)])
    assert windows == [Window(0, 0, 20, 40), Window(20, 0, 10, 40), Window(30, 0, 10, 40)]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_one_of_several_workers_reads_rows_again(path, monkeypatch, num_workers):
    worker = SimpleNamespace(num_workers=num_workers)
    monkeypatch.setattr(recent_parts, "get_worker_info", lambda: worker)
    nodes, windows = readers_of(open_cogs(path)), reads(monkeypatch)
    for row in (0, 10):
        read_batch(nodes, [Window(row, col, 20, 20) for col in (0, 10, 20)])
    assert windows == [Window(0, 0, 20, 40), Window(20, 0, 10, 40) if num_workers == 1 else Window(10, 0, 20, 40)]


def test_random_windows_are_not_kept(path, monkeypatch):
    nodes, windows = readers_of(open_cogs(path)), reads(monkeypatch)
    for _ in range(2):
        read_batch(nodes, [Window(0, 0, 20, 20), Window(5, 40, 20, 20)])
    assert len(windows) == 4


def test_parts_of_a_replaced_file_are_not_used(path):
    layer = open_cogs(path)
    nodes, windows = readers_of(layer), list(GridSampler(layer, size=20, stride=10))[:8]
    former = read_batch(nodes, windows)["image"]
    values = np.full((2, 80, 90), 7, "uint16")
    write_cog(path, values, grid=make_grid((80, 90)), nodata=0, tiled=False, overviews=())
    assert not (former == 7).all()
    assert (read_batch(nodes, windows)["image"] == 7).all()


def test_the_oldest_parts_are_removed_beyond_the_limit(path):
    view, dtype = view_of(open_cogs(path)), np.dtype("float32")
    part_bytes = 2 * 10 * 90 * 4
    recent = RecentParts(limit=3 * part_bytes)
    with BatchVersions():
        for row in range(0, 50, 10):
            recent.read(view, Window(row, 0, 10, 90), dtype, len)
    assert [part.window.row for *_, part in recent._parts] == [20, 30, 40]
    assert recent._size == 3 * part_bytes
    assert len(pickle.loads(pickle.dumps(recent))._parts) == 0


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_parts_of_another_dtype_are_not_used(path, dtype):
    view, recent, window, parts = view_of(open_cogs(path)), RecentParts(), Window(0, 0, 10, 90), []
    with BatchVersions():
        recent.read(view, window, np.dtype("float32"), len)
        recent.read(view, window, np.dtype(dtype), parts.extend)
    assert [part.values.dtype for part in parts] == [dtype]


def test_layers_whose_changes_are_not_noticed_are_read_again(path):
    layer = open_cogs(path)
    assert of_local_files(view_of(layer))
    assert not of_local_files(view_of(layer.compute()))
    assert not of_local_files(view_of(open_cogs(path, sign=str)))


def test_a_window_in_many_pieces_is_read_as_a_whole(path, monkeypatch):
    view, recent, dtype = view_of(open_cogs(path)), RecentParts(), np.dtype("float32")
    with BatchVersions():
        for window in (Window(10, 10, 5, 5), Window(30, 30, 5, 5)):
            recent.read(view, window, dtype, len)
        parts = []
        recent.read(view, Window(0, 0, 50, 50), dtype, parts.extend)
    assert [part.window for part in parts] == [Window(0, 0, 50, 50)]


@given(st.lists(st.tuples(*[st.integers(0, 9)] * 2, *[st.integers(1, 9)] * 2), max_size=5))
@settings(max_examples=30, deadline=None)
def test_parts_and_gaps_cover_a_window_once(boxes):
    count = np.zeros((9, 9), int)
    blank = np.zeros((1, 1, 20, 20))
    parts = [recent_parts.Part(Window(*box), blank, blank) for box in boxes]
    covered, gaps = cover(Window(0, 0, 9, 9), parts)
    for window in [*(part.window for part in covered), *gaps]:
        count[window.within(Window(0, 0, 9, 9))] += 1
    assert (count == 1).all()

"""Workers share pixels of overlapping rows: the same bits while parts are overwritten, and files replaced."""

import multiprocessing
import pickle
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geoxt.bridge import loader, recent_parts, shared_parts, window_dataset
from geoxt.bridge.layer_reader import readers_of
from geoxt.bridge.read_batch import read_batch
from geoxt.bridge.shared_parts import Part, SharedParts
from geoxt.bridge.window_dataset import WindowDataset
from geoxt.layers import open_cogs
from geoxt.samplers import GridSampler, RandomSampler
from geoxt.source import View
from geoxt.testing import make_grid, write_cog
from geoxt.windows import Window

pytestmark = pytest.mark.usefixtures("settled")


def part(seed, window, *, masked=True):
    rng = np.random.default_rng(seed)
    values = rng.random((1, 3, *window.shape), "float32")
    valid = rng.random((1, 1, *window.shape)) > 0.5 if masked else np.array(True)
    return Part(window, values, np.broadcast_to(valid, values.shape))


def same_pixels(left, right):
    valid = left.valid.all(axis=1), right.valid.all(axis=1)
    return left.window == right.window and np.array_equal(left.values, right.values) and np.array_equal(*valid)


@pytest.mark.parametrize("masked", [False, True])
def test_parts_of_a_layer_that_overlap_are_found_newest_first(masked):
    shared = SharedParts(1 << 20, multiprocessing.Lock())
    parts = [part(seed, Window(seed * 10, 0, 20, 30), masked=masked) for seed in range(5)]
    for added in parts:
        shared.add(1, added)
    shared.add(0, part(9, Window(0, 0, 90, 90)))
    overlapping = shared.find(1, Window(25, 5, 10, 4))
    assert [p.window.row for p in overlapping] == [30, 20, 10]
    assert all(map(same_pixels, overlapping, [parts[3], parts[2], parts[1]]))
    assert shared.holds(overlapping)
    assert shared.find(1, Window(25, 30, 10, 4)) == shared.find(2, Window(0, 0, 90, 90)) == []


@settings(max_examples=15, deadline=None)
@given(seeds=st.lists(st.integers(0, 9), min_size=1, max_size=40), size=st.integers(2000, 12000))
def test_parts_are_intact_or_known_to_be_overwritten(seeds, size):
    shared = SharedParts(size, multiprocessing.Lock())
    earlier = []
    for number, seed in enumerate(seeds):
        window = Window(number, 0, 1 + seed % 4, 60)
        shared.add(0, part(seed, window, masked=bool(seed % 2)))
        earlier += [(seed, p) for p in shared.find(0, window) if p.window == window]
        for former, p in earlier:
            expected = part(former, p.window, masked=bool(former % 2))
            assert not shared.holds([p]) or same_pixels(p, expected)
    starts = [p.start for _, p in earlier]
    assert all(left < right for left, right in pairwise(starts))


def test_more_parts_than_entries_remove_the_oldest(monkeypatch):
    shared = SharedParts(1 << 20, multiprocessing.Lock())
    for number in range(shared_parts.ENTRIES + 3):
        shared.add(0, part(0, Window(number, 0, 1, 2)))
    rows = [p.window.row for p in shared.find(0, Window(0, 0, 9999, 9))]
    assert rows == list(range(shared_parts.ENTRIES + 2, 2, -1))


def test_a_worker_does_not_wait_for_one_that_was_killed(monkeypatch):
    monkeypatch.setattr(shared_parts, "TIMEOUT", 0.01)
    lock = multiprocessing.Lock()
    shared, window = SharedParts(1 << 20, lock), Window(0, 0, 4, 4)
    shared.add(0, part(0, window))
    parts = shared.find(0, window)
    lock.acquire()
    assert not shared.holds(parts)
    lock.release()
    assert shared.find(0, window) == []


def test_it_pickles_as_none_outside_of_spawned_processes():
    assert pickle.loads(pickle.dumps(SharedParts(64, multiprocessing.Lock()))) is None


def counted_reads(monkeypatch):
    windows, read = [], View.read
    monkeypatch.setattr(View, "read", lambda self, window, **kw: windows.append(window) or read(self, window, **kw))
    return windows


def test_rows_are_read_once_by_all_workers(path, monkeypatch):
    monkeypatch.setattr(recent_parts, "get_worker_info", lambda: SimpleNamespace(num_workers=2))
    layer = open_cogs(path)
    windows = list(GridSampler(layer, size=20, stride=10))
    data = WindowDataset(layer, windows)
    data.share_parts(multiprocessing.Lock())
    reads = counted_reads(monkeypatch)
    batches = [data.read(windows[start : start + 8]) for start in range(0, 16, 8)]
    assert reads[:2] == [Window(0, 0, 20, 90), Window(20, 0, 10, 90)]
    alone = [read_batch(readers_of(layer), [window]) for window in windows[:16]]
    for name in ("image", "image_valid"):
        assert torch.equal(torch.cat([b[name] for b in batches]), torch.cat([b[name] for b in alone]))


def test_parts_of_a_replaced_file_are_not_used(path, monkeypatch):
    monkeypatch.setattr(recent_parts, "get_worker_info", lambda: SimpleNamespace(num_workers=2))
    layer = open_cogs(path)
    data = WindowDataset(layer, list(GridSampler(layer, size=20, stride=10))[:8])
    data.share_parts(multiprocessing.Lock())
    assert not (data.read(range(8))["image"] == 7).all()
    write_cog(path, np.full((2, 80, 90), 7, "uint16"), grid=make_grid((80, 90)), nodata=0, tiled=False, overviews=())
    assert (data.read(range(8))["image"] == 7).all()


def test_overwritten_parts_are_read_again(path, monkeypatch):
    monkeypatch.setattr(recent_parts, "get_worker_info", lambda: SimpleNamespace(num_workers=2))
    layer = open_cogs(path)
    data = WindowDataset(layer, list(GridSampler(layer, size=20, stride=10))[:8])
    data.share_parts(multiprocessing.Lock())
    expected = data.read(range(8))
    shared = next(iter(data.nodes[""].layers.values())).recent._shared[0]
    holds = shared.holds

    def overwritten(parts):  # by another worker, while they are copied
        shared._bytes[:] = 1
        shared._table[0, 0] += len(shared._bytes)
        return holds(parts)

    monkeypatch.setattr(shared, "holds", overwritten)
    again = data.read(range(8))
    assert torch.equal(again["image"], expected["image"])
    assert torch.equal(again["image_valid"], expected["image_valid"])


@pytest.mark.parametrize("limit", [4000, 1 << 20])
def test_batches_of_workers_are_equal(path, monkeypatch, limit):
    monkeypatch.setattr(window_dataset, "LIMIT", limit)
    layer = open_cogs(path)
    sampler = GridSampler(layer, size=20, stride=10)
    plain = list(loader(layer, sampler, batch_size=5))
    loading = loader(layer, sampler, batch_size=5, num_workers=2)
    for _ in range(2):
        for batch, expected in zip(loading, plain, strict=True):
            assert torch.equal(batch["image"], expected["image"])
            assert torch.equal(batch["image_valid"], expected["image_valid"])


def test_windows_without_neighbours_need_no_shared_memory(path):
    layer = open_cogs(path)
    data = WindowDataset(layer, RandomSampler(layer, size=20, length=8, seed=0))
    data.share_parts(multiprocessing.Lock())
    assert data.nodes[""].layers["image"].recent._shared is None

"""Batches for any number of workers, threads and start method; epochs, pickling, transforms."""

import os
import pickle

import dask
import numpy as np
import pytest
import torch
import xarray as xr
from support.processes import load_server
from torch.utils.data import DataLoader

from geoxt.alignment import align
from geoxt.bridge import WindowBatchSampler, WindowDataset, loader, to_torch
from geoxt.errors import GridError, InputError, ReadError
from geoxt.layers import open_cogs
from geoxt.samplers import GridSampler, RandomSampler
from geoxt.testing import distinct, make_grid, write_cog
from geoxt.windows import Window


@pytest.fixture(scope="module")
def sampler(ds):
    return RandomSampler(ds, size=32, length=10, seed=0, min_covered=0.1)


def equal(first, other):
    assert first.keys() == other.keys()
    for key, value in first.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, other[key], rtol=0, atol=0, equal_nan=True, msg=key)
        else:
            assert value == other[key], key
    return True


def same_batches(first, other):
    return len(first) == len(other) and all(equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.fixture(scope="module")
def plain(ds, sampler):
    """The batches read in this process by one thread."""
    return list(loader(ds, sampler, batch_size=4, threads=1))


def test_batches_keep_the_order_of_windows(ds, sampler, plain):
    assert [len(b["image"]) for b in plain] == [4, 4, 2]
    samples = WindowDataset(ds, sampler, threads=1)
    assert torch.equal(torch.cat([b["image"] for b in plain]), torch.stack([samples[n]["image"] for n in range(10)]))
    assert len(loader(ds, sampler, batch_size=4)) == 3
    assert len(list(loader(ds, sampler, batch_size=4, drop_last=True))) == 2


@pytest.mark.parametrize("threads", [None, 2, 5])
def test_batches_do_not_depend_on_threads(ds, sampler, plain, threads):
    assert same_batches(plain, list(loader(ds, sampler, batch_size=4, threads=threads)))


@pytest.mark.parametrize(("workers", "start"), [(1, "fork"), (2, "fork"), (1, load_server())])
def test_batches_do_not_depend_on_workers_after_threaded_dask(ds, sampler, plain, workers, start):
    ds.image.compute(scheduler="threads")
    torch.nn.functional.conv2d(torch.ones(1, 1, 64, 64), torch.ones(1, 1, 3, 3))
    list(loader(ds, sampler, batch_size=5, threads=2))
    batches = list(loader(ds, sampler, batch_size=4, num_workers=workers, multiprocessing_context=start, timeout=500))
    assert same_batches(plain, batches)


def test_workers_read_modified_datasets(ds, sampler):
    touched = ds.assign(image=ds.image / 2)
    touched.image.compute(scheduler="threads")
    local_batches = list(loader(touched, sampler, batch_size=5))
    assert same_batches(local_batches, list(loader(touched, sampler, batch_size=5, num_workers=1, timeout=500)))


def test_torch_dataloader_gives_equal_batches(ds, sampler, plain):
    assert same_batches(plain, list(DataLoader(WindowDataset(ds, sampler), batch_size=4)))


def test_epochs_differ_and_are_reproducible(ds, sampler):
    batches = loader(ds, sampler, batch_size=4)
    first = list(batches)
    batches.sampler.set_epoch(1)
    second = list(batches)
    batches.sampler.set_epoch(0)
    assert same_batches(first, list(batches))
    assert not torch.equal(first[0]["bounds"], second[0]["bounds"])
    expected = sampler.at(1)
    assert torch.equal(second[0]["image"], torch.stack([WindowDataset(ds, expected)[n]["image"] for n in range(4)]))


def test_fixed_windows_are_equal_in_every_epoch(ds):
    plan = WindowBatchSampler(GridSampler(ds, size=64), 3)
    first = list(plan)
    plan.set_epoch(5)
    assert list(plan) == first
    assert len(plan) == len(first)


@pytest.mark.parametrize("workers", [0, 2])
def test_epoch_resumes_after_some_batches(ds, sampler, workers):
    through = loader(ds, sampler, batch_size=3)
    through.sampler.set_epoch(1)
    cut = list(through)
    through.sampler.set_epoch(2)
    following = list(through)
    resumed = loader(ds, sampler, batch_size=3, num_workers=workers)
    resumed.sampler.resume(1, 2)
    assert len(resumed) == 2
    assert same_batches(cut[2:], list(resumed))
    resumed.sampler.set_epoch(2)
    assert len(resumed) == 4
    assert same_batches(following, list(resumed))


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("done", [0, 1, 3])
def test_length_equals_the_number_of_remaining_batches(ds, sampler, done, drop_last):
    plan = WindowBatchSampler(sampler, 3, drop_last=drop_last)
    length = len(plan)
    plan.resume(4, done)
    assert len(plan) == len(list(plan)) == length - done
    plan.resume(4, done, full_length=True)
    assert len(plan) == len(list(plan)) + done
    with pytest.raises(InputError, match=rf"after {length + 1} batches: it has {length}"):
        plan.resume(4, length + 1)
    assert plan.epoch == 4


def test_windows_may_be_a_list_or_iterator(ds):
    windows = [Window(0, 0, 16, 16), Window(5, 5, 16, 16)]
    assert len(to_torch(ds, iter(windows))) == 2
    assert torch.equal(to_torch(ds, windows)[-1]["image"], to_torch(ds, windows)[Window(5, 5, 16, 16)]["image"])


def test_transform_gets_samples_of_a_dataset_and_batches_of_a_loader(ds, sampler):
    def double(sample):
        return sample | {"image": sample["image"] * 2, "rank": sample["image"].ndim}

    plain = to_torch(ds, sampler)[0]["image"]
    sample = to_torch(ds, sampler, transform=double)[0]
    assert torch.equal(sample["image"], plain * 2)
    assert sample["rank"] == 3
    assert next(iter(loader(ds, sampler, batch_size=2, transform=double)))["rank"] == 4


def test_window_dataset_pickles_small(ds, sampler):
    samples = WindowDataset(ds, sampler, threads=2)
    before = samples.read([0, 1])
    content = pickle.dumps(samples)
    assert len(content) < 100_000
    assert equal(before, pickle.loads(content).read([0, 1]))


def test_file_handles_are_not_leaked(ds, sampler):
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH112, PTH208
    for _ in range(5):
        list(loader(ds, sampler, batch_size=4, threads=1))
    after = len(os.listdir("/proc/self/fd")) if before else 0  # noqa: PTH208
    assert after <= before + 4


def test_batch_size_below_one_raises(ds, sampler):
    with pytest.raises(InputError, match=r"batches of 0 windows\. Pass batch_size=1"):
        loader(ds, sampler, batch_size=0)


def test_windows_of_several_sizes_are_grouped_by_size(ds):
    windows = [Window(0, 0, 8, 8), Window(0, 0, 9, 9), Window(3, 0, 8, 8)]
    assert [b["image"].shape[-1] for b in loader(ds, windows)] == [8, 9, 8]
    batches = list(loader(ds, windows, batch_size=2))
    assert [tuple(b["image"].shape[::3]) for b in batches] == [(2, 8), (1, 9)]
    with pytest.raises(GridError, match="several sizes"):
        WindowDataset(ds, windows).read([0, 1])


def test_read_error_names_the_file_with_and_without_workers(tmp_path):
    path = write_cog(tmp_path / "broken.tif", distinct((1, 512, 512)), grid=make_grid((512, 512)), tiled=False)
    layer = open_cogs(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    for workers in (0, 1):
        with pytest.raises(ReadError, match="broken"):
            list(loader(layer, [Window(490, 0, 16, 16)], num_workers=workers))


@pytest.mark.slow
def test_dask_cluster_computes_equal_values(ds):
    distributed = pytest.importorskip("distributed")
    layer = align(ds.image, make_grid((100, 100), crs="EPSG:5070", left=349_000, top=2_017_000), chunks=40)
    local = xr.Dataset({"image": layer, "more": layer * 2 + 1}).compute(scheduler="synchronous")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    options |= {"scheduler_kwargs": {"dashboard_address": ":0"}}  # 8787 may be in use
    with (
        dask.config.set({"distributed.worker.daemon": True}),
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster),
    ):
        there = xr.Dataset({"image": layer, "more": layer * 2 + 1}).compute()
    for name in ("image", "more"):
        assert np.array_equal(there[name], local[name])

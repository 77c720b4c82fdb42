"""Generators of xbatcher: windows equal its batches; pixels left out cause a warning."""

import dask
import numpy as np
import pytest
import torch

from geoxt.bridge import loader, to_torch
from geoxt.bridge.xbatcher import is_generator, windows_of
from geoxt.errors import GeoxtWarning, InputError
from geoxt.samplers import GridSampler

xbatcher = pytest.importorskip("xbatcher")


def generator(ds, **options):
    return xbatcher.BatchGenerator(ds, **{"input_dims": {"y": 50, "x": 40}, "preload_batch": False} | options)


def test_windows_of_a_generator_equal_its_batches(ds, monkeypatch):
    batches = generator(ds)
    computed = [batch.compute(scheduler="synchronous") for batch in batches]

    def fail_on_compute(*_, **__):
        msg = "asked dask"
        raise AssertionError(msg)

    monkeypatch.setattr(dask, "compute", fail_on_compute)
    loaded = list(loader(ds, batches, batch_size=None))
    assert len(loaded) == len(computed) == 12
    for ours, theirs in zip(loaded, computed, strict=True):
        assert np.array_equal(ours["image"][0], theirs.image.values.astype("float32"))
        assert np.array_equal(ours["mask"][0], theirs.mask.values)
        assert ours["bounds"].shape == (1, 4)


def test_batches_of_a_generator_are_kept(ds):
    batches = generator(ds, concat_input_dims=True)
    (batch,) = list(loader(ds, batches, batch_size=None))
    assert batch["image"].shape == (12, 3, 50, 40)
    assert [len(b["image"]) for b in loader(ds, batches, batch_size=5)] == [5, 5, 2]
    assert len(to_torch(ds, batches)) == 12


def test_overlapping_batches_with_workers(ds):
    batches = generator(ds, input_dims={"y": 50, "x": 40}, input_overlap={"y": 25, "x": 20})
    images = torch.cat([b["image"] for b in loader(ds, batches, batch_size=None)])
    there = torch.cat([b["image"] for b in loader(ds, batches, batch_size=None, num_workers=2, timeout=500)])
    assert torch.equal(images, there)
    assert len(images) == 5 * 7


def test_generator_over_a_part_of_the_layers_is_offset(ds):
    part = ds.isel(y=slice(50, 150), x=slice(40, 160))
    (first, *_) = loader(ds, generator(part), batch_size=1)
    assert np.array_equal(first["mask"][0], ds.mask.values[50:100, 40:80])


def test_generator_that_leaves_out_edges_warns(ds):
    with pytest.warns(GeoxtWarning, match="the last 30 of 150 along y and the last 20 of 160 along x.*GridSampler"):
        windows = windows_of(generator(ds, input_dims={"y": 60, "x": 70}), ds)
    assert len(windows) == 4
    assert len(GridSampler(ds, size=(60, 70), stride=(60, 70), edge="shift")) == 9


def test_other_selectors_are_computed_in_workers(ds):
    batches = generator(ds.image, input_dims={"band": 2, "y": 150})
    ds.image.compute(scheduler="threads")
    with pytest.warns(GeoxtWarning, match="the last 1 of 3 along band"):
        loaded = list(loader(ds.image, batches, batch_size=None, num_workers=1, timeout=500))
    theirs = [batch.compute(scheduler="synchronous").values for batch in batches]
    assert len(loaded) == len(theirs)
    assert all(np.array_equal(a["image"], b) for a, b in zip(loaded, theirs, strict=True))
    with pytest.warns(GeoxtWarning), pytest.raises(InputError, match="cut another dimension"):
        to_torch(ds.image, batches)


def test_batch_size_is_required_without_a_generator(ds):
    assert not is_generator(GridSampler(ds, size=32))
    with pytest.raises(InputError, match="Pass batch_size="):
        loader(ds, GridSampler(ds, size=32), batch_size=None)

"""Batches in shared memory are not copied, not overwritten while referenced, and not leaked."""

import errno
import gc
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from geoxt.bridge import loader, shared_buffer
from geoxt.bridge.loader import HELD, prefetch
from geoxt.bridge.shared_memory import Ring
from geoxt.errors import ReadError, ResourceError
from geoxt.samplers import RandomSampler
from geoxt.trainers import SampleDataModule
from geoxt.windows import Window

PREFETCH = 2


@pytest.fixture(scope="module")
def sampler(ds):
    return RandomSampler(ds, size=24, length=48, seed=3)


@pytest.fixture(scope="module")
def plain(ds, sampler):
    return list(loader(ds, sampler, batch_size=4, threads=1))


def workers(ds, sampler, count=1, **options):
    return loader(ds, sampler, batch_size=4, num_workers=count, timeout=500, **options)


def same(first, other):
    assert len(first) == len(other)
    for a, b in zip(first, other, strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(v, b[k]) if isinstance(v, torch.Tensor) else v == b[k] for k, v in a.items())
    return True


def test_slot_is_reused_once_its_tensors_are_deleted(ds, sampler, plain):
    addresses = set()
    for batch, expected in zip(workers(ds, sampler), plain, strict=True):
        addresses.add(batch["image"].data_ptr())
        assert same([batch], [expected])
    assert len(addresses) <= PREFETCH + HELD < len(plain)


def test_kept_batches_are_not_overwritten(ds, sampler, plain):
    batches = workers(ds, sampler, 2)
    held = list(batches)
    assert same(held, plain)
    again = list(batches)
    assert same(held, plain)
    assert same(again, plain)


def test_view_of_one_tensor_holds_the_slot(ds, sampler, plain):
    views = [batch["mask"][1:] for batch in workers(ds, sampler)]
    assert all(torch.equal(view, batch["mask"][1:]) for view, batch in zip(views, plain, strict=True))


def test_abandoned_epoch_leaves_the_next_complete(ds, sampler, plain):
    for persistent in (False, True):
        batches = workers(ds, sampler, 2, persistent_workers=persistent)
        next(iter(batches))
        assert same(list(batches), plain)
        assert same(list(batches), plain)


def test_concurrent_iterators_are_independent(ds, sampler, plain):
    batches = workers(ds, sampler)
    assert all(same([a], [b]) for a, b in zip(batches, batches, strict=True))


def test_tensors_created_by_a_transform_are_received(ds, sampler, plain):
    def change(batch):
        flipped = batch["image"].transpose(-1, -2)
        return batch | {"image": flipped, "ones": torch.ones(300, 300), "few": torch.arange(3), "text": "a"}

    for batch, expected in zip(workers(ds, sampler, transform=change), plain, strict=True):
        assert torch.equal(batch["image"], expected["image"].transpose(-1, -2))
        assert torch.equal(batch["mask"], expected["mask"])
        assert (batch["ones"].sum().item(), batch["few"].tolist(), batch["text"]) == (90_000, [0, 1, 2], "a")


def test_values_without_numpy_dtype_are_sent_unchanged(ds, sampler):
    def change(batch):
        half = batch["image"].to(torch.bfloat16)
        return {"half": half, "names": np.array(batch["crs"]), "numbers": np.arange(3), "in": {"a": np.ones(2)}}

    alone = loader(ds, sampler, batch_size=4, transform=change)
    for received, expected in zip(workers(ds, sampler, transform=change), alone, strict=True):
        assert received.keys() == expected.keys()
        assert received["half"].dtype == torch.bfloat16
        assert torch.equal(received["half"], expected["half"])
        assert received["names"].tolist() == expected["names"].tolist()
        assert torch.equal(received["numbers"], expected["numbers"])
        assert torch.equal(received["in"]["a"], expected["in"]["a"])


def test_transform_may_return_a_tuple(ds, sampler, plain):
    batches = list(workers(ds, sampler, transform=lambda batch: (batch["image"], batch["mask"])))
    assert all(torch.equal(image, batch["image"]) for (image, _), batch in zip(batches, plain, strict=True))
    assert all(torch.equal(mask, batch["mask"]) for (_, mask), batch in zip(batches, plain, strict=True))


def test_batch_larger_than_a_slot_is_received(ds):
    windows = [Window(0, 0, 8, 8), Window(0, 0, 64, 64), Window(0, 0, 8, 8)]
    batches = list(loader(ds, windows, num_workers=1, timeout=500))
    assert same(batches, list(loader(ds, windows)))


def test_pin_memory_pins_batches(ds, sampler, monkeypatch):
    ring = Ring(1, 64)
    filled = ring.fill(
        0, lambda room: {"a": torch.from_numpy(room.array((4,), np.dtype("float32"))).fill_(7), "crs": ["x"]}
    )
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self.clone())
    assert filled.pin_memory()["a"].tolist() == [7] * 4
    assert list(ring._free) == [0]


def test_ring_pickles_as_none_unless_a_process_is_spawned(ds, sampler):
    batches = workers(ds, sampler)
    next(iter(batches))
    assert batches.dataset.ring is not None
    assert pickle.loads(pickle.dumps(batches.dataset)).ring is None


def test_slot_is_handed_out_once_and_returned():
    ring = Ring(2, 100)
    orders = ring.orders("abcd")
    (first, _), (second, _), (third, _) = (next(orders) for _ in range(3))
    assert {first, second} == {0, 1}
    assert third is None
    filled = ring.fill(first, lambda room: {"a": torch.from_numpy(room.array((3, 5), np.dtype("int64")))})
    batch = ring.batch(pickle.loads(pickle.dumps(filled)))
    assert batch["a"].shape == (3, 5)
    assert not ring._free
    row = batch["a"][0]
    del batch
    gc.collect()
    assert not ring._free
    del row
    gc.collect()
    assert next(orders) == (first, "d")


def test_array_larger_than_the_slot_is_allocated():
    ring = Ring(1, 64)
    filled = ring.fill(0, lambda room: {"a": torch.from_numpy(room.array((100,), np.dtype("float64"))).fill_(2)})
    assert ring.batch(filled)["a"].sum() == 200
    assert list(ring._free) == [0]


def test_prefetch_reads_the_next_batch_ahead():
    read = []

    def batches():
        for n in range(4):
            read.append(n)
            yield {"n": n}

    prefetched = prefetch(batches())
    assert next(prefetched) == {"n": 0}
    assert [b["n"] for b in prefetched] == [1, 2, 3]
    assert read == [0, 1, 2, 3]
    given_up = prefetch(batches())
    next(given_up)
    given_up.close()
    assert read[-2:] == [0, 1]


def test_read_error_is_raised_at_its_batch(ds):
    def broken():
        yield {"n": 0}
        msg = "cut short"
        raise ReadError(msg)

    prefetched = prefetch(broken())
    assert next(prefetched) == {"n": 0}
    with pytest.raises(ReadError, match="cut short"):
        next(prefetched)


def shout(batch):
    return {"total": batch["image"].sum(), "crs": batch["crs"][0]}


@pytest.mark.parametrize("count", [0, 1])
def test_collate_fn_receives_batches(ds, sampler, plain, count):
    batches = list(loader(ds, sampler, batch_size=4, num_workers=count, collate_fn=shout))
    assert [shouted["total"] for shouted in batches] == [batch["image"].sum() for batch in plain]
    assert batches[0]["crs"] == plain[0]["crs"][0]


def noisy(batch):
    return batch | {"noise": torch.rand(())}


def test_transform_draws_in_step_with_the_loop(ds, sampler):
    batches = iter(loader(ds, sampler, batch_size=4, transform=noisy))
    torch.manual_seed(0)  # the iterator itself has drawn its seed
    drawn = torch.stack([tensor for batch in batches for tensor in (batch["noise"], torch.rand(()))])
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.stack([torch.rand(()) for _ in drawn]))


def no_space(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_batches_are_equal_without_memory_for_slots(ds, sampler, plain, monkeypatch):
    monkeypatch.setattr(shared_buffer, "_allocate", no_space)
    monkeypatch.setattr(shared_buffer, "RawArray", no_space)
    batches = workers(ds, sampler, 2)
    assert same(list(batches), plain)
    assert batches.dataset.ring is None


def test_batches_are_equal_without_any_shared_memory(ds, sampler, plain, monkeypatch):
    def full(self):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>")

    monkeypatch.setattr(shared_buffer, "_allocate", no_space)
    monkeypatch.setattr(shared_buffer, "RawArray", no_space)
    monkeypatch.setattr(torch.Tensor, "share_memory_", full)  # inherited by forked workers
    assert same(list(workers(ds, sampler, 1, multiprocessing_context="fork")), plain)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="anonymous files are a part of Linux alone")
def test_slots_lie_outside_of_dev_shm():
    ring = Ring(4, 8 << 20)
    descriptor = ring._memory._descriptor
    assert str(Path(f"/proc/self/fd/{descriptor}").readlink()).startswith("/memfd:")


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EAGAIN, errno.EMFILE])
def test_workers_that_cannot_start_are_an_error_with_a_remedy(code, ds, sampler, monkeypatch):
    def fail(_):
        raise OSError(code, os.strerror(code))

    samples = [{"image": torch.zeros(1, 2, 2), "label": torch.tensor(0)}] * 2
    monkeypatch.setattr(DataLoader, "__iter__", fail)
    for loading in (workers(ds, sampler), SampleDataModule(samples, batch_size=1, num_workers=1).train_dataloader()):
        with pytest.raises(ResourceError, match=r"Cannot start 1 worker processes: .*Pass num_workers=0"):
            iter(loading)

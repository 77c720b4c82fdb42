"""Streams yield each sample once, for any number of workers."""

import pytest
import torch
from torch.utils.data import DataLoader

from geoxt.bridge import WindowStream, to_torch
from geoxt.samplers import RandomSampler


@pytest.fixture(scope="module")
def samples(ds):
    return to_torch(ds, RandomSampler(ds, size=16, length=21, seed=2), threads=1)


def test_stream_keeps_order(samples):
    stream = WindowStream(samples, chunk_size=4)
    streamed = list(stream)
    assert len(stream) == len(streamed) == 21
    assert all(torch.equal(streamed[n]["image"], samples[n]["image"]) for n in range(21))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_yield_each_sample_once(samples, workers):
    batches = DataLoader(WindowStream(samples, chunk_size=2), batch_size=4, num_workers=workers, timeout=500)
    bounds = torch.cat([b["bounds"] for b in batches])
    expected = torch.stack([samples[n]["bounds"] for n in range(21)])
    assert sorted(map(tuple, bounds.tolist())) == sorted(map(tuple, expected.tolist()))


def test_stream_draws_windows_of_an_epoch(samples):
    stream = WindowStream(samples)
    first = [s["bounds"].tolist() for s in stream]
    stream.set_epoch(1)
    assert [s["bounds"].tolist() for s in stream] != first
    assert next(iter(stream))["bounds"].tolist() == samples[samples.windows.at(1)[0]]["bounds"].tolist()

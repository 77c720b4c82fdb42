"""Batches of several processes: a division without gaps or doubles, at any point of an epoch."""

from itertools import chain, zip_longest

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoxt.errors import InputError
from geoxt.trainers.datamodules.samples import SequentialBatches, ShuffledBatches


def shard(batches, rank, world_size, *, even):
    batches.shard(rank, world_size, even=even)
    return batches


@given(
    count=st.integers(8, 40), size=st.integers(1, 4), ranks=st.integers(1, 4), epoch=st.integers(0, 2), data=st.data()
)
@settings(max_examples=10)
def test_processes_get_every_batch_once(count, size, ranks, epoch, data):
    batches = ShuffledBatches(count, size, seed=7)
    batches.set_epoch(epoch)
    expected = list(batches)
    if len(expected) < ranks:
        with pytest.raises(InputError, match=f"Cannot divide {len(expected)} batches among {ranks} processes"):
            batches.shard(0, ranks)
        return
    shards = [shard(ShuffledBatches(count, size, seed=7), rank, ranks, even=True) for rank in range(ranks)]
    done = data.draw(st.integers(0, len(expected) // ranks))
    for part in shards:
        part.resume(epoch, done)
    assert {len(part) for part in shards} == {len(expected) // ranks - done}
    used = len(expected) // ranks * ranks
    assert list(chain(*zip(*shards, strict=True))) == expected[done * ranks : used]


@given(count=st.integers(0, 30), size=st.integers(1, 4), ranks=st.integers(1, 4))
@settings(max_examples=10)
def test_evaluation_leaves_no_batch_out(count, size, ranks):
    expected = list(SequentialBatches(count, size))
    assert list(chain(*expected)) == list(range(count))
    shards = [list(shard(SequentialBatches(count, size), rank, ranks, even=False)) for rank in range(ranks)]
    assert [batch for step in zip_longest(*shards) for batch in step if batch is not None] == expected

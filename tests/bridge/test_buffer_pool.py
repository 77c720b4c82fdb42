"""Arrays of the buffer pool are reused once no tensor references them."""

import gc
import pickle

import numpy as np
import torch

from geoxt.bridge.buffer_pool import SPARE, BufferPool

FLOAT = np.dtype("float32")


def test_array_is_reused_once_no_tensor_references_it():
    room = BufferPool()
    first = torch.from_numpy(room.array((4, 3), FLOAT))
    address = first.data_ptr()
    view = first[1:]
    del first
    assert room.array((4, 3), FLOAT).__array_interface__["data"][0] != address
    numbers = view.numpy()
    del view
    assert room.array((4, 3), FLOAT).__array_interface__["data"][0] != address
    del numbers
    gc.collect()
    assert room.array((4, 3), FLOAT).__array_interface__["data"][0] == address


def test_arrays_are_pooled_by_shape_and_dtype():
    room = BufferPool()
    assert [room.array(s, t).shape for s, t in (((2,), FLOAT), ((3,), FLOAT))] == [(2,), (3,)]
    assert room.array((2,), np.dtype("int64")).dtype == "int64"


def test_pool_size_is_limited_and_pickles_empty():
    room = BufferPool()
    held = [room.array((5,), FLOAT) for _ in range(6)]
    del held
    assert sum(map(len, room._spare.values())) == SPARE
    assert not pickle.loads(pickle.dumps(room))._spare

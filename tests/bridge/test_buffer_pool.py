import gc
import pickle

import numpy as np
import torch

from geoxt.bridge.buffer_pool import SPARE, BufferPool

FLOAT = np.dtype("float32")


def test_an_array_is_filled_again_only_when_no_tensor_is_left_over_it():
    room = BufferPool()
    first = torch.from_numpy(room.array((4, 3), FLOAT))
    place = first.data_ptr()
    view = first[1:]
    del first
    assert room.array((4, 3), FLOAT).__array_interface__["data"][0] != place
    numbers = view.numpy()
    del view
    assert room.array((4, 3), FLOAT).__array_interface__["data"][0] != place
    del numbers
    gc.collect()
    assert room.array((4, 3), FLOAT).__array_interface__["data"][0] == place


def test_other_shapes_and_types_have_arrays_of_their_own():
    room = BufferPool()
    assert [room.array(s, t).shape for s, t in (((2,), FLOAT), ((3,), FLOAT))] == [(2,), (3,)]
    assert room.array((2,), np.dtype("int64")).dtype == "int64"


def test_it_keeps_few_and_pickles_empty():
    room = BufferPool()
    held = [room.array((5,), FLOAT) for _ in range(6)]
    del held
    assert sum(map(len, room._spare.values())) == SPARE
    assert not pickle.loads(pickle.dumps(room))._spare

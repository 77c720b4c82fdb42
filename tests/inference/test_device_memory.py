"""Memory of devices: batches and buffers that do not fit, and tiles that blocks share."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
import torch

from geoxt.errors import DeviceWarning, InputError
from geoxt.inference import device_pipeline, predict
from geoxt.inference.device_accumulator import DeviceAccumulator
from geoxt.inference.tile_cache import TileCache
from geoxt.models import Network

from .test_devices import CARD, OPTIONS, Scale, make_layer, same


def test_sums_that_do_not_fit_are_on_the_host(device, monkeypatch):
    def full(self, **options):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(DeviceAccumulator, "__init__", full)
    same(make_layer(), Network(CARD), "cuda:0")


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_exhausted_memory_halves_the_batch_once(device, dtype):
    device.largest_batch = 2
    model = Scale(device)
    expected = predict(make_layer(dtype), Scale(), **OPTIONS | {"batch_size": 8}, output="values").compute()
    with pytest.warns(DeviceWarning, match="exhausted by 8 tiles of .*: the model runs in batches of 4") as caught:
        made = predict(make_layer(dtype), model, **OPTIONS | {"batch_size": 8}, output="values",
                       device="cuda:0").compute(scheduler="synchronous")  # fmt: skip
    np.testing.assert_array_equal(made, expected)
    assert len([w for w in caught if w.category is DeviceWarning]) == 1
    assert device.batches[1:3] == [8, 4]
    assert set(device.batches[3:]) == {2}
    assert device.log.count("release") == 2


@pytest.mark.parametrize("fails", [False, True])
def test_tiles_of_blocks_in_progress_run_once(device, monkeypatch, fails):
    monkeypatch.setattr(device, "copy", lambda source, target: target.copy_(source))
    layer, options = make_layer("float32").assign_attrs(_FillValue=-1), OPTIONS | {"batch_size": 1}
    model = Scale(device)
    made = predict(layer, model, output="values", device="cuda:0", **options)
    expected = predict(layer, Scale(), output="values", **options).to_numpy()
    device.batches.clear()
    claimed, claim = threading.Event(), TileCache.claim

    def record(*arguments):
        output = claim(*arguments)
        if isinstance(output, Future):
            claimed.set()
        return output

    def require_memory(images):  # the first block waits until the second one needs a tile of it
        is_first = not device.batches
        device.batches.append(len(images))
        assert claimed.wait(60)
        if fails and is_first:
            raise ValueError("no")

    monkeypatch.setattr(TileCache, "claim", record)
    monkeypatch.setattr(device, "require_memory", require_memory)
    with ThreadPoolExecutor(2) as threads:
        blocks = [threads.submit(made.data.blocks[0, 0, j].compute, scheduler="synchronous") for j in (0, 1)]
    if fails:
        assert [type(block.exception()) for block in blocks if block.exception()] == [ValueError]
    else:
        assert device.batches == [1] * 6  # rows 0, 12 and columns 0, 12, 18 of tiles; the blocks share column 12
    for j, block in enumerate(blocks):
        if not block.exception():
            np.testing.assert_array_equal(block.result(), expected[:, :24, j * 24 : j * 24 + 24])


@pytest.mark.parametrize("order", ["rows", "reversed", "columns"])
@pytest.mark.parametrize("name", ["cpu", "cuda:0"])
def test_tiles_that_blocks_share_run_once_in_any_order(device, name, order):
    layer, options = make_layer("float32").assign_attrs(_FillValue=-1), OPTIONS | {"batch_size": 1}
    made = predict(layer, Scale(device), output="values", device=name, **options)
    expected = predict(layer, Scale(), output="values", **options).to_numpy()
    device.batches.clear()
    blocks = list(np.ndindex(made.data.numblocks))
    blocks.sort(key={"rows": None, "reversed": lambda b: [-i for i in b], "columns": lambda b: b[::-1]}[order])
    parts = {block: made.data.blocks[block].compute(scheduler="synchronous") for block in blocks}
    assert len(blocks) == 4
    assert device.batches == [1] * 9  # rows 0, 12, 24 and columns 0, 12, 18 of tiles
    np.testing.assert_array_equal(np.block([[parts[0, i, j] for j in (0, 1)] for i in (0, 1)]), expected)


def test_buffers_that_do_not_fit_halve_the_batch(device, monkeypatch):
    largest, empty = [4], device.empty

    def limited(shape, dtype):
        if shape[0] > largest[0]:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return empty(shape, dtype)

    monkeypatch.setattr(device, "empty", limited)
    options = OPTIONS | {"batch_size": 8, "output": "values", "device": "cuda:0"}
    with pytest.warns(DeviceWarning, match="exhausted by 8 tiles of .*: the model runs in batches of 4") as caught:
        made = predict(make_layer(), Scale(), **options).compute()
    assert len([w for w in caught if w.category is DeviceWarning]) == 1
    np.testing.assert_array_equal(made, predict(make_layer(), Scale(), **OPTIONS, output="values"))
    largest[0] = 0
    with pytest.raises(InputError, match=r"a tile of .* does not fit in its memory"):
        predict(make_layer(), Scale(), **options).compute(scheduler="synchronous")
    assert device_pipeline._BUSY["cuda:0"] == 0


def test_a_tile_that_does_not_fit_is_an_error(device):
    device.largest_batch = 0
    model = Scale()
    model.device = None
    made = predict(make_layer(), model, **OPTIONS, output="values", device="cuda:0")
    model.device = device
    with pytest.warns(DeviceWarning), pytest.raises(InputError, match=r"a tile of \(16, 16\) pixels does not fit") as e:
        made.compute(scheduler="synchronous")
    assert e.value.argument == "size"


def test_model_is_copied_to_a_device_once(device, monkeypatch):
    from geoxt.inference import runner

    copies = []
    monkeypatch.setattr(runner, "model_on", lambda model, *_: copies.append(model) or model)
    predict(make_layer(), Network(CARD), **OPTIONS, device="cuda:0").compute()
    predict(make_layer(), Network(CARD), **OPTIONS, device="cuda:0", output="classes").compute()
    assert len(copies) == 1

"""Prediction on devices, by a fake one on the CPU: equal maps, order of copies, exhausted memory, errors."""

import shutil
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import dask
import numpy as np
import pytest
import torch
import xarray as xr
from support.fake_device import FakeDevice
from torch import nn

from geoxt import torch_devices as devices
from geoxt.errors import DeviceWarning, InputError, ScaleWarning
from geoxt.grid import coordinates
from geoxt.inference import classify_images, detect, device_pipeline, predict, segment_images
from geoxt.inference.device_accumulator import DeviceAccumulator
from geoxt.inference.devices import parse_options
from geoxt.inference.tile_cache import TileCache
from geoxt.models import Card, Network
from geoxt.testing import make_grid
from geoxt.torch_devices import resolve
from geoxt.writers import to_cog

CARD = Card(
    task="segmentation", model="test_unet", bands=("green", "red", "nir"), mean=(30_000.0,) * 3, std=(9_000.0,) * 3,
    codes=(1, 2, 300), names=("a", "b", "c"), colors=("#0000ff", "#00ff00", "#ff0000"), size=(16, 16),
)  # fmt: skip
OPTIONS = {"size": 16, "overlap": 4, "batch_size": 2, "chunks": 24}


@pytest.fixture
def device(monkeypatch):
    fake = FakeDevice()
    monkeypatch.setitem(devices.OPENED, "cuda:0", fake)
    return fake


def make_layer(dtype="uint16", nodata=0):
    values = np.random.default_rng(0).integers(1, 60_000, (3, 40, 34)).astype(dtype)
    values[0, 5:30, 5:9] = nodata
    values[:, :17, 17:] = nodata
    coords = {"band": ["green", "red", "nir"], **coordinates(make_grid((40, 34)))}
    return xr.DataArray(values, dims=("band", "y", "x"), coords=coords, attrs={"_FillValue": nodata})


def same(layer, model, device, **options):
    expected = predict(layer, model, **OPTIONS | options)
    with dask.config.set(scheduler="synchronous"):
        np.testing.assert_array_equal(predict(layer, model, device=device, **OPTIONS | options), expected)


@pytest.mark.parametrize("output", ["classes", "probabilities", "uncertainty"])
@pytest.mark.parametrize("dtype", ["uint16", "float64"])
def test_device_and_cpu_compute_equal_maps(device, dtype, output):
    same(make_layer(dtype), Network(CARD), "cuda:0", output=output)
    assert "copy" in device.log


class Scale(nn.Module):
    """Halves the first band; where it is 0 the output is not finite."""

    def __init__(self, device=None):
        super().__init__()
        self.device = device

    def __deepcopy__(self, memo):
        return self

    def forward(self, images):
        if self.device is not None:
            self.device.require_memory(images)
        first = images[:, :1]
        return torch.cat([first / 2, torch.where(first > 30_000, first, torch.nan)], dim=1)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32"])
def test_pixels_of_other_types_are_copied_unconverted(device, dtype):
    layer = (make_layer("float32") / (512 if dtype == "int8" else 256)).astype(dtype)
    same(layer, Scale(), "cuda:0", output="values")


def test_pixels_without_finite_output_are_equal(device):
    same(make_layer(), Scale(), "cuda:0", output="values")
    same(make_layer(), Scale(), "cuda:0", output="logits")


def test_sums_that_do_not_fit_are_on_the_host(device, monkeypatch):
    def full(self, **options):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(DeviceAccumulator, "__init__", full)
    same(make_layer(), Network(CARD), "cuda:0")


def test_layers_of_dask_and_series_are_equal(device):
    same(make_layer().chunk(x=13), Network(CARD), "cuda:0")
    steps = xr.concat([make_layer(), make_layer() // 2], "time")
    same(steps, Network(CARD), "cuda:0")


def test_buffers_are_filled_after_their_copy_and_copied_after_their_use(device, monkeypatch):
    monkeypatch.setattr(device_pipeline.thread_pool, "size", lambda: 1)
    layer = make_layer("float32").assign_attrs(_FillValue=-1)  # all valid
    predict(layer, Scale(), size=16, overlap=0, batch_size=1, output="values",
            device="cuda:0").compute()  # fmt: skip
    batch = ["wait used", "copy", "copy", "copy", "wait copied"]
    # 9 tiles, 3 slots: after a copy its host buffers are filled again, while there are tiles left
    assert device.log == [*(6 * [*batch, "host waits copied"]), *(3 * batch), "host waits used"]


def test_another_scale_warns_once_without_more_copies_or_waits(device):
    layer = make_layer() % 20_000 + np.uint16(40_000)  # negative as int16
    predict(layer, Network(CARD), **OPTIONS, device="cuda:0").compute(scheduler="synchronous")  # no warning
    log, device.log = device.log, []
    reflectance = Network(replace(CARD, mean=(0.3,) * 3, std=(0.1,) * 3))
    with pytest.warns(ScaleWarning, match=r"far larger values .*: green is [45]\d{4} to 5\d{4}") as caught:
        predict(layer, reflectance, **OPTIONS, device="cuda:0").compute(scheduler="synchronous")
    assert [w.category for w in caught].count(ScaleWarning) == 1
    assert device.log == log


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_exhausted_memory_halves_the_batch_once(device, dtype):
    device.largest_batch = 2
    model = Scale(device)
    expected = predict(make_layer(dtype), Scale(), **OPTIONS | {"batch_size": 8}, output="values").compute()
    with pytest.warns(DeviceWarning, match="exhausted by 8 tiles of .*: the model runs in batches of 4") as caught:
        made = predict(make_layer(dtype), model, **OPTIONS | {"batch_size": 8}, output="values",
                       device="cuda:0").compute()  # fmt: skip
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


def test_a_map_of_a_map_does_not_wait_for_itself(device):
    class Half(nn.Module):
        def forward(self, images):
            return images[:, :1] / 2

    def maps(name):
        first = predict(make_layer("float32"), Half(), **OPTIONS, output="values", device=name)
        return predict(first, Half(), **OPTIONS, output="values", device=name)

    made = Future()
    nested = maps("cuda:0")
    compute = partial(nested.compute, scheduler="threads", num_workers=4)
    threading.Thread(target=lambda: made.set_result(compute()), daemon=True).start()
    np.testing.assert_array_equal(made.result(60), maps("cpu"))


def test_a_number_is_copied_while_later_operations_run(device):
    number = torch.tensor(2.5)
    value = devices.number_on_host(number, device)
    assert device.log == ["wait used", "copy"]
    assert value() == 2.5
    assert device.log[2:] == ["host waits copied"]
    assert devices.number_on_host(number)() == 2.5


def test_random_states_of_all_gpus_are_restored_without_a_warning(monkeypatch):
    restored = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: device)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: restored.append((state, device)))
    with devices.forked_rng():
        pass
    assert restored == [(0, 0), (1, 1)]


def test_a_tile_that_does_not_fit_is_an_error(device):
    device.largest_batch = 0
    model = Scale()
    model.device = None
    made = predict(make_layer(), model, **OPTIONS, output="values", device="cuda:0")
    model.device = device
    with pytest.warns(DeviceWarning), pytest.raises(InputError, match=r"a tile of \(16, 16\) pixels does not fit") as e:
        made.compute()
    assert e.value.argument == "size"


def test_other_errors_of_a_model_are_raised(device):
    class Fails(Scale):
        def forward(self, images):
            if len(images) > 1:
                raise RuntimeError("wrong shape")
            return super().forward(images)

    with pytest.raises(RuntimeError, match="wrong shape"):
        predict(make_layer(), Fails(), **OPTIONS, output="values", device="cuda:0").compute()


def test_outputs_without_finite_values_are_an_error(device):
    network = Network(CARD)
    network.forward = lambda image, valid: torch.full((len(image), 3, *image.shape[-2:]), torch.nan)
    with pytest.raises(InputError, match="none of its outputs for a batch of tiles is finite"):
        predict(make_layer(), network, **OPTIONS, device="cuda:0").compute()


def test_a_read_that_fails_is_raised_and_frees_the_device(device):
    def fails(block):
        raise OSError("no such block")

    layer = make_layer().chunk(x=41)
    broken = layer.copy(data=layer.data.map_blocks(fails, dtype="uint16"))
    made = predict(broken, Scale(), **OPTIONS, output="values", device="cuda:0")
    for _ in range(3):
        with pytest.raises(OSError, match="no such block"):
            made.compute(scheduler="synchronous")
    assert device_pipeline._BUSY["cuda:0"] == 0


def test_several_devices_share_the_chunks_of_one_file(monkeypatch, tmp_path):
    fakes = [FakeDevice(f"cuda:{index}") for index in range(2)]
    for fake in fakes:
        monkeypatch.setitem(devices.OPENED, fake.name, fake)
    made = predict(make_layer(), Network(CARD), **OPTIONS, device=["cuda:0", "cuda:1"])
    with xr.open_dataset(to_cog(made, tmp_path / "map.tif"), engine="rasterio", mask_and_scale=False) as written:
        values = written["band_data"].values[0]
    np.testing.assert_array_equal(values, predict(make_layer(), Network(CARD), **OPTIONS))
    assert all("copy" in fake.log for fake in fakes)


class Boxes(nn.Module):
    def forward(self, images):
        return [
            {"boxes": torch.tensor([[2.0, 2, 9, 9]]), "labels": torch.tensor([1]), "scores": torch.tensor([0.75])}
            for _ in images
        ]


def test_detections_are_equal(device):
    expected, made = (detect(make_layer("float32"), Boxes(), size=24, device=name) for name in ("cpu", "cuda:0"))
    assert made.equals(expected)
    assert len(made) == 2


def test_plain_images_are_equal(device):
    images = np.random.default_rng(0).integers(1, 60_000, (3, 3, 20, 24)).astype("float32")
    images[1, :, :9, :9] = np.nan
    masks = [list(segment_images(images, Network(CARD), size=16, device=name)) for name in ("cpu", "cuda:0")]
    for (_, expected), (_, made) in zip(*masks, strict=True):
        np.testing.assert_array_equal(made, expected)
    assert "copy" in device.log
    classifier = Network(replace(CARD, task="classification", model="test_classifier"))
    tables = [classify_images(images, classifier, batch_size=2, device=name) for name in ("cpu", "cuda:0")]
    assert tables[1].equals(tables[0])


@pytest.mark.slow
def test_compiled_models_are_close_on_a_cpu():
    if not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("needs a C++ compiler")
    convolution = nn.Conv2d(3, 2, 3, padding=1)
    expected, made = (
        predict(make_layer("float32") / 30_000, convolution, **OPTIONS, output="values", device="cpu", compile=compiled)
        for compiled in (False, True)
    )
    np.testing.assert_allclose(made, expected, atol=1e-5)


def test_model_is_copied_to_a_device_once(device, monkeypatch):
    from geoxt.inference import runner

    copies = []
    monkeypatch.setattr(runner, "model_on", lambda model, *_: copies.append(model) or model)
    predict(make_layer(), Network(CARD), **OPTIONS, device="cuda:0").compute()
    predict(make_layer(), Network(CARD), **OPTIONS, device="cuda:0", output="classes").compute()
    assert len(copies) == 1


@pytest.mark.parametrize(
    ("options", "message", "argument"),
    [
        ({"device": "gpu"}, "Cannot run the model on 'gpu': torch knows no such device", "device"),
        ({"device": []}, "the list of devices is empty", "device"),
        ({"device": "xpu"}, "torch finds no device of the type 'xpu'", "device"),
        ({"device": "meta"}, "torch finds no device of the type 'meta'", "device"),
        ({"device": ["cpu", "cuda:7"]}, "on 'cuda:7': torch finds (no|[1-7]) CUDA device", "device"),
        ({"device": "cpu", "precision": "64"}, "in the precision '64'", "precision"),
        ({"device": "cpu", "precision": "16"}, "'cpu': the device does not compute in float16", "precision"),
    ],
)
def test_missing_devices_and_precisions_are_errors(options, message, argument):
    with pytest.raises(InputError, match=message) as error:
        predict(make_layer(), Scale(), **OPTIONS, output="values", **options)
    assert error.value.argument == argument


def test_auto_takes_cuda_then_mps_then_the_cpu(monkeypatch):
    monkeypatch.delitem(devices.OPENED, "mps", raising=False)
    for cuda, mps, name in ((True, True, "cuda:0"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert resolve("auto") == name
    assert parse_options(model_device=torch.device("cuda:1")).devices == ("cuda:1",)
    assert parse_options("cpu", model_device=torch.device("cuda:1")).devices == ("cpu",)


def test_bfloat16_on_a_cpu_is_close():
    expected, made = (
        predict(make_layer(), Network(CARD), **OPTIONS, output="probabilities", device="cpu", precision=precision)
        for precision in ("32", "bf16")
    )
    np.testing.assert_allclose(made, expected, atol=0.05)
    assert (made != expected).any()


def test_tf32_is_off_unless_torch_allows_it(monkeypatch):
    class Cudnn:
        allow_tf32 = True

    monkeypatch.setattr(torch.backends, "cudnn", Cudnn)
    with devices.ieee_float32():
        with devices.ieee_float32():
            assert not Cudnn.allow_tf32
        assert not Cudnn.allow_tf32
    assert Cudnn.allow_tf32
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    with devices.ieee_float32():
        assert Cudnn.allow_tf32


def test_precisions_of_single_operators_of_cudnn_are_kept():
    before = torch.backends.cudnn.conv.fp32_precision
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # reading cudnn.allow_tf32 raises then
    try:
        with devices.ieee_float32():
            assert torch.backends.cudnn.conv.fp32_precision == "ieee"
    finally:
        torch.backends.cudnn.conv.fp32_precision = before


def test_workers_of_a_plain_cluster_take_a_device_each(monkeypatch):
    class Worker:
        name = 3

    class Distributed:
        get_worker = Worker

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setitem(devices.sys.modules, "distributed", Distributed)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert resolve("cuda") == "cuda:1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")  # as dask-cuda orders them
    assert resolve("cuda") == "cuda:0"


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_cuda_and_cpu_agree(precision):
    network = Network(CARD)
    expected, made = (
        predict(make_layer(), network, **OPTIONS, output="probabilities", device=name, precision=bits).compute()
        for name, bits in (("cpu", "32"), ("cuda", precision))
    )
    np.testing.assert_allclose(made, expected, atol=1e-4 if precision == "32" else 0.05)
    classes = predict(make_layer(), network, **OPTIONS, device="cuda", precision=precision).to_numpy()
    margins = np.ptp(np.sort(expected.to_numpy(), axis=0)[-2:], axis=0)
    clear = margins > (2e-4 if precision == "32" else 0.1)
    np.testing.assert_array_equal(classes[clear], predict(make_layer(), network, **OPTIONS).to_numpy()[clear])


@pytest.mark.gpu
def test_cuda_repeats_and_compiles():
    network = Network(CARD)
    made = predict(make_layer(), network, **OPTIONS, output="probabilities", device="cuda")
    np.testing.assert_array_equal(made.compute(), made.compute())
    compiled = predict(make_layer(), network, **OPTIONS, output="probabilities", device="cuda", compile=True)
    np.testing.assert_allclose(compiled.compute(), made.compute(), atol=1e-4)


@pytest.mark.gpu
def test_cuda_memory_that_is_exhausted_halves_the_batch():
    class Large(Scale):
        def forward(self, images):
            free = torch.cuda.mem_get_info()[0] if images.is_cuda else 0
            if len(images) > 1 and images.is_cuda:
                torch.empty(2 * free, dtype=torch.uint8, device=images.device)
            return super().forward(images)

    with pytest.warns(DeviceWarning):
        made = predict(make_layer(), Large(), **OPTIONS, output="values", device="cuda").compute()
    np.testing.assert_array_equal(made, predict(make_layer(), Scale(), **OPTIONS, output="values"))


@pytest.mark.gpu
def test_cuda_detects_and_copies_pinned_buffers():
    assert devices.open_device("cuda:0").empty_pinned((4,), torch.uint8).is_pinned()
    detections = [detect(make_layer("float32"), Boxes(), size=24, device=name) for name in ("cpu", "cuda")]
    assert detections[0].equals(detections[1])


@pytest.mark.slow
def test_benchmark_of_gpus_runs_on_the_cpu():
    script = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
    command = [
        sys.executable,
        str(script),
        "--device",
        "cpu",
        "--quick",
        "--parts",
        "correctness",
        "training",
        "loading",
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "probabilities, 32, against the CPU" in run.stdout

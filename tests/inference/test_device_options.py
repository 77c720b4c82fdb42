"""Names of devices, precisions and compilation."""

import shutil

import numpy as np
import pytest
import torch
from torch import nn

from geoxt import torch_devices as devices
from geoxt.errors import DeviceWarning, InputError
from geoxt.inference import predict
from geoxt.inference.devices import parse_options
from geoxt.models import Network
from geoxt.torch_devices import resolve
from geoxt.trainers.loop.processes import create_trainer

from .test_devices import CARD, OPTIONS, Scale, make_layer


def test_random_states_of_all_gpus_are_restored_without_a_warning(monkeypatch):
    restored = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: device)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: restored.append((state, device)))
    with devices.forked_rng():
        pass
    assert restored == [(0, 0), (1, 1)]


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


def test_bfloat16_on_a_cpu_is_close_and_warns_without_its_arithmetic(monkeypatch):
    layer, network, options = make_layer(), Network(CARD), {**OPTIONS, "output": "probabilities", "device": "cpu"}
    expected = predict(layer, network, **options)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    made = predict(layer, network, **options, precision="bf16").compute()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    with pytest.warns(DeviceWarning, match="many times slower"):
        predict(layer, network, **options, precision="bf16")
    with pytest.warns(DeviceWarning, match="many times slower"):
        create_trainer(accelerator="cpu", precision="bf16", logger=False)
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

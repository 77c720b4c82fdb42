"""Prediction on a CUDA device, and the benchmark of GPUs on the CPU."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from geoxt import torch_devices as devices
from geoxt.errors import DeviceWarning
from geoxt.inference import detect, predict
from geoxt.models import Network

from .test_devices import CARD, OPTIONS, Boxes, Scale, make_layer


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

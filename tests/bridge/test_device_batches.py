"""Batches on a device: a fake device delays copies until they are waited for; values equal those of the CPU."""

import numpy as np
import pytest
import torch
import xarray as xr
from support.fake_device import FakeDevice

from geoxt import torch_devices
from geoxt.bridge import loader
from geoxt.errors import InputError
from geoxt.grid import coordinates
from geoxt.samplers import RandomSampler
from geoxt.testing import make_grid


@pytest.fixture
def device(monkeypatch):
    fake = FakeDevice()
    monkeypatch.setitem(torch_devices.OPENED, "cuda:0", fake)
    return fake


@pytest.fixture(scope="module", params=["uint8", "uint16", "int16", "int32", "float32"])
def data(request):
    """Return an image of a dtype with its extreme values, and labels."""
    rng = np.random.default_rng(0)
    kind = np.dtype(request.param)
    low, high = (-9, 9) if kind.kind == "f" else (np.iinfo(kind).min, np.iinfo(kind).max)
    image = rng.integers(low, high, (2, 40, 48), endpoint=True).astype(kind)
    codes = rng.choice(np.array([0, 3, 250], "uint8"), (40, 48))
    layers = {"image": (("band", "y", "x"), image), "mask": (("y", "x"), codes)}
    return xr.Dataset(layers).assign_coords(coordinates(make_grid((40, 48))))


def windows(data):
    return RandomSampler(data, size=8, length=22, seed=0)


def values_of(batches):
    """Return copies of the tensors of batches, made before the next batch is requested."""
    return [{key: value.clone() for key, value in batch.items() if torch.is_tensor(value)} for batch in batches]


@pytest.mark.parametrize("options", [{}, {"dtype": "stored"}, {"num_workers": 1, "timeout": 300}])
def test_batches_on_a_device_equal_those_of_the_cpu(data, device, options):
    if options.get("num_workers") and data.image.dtype != "uint16":
        pytest.skip("workers are tested with one dtype")
    plain = {key: value for key, value in options.items() if key == "dtype"}
    expected = values_of(loader(data, windows(data), batch_size=4, **plain))
    received = values_of(loader(data, windows(data), batch_size=4, device="cuda:0", **options))
    assert len(received) == len(expected) == 6
    for before, after in zip(expected, received, strict=True):
        assert before.keys() == after.keys()
        for key, value in before.items():
            assert after[key].dtype == value.dtype
            assert torch.equal(after[key], value)
    assert not device.pending


def test_small_integers_are_copied_unchanged_and_widened_before_the_transform(data, device):
    sizes, dtypes = [], []
    copy = device.copy
    device.copy = lambda source, target: (sizes.append(source.dtype), copy(source, target))
    batches = loader(data, windows(data), batch_size=4, device="cuda:0", transform=lambda b: dtypes.append(b) or b)
    next(iter(batches))
    kind = {"uint16": torch.int16, "int32": torch.float32}.get(str(data.image.dtype))
    assert sizes[0] == kind or sizes[0] == getattr(torch, str(data.image.dtype))
    assert torch.uint8 in sizes  # the labels
    assert dtypes[0]["image"].dtype == torch.float32
    assert dtypes[0]["mask"].dtype == torch.int64


def test_next_batch_is_copied_before_the_current_one_is_used_and_its_memory_is_reused_after_the_copy(data, device):
    batches = iter(loader(data, windows(data), batch_size=4, device="cuda:0"))
    first = next(batches)
    assert device.pending, "the second batch is in flight"
    log = "".join({"copy": "c", "wait copied": "w", "host waits copied": "h", "wait used": "u"}[x] for x in device.log)
    tensors = sum(map(torch.is_tensor, first.values()))
    assert log == ("u" + tensors * "c") * 2 + "wh"
    batches.close()
    assert not device.pending


def test_missing_and_unknown_devices_are_errors(data):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(InputError, match="Cannot load batches on 'cuda': torch finds no CUDA device"):
        loader(data, windows(data), device="cuda")
    with pytest.raises(InputError, match="Cannot load batches on 'gpu7': torch knows no such device"):
        loader(data, windows(data), device="gpu7")


@pytest.mark.gpu
def test_batches_on_cuda_equal_those_of_the_cpu(data):
    expected = values_of(loader(data, windows(data), batch_size=4))
    received = values_of(loader(data, windows(data), batch_size=4, device="cuda"))
    for before, after in zip(expected, received, strict=True):
        assert after["image"].is_cuda
        assert all(torch.equal(after[key].cpu(), value) for key, value in before.items())

"""Prediction on devices, by a fake one on the CPU: equal maps, order of copies, exhausted memory, errors."""

import threading
from concurrent.futures import Future
from dataclasses import replace
from functools import partial

import dask
import numpy as np
import pytest
import torch
import xarray as xr
from support.fake_device import FakeDevice
from torch import nn

from geoxt import torch_devices as devices
from geoxt.errors import InputError, ScaleWarning
from geoxt.grid import coordinates
from geoxt.inference import classify_images, detect, device_pipeline, predict, segment_images
from geoxt.models import Card, Network
from geoxt.testing import make_grid
from geoxt.writers import to_cog

CARD = Card(
    task="segmentation", model="test_unet", bands=("green", "red", "nir"), mean=(30_000.0,) * 3, std=(9_000.0,) * 3,
    codes=(1, 2, 300), names=("a", "b", "c"), colors=("#0000ff", "#00ff00", "#ff0000"), size=(16, 16),
)  # fmt: skip
OPTIONS = {"size": 16, "overlap": 4, "batch_size": 2, "chunks": 24}


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


def test_other_errors_of_a_model_are_raised(device):
    class Fails(Scale):
        def forward(self, images):
            if len(images) > 1:
                raise RuntimeError("wrong shape")
            return super().forward(images)

    with pytest.raises(RuntimeError, match="wrong shape"):
        predict(make_layer(), Fails(), **OPTIONS, output="values", device="cuda:0").compute(scheduler="synchronous")


def test_outputs_without_finite_values_are_an_error(device):
    network = Network(CARD)
    network.forward = lambda image, valid: torch.full((len(image), 3, *image.shape[-2:]), torch.nan)
    with pytest.raises(InputError, match="none of its outputs for a batch of tiles is finite"):
        predict(make_layer(), network, **OPTIONS, device="cuda:0").compute(scheduler="synchronous")


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

import pytest
from support.fake_device import FakeDevice

from geoxt import torch_devices as devices


@pytest.fixture
def device(monkeypatch):
    fake = FakeDevice()
    monkeypatch.setitem(devices.OPENED, "cuda:0", fake)
    return fake

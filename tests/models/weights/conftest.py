"""Weights of a tiny ResNet with three bands, as a file and as a row of the table."""

import hashlib

import pytest
import timm
import torch

from geoxt.models import Weights


@pytest.fixture
def source():
    """Return a model whose batch-norm statistics differ from those of a new model."""
    torch.manual_seed(3)
    model = timm.create_model("test_resnet", in_chans=3, num_classes=5)
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(8, 3, 32, 32))
    return model.eval()


@pytest.fixture
def make(tmp_path):
    """Return a function that writes a state dict to a file and returns its `Weights`."""

    def write(state, *, bands=("R", "G", "B"), name="tiny.pth", **facts):
        path = tmp_path / name
        torch.save(state, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        defaults = {"name": "tiny", "architecture": "test_resnet", "timm": True, "license": "MIT"}
        url = path.as_uri()
        values = {**defaults, "bands": bands, "url": url, "file": name, "sha256": digest[:8], **facts}
        return path, Weights(**values)

    return write

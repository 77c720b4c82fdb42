"""Weights of a tiny ResNet with three bands, as a file and as facts."""

import hashlib

import pytest
import timm
import torch

from geoxt.models import Weights


@pytest.fixture
def source():
    """A trained model, as far as the tests are concerned: its statistics are not those of a new one."""
    torch.manual_seed(3)
    model = timm.create_model("test_resnet", in_chans=3, num_classes=5)
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(8, 3, 32, 32))
    return model.eval()


@pytest.fixture
def make(tmp_path):
    """Write a state to a file and give the facts about it."""

    def write(state, *, bands=("R", "G", "B"), name="tiny.pth", **facts):
        path = tmp_path / name
        torch.save(state, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        defaults = {"name": "tiny", "family": "test", "architecture": "test_resnet", "timm": True, "license": "MIT"}
        url = path.as_uri()
        values = {**defaults, "bands": bands, "url": url, "file": name, "sha256": digest[:8], **facts}
        return path, Weights(**values)

    return write

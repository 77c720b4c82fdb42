"""Weights files of encoders."""

import pytest
import torch


@pytest.fixture
def saved(tmp_path):
    """Function that writes tensors to a file, and returns its path."""

    def save(state):
        path = tmp_path / "weights.pth"
        torch.save(state, path)
        return path

    return save

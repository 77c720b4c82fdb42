"""Class counts over batches and balanced class weights."""

import pytest
import torch

from geoxt.errors import LabelError
from geoxt.metrics.label_codes import IGNORE
from geoxt.trainers.tasks.class_weights import balanced, class_counts


def test_balanced_weights_over_batches():
    batches = [{"t": torch.tensor([0, 0, 1, IGNORE])}, {"t": torch.tensor([0, 2])}]
    counts = class_counts(iter(batches), lambda batch: batch["t"], 4)
    assert counts.tolist() == [3, 1, 1, 0]
    torch.testing.assert_close(balanced(counts), torch.tensor([5 / 9, 5 / 3, 5 / 3, 1]))
    with pytest.raises(LabelError, match="the training data have no labels"):
        balanced(torch.zeros(2, dtype=torch.int64))

"""Multi-label scores equal those of torchmetrics."""

import pytest
import torch
from torchmetrics.classification import MultilabelAveragePrecision, MultilabelF1Score

from geoxt.metrics.multilabel import MultilabelCounts, multilabel_scores


def test_scores_equal_torchmetrics():
    logits, truth = torch.randn(50, 3), torch.randint(2, (50, 3)).float()
    truth[::7, 1] = torch.nan
    metric = MultilabelCounts(3)
    for start in range(0, 50, 10):
        metric.update(logits[start : start + 10], truth[start : start + 10])
    scores = multilabel_scores(metric.compute(), "abc")
    known = truth.nan_to_num(-1).long()
    f1 = MultilabelF1Score(3, average="none", ignore_index=-1)(logits.sigmoid(), known)
    ap = MultilabelAveragePrecision(3, average="none", ignore_index=-1)(logits.sigmoid(), known)
    assert list(scores["f1"].values()) == pytest.approx(f1.tolist())
    assert list(scores["ap"].values()) == pytest.approx(ap.tolist())
    correct = ((logits > 0) == (truth == 1))[~truth.isnan()]
    assert scores["accuracy"] == pytest.approx(correct.float().mean().item())
    assert scores["macro_f1"] == pytest.approx(f1.mean().item())

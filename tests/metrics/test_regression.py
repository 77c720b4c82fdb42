"""Regression scores equal those of torchmetrics, also over several batches and with unknown targets."""

import numpy as np
import pytest
import torch
from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError, R2Score

from geoxt.metrics.regression import RegressionSums, regression_scores


def test_scores_equal_torchmetrics():
    predicted, target = torch.randn(6, 2, 5, 5) + 300, torch.randn(6, 2, 5, 5) + 300
    target[:, :, 0] = torch.nan
    metric = RegressionSums(2)
    metric.update(predicted[:2], target[:2])
    metric.update(predicted[2:], target[2:])
    scores = regression_scores(metric.compute(), ("a", "b"))
    known = ~target.isnan()
    pair = predicted[known], target[known]
    assert scores["mae"] == pytest.approx(MeanAbsoluteError()(*pair).item(), rel=1e-5)
    assert scores["rmse"] == pytest.approx(MeanSquaredError(squared=False)(*pair).item(), rel=1e-5)
    channels = [(predicted[:, k][known[:, k]].double() - 300, target[:, k][known[:, k]].double() - 300) for k in (0, 1)]
    assert scores["r2"] == pytest.approx(np.mean([R2Score()(*pair).item() for pair in channels]), rel=1e-4)
    assert scores["bias"] == pytest.approx((predicted - target)[known].mean().item(), abs=1e-5)
    rmse = ((predicted - target)[:, 1][known[:, 1]] ** 2).mean().sqrt()
    assert scores.by_class["rmse"]["b"] == pytest.approx(rmse.item(), rel=1e-5)

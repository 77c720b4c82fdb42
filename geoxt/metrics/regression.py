"""Regression scores per channel: bias, MAE, RMSE and R²; NaN targets are not counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from geoxt.metrics.scores import Scores, scores_by_class
from geoxt.torch_devices import to_float64


class RegressionSums(Metric):
    """Sums per channel from which `regression_scores` follow, added up over batches and processes.

    Parameters
    ----------
    channels
        Number of regressed quantities, K.
    """

    full_state_update = False

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.sums: Tensor
        self.add_state("sums", torch.zeros(6, channels, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Add a batch: both (N, K, ...)."""
        predicted, truth = to_float64(predicted), to_float64(target)
        labeled = ~truth.isnan()
        truth = truth.where(labeled, 0)
        error = (predicted - truth).where(labeled, 0)
        terms = (labeled.double(), error, error.abs(), error**2, truth, truth**2)
        self.sums += torch.stack([term.transpose(0, 1).flatten(1).sum(dim=1) for term in terms])

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ()) -> Any:
        """Move the sums to a device; for MPS, which has no float64, they remain on the CPU."""
        is_mps = fn(torch.empty(0)).device.type == "mps"
        return super()._apply(fn, exclude_state=[*exclude_state, "sums"] if is_mps else exclude_state)

    def compute(self) -> Tensor:
        """Return count, and the sums of error, absolute error, squared error, target and squared target: (6, K)."""
        return self.sums


def regression_scores(sums: Tensor, names: Sequence[str]) -> Scores:
    """Return bias, MAE, RMSE and R² over all channels and by channel, and the number of known values.

    R² over several channels is the mean of the channels' R².
    """
    count, error, absolute, squared, target, target_squared = sums.cpu()
    r2, total = 1 - squared / (target_squared - target**2 / count), count.sum()
    overall = {
        "bias": float(error.sum() / total),
        "mae": float(absolute.sum() / total),
        "rmse": float((squared.sum() / total).sqrt()),
        "r2": float(r2.nanmean()),
    }
    columns = {"bias": error / count, "mae": absolute / count, "rmse": (squared / count).sqrt(), "r2": r2}
    columns |= {"support": count.long()}
    return Scores(overall=overall, by_class=scores_by_class(names, columns))

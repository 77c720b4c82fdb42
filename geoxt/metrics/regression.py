"""Regression scores per channel: bias, MAE, RMSE and R²; NaN targets are not counted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric


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
        known = ~target.isnan()
        truth = target.where(known, 0).double()
        error = (predicted.double() - truth).where(known, 0)
        terms = (known.double(), error, error.abs(), error**2, truth, truth**2)
        self.sums += torch.stack([term.transpose(0, 1).flatten(1).sum(dim=1) for term in terms])

    def compute(self) -> Tensor:
        """Return count, and the sums of error, absolute error, squared error, target and squared target: (6, K)."""
        return self.sums


def regression_scores(sums: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Return bias, MAE, RMSE and R² over all channels; with several channels also RMSE and MAE of each.

    R² over several channels is the mean of the channels' R².
    """
    count, error, absolute, squared, target, target_squared = sums.cpu()
    total_squares = target_squared - target**2 / count
    total = count.sum()
    scores = {
        "bias": float(error.sum() / total),
        "mae": float(absolute.sum() / total),
        "rmse": float((squared.sum() / total).sqrt()),
        "r2": float((1 - squared / total_squares).nanmean()),
    }
    if len(names) > 1:
        scores |= {f"rmse/{name}": float(v) for name, v in zip(names, (squared / count).sqrt(), strict=True)}
        scores |= {f"mae/{name}": float(v) for name, v in zip(names, absolute / count, strict=True)}
    return scores

"""Tallies of labels and of quantities: metrics that batches and processes add up to; NaN targets count in none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multilabel_average_precision
from torchmetrics.utilities import dim_zero_cat

_UNKNOWN = -1


class Errors(Metric):
    """Errors of quantities: per channel the count, and the sums from which mean errors and R² follow."""

    full_state_update = False

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.sums: Tensor
        self.add_state("sums", torch.zeros(6, channels, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, found: Tensor, target: Tensor) -> None:
        """Add a batch: both (N, K, ...)."""
        known = ~target.isnan()
        truth = target.where(known, 0).double()
        error = (found.double() - truth).where(known, 0)
        parts = (known.double(), error, error.abs(), error**2, truth, truth**2)
        self.sums += torch.stack([part.transpose(0, 1).flatten(1).sum(dim=1) for part in parts])

    def compute(self) -> Tensor:
        """Return count, and sums of error, its size, its square, the truth and its square: float64 (6, K)."""
        return self.sums


def report_errors(sums: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Return bias, MAE, RMSE and R² over all channels, and RMSE and MAE of each where there are several.

    R² over several channels is the mean of theirs.
    """
    count, error, size, square, truth, truth2 = sums.cpu()
    spread = truth2 - truth**2 / count
    total = count.sum()
    scores = {
        "bias": float(error.sum() / total),
        "mae": float(size.sum() / total),
        "rmse": float((square.sum() / total).sqrt()),
        "r2": float((1 - square / spread).nanmean()),
    }
    if len(names) > 1:
        scores |= {f"rmse/{name}": float(one) for name, one in zip(names, (square / count).sqrt(), strict=True)}
        scores |= {f"mae/{name}": float(one) for name, one in zip(names, size / count, strict=True)}
    return scores


class Labels(Metric):
    """Probabilities and truth of any number of labels an image."""

    full_state_update = False

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.labels = labels
        self.found: list[Tensor]
        self.truth: list[Tensor]
        self.add_state("found", [], dist_reduce_fx="cat")
        self.add_state("truth", [], dist_reduce_fx="cat")

    def update(self, found: Tensor, target: Tensor) -> None:
        """Add a batch: logits (N, K), and truth (N, K) of 0, 1 and NaN."""
        self.found.append(found.detach().float().sigmoid())
        self.truth.append(target.nan_to_num(_UNKNOWN).long())

    def compute(self) -> Mapping[str, Tensor]:
        """Return average precision, and counts of true and false, positive and negative, each (K,)."""
        found, truth = dim_zero_cat(self.found), dim_zero_cat(self.truth)
        said, known = found > 0.5, truth != _UNKNOWN
        precision = multilabel_average_precision(
            found, truth, num_labels=self.labels, average="none", ignore_index=_UNKNOWN
        )
        return {
            "ap": precision.reshape(-1).where((truth == 1).any(dim=0), torch.nan),
            "tp": (said & (truth == 1)).sum(dim=0),
            "fp": (said & (truth == 0)).sum(dim=0),
            "fn": (~said & (truth == 1)).sum(dim=0),
            "right": ((said == (truth == 1)) & known).sum(dim=0),
            "known": known.sum(dim=0),
        }


def report_labels(tally: Mapping[str, Any], names: Sequence[str]) -> dict[str, float]:
    """Return accuracy, mean and micro F1, mean average precision, and F1 and average precision by label."""
    tp, wrong = tally["tp"], tally["fp"] + tally["fn"]
    each = (2 * tp / (2 * tp + wrong)).double()
    scores = {
        "accuracy": float(tally["right"].sum() / tally["known"].sum()),
        "f1": float(each.nanmean()),
        "micro_f1": float(2 * tp.sum() / (2 * tp.sum() + wrong.sum())),
        "map": float(tally["ap"].nanmean()),
    }
    scores |= {f"f1/{name}": float(one) for name, one in zip(names, each, strict=True) if not one.isnan()}
    return scores | {f"ap/{name}": float(one) for name, one in zip(names, tally["ap"], strict=True) if not one.isnan()}

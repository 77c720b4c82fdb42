"""Multi-label scores: accuracy, F1 and average precision per label; NaN targets are not counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multilabel_average_precision
from torchmetrics.utilities import dim_zero_cat

from geoxt.metrics.scores import Scores, scores_by_class

_UNKNOWN = -1
"""Integer label of unknown targets."""


class MultilabelCounts(Metric):
    """Counts and average precision per label, from which `multilabel_scores` follow.

    Parameters
    ----------
    labels
        Number of labels, K.
    """

    full_state_update = False

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.labels = labels
        self.probabilities: list[Tensor]
        self.targets: list[Tensor]
        self.add_state("probabilities", [], dist_reduce_fx="cat")
        self.add_state("targets", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Add a batch: logits (N, K), and targets (N, K) of 0, 1 and NaN."""
        self.probabilities.append(logits.detach().float().sigmoid())
        self.targets.append(target.nan_to_num(_UNKNOWN).long())

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the states of all processes; one without samples has rows as well, as torchmetrics requires."""
        if not self.targets:
            self.update(*torch.zeros(2, 0, self.labels, device=self.device))
        super().sync(*args, **kwargs)

    def compute(self) -> Mapping[str, Tensor]:
        """Return average precision, true positives, false positives, false negatives, correct and known, each (K,)."""
        probabilities, truth = dim_zero_cat(self.probabilities), dim_zero_cat(self.targets)
        predicted, labeled = probabilities > 0.5, truth != _UNKNOWN
        average_precision = multilabel_average_precision(
            probabilities, truth, num_labels=self.labels, average="none", ignore_index=_UNKNOWN
        )
        return {
            "ap": average_precision.reshape(-1).where((truth == 1).any(dim=0), torch.nan),
            "tp": (predicted & (truth == 1)).sum(dim=0),
            "fp": (predicted & (truth == 0)).sum(dim=0),
            "fn": (~predicted & (truth == 1)).sum(dim=0),
            "correct": ((predicted == (truth == 1)) & labeled).sum(dim=0),
            "labeled": labeled.sum(dim=0),
        }


def multilabel_scores(counts: Mapping[str, Any], names: Sequence[str]) -> Scores:
    """Return accuracy, macro and micro F1, mean average precision, and scores by label.

    Examples
    --------
    >>> import torch
    >>> counts = MultilabelCounts(2)
    >>> counts.update(torch.tensor([[0.9, 0.2], [0.8, 0.7]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    >>> multilabel_scores(counts.compute(), ["forest", "water"])["macro_f1"]
    0.8333333432674408
    """
    tp, wrong, ap = counts["tp"], counts["fp"] + counts["fn"], counts["ap"]
    f1 = (2 * tp / (2 * tp + wrong)).double()
    overall = {
        "accuracy": float(counts["correct"].sum() / counts["labeled"].sum()),
        "macro_f1": float(f1.nanmean()),
        "micro_f1": float(2 * tp.sum() / (2 * tp.sum() + wrong.sum())),
        "map": float(ap.nanmean()),
    }
    precision, recall = (tp.double() / (tp + counts[wrong_kind]) for wrong_kind in ("fp", "fn"))
    columns = {"precision": precision, "recall": recall, "f1": f1, "ap": ap, "support": tp + counts["fn"]}
    return Scores(overall=overall, by_class=scores_by_class(names, columns))

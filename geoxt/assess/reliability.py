"""Reliability of class probabilities: calibration error, Brier score and the reliability diagram."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geoxt.types import Array, Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reliability:
    """Agreement of class probabilities with labels.

    The confidence of a pixel is its largest probability, and its prediction the class of that probability. Bins have
    equal widths and include their upper edge. Values of bins without pixels are NaN.
    """

    edges: Floats
    """Edges of the bins of confidence, 0 to 1. Shape (bins + 1,)."""
    prob_pred: Floats
    """Mean confidence of the pixels in each bin. Shape (bins,)."""
    prob_true: Floats
    """Accuracy of the pixels in each bin. Shape (bins,)."""
    counts: Array
    """Number of pixels in each bin. Shape (bins,)."""
    ece: float
    """Expected calibration error: mean of abs(prob_true - prob_pred), weighted by pixels; 0 to 1."""
    brier: float
    """Brier score: mean over pixels of the squared differences between probabilities and labels, summed over classes;
    0 to 2."""
    nll: float
    """Mean negative log-likelihood of the labels, in nats."""
    accuracy: float
    """Overall accuracy."""


def reliability(probabilities: Array, labels: Array, *, n_bins: int = 15) -> Reliability:
    """Return the reliability diagram and proper scores of class probabilities.

    Parameters
    ----------
    probabilities
        Probabilities (n, classes).
    labels
        Class indices (n,).
    n_bins
        Number of bins of equal width.

    References
    ----------
    Guo et al. 2017, On calibration of modern neural networks. https://arxiv.org/abs/1706.04599
    """
    probabilities = probabilities.astype(np.float64)
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    edges = np.linspace(0, 1, n_bins + 1)
    bins = np.searchsorted(edges[1:-1], confidence)
    counts = np.bincount(bins, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        prob_pred = np.bincount(bins, confidence, n_bins) / counts
        prob_true = np.bincount(bins, correct, n_bins) / counts
    label_probability = np.take_along_axis(probabilities, labels[:, None], 1)[:, 0]
    return Reliability(
        edges=edges,
        prob_pred=prob_pred,
        prob_true=prob_true,
        counts=counts,
        ece=float(np.nansum(np.abs(prob_true - prob_pred) * counts) / counts.sum()),
        brier=float(np.mean((probabilities**2).sum(1) - 2 * label_probability + 1)),
        nll=float(-np.log(np.maximum(label_probability, np.finfo(float).tiny)).mean()),
        accuracy=float(correct.mean()),
    )

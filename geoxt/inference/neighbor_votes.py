"""Votes of the nearest neighbors of pixels: scikit-learn's, by matrix products in float32.

A product in float32 ranks the training rows by their distance to a pixel. Its rounding error has a bound (Higham,
Accuracy and Stability of Numerical Algorithms, section 3.1). Where the distances of the last neighbor and of the next
row differ by less, scikit-learn itself decides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from geoxt.types import Array, Floats

_BLOCK = 2**20
"""Numbers of a block of scores: 4 MB, which a core's cache holds."""
_MAX_NEIGHBORS = 16
"""Neighbors above which scikit-learn is as fast: each takes one pass over the scores."""
_ROUNDING = float(np.finfo(np.float32).eps) / 2


class NeighborVotes:
    """Votes of a `KNeighborsClassifier` with equal weights, by Euclidean or cosine distance.

    Parameters
    ----------
    rows
        Training rows (n, C).
    labels
        Positions of their classes (n,).
    classes
        Number of classes.
    neighbors
        Number of neighbors k.
    cosine
        Whether to rank by the cosine distance.
    """

    def __init__(self, rows: Array, labels: Array, *, classes: int, neighbors: int, cosine: bool) -> None:
        exact = rows.astype(np.float64)
        # A distance does not depend on the origin, and rounding errors are smallest around the mean.
        center = np.zeros(exact.shape[1]) if cosine else exact.mean(0)
        self._center = center.astype(np.float32)[:, None]
        exact = exact / np.linalg.norm(exact, axis=1, keepdims=True) if cosine else exact - self._center[:, 0]
        halves = np.zeros(len(exact)) if cosine else (exact**2).sum(1) / 2
        self._weights = np.vstack([-exact.T, halves]).astype(np.float32)
        self._labels, self._classes, self._neighbors = labels, classes, neighbors
        self._dtype = np.float64 if cosine else np.float32  # scikit-learn computes cosines in the type of its input
        terms = len(self._weights) + 4  # of a product, with the rounding of its factors
        self._bound = 2 * terms * _ROUNDING  # of two scores
        self._longest = float(np.linalg.norm(exact, axis=1).max()), float(halves.max())

    @classmethod
    def of(cls, estimator: Any) -> NeighborVotes | None:
        """Return the votes of a `KNeighborsClassifier`; `None` for other estimators, weights and distances."""
        metric = getattr(estimator, "effective_metric_", None)
        rows = getattr(estimator, "_fit_X", None)
        if type(estimator).__name__ != "KNeighborsClassifier" or metric not in {"euclidean", "cosine"}:
            return None
        suitable = estimator.weights in {"uniform", None} and estimator._fit_method == "brute"  # noqa: SLF001
        if not suitable or not isinstance(rows, np.ndarray) or getattr(estimator, "outputs_2d_", False):
            return None
        cosine = metric == "cosine"
        zero = cosine and not np.linalg.norm(rows.astype(np.float64), axis=1).all()
        if zero or estimator.n_neighbors > _MAX_NEIGHBORS:
            return None
        classes = len(estimator.classes_)
        labels = np.asarray(estimator._y).ravel()  # noqa: SLF001
        return cls(rows, labels, classes=classes, neighbors=estimator.n_neighbors, cosine=cosine)

    def __call__(self, pixels: Floats, exact_votes: Callable[[Array], Array]) -> Array:
        """Return the fraction of neighbors of each class.

        Parameters
        ----------
        pixels
            Bands of pixels, float32 (C, n).
        exact_votes
            Function from rows (m, C) to fractions (m, classes), for pixels whose neighbors rounding may change.

        Returns
        -------
        numpy.ndarray
            Fractions, float32 (n, classes).
        """
        count = pixels.shape[1]
        size = min(max(_BLOCK // self._weights.shape[1], 64), count)
        extended = np.ones((len(pixels) + 1, size), np.float32)
        scores = np.empty((size, self._weights.shape[1]), np.float32)
        votes = np.empty((count, self._classes), np.float32)
        certain = np.empty(count, bool)
        for start in range(0, count, size):
            part = slice(start, min(start + size, count))
            width = part.stop - start
            np.subtract(pixels[:, part], self._center, out=extended[:-1, :width])
            nearest, gap = self._nearest(extended[:, :width], scores[:width])
            length = np.sqrt(np.einsum("cn,cn->n", extended[:-1, :width], extended[:-1, :width]))
            certain[part] = gap > self._bound * (length * self._longest[0] + self._longest[1])
            flat = self._labels[nearest] + np.arange(width) * self._classes
            counts = np.bincount(flat.ravel(), minlength=width * self._classes)
            votes[part] = counts.reshape(width, -1) / self._neighbors
        if not certain.all():  # NaN is never certain
            votes[~certain] = exact_votes(np.ascontiguousarray(pixels[:, ~certain].T, self._dtype))
        return votes

    def _nearest(self, extended: Floats, scores: Floats) -> tuple[Array, Floats]:
        """Return the nearest rows (k, n), and the difference of the scores of row k + 1 and row k."""
        # By torch, which runs on one core in each thread of the pool; the BLAS of numpy starts further threads.
        torch.mm(torch.from_numpy(extended).T, torch.from_numpy(self._weights), out=torch.from_numpy(scores))
        flat, starts = scores.reshape(-1), np.arange(len(scores)) * scores.shape[1]
        nearest = np.empty((self._neighbors, len(scores)), np.intp)
        last = scores[:, 0]
        for position in nearest:
            np.argmin(scores, axis=1, out=position)
            last = flat[starts + position]
            flat[starts + position] = np.inf
        return nearest, scores.min(axis=1) - last

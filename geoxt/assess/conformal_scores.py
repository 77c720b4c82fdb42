"""Conformity scores of classes, and the conformal quantile."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Literal

import numpy as np

from geoxt.errors import InputError
from geoxt.types import Array

Exchangeable = Literal["pixels", "blocks"]
"""Units whose order does not matter: scores of pixels, or blocks of pixels."""
Method = Literal["lac", "aps"]
"""Conformity score: "lac", least ambiguous set-valued classifier; "aps", adaptive prediction sets."""


def lac(probabilities: Array) -> Array:
    """Return 1 minus the probability of each class (…, class) (Sadinle et al. 2019)."""
    scores: Array = 1 - probabilities
    return scores


def aps(probabilities: Array) -> Array:
    """Return the cumulative probability of each class (…, class), summed from the largest down (Romano et al. 2020)."""
    order = np.argsort(-probabilities, axis=-1, kind="stable")
    sums = np.cumsum(np.take_along_axis(probabilities, order, -1), axis=-1)
    scores = np.empty_like(probabilities)
    np.put_along_axis(scores, order, sums, -1)
    return scores


SCORES: Mapping[Method, Callable[[Array], Array]] = {"lac": lac, "aps": aps}
"""Scores of all classes by method: low for classes that conform."""


def conformal_quantile(scores: Array, alpha: float) -> float:
    """Return the threshold that a new score exceeds with a probability of at most `alpha`; infinite for few scores.

    It is the k-th smallest of n scores, k = ceil((n + 1)(1 - alpha)).
    """
    rank = required_rank(len(scores), alpha)
    return float(np.partition(scores, rank - 1)[rank - 1]) if rank <= len(scores) else math.inf


def hierarchical_quantile(scores: Array, blocks: Array, alpha: float) -> float:
    """Return the threshold that a score of a new block exceeds with a probability of at most `alpha`.

    The quantile of scores with weights 1 / ((K + 1) n) of the n scores of a block, for K blocks, and of an infinite
    score with the weight 1 / (K + 1): infinite for few blocks. With one score in each block, that of
    `conformal_quantile`.

    References
    ----------
    Lee, Barber and Willett 2023, Distribution-free inference with hierarchical data, section 3.
    https://arxiv.org/abs/2306.06342
    Dunn, Wasserman and Ramdas 2023, Distribution-free prediction sets for two-layer hierarchical models.
    https://doi.org/10.1080/01621459.2022.2060112
    """
    _, index, sizes = np.unique(blocks, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(1 / sizes[index[order]]) >= (len(sizes) + 1) * (1 - alpha) - 1e-9
    return float(scores[order[reached.argmax()]]) if reached.any() else math.inf


def required_rank(count: int, alpha: float) -> int:
    """Return ceil((n + 1)(1 - alpha)), exact for decimal fractions."""
    return max(math.ceil((count + 1) * (1 - alpha) - 1e-9), 1)


def required_pixels(alpha: float) -> int:
    """Return the smallest number of calibration pixels, or blocks, for which the threshold is finite."""
    return max(math.ceil(1 / alpha - 1 - 1e-9), 1)


def require_alpha(alpha: float) -> None:
    """Raise if `alpha` is not a probability between 0 and 1.

    Raises
    ------
    InputError
        If it is not a number between 0 and 1.
    """
    if not isinstance(alpha, Real) or not 0 < alpha < 1:
        problem = f"Cannot calibrate sets for alpha={alpha!r}."
        raise InputError(problem, remedy="Pass {alpha:0.1}, between 0 and 1.", value=alpha, argument="alpha")

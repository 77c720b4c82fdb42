"""Sample sizes: of the whole sample for a target standard error, and of each stratum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from geoxt.assess.survey import by_label
from geoxt.errors import InputError
from geoxt.types import Array, Floats

Allocation = Literal["proportional", "equal", "neyman"]
EXPECTED_REMEDY = "Pass {expected} with the expected proportion of each stratum, such as its user's accuracy."


def standard_deviations(expected: Mapping[str, float] | None, names: Sequence[str], purpose: str) -> Floats:
    """Return the standard deviation of an indicator in each stratum, from its expected proportion.

    Raises
    ------
    InputError
        If a stratum has no expected proportion, or one is outside 0 to 1.
    """
    expected = by_label(expected)
    if not isinstance(expected, Mapping) or {*expected} != {*names}:
        keys = list(expected) if isinstance(expected, Mapping) else expected
        problem = f"Cannot {purpose}: proportions are expected for {keys}, and the strata are {list(names)}."
        raise InputError(problem, remedy=EXPECTED_REMEDY, argument="expected")
    try:
        proportions = np.array([float(expected[name]) for name in names])
    except (TypeError, ValueError) as error:
        problem = f"Cannot {purpose}: the expected proportions {[*expected.values()]} are not numbers."
        raise InputError(problem, remedy=EXPECTED_REMEDY, argument="expected") from error
    if not ((proportions >= 0) & (proportions <= 1)).all():
        problem = f"Cannot {purpose}: the expected proportions {proportions.tolist()} are not within 0 and 1."
        raise InputError(problem, remedy=EXPECTED_REMEDY, argument="expected")
    return np.sqrt(proportions * (1 - proportions))


def sample_size(sizes: Array, deviations: Floats, target_se: float, allocation: Allocation) -> int:
    """Return the number of pixels for a standard error of a proportion over all strata.

    References
    ----------
    Cochran 1977, Sampling Techniques, equation 5.23, with the fraction of the sample that the allocation draws in each
    stratum; for Neyman allocation Olofsson et al. 2014, equation 13. https://doi.org/10.1016/j.rse.2014.02.015
    """
    if not 0 < target_se < 1:
        problem = f"Cannot size a sample for a standard error of {target_se}."
        raise InputError(problem, remedy="Pass {target_se} between 0 and 1.", value=target_se, argument="target_se")
    shares = sizes / sizes.sum()
    variance = target_se**2 + (shares * deviations**2).sum() / sizes.sum()
    spread = shares * deviations
    if allocation == "neyman":
        numerator = spread.sum() ** 2
    elif allocation == "proportional":
        numerator = spread @ deviations
    else:
        numerator = len(sizes) * (spread**2).sum()
    return max(int(np.ceil(numerator / variance - 1e-9)), 1)


def allocate(
    count: int,
    sizes: Array,
    allocation: Allocation,
    deviations: Floats | None,
    min_per_class: int,
    names: Sequence[str],
) -> Array:
    """Return the number of pixels to draw in each stratum; they add up to `count`.

    Parameters
    ----------
    count
        Size of the sample.
    sizes
        Pixels of each stratum.
    allocation
        "proportional" to the sizes, "equal", or "neyman": proportional to size times standard deviation.
    deviations
        Standard deviation in each stratum, for "neyman".
    min_per_class
        Least number in each stratum, as far as it has pixels; taken from the others.
    names
        Names of the strata.

    Raises
    ------
    InputError
        If the sample cannot hold that number in each stratum, or is larger than the population.

    References
    ----------
    Neyman 1934, On the two different aspects of the representative method. https://doi.org/10.2307/2342192
    """
    least = np.minimum(min_per_class, sizes)
    if count < least.sum() or count > sizes.sum():
        problem = f"Cannot draw {count} pixels: {len(names)} strata with at least {min_per_class} each need "
        problem += f"{least.sum()}, and there are {sizes.sum()} pixels."
        raise InputError(problem, remedy="Pass another {n} or a smaller {min_per_class}.", value=count, argument="n")
    if allocation not in get_args(Allocation):
        problem = f"Cannot allocate a sample by {allocation!r}."
        remedy = "Pass {allocation:'proportional'}, 'equal' or 'neyman'."
        raise InputError(problem, remedy=remedy, value=allocation, argument="allocation")
    weights = np.ones(len(sizes)) if allocation == "equal" else sizes.astype(float)
    if allocation == "neyman" and deviations is not None:
        weights = sizes * deviations
    return _bounded_shares(count, weights, least, sizes)


def _bounded_shares(count: int, weights: Floats, least: Array, most: Array) -> Array:
    """Return integers in proportion to weights within bounds, that add up to a number."""
    shares = np.zeros(len(weights))
    free = np.ones(len(weights), bool)
    while True:
        remaining = count - np.where(free, 0, shares).sum()
        total = weights[free].sum()
        shares[free] = remaining * (weights[free] / total if total > 0 else 1 / max(free.sum(), 1))
        low, high = free & (shares < least), free & (shares > most)
        excess = (least - shares)[low].sum() - (shares - most)[high].sum()
        bound = low if excess >= 0 and low.any() else high  # the larger violation first, as the other may vanish
        if not bound.any():
            break
        shares = np.where(bound, np.where(low, least, most), shares)
        free &= ~bound
    counts = np.floor(shares + 1e-9).astype(np.int64)
    order = np.argsort(-(shares - counts), kind="stable")
    for index in order[counts[order] < most[order]][: count - int(counts.sum())]:
        counts[index] += 1
    return counts

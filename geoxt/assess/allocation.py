"""Sample sizes: of the whole sample for a target standard error, and of each stratum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Literal, get_args

import numpy as np

from geoxt.assess.survey import by_label
from geoxt.errors import InputError
from geoxt.types import Array, Floats

Allocation = Literal["proportional", "equal", "neyman", "optimal for one class"]
"""Rule by which a sample is divided among the strata."""
Measure = Literal["all", "area", "users", "producers"]
"""Estimate of one class: its fraction of the area, its user's or its producer's accuracy, or these three."""
OPTIMAL = ("neyman", "optimal for one class")
"""Allocations by size times standard deviation."""
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


def class_deviations(
    expected: Mapping[str, float] | None,
    names: Sequence[str],
    sizes: Array,
    target_class: str | None,
    measure: Measure,
    strata_are_classes: bool,  # noqa: FBT001 (of two callers)
) -> Floats:
    """Return the standard deviations of strata whose Neyman allocation is optimal for one class.

    Parameters
    ----------
    expected
        Expected proportion of the class in each stratum.
    names, sizes
        Names of the strata, and their pixels.
    target_class
        Name of the class.
    measure
        Estimate whose variance is to be small; "all": the sum of the three variances.
    strata_are_classes
        Whether the strata are the classes of the map.

    Returns
    -------
    numpy.ndarray
        Shape (strata,): the variance of the measure is the sum of (fraction of the pixels * deviation)² / sample size
        over strata.

    Raises
    ------
    InputError
        If the class is missing or is not a class of the map, or expected proportions are missing or 0 for all strata.

    References
    ----------
    Olofsson et al. 2014, equations 6, 7 and 10. https://doi.org/10.1016/j.rse.2014.02.015
    Wagner and Stehman 2015, Optimizing sample size allocation to strata for estimating area and map accuracy.
    https://doi.org/10.1016/j.rse.2015.06.027
    """
    if target_class is None:
        problem = "Cannot allocate a sample that is optimal for one class: the class is not given."
        raise InputError(problem, remedy="Pass {target_class}, the name of the class.", argument="target_class")
    if measure not in get_args(Measure):
        problem = f"Cannot allocate a sample that is optimal for the measure {measure!r} of one class."
        remedy = "Pass {measure:'all'}, 'area', 'users' or 'producers'."
        raise InputError(problem, remedy=remedy, value=measure, argument="measure")
    if strata_are_classes and target_class not in names:
        problem = (
            f"Cannot allocate a sample that is optimal for {target_class!r}: the classes of the map are {[*names]}."
        )
        raise InputError(
            problem, remedy="Pass {target_class}, one of them.", value=target_class, argument="target_class"
        )
    if measure != "area" and not strata_are_classes:
        problem = (
            f"Cannot allocate a sample that is optimal for {measure!r}: the strata are not the classes of the map."
        )
        raise InputError(problem, remedy="Pass {measure:'area'} or {strata:'classes'}.", argument="measure")
    deviations = standard_deviations(expected, names, f"allocate the sample for {target_class!r}")
    if measure == "area":
        return deviations
    assert expected is not None
    weights = sizes / sizes.sum()
    is_class = np.array([name == target_class for name in names])
    proportions = np.array([float(by_label(expected)[name]) for name in names])
    area = float(weights @ proportions)
    if area <= 0:
        problem = f"Cannot allocate the sample for {target_class!r}: its expected proportion is 0 in all strata."
        raise InputError(problem, remedy=EXPECTED_REMEDY, argument="expected")
    producers = float((weights * proportions)[is_class].sum()) / area
    by_measure = {
        "area": deviations,
        "users": np.where(is_class, deviations / weights, 0),  # other strata add no variance
        # residuals of the ratio P: 1 - P for pixels mapped as the class, P for omitted pixels, over the class area
        "producers": np.where(is_class, 1 - producers, producers) * deviations / area,
    }
    if measure == "all":
        return np.asarray(np.sqrt(sum(part**2 for part in by_measure.values())))
    return by_measure[measure]


def sample_size(sizes: Array, deviations: Floats, target_se: float, allocation: Allocation) -> int:
    """Return the number of pixels for a standard error of a proportion over all strata.

    References
    ----------
    Cochran 1977, Sampling Techniques, equation 5.23, with the fraction of the sample that the allocation draws in each
    stratum; for Neyman allocation Olofsson et al. 2014, equation 13. https://doi.org/10.1016/j.rse.2014.02.015
    """
    if not isinstance(target_se, Real) or not 0 < target_se < 1:
        problem = f"Cannot size a sample for a standard error of {target_se!r}."
        raise InputError(problem, remedy="Pass {target_se} between 0 and 1.", value=target_se, argument="target_se")
    shares = sizes / sizes.sum()
    variance = target_se**2 + (shares * deviations**2).sum() / sizes.sum()
    spread = shares * deviations
    if allocation in OPTIMAL:
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
        "proportional" to the sizes, "equal", or "neyman" and "optimal for one class": proportional to size times
        standard deviation.
    deviations
        Standard deviation in each stratum, for "neyman" and "optimal for one class".
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
        remedy = "Pass {allocation:'proportional'}, 'equal', 'neyman' or 'optimal for one class'."
        raise InputError(problem, remedy=remedy, value=allocation, argument="allocation")
    weights = np.ones(len(sizes)) if allocation == "equal" else sizes.astype(float)
    if allocation in OPTIMAL and deviations is not None:
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

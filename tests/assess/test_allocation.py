"""Sizes of samples for a standard error, and their allocation to strata."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from odc.geo.xr import wrap_xr

from geoxt import assess
from geoxt.assess.allocation import allocate, class_deviations, sample_size, standard_deviations
from geoxt.errors import InputError
from geoxt.testing import make_grid


@pytest.mark.parametrize("allocation", ["proportional", "equal", "neyman"])
def test_each_allocation_reaches_the_standard_error(allocation):
    sizes, deviations = np.array([9_000, 3_000, 600]), np.array([0.3, 0.45, 0.5])
    count = sample_size(sizes, deviations, 0.02, allocation)
    drawn = allocate(count, sizes, allocation, deviations, 2, "abc")
    weights = sizes / sizes.sum()
    variance = (weights**2 * deviations**2 * (1 / drawn - 1 / sizes)).sum()
    assert np.sqrt(variance) == pytest.approx(0.02, rel=0.01)


def test_sample_size_and_allocation_of_olofsson_2014():
    """Section 5.1.1: 641 pixels for a standard error of 0.01, with these mapped shares and user's accuracies."""
    sizes = np.array([200_000, 150_000, 3_200_000, 6_450_000])
    names = ("loss", "gain", "forest", "other")
    deviations = standard_deviations(dict(zip(names, (0.7, 0.6, 0.9, 0.95), strict=True)), names, "size")
    assert sample_size(sizes, deviations, 0.01, "neyman") == 641
    assert allocate(640, sizes, "equal", None, 2, names).tolist() == [160] * 4
    assert allocate(641, sizes, "proportional", None, 2, names).tolist() == [13, 10, 205, 413]
    assert allocate(641, sizes, "proportional", None, 75, names).tolist() == [75, 75, 163, 328]
    optimal = allocate(641, sizes, "neyman", deviations, 2, names)
    assert_allclose(optimal, 641 * sizes * deviations / (sizes @ deviations), atol=1)
    assert optimal.sum() == 641


def test_allocation_is_bounded_by_the_pixels_of_a_stratum():
    assert allocate(100, np.array([5, 1_000, 1_000]), "equal", None, 10, "abc").tolist() == [5, 48, 47]
    assert allocate(2_005, np.array([5, 1_000, 1_000]), "equal", None, 10, "abc").tolist() == [5, 1_000, 1_000]
    with pytest.raises(InputError, match="3 strata with at least 10 each need 25"):
        allocate(20, np.array([5, 1_000, 1_000]), "equal", None, 10, "abc")


CONFUSION = np.array(
    [[0.014, 0, 0.003, 0.003], [0.001, 0.009, 0.0025, 0.0025], [0.002, 0, 0.288, 0.03], [0.004, 0.002, 0.025, 0.614]]
)
"""Fractions of the area (map class, reference class) of the calculator of Wagner and Stehman 2015."""


def optimal(measure, count=1000):
    sizes, names = (CONFUSION.sum(1) * 1_000_000).round().astype(int), list("abcd")
    expected = dict(zip(names, CONFUSION[:, 0] / CONFUSION.sum(1), strict=True))
    deviations = class_deviations(expected, names, sizes, "a", measure, True)
    return sizes / sizes.sum() * deviations, allocate(count, sizes, "optimal for one class", deviations, 1, names)


def test_allocation_of_wagner_and_stehman_2015():
    """Their K: the variances of user's and producer's accuracy and area of the first class, times the sample sizes."""
    inside, total = CONFUSION[:, 0], CONFUSION[:, 0].sum()
    outside = CONFUSION[:, 1:].sum(1)
    users = inside[0] * outside[0] / CONFUSION[0].sum() ** 2
    producers = inside[0] ** 2 * inside * outside / total**4
    producers[0] = inside[1:].sum() ** 2 * inside[0] * outside[0] / total**4
    sums = producers + inside * outside + np.array([users, 0, 0, 0])
    spread, counts = optimal("all")
    assert_allclose(spread**2, sums)
    assert_allclose(counts, 1000 * np.sqrt(sums) / np.sqrt(sums).sum(), atol=1)
    assert optimal("users")[1].tolist() == [997, 1, 1, 1]


@pytest.mark.parametrize("measure", ["area", "users", "producers"])
def test_optimal_allocations_have_the_standard_error_of_the_estimate(measure):
    """The variance is that of `estimate_from_counts`, and smaller than with any shift of pixels between strata."""
    spread, counts = optimal(measure)
    table = np.round(CONFUSION / CONFUSION.sum(1, keepdims=True) * 4_000).astype(int)
    estimate = getattr(assess.estimate_from_counts(table, CONFUSION.sum(1), interval="normal"), measure)
    assert_allclose(estimate.se[0] * np.sqrt(4_000), np.sqrt((spread**2).sum()), rtol=5e-3)
    variances = [
        (spread**2 / np.maximum(counts + shift * (np.eye(4)[i] - np.eye(4)[j]), 0.5)).sum()
        for i, j in np.ndindex(4, 4)
        for shift in (0, 3)
        if counts[j] > shift
    ]
    assert np.argmin(variances) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "class is not given. Pass target_class="),
        ({"target_class": "lake"}, r"optimal for 'lake': the classes of the map are \['1', '2'\]"),
        ({"target_class": "1", "measure": "f1"}, "Pass measure='all', 'area', 'users' or 'producers'"),
        ({"target_class": "1", "expected": None}, "allocate the sample for '1': proportions are expected for None"),
        ({"target_class": "1", "expected": {"1": 0, "2": 0}}, "proportion is 0 in all strata"),
        ({"target_class": "1", "n": None, "target_se": 0.1}, "standard error of three estimates"),
        ({"target_class": "1", "strata": "layer"}, "strata are not the classes of the map. Pass measure='area' or"),
        ({"target_class": "1", "allocation": "equal"}, "by 'equal' for the class '1'"),
    ],
)
def test_contradicting_allocations_for_one_class_raise(arguments, message):
    layer = wrap_xr((np.indices((20, 20)).sum(0) % 2 + 1).astype("uint8"), make_grid((20, 20)))
    options = {"n": 20, "allocation": "optimal for one class", "expected": {"1": 0.8, "2": 0.1}} | arguments
    if options.get("strata") == "layer":
        options["strata"] = layer
    with pytest.raises(InputError, match=message):
        assess.sample_design(layer, **options)


def test_samples_that_are_optimal_for_one_class():
    layer = wrap_xr(np.where(np.arange(40) < 10, 1, 2)[None].repeat(40, 0).astype("uint8"), make_grid((40, 40)))
    options = {"allocation": "optimal for one class", "target_class": "1", "expected": {"1": 0.8, "2": 0.02}}
    drawn = {m: assess.sample_design(layer, 100, measure=m, **options) for m in ("users", "area", "all")}
    counts = {m: int((sample["stratum"] == "1").sum()) for m, sample in drawn.items()}
    assert counts["users"] == 98
    assert counts["area"] == round(100 * 0.25 * 0.4 / (0.25 * 0.4 + 0.75 * 0.14))
    sized = assess.sample_design(layer, target_se=0.05, measure="users", **options)
    fraction = 0.8 * 0.2 / 0.05**2
    assert (sized["stratum"] == "1").sum() == pytest.approx(fraction / (1 + fraction / 400), abs=1.5)

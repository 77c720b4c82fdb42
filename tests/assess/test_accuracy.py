"""Accuracy and areas from counts, against the worked examples of the papers and against simulated surveys."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from geoxt import assess
from geoxt.errors import AssessmentWarning, InputError

LAND_CHANGE = [[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]
PIXELS = [200_000, 150_000, 3_200_000, 6_450_000]
HECTARES_PER_PIXEL = 0.09
STRATA = "AAAAAAAAAABBBBBBBBBBCCCCCCCCCCDDDDDDDDDD"
MAPPED = "AAAAAAABBBABBBBBBBBBBBCCCCCCBBDDDDDDDDDD"
REFERENCE = "AAAAACBABCABBBBBAABBCCCCCDDBBADDDDDDDCCB"


def rounded(numbers, digits=0):
    """The digits that a paper prints."""
    return np.round(numbers, digits).tolist()


def test_olofsson_2014():
    """The example of section 5.2: Table 8 and the areas and accuracies of the text."""
    estimates = assess.estimate_from_counts(LAND_CHANGE, PIXELS)
    assert rounded(estimates.area.value * HECTARES_PER_PIXEL) == [21_158, 11_686, 285_770, 581_386]
    assert rounded(estimates.area.se * HECTARES_PER_PIXEL * 1.96) == [6_158, 3_756, 15_510, 16_282]
    assert_allclose(estimates.area.ci95, estimates.area.se * 1.96, rtol=2e-5)
    assert rounded(estimates.area.value)[0] == 235_086
    assert rounded(estimates.users.value, 2) == [0.88, 0.73, 0.93, 0.96]
    assert rounded(estimates.users.ci95, 2) == [0.07, 0.10, 0.04, 0.02]
    assert rounded(estimates.producers.value, 2) == [0.75, 0.85, 0.93, 0.96]
    assert rounded([estimates.overall.value, estimates.overall.ci95], 2) == [0.95, 0.02]
    assert_allclose(estimates.mapped_area, PIXELS)
    assert_allclose(estimates.error_matrix.value.sum(), 1)


def cross_table():
    counts = np.zeros((4, 4, 4), int)
    for letters in zip(STRATA, MAPPED, REFERENCE, strict=True):
        counts[tuple("ABCD".index(letter) for letter in letters)] += 1
    return counts


def test_stehman_2014():
    """The example of section 4, whose strata are not the classes of the map."""
    estimates = assess.estimate_from_counts(cross_table(), [40_000, 30_000, 20_000, 10_000], classes=list("ABCD"))
    assert rounded([estimates.overall.value, estimates.overall.se], 3) == [0.63, 0.085]
    assert rounded(estimates.area.value[[0, 2]] / 1e5, 3) == [0.35, 0.20]
    assert rounded(estimates.area.se[[0, 2]] / 1e5, 3) == [0.082, 0.064]
    assert rounded([estimates.users.value[1], estimates.users.se[1]], 3) == [0.574, 0.125]
    assert rounded([estimates.producers.value[1], estimates.producers.se[1]], 3) == [0.794, 0.117]
    assert rounded(estimates.error_matrix.value[1, 2], 3) == 0.08
    assert estimates.classes == ("A", "B", "C", "D")


def test_accuracy_of_a_census_is_exact():
    rng = np.random.default_rng(0)
    table = rng.integers(1, 40, (3, 3))
    estimates = assess.estimate_from_counts(table, table.sum(1))
    assert_allclose(estimates.error_matrix.value, table / table.sum())
    assert_allclose(estimates.overall.value, np.trace(table) / table.sum())
    assert_allclose(estimates.users.value, np.diag(table) / table.sum(1))
    assert_allclose(estimates.producers.value, np.diag(table) / table.sum(0))
    precision, recall = estimates.users.value, estimates.producers.value
    assert_allclose(estimates.f1.value, 2 * precision * recall / (precision + recall))


@pytest.mark.slow
def test_intervals_cover_the_population_in_95_of_100_surveys():
    rng = np.random.default_rng(1)
    population = np.array([[9_000, 700, 300], [800, 5_000, 200], [100, 400, 1_500]])
    share, accuracy = population.sum(0) / population.sum(), np.trace(population) / population.sum()
    producers, users = np.diag(population) / population.sum(0), np.diag(population) / population.sum(1)
    hits, draws = np.zeros(4), 2_000
    for _ in range(draws):
        counts = [rng.multivariate_hypergeometric(row, n) for row, n in zip(population, (200, 150, 150), strict=True)]
        drawn = assess.estimate_from_counts(np.array(counts), population.sum(1))
        truths = ((drawn.overall, accuracy), (drawn.area, share * population.sum()))
        truths += ((drawn.producers, producers), (drawn.users, users))
        hits += [np.mean(np.abs(estimate.value - truth) <= estimate.ci95) for estimate, truth in truths]
    assert ((hits / draws > 0.93) & (hits / draws < 0.97)).all(), hits / draws


def test_exact_intervals_are_those_of_a_binomial():
    """Clopper-Pearson of 4 of 5, 0 of 5 and 5 of 5, as tabulated: 0.2836 to 0.9949, 0 to 0.5218, 0.4782 to 1."""
    estimates = assess.estimate_from_counts([[4, 1], [0, 5]], [50_000, 50_000], interval="exact")
    assert_allclose([estimates.users.lower[0], estimates.users.upper[0]], [0.2836, 0.9949], atol=5e-5)
    assert_allclose([estimates.users.lower[1], estimates.users.upper[1]], [0.4782, 1], atol=5e-5)
    wrong = assess.estimate_from_counts([[0, 5], [1, 4]], [50_000, 50_000], interval="exact")
    assert_allclose([wrong.users.lower[0], wrong.users.upper[0]], [0, 0.5218], atol=5e-5)
    normal = assess.estimate_from_counts([[4, 1], [0, 5]], [50_000, 50_000])
    assert normal.users.upper[0] == 1
    assert normal.users.upper[1] == normal.users.lower[1] == 1


def test_sizes_in_any_unit_give_the_same_accuracy():
    in_pixels = assess.estimate_from_counts(LAND_CHANGE, PIXELS)
    in_shares = assess.estimate_from_counts(LAND_CHANGE, np.array(PIXELS) / sum(PIXELS))
    assert_allclose(in_shares.producers.se, in_pixels.producers.se)
    assert_allclose(in_shares.area.se * sum(PIXELS), in_pixels.area.se)


def test_names_of_a_table_are_kept_in_any_order_of_sizes():
    names = ["loss", "gain", "forest", "other"]
    table = pd.DataFrame(LAND_CHANGE, index=names, columns=names)
    estimates = assess.estimate_from_counts(table, dict(reversed(list(zip(names, PIXELS, strict=True)))))
    frame = estimates.to_dataframe()
    assert list(frame.index) == names
    assert_allclose(frame.loc["loss", "area"], 235_086, atol=0.5)
    assert "loss" in repr(estimates)


def test_classes_without_pixels_have_no_accuracy():
    counts = np.zeros((2, 3, 3), int)
    counts[0, 0, 0], counts[1, 1, 1], counts[1, 1, 0] = 5, 4, 1  # class 2 is nowhere
    estimates = assess.estimate_from_counts(counts, [100, 100])
    assert np.isnan([estimates.users.value[2], estimates.producers.value[2], estimates.f1.value[2]]).all()
    assert estimates.area.value[2] == 0


def test_a_stratum_of_one_pixel_has_no_variance():
    with pytest.warns(AssessmentWarning, match=r"strata \[1\] have one sampled pixel"):
        estimates = assess.estimate_from_counts([[5, 1], [0, 1]], [1_000, 1_000])
    assert np.isnan(estimates.overall.se)
    assert_allclose(estimates.overall.value, (5 / 6 + 1) / 2)


@pytest.mark.parametrize(
    ("counts", "sizes", "message"),
    [
        ([[1, 2], [0, 0]], [10, 10], r"the strata \[1\] have no sampled pixel"),
        ([[1, 2.5], [1, 1]], [10, 10], "negative, fractional"),
        ([[1, -2], [1, 1]], [10, 10], "negative, fractional"),
        ([[1, 2, 3], [1, 1, 3]], [10, 10], "2 strata are not the 3 classes"),
        ([[1, 2], [1, 1]], [10, 0], "2 positive sizes"),
        ([[1, 2], [1, 1]], [10, 10, 10], "2 positive sizes"),
        ([[1, 2], [1, 1]], {0: 10, 2: 10}, r"sizes are given for \[0, 2\], and the strata are \[0, 1\]"),
        ([1, 2], [10, 10], r"counts of shape \(2,\)"),
        (np.ones((2, 3, 2)), [10, 10], "3 map classes and 2 reference classes"),
    ],
)
def test_contradicting_counts_raise(counts, sizes, message):
    with pytest.raises(InputError, match=message):
        assess.estimate_from_counts(counts, sizes)


def test_a_table_whose_strata_are_other_classes_raises():
    table = pd.DataFrame([[3, 1], [1, 3]], index=["north", "south"], columns=["forest", "other"])
    with pytest.raises(InputError, match="2 strata are not the 2 classes of the map"):
        assess.estimate_from_counts(table, {"north": 10, "south": 10})

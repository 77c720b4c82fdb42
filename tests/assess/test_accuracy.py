"""Accuracy and areas from counts, against the worked examples of the papers and against simulated surveys."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import xarray as xr
from numpy.testing import assert_allclose

from geoxt import assess
from geoxt.assess.accuracy import accuracy_of
from geoxt.assess.allocation import standard_deviations
from geoxt.assess.survey import Survey
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
@pytest.mark.parametrize(
    ("fractions", "accuracies", "sizes"),
    [
        ([0.5, 0.3, 0.2], [0.85, 0.8, 0.9], [100, 60, 40]),
        ([0.6, 0.3, 0.06, 0.02, 0.015, 0.005], [0.95, 0.9, 0.8, 0.75, 0.7, 0.85], [50] * 6),
        ([0.35, 0.2, *[0.045] * 10], [0.87] * 12, [100, 60, *[14] * 10]),
    ],
)
def test_intervals_cover_the_population_in_95_of_100_surveys(fractions, accuracies, sizes):
    rng, shares = np.random.default_rng(1), np.array(fractions)
    population = np.array([np.where(np.arange(len(shares)) == k, 0, shares) for k in range(len(shares))])
    population *= ((1 - np.array(accuracies)) / population.sum(1))[:, None]
    np.fill_diagonal(population, accuracies)
    overall, area = shares @ accuracies, shares @ population
    producers = shares * accuracies / area
    truths = {"overall": overall, "area": area, "users": accuracies, "producers": producers}
    hits, normal = {name: [] for name in truths}, []
    for _ in range(500):
        counts = np.array([rng.multinomial(n, row) for row, n in zip(population, sizes, strict=True)])
        drawn = assess.estimate_from_counts(counts, shares)
        for name, truth in truths.items():
            estimate = getattr(drawn, name)
            inside = (estimate.lower <= truth) & (truth <= estimate.upper)
            hits[name].append(np.where(np.isfinite(estimate.value), inside, np.nan))
        normal.append(np.abs(drawn.area.value - area) <= drawn.area.ci95)
    for name, inside in hits.items():  # by class the coverage of counts depends on the proportion
        assert 0.93 < np.nanmean(inside) < 0.98, name
        assert np.nanmean(inside, 0).min() > 0.86, name
    assert np.mean(hits["area"]) > np.mean(normal)


def limits(hits, count):
    """Jeffreys limits, from scipy's distribution."""
    ends = scipy.stats.beta.ppf([0.025, 0.975], hits + 0.5, count - hits + 0.5)
    return (ends[0] if hits > 0 else 0.0), (ends[1] if hits < count else 1.0)


def test_intervals_of_areas_are_the_root_of_the_sum_of_squares():
    """Strata of unequal weights: the distances to the limits of each stratum are combined (Zou et al. 2009)."""
    estimates = assess.estimate_from_counts([[40, 0], [3, 17]], [9_000, 1_000])
    value, below, above = 0.1 * 17 / 20, 0.0, 0.0
    for share, hits, count in ((0.9, 0, 40), (0.1, 17, 20)):
        lower, upper = limits(hits, count)
        below += (share * (hits / count - lower)) ** 2
        above += (share * (upper - hits / count)) ** 2
    expected = [value - np.sqrt(below), value + np.sqrt(above)]
    assert_allclose([estimates.area.lower[1] / 1e4, estimates.area.upper[1] / 1e4], expected, rtol=1e-9)
    assert estimates.area.value[1] + estimates.area.ci95[1] < 1_100
    assert estimates.area.upper[1] > 1_300
    assert_allclose([estimates.users.lower[1], estimates.users.upper[1]], limits(17, 20), rtol=1e-9)


@pytest.mark.parametrize(("name", "hit"), [("producers", 1), ("users", 1), ("f1", 2)])
def test_intervals_of_ratios_equal_a_search(name, hit):
    """A search through all ratios, for two strata of other classes than the map's."""
    counts = np.array([[[50, 2], [1, 7]], [[20, 0], [3, 12]]])
    shares = np.array([0.8, 0.2])
    estimate = getattr(assess.estimate_from_counts(counts, shares), name)
    sizes, hits = counts.sum((1, 2)), counts[:, 1, 1]
    misses = {"producers": counts[:, 0, 1], "users": counts[:, 1, 0], "f1": counts[:, 0, 1] + counts[:, 1, 0]}[name]
    p, q = hits / sizes, misses / sizes
    (low, high), (few, many) = (
        np.transpose([limits(*pair) for pair in zip(x, sizes, strict=True)]) for x in (hits, misses)
    )
    correlation = (shares**2 * p * q / sizes).sum()
    correlation /= np.sqrt(np.prod([(shares**2 * x * (1 - x) / sizes).sum() for x in (p, q)]))
    included = []
    for ratio in np.linspace(0, 1, 2_001):
        difference = (shares * (hit * (1 - ratio) * p - ratio * q)).sum()
        right, wrong = shares * hit * (1 - ratio), shares * ratio
        below, above = (
            np.sqrt(
                ((right * x) ** 2).sum()
                + ((wrong * y) ** 2).sum()
                + 2 * correlation * np.sqrt(((right * x) ** 2).sum() * ((wrong * y) ** 2).sum())
            )
            for x, y in ((p - low, many - q), (high - p, q - few))
        )
        if -above <= difference <= below:
            included.append(ratio)
    assert_allclose([estimate.lower[1], estimate.upper[1]], [included[0], included[-1]], atol=6e-4)


def test_strata_of_similar_weights_are_joined():
    """Proportional allocation: the interval of overall accuracy is that of a simple random sample."""
    estimates = assess.estimate_from_counts([[45, 3, 2], [1, 17, 2], [0, 1, 29]], [5_000, 2_000, 3_000])
    assert_allclose([estimates.overall.lower, estimates.overall.upper], limits(91, 100), rtol=1e-9)
    assert estimates.overall.upper - estimates.overall.value < estimates.overall.value - estimates.overall.lower


def test_clusters_have_the_effective_size_of_their_design_effect():
    """Plots of equal pixels: each counts once, with Student's t."""
    right = np.repeat(np.arange(20) < 14, 10).astype(int)
    survey = Survey(
        weights=np.full(200, 5.0), strata=np.zeros(200, int), sizes=np.array([1000.0]), clusters=np.arange(200) // 10
    )
    overall = accuracy_of(survey, np.ones(200, int), right, [0, 1]).overall
    size = 19 * (1.959964 / scipy.stats.t.ppf(0.975, 19)) ** 2
    assert_allclose([overall.lower, overall.upper], limits(0.7 * size, size), rtol=1e-6)


def test_accuracies_of_clusters_have_the_design_effect_of_errors():
    """Plots of one class each, with errors nearly as independent as in a simple random sample."""
    errors = np.repeat([0, 1, 2, 3, 4], [9, 6, 2, 2, 1])  # of the 10 pixels of a plot
    wrong = (np.arange(10) < errors[:, None]).ravel()
    reference = np.repeat(np.arange(20) % 2, 10)
    survey = Survey(
        weights=np.full(200, 5.0), strata=np.zeros(200, int), sizes=np.array([1000.0]), clusters=np.arange(200) // 10
    )
    table = accuracy_of(survey, np.where(wrong, 1 - reference, reference), reference, [0, 1])
    shrunk = (1.959964 / scipy.stats.t.ppf(0.975, 19)) ** 2
    size = 0.9 * 0.1 / (errors.var(ddof=1) / 20 / 10**2) * shrunk  # 107 pixels
    assert_allclose([table.overall.lower, table.overall.upper], limits(0.9 * size, size), rtol=1e-6)
    size = 19 * shrunk  # plots
    assert_allclose([table.area.lower[0], table.area.upper[0]], 1000 * np.array(limits(0.5 * size, size)), rtol=1e-6)


def test_clusters_of_unequal_sizes_add_no_variance_of_their_sizes():
    """All pixels of a stratum are right, all of the other are wrong."""
    clusters = np.repeat(np.arange(6), [1, 5, 9, 2, 4, 7])
    strata = (clusters > 2).astype(int)
    weights = (np.array([600.0, 400.0]) / np.bincount(strata))[strata]
    survey = Survey(weights=weights, strata=strata, sizes=np.array([600.0, 400.0]), clusters=clusters)
    overall = accuracy_of(survey, np.zeros(28, int), strata, [0, 1]).overall
    assert_allclose([overall.value, overall.se], [0.6, 0], atol=1e-12)


def test_intervals_of_complete_strata_have_no_width():
    survey = Survey(weights=np.ones(10), strata=np.zeros(10, int), sizes=np.array([10.0]), fractions=np.array([1.0]))
    table = accuracy_of(survey, np.arange(10) % 2, np.arange(10) % 5 % 2, [0, 1])
    for estimate in (table.overall, table.users, table.producers, table.f1, table.area):
        assert_allclose(estimate.lower, estimate.value)
        assert_allclose(estimate.upper, estimate.value)


def test_kinds_of_intervals_are_checked():
    with pytest.raises(InputError, match=r"'wilson' intervals.*Pass interval='jeffreys', 'exact' or 'normal'"):
        assess.estimate_from_counts([[4, 1], [0, 5]], [5, 5], interval="wilson")


def test_exact_intervals_are_those_of_a_binomial():
    """Clopper-Pearson of 4 of 5, 0 of 5 and 5 of 5, as tabulated: 0.2836 to 0.9949, 0 to 0.5218, 0.4782 to 1."""
    estimates = assess.estimate_from_counts([[4, 1], [0, 5]], [50_000, 50_000], interval="exact")
    assert_allclose([estimates.users.lower[0], estimates.users.upper[0]], [0.2836, 0.9949], atol=5e-5)
    assert_allclose([estimates.users.lower[1], estimates.users.upper[1]], [0.4782, 1], atol=5e-5)
    wrong = assess.estimate_from_counts([[0, 5], [1, 4]], [50_000, 50_000], interval="exact")
    assert_allclose([wrong.users.lower[0], wrong.users.upper[0]], [0, 0.5218], atol=5e-5)
    normal = assess.estimate_from_counts([[4, 1], [0, 5]], [50_000, 50_000], interval="normal")
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


def test_labels_of_counts_and_sizes_are_matched_by_name():
    names = ["loss", "gain", "forest", "other"]
    table = pd.DataFrame(LAND_CHANGE, index=names, columns=names)
    sizes = pd.Series(PIXELS, index=names).sort_values()
    loss = assess.estimate_from_counts(LAND_CHANGE, PIXELS).area.value[0]
    for labeled in (sizes, sizes.rename_axis("stratum").to_xarray(), sizes.to_dict(), pd.Series(PIXELS)):
        for counts in (table, xr.DataArray(table)):
            assert_allclose(assess.estimate_from_counts(counts, labeled).area.value[0], loss)
        assert_allclose(assess.estimate_from_counts(LAND_CHANGE, labeled, classes=names).area.value[0], loss)
    reordered = assess.estimate_from_counts(table, sizes, classes=names[::-1])
    assert reordered.classes == tuple(names[::-1])
    assert_allclose(reordered.area.value[3], loss)
    with pytest.raises(InputError, match=r"classes are named .*'town'\], and the columns"):
        assess.estimate_from_counts(table, sizes, classes=["loss", "gain", "forest", "town"])
    with pytest.raises(InputError, match="sizes are given for"):
        assess.estimate_from_counts(table, sizes.rename({"loss": "town"}))
    with pytest.raises(InputError, match=r"the labels \['gain'\] are repeated"):
        assess.estimate_from_counts(table, sizes.rename({"loss": "gain"}))
    expected = pd.Series([0.9, 0.8], index=["gain", "loss"])
    assert_allclose(standard_deviations(expected, ["loss", "gain"], "size"), [0.4, 0.3])


def test_labels_of_three_dimensions_are_matched_by_name():
    letters = list("ABCD")
    table = xr.DataArray(
        cross_table(),
        dims=("stratum", "map", "reference"),
        coords=dict.fromkeys(("stratum", "map", "reference"), letters),
    )
    sizes = dict(zip(letters, [40_000, 30_000, 20_000, 10_000], strict=True))
    expected = assess.estimate_from_counts(cross_table(), list(sizes.values()), classes=letters)
    shuffled = table.sel(stratum=list("DBCA"), map=list("BADC"), reference=list("CDBA"))
    for classes in (None, letters):
        estimates = assess.estimate_from_counts(shuffled, sizes, classes=classes)
        order = [estimates.classes.index(letter) for letter in letters]
        assert_allclose(estimates.overall.value, expected.overall.value)
        assert_allclose(estimates.area.value[order], expected.area.value)
        assert_allclose(estimates.users.value[order], expected.users.value)
    assert assess.estimate_from_counts(table.drop_vars("map"), sizes).classes == tuple(letters)
    with pytest.raises(InputError, match=r"the map of the counts are \['A', 'B', 'C', 'X'\]"):
        assess.estimate_from_counts(table.assign_coords(map=list("ABCX")), sizes)
    with pytest.raises(InputError, match=r"and the strata are \['A', 'B', 'C', 'D'\]"):
        assess.estimate_from_counts(table, {"A": 1, "B": 1, "C": 1, "E": 1})


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
        ([["a", 2], [1, 1]], [10, 10], "no table of numbers"),
        ([[1], [1, 1]], [10, 10], "no table of numbers"),
        (np.ones((2, 3, 2)), [10, 10], "3 map classes and 2 reference classes"),
    ],
)
def test_contradicting_counts_raise(counts, sizes, message):
    with pytest.raises(InputError, match=message):
        assess.estimate_from_counts(counts, sizes)


def test_repeated_names_of_classes_raise():
    with pytest.raises(InputError, match="names of classes are repeated"):
        assess.estimate_from_counts([[5, 1], [1, 5]], [1, 1], classes=["a", "a"])


def test_a_table_whose_strata_are_other_classes_raises():
    table = pd.DataFrame([[3, 1], [1, 3]], index=["north", "south"], columns=["forest", "other"])
    with pytest.raises(InputError, match="2 strata are not the 2 classes of the map"):
        assess.estimate_from_counts(table, {"north": 10, "south": 10})

"""Sizes of samples for a standard error, and their allocation to strata."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from geoxt.assess.allocation import allocate, sample_size, standard_deviations
from geoxt.errors import InputError


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

"""Nearest neighbors by products in float32: the labels and probabilities of scikit-learn, ties included."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from geoxt.inference.neighbor_votes import NeighborVotes


def predict(estimator, rows):
    """Return the votes, and the number of rows that scikit-learn decided."""
    decided = []

    def exact(part):
        decided.append(len(part))
        return estimator.predict_proba(part)

    votes = NeighborVotes.of(estimator)(np.ascontiguousarray(rows.T), exact)
    return votes, sum(decided)


def unit(values):
    return values / np.linalg.norm(values, axis=1, keepdims=True)


CASES = {
    "unit length": unit,
    "few directions": lambda values: unit(values[np.arange(len(values)) % 8] + 0.05 * values),
    "far from the origin": lambda values: values + 1000,
    "reflectance": lambda values: np.round(values * 50 + 3000),
}


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("case", CASES)
def test_equals_scikit_learn(case, metric):
    rng = np.random.default_rng(0)
    values = CASES[case](rng.normal(size=(3200, 16))).astype(np.float32)
    labels = rng.integers(0, 7, 200)
    for neighbors in (1, 4, 5):
        model = KNeighborsClassifier(neighbors, metric=metric, algorithm="brute").fit(values[:200], labels)
        votes, decided = predict(model, values[200:])
        exact = values[200:] if metric == "euclidean" else values[200:].astype(np.float64)
        np.testing.assert_array_equal(votes, model.predict_proba(exact).astype(np.float32))
        np.testing.assert_array_equal(model.classes_[votes.argmax(1)], model.predict(exact))
        if case == "unit length":
            assert decided < 30, "nearly all are decided by float32"


def test_ties_are_left_to_scikit_learn():
    rng = np.random.default_rng(1)
    rows = rng.integers(-2, 3, (60, 16)).astype(np.float32) + np.float32(0.5)
    labels = np.array(["soil", "water", "wood"])[rng.integers(0, 3, 60)]
    model = KNeighborsClassifier(3, algorithm="brute").fit(np.r_[rows, rows], np.r_[labels, labels[::-1]])
    votes, decided = predict(model, np.r_[rows, rows[::2]])
    np.testing.assert_array_equal(votes, model.predict_proba(np.r_[rows, rows[::2]]).astype(np.float32))
    assert decided > 60


def test_all_rows_as_neighbors():
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(6, 16)).astype(np.float32)
    model = KNeighborsClassifier(6, algorithm="brute").fit(rows, [0, 0, 1, 1, 1, 2])
    votes, decided = predict(model, rng.normal(size=(9, 16)).astype(np.float32))
    np.testing.assert_allclose(votes, np.broadcast_to([2 / 6, 3 / 6, 1 / 6], (9, 3)), rtol=1e-6)
    assert decided == 0


def test_missing_values_raise():
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(20, 16)).astype(np.float32)
    model = KNeighborsClassifier(3, algorithm="brute").fit(rows, np.arange(20) % 2)
    rows[4, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        predict(model, rows)


@pytest.mark.parametrize(
    "options",
    [
        {"weights": "distance"}, {"metric": "manhattan"}, {"algorithm": "kd_tree"}, {"n_neighbors": 17},
        {"metric": "cosine", "zero": True},
    ],
)  # fmt: skip
def test_other_classifiers_are_left_to_scikit_learn(options):
    options = dict(options)
    rows = np.random.default_rng(4).normal(size=(40, 16)).astype(np.float32)
    rows[0] *= not options.pop("zero", False)
    model = KNeighborsClassifier(**({"algorithm": "brute"} | options)).fit(rows, np.arange(40) % 2)
    assert NeighborVotes.of(model) is None

"""Folds of points whose distances to training points are like those at prediction (kNNDM)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from geoxt.errors import AssessmentWarning, InputError, optional_import
from geoxt.plot import distances
from geoxt.samplers.drawing import Figure
from geoxt.splits.point_space import PointSpace, point_space
from geoxt.types import Array, Floats

Clustering = Literal["hierarchical", "kmeans"]
_SIGNIFICANCE = 0.05
"""Level of the Kolmogorov-Smirnov test between two distributions of distances."""
_EXACT = 10_000
"""Product of sample sizes below which R's ks.test, and so CAST, computes exact p-values."""
_CLEARLY = 0.9
"""Ratio of medians below which distances are clearly smaller."""
_CANDIDATES = 100
"""Number of cluster counts to try, dense at the low end."""
_MAX_HIERARCHICAL = 5_000
"""Points up to which clusters are hierarchical by default: their distance matrix takes memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointFolds:
    """Folds of points, and distances to the nearest training point, in metres or in units of the CRS."""

    labels: Array
    """Fold of each point, 0 and up. Shape (n,)."""
    at_prediction: Floats
    """Distance from each prediction point to the nearest point. Shape (prediction points,)."""
    in_folds: Floats
    """Distance from each point to the nearest point of other folds. Shape (n,)."""
    in_random_folds: Floats
    """The same for as many folds at random. Shape (n,)."""
    wasserstein: float
    """Mean difference between the distributions of `in_folds` and `at_prediction` (Wasserstein distance)."""
    unit: str
    """Unit of distances: "m", or that of the CRS."""
    clusters: int | None = None
    """Number of clusters that were merged to folds; `None` if the folds are at random, or given."""

    @property
    def optimistic(self) -> bool:
        """Whether distances in the folds are clearly smaller than at prediction, so that accuracy is overestimated."""
        return _clearly_smaller(self.in_folds, self.at_prediction)

    @property
    def random_optimistic(self) -> bool:
        """Whether distances in random folds are clearly smaller than at prediction."""
        return _clearly_smaller(self.in_random_folds, self.at_prediction)

    def plot(self, *, title: str | None = None) -> Figure:
        """Plot the distributions of distances at prediction, in the folds and in random folds.

        Returns
        -------
        matplotlib.figure.Figure

        Warns
        -----
        AssessmentWarning
            If distances in the folds, or in random folds, are clearly smaller than at prediction.
        """
        for optimistic, name in ((self.optimistic, "the folds"), (self.random_optimistic, "random folds")):
            if optimistic:
                warnings.warn(_overestimate_message(name), AssessmentWarning, stacklevel=2)
        note = "Random folds overestimate accuracy here" if self.random_optimistic else None
        curves = {"at prediction": self.at_prediction, "in the folds": self.in_folds}
        return distances(curves | {"in random folds": self.in_random_folds}, unit=self.unit, title=title or note)


def knndm(
    points: Any,
    prediction: Any,
    *,
    n_splits: int = 10,
    max_fraction: float = 0.5,
    clustering: Clustering | None = None,
    geodesic: bool | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> PointFolds:
    """Return folds of points whose distances to the nearest training point are like those at prediction.

    Points are clustered, and clusters are merged to folds. The number of clusters minimizes the difference between the
    distances between folds and the distances from prediction to training points. If points are spread over the area as
    evenly as a random sample, folds are random.

    Parameters
    ----------
    points
        Training points: a GeoDataFrame or GeoSeries, or (x and y (n, 2), crs).
    prediction
        Locations of predictions: a layer (its valid pixels), areas (a GeoDataFrame, or (geometry, crs)), or points
        like `points`.
    n_splits
        Number of folds, 2 or more.
    max_fraction
        Maximum fraction of the points in a fold, between 1 / n_splits and 1.
    clustering
        "hierarchical" (Ward) or "kmeans". By default hierarchical up to 5,000 points.
    geodesic
        Whether distances are geodesic, in metres. By default if the CRS of the points is geographic; else distances
        are in units of that CRS.
    samples
        Number of prediction points to draw from a layer or an area.
    seed
        The same seed gives the same folds.

    Returns
    -------
    PointFolds
        `labels` (n,) for cross-validation, and the distances to compare.

    Raises
    ------
    InputError
        If there are fewer points than folds, or no clusters fit into folds of `max_fraction`.
    CRSError
        If points, areas or the layer have no CRS.
    OverlapError
        If the layer has no valid pixel.

    Warns
    -----
    AssessmentWarning
        If points are farther from the prediction points than the extent of the prediction points.

    See Also
    --------
    point_folds : The same distances for given folds.
    folds : Folds of blocks.

    Examples
    --------
    >>> import numpy as np
    >>> from shapely import box
    >>> from geoxt.splits import knndm
    >>> rng = np.random.default_rng(0)
    >>> xy = np.repeat(rng.uniform(0, 1000, (20, 2)), 6, axis=0) + rng.uniform(-20, 20, (120, 2))
    >>> folds = knndm((xy, "EPSG:32632"), (box(0, 0, 1000, 1000), "EPSG:32632"), n_splits=5)
    >>> distances = folds.at_prediction, folds.in_folds, folds.in_random_folds
    >>> [int(np.median(metres)) for metres in distances]
    [100, 94, 10]
    >>> folds.random_optimistic
    True

    References
    ----------
    Linnenbrink et al. 2024, kNNDM CV: k-fold nearest-neighbour distance matching cross-validation for map accuracy
    estimation. https://doi.org/10.5194/gmd-17-5897-2024
    """
    space, predicted = point_space(points, prediction, geodesic=geodesic, samples=samples, seed=seed)
    count = len(space.coordinates)
    _require_folds(n_splits, max_fraction, count)
    at_prediction = space.nearest(predicted)
    rng = np.random.default_rng([seed, 13])
    random = _random_labels(count, n_splits, rng)
    if not _smaller(space.between(np.arange(count)), at_prediction):
        return _result(space, random, at_prediction, random)
    method = clustering or ("hierarchical" if count <= _MAX_HIERARCHICAL else "kmeans")
    best: tuple[float, int, Array] | None = None
    for number, clusters in _clusterings(space.coordinates, n_splits, method, seed):
        labels = merge_clusters(clusters, space.coordinates, n_splits)
        if np.bincount(labels).max() > max_fraction * count:
            continue
        difference = _wasserstein(space.between(labels), at_prediction)
        if best is None or difference < best[0]:
            best = difference, number, labels
    if best is None:
        problem = f"Cannot divide {count} points into {n_splits} folds of at most {max_fraction:g} of them."
        raise InputError(problem, remedy="Pass a larger {max_fraction}.", argument="max_fraction")
    return _result(space, best[2], at_prediction, random, clusters=best[1])


def point_folds(
    points: Any,
    prediction: Any,
    labels: Any,
    *,
    geodesic: bool | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> PointFolds:
    """Return given folds of points with their distances to the nearest training point, to compare with prediction.

    Parameters
    ----------
    points, prediction, geodesic, samples, seed
        As for `knndm`.
    labels
        Fold of each point, (n,), such as the block in which it lies.

    Raises
    ------
    InputError
        If labels are missing, or all the same.

    Warns
    -----
    AssessmentWarning
        If distances in the folds are clearly smaller than at prediction, so that accuracy is overestimated, or points
        are farther from the prediction points than the extent of the prediction points.

    Examples
    --------
    >>> import numpy as np
    >>> from shapely import box
    >>> from geoxt.splits import point_folds
    >>> xy = np.random.default_rng(0).uniform(0, 1000, (200, 2))
    >>> area = box(0, 0, 1000, 1000), "EPSG:32632"
    >>> point_folds((xy, "EPSG:32632"), area, xy[:, 0] // 500).optimistic
    False
    """
    space, predicted = point_space(points, prediction, geodesic=geodesic, samples=samples, seed=seed)
    values, codes = np.unique(np.asarray(labels), return_inverse=True)
    if codes.shape != (len(space.coordinates),) or len(values) < 2:
        problem = f"Cannot take {codes.size} labels of {len(values)} folds for {len(space.coordinates)} points."
        raise InputError(problem, remedy="Pass {labels} with two folds or more.", argument="labels")
    random = _random_labels(len(codes), len(values), np.random.default_rng([seed, 13]))
    folds = _result(space, codes, space.nearest(predicted), random)
    if folds.optimistic:
        warnings.warn(_overestimate_message("the folds"), AssessmentWarning, stacklevel=2)
    return folds


def _require_folds(k: int, max_fraction: float, count: int) -> None:
    if not (2 <= k <= count // 2 and k == int(k)):
        problem = f"Cannot divide {count} points into {k} folds."
        raise InputError(
            problem, remedy="Pass {n_splits:2} or more, up to half the points.", value=k, argument="n_splits"
        )
    if not 1 / k < max_fraction < 1:
        problem = f"Cannot limit {k} folds to {max_fraction:g} of the points."
        remedy = "Pass {max_fraction} between 1 / n_splits and 1."
        raise InputError(problem, remedy=remedy, value=max_fraction, argument="max_fraction")


def _random_labels(count: int, k: int, rng: np.random.Generator) -> Array:
    return rng.permutation(np.arange(count) % k)


def _clusterings(coordinates: Floats, k: int, method: str, seed: int) -> list[tuple[int, Array]]:
    """Return clusters of points for each number of clusters."""
    distinct = len(np.unique(coordinates, axis=0))
    steps = np.exp(np.linspace(np.log(k), np.log(max(distinct - 2, k)), _CANDIDATES))
    numbers = np.unique(steps.round().astype(int)).tolist()
    match method:
        case "hierarchical":
            with optional_import("scipy", "assess", "cluster points"):
                from scipy.cluster.hierarchy import cut_tree, ward
            columns = cut_tree(ward(coordinates), n_clusters=numbers)
            return list(zip(numbers, columns.T, strict=True))
        case "kmeans":
            with optional_import("scikit-learn", "assess", "cluster points"):
                from sklearn.cluster import KMeans
            models = (KMeans(number, n_init=1, random_state=seed) for number in numbers)
            return [(model.n_clusters, model.fit_predict(coordinates)) for model in models]
        case _:
            problem = f"Cannot cluster points by {method!r}."
            remedy = "Pass {clustering:'hierarchical'} or 'kmeans'."
            raise InputError(problem, remedy=remedy, value=method, argument="clustering")


def merge_clusters(clusters: Array, coordinates: Floats, k: int) -> Array:
    """Return the fold of each point: clusters merged in turn along the first principal axis.

    A cluster of at least 1 / k of the points is one fold.

    Parameters
    ----------
    clusters
        Cluster of each point, 0 and up. Shape (n,).
    coordinates
        Coordinates of the points. Shape (n, dimensions).
    k
        Number of folds.
    """
    sizes = np.bincount(clusters)
    centered = coordinates - coordinates.mean(0)
    along = centered @ np.linalg.eigh(centered.T @ centered)[1][:, -1]
    order = np.argsort(np.bincount(clusters, along) / sizes, kind="stable")
    large = sizes[order] >= len(clusters) / k
    fold_of = np.empty(len(sizes), np.int64)
    fold_of[order[large]] = np.arange(large.sum())
    if not large.all():
        free = np.arange(large.sum(), k)
        fold_of[order[~large]] = free[np.arange((~large).sum()) % len(free)]
    return fold_of[clusters]


def _result(
    space: PointSpace, labels: Array, at_prediction: Floats, random: Array, *, clusters: int | None = None
) -> PointFolds:
    in_folds = space.between(labels)
    return PointFolds(
        labels=labels,
        at_prediction=at_prediction,
        in_folds=in_folds,
        in_random_folds=space.between(random),
        wasserstein=_wasserstein(in_folds, at_prediction),
        unit=space.unit,
        clusters=clusters,
    )


def _wasserstein(a: Floats, b: Floats) -> float:
    with optional_import("scipy", "assess", "compare distances"):
        from scipy.stats import wasserstein_distance
    return float(wasserstein_distance(a, b))


def _smaller(a: Floats, b: Floats) -> bool:
    """Return whether the distances `a` are significantly smaller than `b`, by a one-sided Kolmogorov-Smirnov test."""
    with optional_import("scipy", "assess", "compare distances"):
        from scipy.stats import ks_2samp
    method = "exact" if len(a) * len(b) < _EXACT else "asymp"
    return bool(ks_2samp(a, b, alternative="greater", method=method).pvalue < _SIGNIFICANCE)


def _clearly_smaller(a: Floats, b: Floats) -> bool:
    return _smaller(a, b) and float(np.median(a)) < _CLEARLY * float(np.median(b))


def _overestimate_message(name: str) -> str:
    text = f"Distances to training points in {name} are clearly smaller than at prediction: accuracy is overestimated."
    return text + " Take folds of geoxt.splits.knndm, or of larger blocks."

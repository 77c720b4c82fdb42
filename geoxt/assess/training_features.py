"""Training pixels in feature space: bands at points, folds from splits, and dissimilarity between folds."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.assess.map_strata import BLOCK
from geoxt.assess.survey import by_label
from geoxt.errors import AssessmentWarning, CRSError, GridError, InputError, OverlapError, optional_import
from geoxt.grid import grid_of
from geoxt.regions.region import box, only_node
from geoxt.samplers.points import block_windows, pixels_of
from geoxt.source import View, view_of
from geoxt.splits import PointFolds, Split
from geoxt.types import Array, Floats, Mask

SomeFolds = Any
"""Fold labels (n,), a `PointFolds`, a `Split` (its parts are the folds), or the splits of `splits.folds` (their test
parts are the folds)."""
SomeImportance = Mapping[Any, float] | pd.Series | Sequence[float] | Floats | None
"""Importance of each feature: by its name, or in the order of the features; `None`: all equal."""
_STRIP_NUMBERS = 2**21
"""Numbers in a strip of the matrix of distances between training pixels: 16 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingDissimilarity:
    """Dissimilarity index of training pixels to those of other folds."""

    dissimilarity: Floats
    """Dissimilarity index of each training pixel. Shape (n,)."""
    threshold: float
    """Upper whisker of the index: the third quartile plus 1.5 interquartile ranges, or their maximum if less."""
    mean_distance: float
    """Mean distance of all pairs of training pixels, in scaled features."""
    center: Floats
    """Mean of each feature. Shape (features,)."""
    factors: Floats
    """Importance divided by the standard deviation of each feature; 0 for features that are not used. (features,)"""


def training_dissimilarity(
    features: Any, *, folds: SomeFolds | None = None, importance: SomeImportance = None
) -> TrainingDissimilarity:
    """Return the dissimilarity index of training pixels, and the threshold of the area of applicability.

    Parameters
    ----------
    features
        Features of the training pixels: an array (n, features) or a DataFrame with a column for each feature.
    folds
        Fold label of each pixel, (n,), or `PointFolds`. The index of a pixel is its distance to pixels of other folds.
        By default, to all other pixels.
    importance
        Importance of each feature: by its name, or in the order of the features. All equal by default. Negative ones,
        which permutation gives useless features, count as 0.

    Returns
    -------
    TrainingDissimilarity
        `dissimilarity` (n,), `threshold` and `mean_distance`.

    Raises
    ------
    InputError
        If rows are not finite, a feature has no variance, or there are fewer than two folds.

    Notes
    -----
    Calculates all distances between pairs, in bounded memory: about a second for 10,000 pixels of 10 features.

    Examples
    --------
    >>> from geoxt import assess
    >>> result = assess.training_dissimilarity([[0.0], [1.0], [3.0], [4.0]], folds=[0, 0, 1, 1])
    >>> result.dissimilarity.round(3).tolist(), round(result.threshold, 3)  # distances 3, 2, 2, 3; mean distance 14 / 6
    ([1.286, 0.857, 0.857, 1.286], 1.286)

    References
    ----------
    Meyer and Pebesma 2021, Predicting into unknown space? Estimating the area of applicability of spatial prediction
    models. https://doi.org/10.1111/2041-210X.13650
    """
    names = [str(name) for name in features.columns] if isinstance(features, pd.DataFrame) else None
    array = checked_features(features)
    labels = np.arange(len(array)) if folds is None else fold_labels(folds, len(array))
    return dissimilarity_of(array, labels, parse_importance(importance, names, array.shape[1]), names)


def dissimilarity_of(
    features: Floats, labels: Array, importance: Floats, names: Sequence[str] | None
) -> TrainingDissimilarity:
    """Return the dissimilarity index of training pixels from checked arguments."""
    center, deviation = features.mean(0), features.std(0, ddof=1)
    used = importance > 0
    # a constant that is not a binary fraction, such as 0.1, has a deviation of rounding errors
    constant = used & ~(deviation > 1e-12 * np.abs(features).max(0))
    if constant.any():
        which = [str(k) if names is None else names[k] for k in np.flatnonzero(constant).tolist()]
        problem = f"Cannot scale the features {which}: they have one value for all training pixels."
        raise InputError(problem, remedy="Leave them out, or pass {importance} of 0 for them.", argument="importance")
    factors = np.where(used, importance / np.where(used, deviation, 1), 0)
    scaled = (features - center)[:, used] * factors[used]
    total, nearest = _pairwise(scaled, labels)
    mean_distance = total / (len(scaled) * (len(scaled) - 1))
    values = nearest / mean_distance
    first, third = np.quantile(values, [0.25, 0.75])
    threshold = float(min(third + 1.5 * (third - first), values.max()))
    return TrainingDissimilarity(
        dissimilarity=values, threshold=threshold, mean_distance=mean_distance, center=center, factors=factors
    )


def _pairwise(scaled: Floats, labels: Array) -> tuple[float, Floats]:
    """Return the sum of the distances between all pairs, and the least distance of each pixel to other folds."""
    with optional_import("scipy", "assess", "measure distances between training pixels"):
        from scipy.spatial.distance import cdist
    total, nearest = 0.0, np.empty(len(scaled))
    rows = max(_STRIP_NUMBERS // len(scaled), 1)
    for start in range(0, len(scaled), rows):
        strip = slice(start, start + rows)
        distances = cdist(scaled[strip], scaled)
        total += float(distances.sum())
        distances[labels[strip, None] == labels] = np.inf
        nearest[strip] = distances.min(1)
    return total, nearest


def checked_features(features: Any) -> Floats:
    """Return training features as an array (n, features).

    Raises
    ------
    InputError
        If the shape is another, rows are not finite, or there are fewer than two rows.
    """
    try:
        array = np.asarray(features, dtype=np.float64)
    except (TypeError, ValueError) as error:
        problem = "Cannot take training features that are not numbers."
        raise InputError(problem, remedy="Pass {features} of numbers, classes one-hot.", argument="features") from error
    if array.ndim != 2 or array.shape[0] < 2 or array.shape[1] < 1:
        problem = f"Cannot take training features of shape {array.shape}."
        remedy = "Pass {features} of shape (training pixels, features), of two pixels or more."
        raise InputError(problem, remedy=remedy, value=array.shape, argument="features")
    infinite = ~np.isfinite(array).all(1)
    if infinite.any():
        problem = f"Cannot measure distances: {infinite.sum()} of {len(array)} training rows are not finite, such as "
        problem += f"row {np.flatnonzero(infinite)[0]}."
        raise InputError(problem, remedy="Leave them out of {features}.", argument="features")
    return array


def parse_importance(importance: SomeImportance, names: Sequence[str] | None, count: int) -> Floats:
    """Return the importance of each feature; negative ones are 0.

    Raises
    ------
    InputError
        If names or numbers do not match the features, or none is above 0.
    """
    if importance is None:
        return np.ones(count)
    importance = by_label(importance)
    if isinstance(importance, Mapping):
        by_name = {str(name): number for name, number in importance.items()}
        if names is None or {*by_name} != {*names}:
            problem = f"Cannot weight the features {names or count} by the importance of {list(by_name)}."
            raise InputError(problem, remedy="Pass {importance} for each feature.", argument="importance")
        importance = [by_name[name] for name in names]
    numbers = np.asarray(importance, np.float64)
    if numbers.shape != (count,) or not np.isfinite(numbers).all() or not (numbers > 0).any():
        problem = f"Cannot weight {count} features by {numbers.tolist()}."
        remedy = "Pass {importance} with a finite number for each feature, some above 0."
        raise InputError(problem, remedy=remedy, argument="importance")
    return np.maximum(numbers, 0)


def fold_labels(folds: Any, count: int) -> Array:
    """Return the fold of each training pixel as integers.

    Raises
    ------
    InputError
        If their number is another, or there are fewer than two folds.
    """
    labels = np.asarray(folds.labels if isinstance(folds, PointFolds) else folds)
    if labels.shape != (count,) or pd.isna(labels).any():
        problem = f"Cannot assign {count} training pixels to folds by labels of shape {labels.shape}"
        problem += ", some missing." if labels.shape == (count,) else "."
        raise InputError(problem, remedy="Pass {folds} with a label for each.", argument="folds")
    codes, groups = pd.factorize(labels)
    if len(groups) < 2:
        problem = f"Cannot measure distances between folds: all training pixels are of fold {str(groups[0])!r}."
        raise InputError(problem, remedy="Pass {folds} of two or more. Or leave it out.", argument="folds")
    return np.asarray(codes)


def labels_of_splits(splits: Sequence[Split], pixels: Array, grid: GeoBox) -> Array:
    """Return the fold of each pixel, or -1 outside all folds.

    Parameters
    ----------
    splits
        One split, whose parts are the folds, or several, whose test parts are the folds.
    pixels
        Row and column of each pixel. Shape (n, 2).
    grid
        Grid of the pixels.
    """
    regions = list(splits[0].parts.values()) if len(splits) == 1 else [split.test for split in splits]
    labels, centers = np.full(len(pixels), -1), shapely.points(pixels[:, ::-1] + 0.5)
    for fold, region in enumerate(regions):
        if region:
            boxes = [box(window) for window in only_node(region).on(grid)]
            labels[shapely.STRtree(boxes).query(centers, "within")[0]] = fold
    return labels


def at_points(points: Any, layer: xr.DataArray) -> tuple[Floats, Array]:
    """Return the bands of the pixels in which points lie (n, bands), and row and column of the pixels (n, 2).

    Raises
    ------
    CRSError
        If the points have no CRS.
    OverlapError
        If points lie outside the layer or on pixels that are not valid.
    """
    grid, view = grid_of(layer), feature_view(layer)
    if points.crs is None:
        problem = "Cannot find the pixels of training points without a CRS."
        raise CRSError(problem, remedy="Set it: points.set_crs('EPSG:…').")
    pixels = pixels_of(points, grid)
    _require(np.asarray(((pixels >= 0) & (pixels < grid.shape)).all(1)), "outside the layer")
    features, valid = np.empty((len(pixels), view.shape[1])), np.zeros(len(pixels), bool)
    for of_block, window in block_windows(pixels, BLOCK):
        values, ok = view.read(window)
        row, col = (pixels[of_block] - (window.row, window.col)).T
        features[of_block], valid[of_block] = values[0][:, row, col].T, ok[0][:, row, col].all(0)
    _require(valid, "on nodata")
    return features, pixels


def _require(valid: Mask, where: str) -> None:
    if not valid.all():
        problem = f"Cannot take features at {int((~valid).sum())} of {len(valid)} training points: they lie {where}."
        raise OverlapError(problem, remedy="Remove them, or pass another {layer}.", argument="layer")


def feature_view(layer: xr.DataArray) -> View:
    """Return the view of a layer whose bands are features.

    Raises
    ------
    GridError
        If the layer has several time steps.
    """
    view = view_of(layer)
    if view.shape[0] != 1:
        problem = f"Cannot take the bands of {layer.name!r} as features: it has {view.shape[0]} time steps."
        raise GridError(problem, remedy="Select one with isel(time=0). Or stack them as bands.")
    return view


def feature_names(layer: xr.DataArray) -> list[str] | None:
    """Return the band names of a layer; `None` if it has none."""
    if "band" not in layer.coords:
        return None
    return [str(name) for name in np.atleast_1d(layer["band"].to_numpy())]


def in_folds(features: Floats, labels: Array) -> tuple[Floats, Array]:
    """Return the training pixels of folds, and warn of the number of others."""
    outside = labels < 0
    if outside.any():
        text = f"{int(outside.sum())} of {len(labels)} training points lie in no fold of the split and are excluded."
        warnings.warn(text, AssessmentWarning, stacklevel=4)
    return features[~outside], labels[~outside]

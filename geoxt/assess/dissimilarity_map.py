"""Area of applicability of a model: dissimilarity of each pixel to the training pixels, as lazy layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dask.array
import numpy as np
import pandas as pd
import xarray as xr
from dask.base import normalize_token, tokenize

from geoxt.assess.nearest_training import NearestTraining
from geoxt.assess.training_features import (
    SomeFolds,
    SomeImportance,
    TrainingDissimilarity,
    at_points,
    checked_features,
    dissimilarity_of,
    feature_names,
    feature_view,
    fold_labels,
    in_folds,
    labels_of_splits,
    parse_importance,
)
from geoxt.errors import InputError
from geoxt.grid import coordinates, grid_of
from geoxt.legend import Legend
from geoxt.source import View, as_layer
from geoxt.source.layer import CHUNK
from geoxt.splits import Split
from geoxt.types import Array, Floats
from geoxt.windows import Window

LEGEND = Legend((0, 1), ("not applicable", "applicable"), ("#d95f02", "#1b9e77"))
"""Classes of the area of applicability."""
NODATA = 255
"""Code of pixels without valid features."""
_STRIP = 2**16
"""Pixels whose features are scaled at once."""
_MAX_BYTES = 2**26
"""Bytes of the bands of a chunk."""


def applicability(
    features_train: Any,
    layer: xr.DataArray | xr.Dataset,
    *,
    folds: SomeFolds | None = None,
    importance: SomeImportance = None,
    chunks: int | None = None,
) -> xr.Dataset:
    """Return the dissimilarity of each pixel to the training pixels, and the area where a model is applicable.

    Nothing is read but the bands at training points. The layers are computed chunk by chunk in bounded memory, and do
    not depend on the chunks.

    Parameters
    ----------
    features_train
        Features of the training pixels: an array (n, bands) in the order of the bands, a DataFrame with a column for
        each band, or a GeoDataFrame of points, at which the bands of the layer are read; points in another CRS are
        transformed.
    layer
        Features (band, y, x): bands, indices or embeddings, on the scale of the training features. A pixel needs all
        bands of an importance above 0.
    folds
        Folds of the cross-validation that the accuracy is from: labels (n,), `splits.knndm`, and for points also a
        split (its parts are the folds) or the splits of `splits.folds` (their test parts). The threshold is the
        dissimilarity of training pixels to those of other folds. By default, to all other training pixels.
    importance
        Importance of each band for the model: by band name, or in the order of the bands. All equal by default.
        Negative ones, which permutation gives useless features, count as 0.
    chunks
        Side of the chunks in pixels. By default up to 1024, of at most 64 MiB of bands.

    Returns
    -------
    xarray.Dataset
        Lazy layers (y, x): `dissimilarity`, float32 with NaN for pixels that are not valid, and `applicable`, uint8
        with the classes 0 "not applicable" and 1 "applicable" (dissimilarity up to the threshold), nodata 255. The
        attributes state `threshold` and `mean_training_distance`.

    Raises
    ------
    InputError
        If training features and bands differ, rows are not finite, a feature has no variance, or there is one fold.
    OverlapError
        If training points lie outside the layer or on nodata.
    CRSError
        If training points or the layer have no CRS.
    GridError
        If the layer has several time steps.

    Warns
    -----
    AssessmentWarning
        If training points lie in no fold of a split; they are excluded.

    See Also
    --------
    training_dissimilarity : The threshold, and the dissimilarity of each training pixel.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt import assess
    >>> from geoxt.testing import make_layer
    >>> values = np.stack([np.arange(100.0).reshape(10, 10), np.ones((10, 10))]).astype("float32")
    >>> layer = make_layer(values, bands=["red", "nir"])
    >>> training = [[10.0, 1.0], [20.0, 1.5], [40.0, 0.5]]
    >>> area = assess.applicability(training, layer, importance={"red": 1, "nir": 0})
    >>> area["applicable"].values[:, 0].tolist()
    [1, 1, 1, 1, 1, 1, 1, 0, 0, 0]

    References
    ----------
    Meyer and Pebesma 2021, Predicting into unknown space? Estimating the area of applicability of spatial prediction
    models. https://doi.org/10.1111/2041-210X.13650. The threshold is that of the R package CAST since version 0.9.
    """
    layer = as_layer(layer)
    grid, view, names = grid_of(layer), feature_view(layer), feature_names(layer)
    features, labels = _training(features_train, layer, folds, names)
    count = view.shape[1]
    training = dissimilarity_of(features, labels, parse_importance(importance, names, count), names)
    array = DissimilarityMap.of(view, features, training)
    side = _side(view, layer, chunks)
    lazy = dask.array.from_array(
        array,
        chunks=side,
        name=f"dissimilarity-{tokenize(array, side)}",
        asarray=False,
        meta=np.empty((0, 0), np.float32),
    )
    threshold = np.float32(training.threshold)
    applicable = lazy.map_blocks(_applicable, threshold, dtype=np.uint8, meta=np.empty((0, 0), np.uint8))
    attrs = {"threshold": training.threshold, "mean_training_distance": training.mean_distance}
    index = {"_FillValue": np.float32(np.nan), "long_name": "dissimilarity index", **attrs}
    area = {"_FillValue": np.uint8(NODATA), "long_name": "area of applicability", **LEGEND.attrs()}
    variables = {"dissimilarity": (("y", "x"), lazy, index), "applicable": (("y", "x"), applicable, area)}
    return xr.Dataset(variables, coords=dict(coordinates(grid)), attrs=attrs)


def _applicable(dissimilarity: Array, threshold: Any) -> Array:
    inside = (dissimilarity <= threshold).astype(np.uint8)
    return np.where(np.isnan(dissimilarity), np.uint8(NODATA), inside)


def _training(
    features_train: Any, layer: xr.DataArray, folds: SomeFolds | None, names: list[str] | None
) -> tuple[Floats, Array]:
    """Return features and fold of the training pixels, in the order of the bands."""
    splits: list[Split] = []
    if isinstance(folds, Split):
        splits = [folds]
    elif isinstance(folds, Sequence) and all(isinstance(split, Split) for split in folds):
        splits = list(folds)
    if hasattr(features_train, "geometry") and hasattr(features_train, "crs"):
        features, pixels = at_points(features_train, layer)
        if splits:
            features, labels = in_folds(features, labels_of_splits(splits, pixels, grid_of(layer)))
            folds = labels
    elif splits:
        problem = "Cannot find the folds of training features by a split: their positions are unknown."
        remedy = "Pass {features_train} as a GeoDataFrame of points, or {folds} as labels."
        raise InputError(problem, remedy=remedy, argument="folds")
    else:
        features = _in_order(features_train, names)
    array = checked_features(features)
    count = layer.sizes.get("band", 1)
    if array.shape[1] != count:
        problem = f"Cannot compare {array.shape[1]} training features with the {count} bands of the layer."
        raise InputError(
            problem, remedy="Pass {features_train} with a column for each band.", argument="features_train"
        )
    return array, np.arange(len(array)) if folds is None else fold_labels(folds, len(array))


def _in_order(features: Any, names: list[str] | None) -> Any:
    """Return the columns of a table in the order of the bands."""
    if not isinstance(features, pd.DataFrame) or names is None:
        return features
    columns = [str(column) for column in features.columns]
    if sorted(columns) != sorted(names):
        problem = f"Cannot compare the training features {columns} with the bands {names}."
        remedy = "Pass {features_train} with a column for each band, and no others."
        raise InputError(problem, remedy=remedy, argument="features_train")
    return features.set_axis(columns, axis=1)[names]


def _side(view: View, layer: xr.DataArray, chunks: int | None) -> int:
    """Return the side of a chunk; by default that of the layer's chunks if each would be computed several times."""
    if chunks is not None:
        if chunks < 1:
            problem = f"Cannot divide the layer into chunks of {chunks!r} pixels."
            raise InputError(problem, remedy="Pass {chunks} of 1 or more.", value=chunks, argument="chunks")
        return int(chunks)
    if not view.direct:
        return max(*layer.chunksizes["y"], *layer.chunksizes["x"])
    side = CHUNK
    while side > 128 and side * side * view.shape[1] * view.dtype.itemsize > _MAX_BYTES:
        side //= 2
    return side


@dataclass(frozen=True, kw_only=True, eq=False)
class DissimilarityMap:
    """Dissimilarity index (y, x) of the pixels of a layer, as an array that dask can slice."""

    view: View
    """Reads windows of the layer."""
    used: Array
    """Bands that are features. Shape (used,)."""
    center: Floats
    """Mean of each used band among the training pixels. Shape (used,)."""
    factors: Floats
    """Importance divided by the standard deviation of each used band. Shape (used,)."""
    mean_distance: float
    """Mean distance of all pairs of training pixels."""
    nearest: NearestTraining
    """Training pixels."""

    dtype = np.dtype(np.float32)
    ndim = 2

    @classmethod
    def of(cls, view: View, features: Floats, training: TrainingDissimilarity) -> DissimilarityMap:
        """Return the map of a layer's dissimilarity to training pixels."""
        used = np.flatnonzero(training.factors)
        center, factors = training.center[used], training.factors[used]
        return cls(
            view=view,
            used=used,
            center=center,
            factors=factors,
            mean_distance=training.mean_distance,
            nearest=NearestTraining(features=(features[:, used] - center) * factors),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns."""
        return self.view.shape[2], self.view.shape[3]

    def __dask_tokenize__(self) -> Any:
        """Return the fields that determine the values."""
        numbers = (self.used, self.center, self.factors, self.mean_distance)
        return normalize_token(("DissimilarityMap", self.view, self.nearest, *numbers))

    def __getitem__(self, key: Any) -> Array:
        """Compute the rectangle that contains the key, and select the key from it."""
        rows, cols = (np.atleast_1d(np.arange(n)[k]) for n, k in zip(self.shape, key, strict=True))
        dropped = tuple(axis for axis, k in enumerate(key) if isinstance(k, (int, np.integer)))
        if not (rows.size and cols.size):
            return np.empty((rows.size, cols.size), self.dtype).squeeze(dropped)
        window = Window(int(rows.min()), int(cols.min()), int(np.ptp(rows)) + 1, int(np.ptp(cols)) + 1)
        return self.read(window)[np.ix_(rows - window.row, cols - window.col)].squeeze(dropped)

    def read(self, window: Window) -> Array:
        """Return the dissimilarity of a window (height, width), NaN for pixels without all features."""
        values, valid = self.view.read(window)
        bands = values[0].reshape(values.shape[1], -1)
        usable = np.flatnonzero(valid[0, self.used].all(0))
        result = np.full(window.height * window.width, np.nan, self.dtype)
        for start in range(0, len(usable), _STRIP):
            pixels = usable[start : start + _STRIP]
            features = bands[np.ix_(self.used, pixels)].T.astype(np.float64)
            scaled = (features - self.center) * self.factors
            result[pixels] = self.nearest.distances(scaled) / self.mean_distance
        return result.reshape(window.shape)

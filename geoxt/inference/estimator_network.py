"""A fitted scikit-learn estimator as a network with a model card, applied to each pixel."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor, nn

from geoxt.errors import InputError, optional_import
from geoxt.inference.model_bands import bands_of
from geoxt.inference.neighbor_votes import NeighborVotes
from geoxt.legend import Legend
from geoxt.models.card import Card
from geoxt.models.network import Network
from geoxt.source.embedding_attrs import identity_of, require_equal_embeddings
from geoxt.tables.layer_values import radiometry_of
from geoxt.tasks import Output
from geoxt.types import Array

_ROWS = 2**16
"""Pixels that an estimator takes at once; a tile is divided in the same way for every chunk of the map."""


class EstimatorBody(nn.Module):
    """A fitted estimator that maps images to one channel per class, quantity or component, pixel by pixel.

    Parameters
    ----------
    estimator
        Fitted estimator.
    method
        Method to call: "predict", "predict_proba" or "transform".
    classes
        Class labels in the order of the channels, whose labels "predict" returns; `None` for numbers.
    """

    def __init__(self, estimator: Any, method: str, classes: Array | None) -> None:
        super().__init__()
        with optional_import("scikit-learn", "assess", "predict with an estimator"):
            import joblib
        self.method = method
        self.digest = str(joblib.hash((estimator, classes)))  # part of the fingerprint of a map
        self._estimator = estimator
        self._classes = classes
        self._votes = NeighborVotes.of(estimator) if method in {"predict", "predict_proba"} else None

    def forward(self, images: Tensor, valid: Tensor) -> Tensor:
        """Return the output (N, K, H, W) for the valid pixels of images (N, C, H, W); 0 elsewhere."""
        if images.ndim != 4:
            msg = f"Cannot pass a time series of {images.shape[1]} steps to an estimator."
            raise InputError(msg, remedy="Leave {series} out. Or stack the time steps as bands.", argument="series")
        outputs = [
            self._predict_image(image, mask)
            for image, mask in zip(images.detach().cpu().numpy(), valid.cpu().numpy(), strict=True)
        ]
        channels = max(map(len, outputs))
        shape = channels, *images.shape[-2:]
        filled = [output if len(output) else np.zeros(shape, np.float32) for output in outputs]
        return torch.from_numpy(np.stack(filled)).to(images.device)

    def _predict_image(self, image: Array, valid: Array) -> Array:
        """Return the output (K, H, W) for an image (C, H, W); without channels if no pixel is valid."""
        pixels = image.reshape(len(image), -1) if valid.all() else image[:, valid]
        if not pixels.shape[1]:
            return np.zeros((0, *valid.shape), np.float32)
        uniform = bool((pixels[:, 0] == pixels[:, -1]).all()) and bool((pixels == pixels[:, :1]).all())
        values = self._predict_pixels(pixels[:, :1] if uniform else pixels)
        output = np.zeros((values.shape[1], *valid.shape), np.float32)
        output[:, valid] = values.T
        return output

    def _predict_pixels(self, pixels: Array) -> Array:
        """Return the output (n, K) for pixels (C, n)."""
        self._require_features(len(pixels))
        if self._votes is None or pixels.dtype != np.float32:
            return self._predict_rows(np.ascontiguousarray(pixels.T))
        votes = self._votes(pixels, self._predict_rows)
        if self.method == "predict":
            return np.equal.outer(votes.argmax(axis=1), np.arange(votes.shape[1])).astype(np.float32)
        return votes

    def _predict_rows(self, rows: Array) -> Array:
        """Return the output (n, K) for rows (n, C)."""
        return np.concatenate([self._call(rows[start : start + _ROWS]) for start in range(0, len(rows), _ROWS)])

    def _call(self, rows: Array) -> Array:
        with optional_import("scikit-learn", "assess", "predict with an estimator"):
            import joblib
        names = getattr(self._estimator, "feature_names_in_", None)
        features: Any = rows if names is None else pd.DataFrame(rows, columns=names)
        try:
            # threads of an estimator would add up the trees of a forest in another order each time
            with joblib.parallel_config(backend="sequential"):
                output = np.asarray(getattr(self._estimator, self.method)(features))
        except Exception as error:  # estimators raise errors of many types
            if rows.dtype == np.float32 and "dtype mismatch" in str(error):  # KMeans fitted to float64
                return self._call(rows.astype(np.float64))
            msg = f"Cannot predict with this {type(self._estimator).__name__}: {error}"
            raise InputError(msg, remedy="Pass a fitted {model}.", argument="model") from error
        if self.method == "predict" and self._classes is not None:
            return np.equal.outer(output, self._classes).astype(np.float32)
        if output.ndim > 2:
            msg = f"Cannot map with this {type(self._estimator).__name__}: its output has the shape {output.shape}."
            raise InputError(msg, remedy="Pass a {model} with one vector per pixel.", argument="model")
        return output.reshape(len(rows), -1).astype(np.float32)

    def _require_features(self, count: int) -> None:
        expected = getattr(self._estimator, "n_features_in_", count)
        if count != expected:
            msg = f"Cannot predict: the layer has {count} bands, the {type(self._estimator).__name__} was fitted to "
            msg += f"{expected} features without names."
            raise InputError(msg, remedy="Select these: layer.sel(band=[...]).", value=count, argument="layer")


class EstimatorNetwork(Network):
    """A fitted estimator with a model card.

    Parameters
    ----------
    card
        Model card: bands by the names of the features, classes by the labels.
    estimator
        Fitted estimator.
    method
        Method that is called.
    classes
        Class labels in the order of the channels; `None` for numbers.
    """

    takes_float64 = True
    """Whether pixels that float32 does not hold exactly are passed as float64, as `geoxt.extract` returns them."""

    def __init__(self, card: Card, estimator: Any, *, method: str, classes: Array | None) -> None:
        super().__init__(card, body=EstimatorBody(estimator, method, classes))
        self._estimator = estimator
        self._classes = classes

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the output (N, K, H, W) for images (N, C, H, W)."""
        output: Tensor = self.body(image, torch.ones_like(image[:, 0], dtype=torch.bool) if valid is None else valid)
        return output

    def activate(self, logits: Tensor) -> Tensor:
        """Return the output unchanged: probabilities, or values."""
        return logits

    def embed(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the output: the components of a transformer."""
        return self(image, valid)

    def for_output(self, name: Output, *, single: bool) -> EstimatorNetwork:
        """Return the network that computes an output; classes of a single estimator are the labels of `predict`.

        Raises
        ------
        InputError
            If the estimator has no such output.
        """
        if self._classes is None:
            return self
        title = type(self._estimator).__name__
        if name in {"logits", "embeddings"}:
            msg = f"Cannot predict {name} with a {title}."
            remedy = "Pass {output:'classes'} or {output:'probabilities'}."
            raise InputError(msg, remedy=remedy, value=name, argument="output")
        labels = name == "classes" and single
        if not labels and not hasattr(self._estimator, "predict_proba"):
            reason = f"Cannot predict {name} with" if single else "Cannot average"
            msg = f"{reason} a {title}: it has no predict_proba."
            raise InputError(msg, remedy="Pass a {model} with probabilities.", value=name, argument="model")
        method = "predict" if labels else "predict_proba"
        return EstimatorNetwork(self.card, self._estimator, method=method, classes=self._classes)

    def require_attrs(self, layer: xr.DataArray, selected: xr.DataArray) -> None:
        """Raise if the estimator was fitted to other embeddings, or to values of other scales, than those of a layer.

        Parameters
        ----------
        layer
            The layer.
        selected
            The bands of the model, in its order.
        """
        fitted = getattr(self._estimator, "embedding_attrs_", {})
        require_equal_embeddings(fitted, identity_of(layer), ("the estimator", "the layer"))
        scales = getattr(self._estimator, "radiometry_", {})
        stated = radiometry_of(layer) if scales else {}
        for name, band in zip(self.card.bands, bands_of(selected) or (), strict=False):
            if name in scales and band in stated and scales[name] != stated[band]:
                msg = f"Cannot predict: values of {band!r} are {stated[band]} in the layer, and {scales[name]} in the "
                msg += f"table to which the {type(self._estimator).__name__} was fitted."
                remedy = "Open the {layer} with the same rescale= as for the table."
                raise InputError(msg, remedy=remedy, value=stated[band], argument="layer")

    def legend_of_channels(self, legend: Legend | None) -> Legend | None:
        """Return the legend in the order of the channels: by code, or by name if the labels are texts.

        Raises
        ------
        InputError
            If the legend lacks a class.
        """
        if legend is None or self._classes is None:
            return legend
        by_code = self._classes.dtype.kind in "biuf"
        labels: tuple[Any, ...] = self.card.codes if by_code else self.card.legend.names
        keys: tuple[Any, ...] = legend.codes if by_code else legend.names
        missing = [label for label in labels if label not in keys]
        if missing:
            msg = f"Cannot name the classes {missing} of the model by a legend of {list(keys)}."
            raise InputError(msg, remedy="Pass {legend} with all classes.", value=missing, argument="legend")
        entries = dict(zip(keys, zip(legend.codes, legend.names, legend.colors, strict=True), strict=True))
        return Legend.from_rows(entries[label] for label in labels)


def estimators_for(networks: Sequence[nn.Module], name: Output) -> list[nn.Module]:
    """Return the networks of one or several estimators that compute an output.

    Raises
    ------
    InputError
        If members are not estimators, or an estimator has no such output.
    """
    estimators = [network for network in networks if isinstance(network, EstimatorNetwork)]
    if len(estimators) < len(networks):
        msg = f"Cannot average {len(networks)} members: {len(estimators)} of them are estimators, others networks."
        raise InputError(msg, remedy="Pass {members} of one kind.", argument="members")
    return [estimator.for_output(name, single=len(estimators) == 1) for estimator in estimators]


def is_estimator(model: Any) -> bool:
    """Return whether a model is an estimator: an object with `predict` or `transform` that is not a torch module."""
    return (
        not isinstance(model, (nn.Module, type, str))
        and hasattr(model, "fit")
        and any(hasattr(model, name) for name in ("predict", "transform"))
    )


def estimator_network(estimator: Any) -> EstimatorNetwork:
    """Return a fitted estimator as a network; of a search such as `GridSearchCV`, that of its best estimator.

    Raises
    ------
    InputError
        If it is not fitted, or has several outputs of classes.
    """
    estimator = copy.deepcopy(getattr(estimator, "best_estimator_", estimator))
    _require_fitted(estimator)
    classes = _classes(estimator)
    names = tuple(map(str, getattr(estimator, "feature_names_in_", ())))
    codes, class_names = _codes(estimator, classes)
    method = "predict" if hasattr(estimator, "predict") else "transform"
    task = "segmentation" if classes is not None else "pixelwise-regression" if method == "predict" else "embedding"
    card = Card(
        task=task,
        model=type(estimator).__name__,
        bands=names,
        mean=(0.0,) * len(names),
        std=(1.0,) * len(names),
        codes=codes,
        names=class_names,
        colors=(),
        size=(1, 1),
    )
    return EstimatorNetwork(card, estimator, method=method, classes=classes).eval()


def _require_fitted(estimator: Any) -> None:
    with optional_import("scikit-learn", "assess", "predict with an estimator"):
        from sklearn.base import BaseEstimator
        from sklearn.exceptions import NotFittedError
        from sklearn.utils.validation import check_is_fitted
    if not isinstance(estimator, BaseEstimator):  # of another library with scikit-learn's interface
        return
    try:
        check_is_fitted(estimator)
    except NotFittedError as error:
        msg = f"Cannot predict with a {type(estimator).__name__} that is not fitted."
        raise InputError(msg, remedy="Call its fit(), or pass another {model}.", argument="model") from error


def _classes(estimator: Any) -> Array | None:
    """Return the class labels, or the numbers of clusters; `None` for regressors and transformers."""
    classes = getattr(estimator, "classes_", None)
    if isinstance(classes, list):
        msg = f"Cannot map with a {type(estimator).__name__} of {len(classes)} outputs of classes."
        raise InputError(msg, remedy="Pass a {model} with one.", argument="model")
    if classes is not None:
        return np.asarray(classes)
    final = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    for name in ("cluster_centers_", "weights_"):  # k-means, mixtures
        if hasattr(estimator, "predict") and hasattr(final, name) and not hasattr(final, "components_"):
            return np.arange(len(getattr(final, name)))
    return None


def _codes(estimator: Any, classes: Array | None) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return codes and names of classes: integers are codes, texts are numbered from 0.

    Raises
    ------
    InputError
        If labels are fractions.
    """
    if classes is None:
        return (), ()
    if classes.dtype.kind not in "biuf":
        return tuple(range(len(classes))), tuple(str(label) for label in classes.tolist())
    codes = classes.astype(np.int64)
    if not np.array_equal(codes, classes):
        msg = f"Cannot use the labels {classes.tolist()} of a {type(estimator).__name__} as class codes."
        raise InputError(msg, remedy="Fit the {model} to integers or texts.", argument="model")
    return tuple(codes.tolist()), tuple(map(str, codes.tolist()))

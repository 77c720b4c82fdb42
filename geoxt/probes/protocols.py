"""Protocols of probes: scores with bootstrap intervals, few-shot curves, splits and robustness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from geoxt.embeddings import knn, linear_probe
from geoxt.embeddings.table_classifiers import GRID_OF_C
from geoxt.errors import InputError, optional_import
from geoxt.probes.labeled_images import LabeledImages, Parts
from geoxt.trainers.datamodules.image_folder import stratified_split
from geoxt.types import Array

DEFAULT_SHOTS = (5, 10, 50, 100)
_TARGET = "class"
_FOLDS = 5
"""Folds of the cross-validation that selects C without a validation part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOptions:
    """Options of the protocols.

    Raises
    ------
    InputError
        If a number is too small.
    """

    n_neighbors: int = 5
    """Number of nearest neighbors."""
    Cs: tuple[float, ...] = GRID_OF_C
    """Inverse regularization strengths of the linear probe, from which the validation part selects."""
    shots: tuple[int, ...] | None = None
    """Training images per class of the few-shot curve, 2 or more; by default 5, 10, 50 and 100, up to the size of the
    smallest class."""
    n_repeats: int = 5
    """Random samples of the training images per point of the curve."""
    block: float = 50_000
    """Side of the blocks of the spatial split, in metres."""
    shift: int = 4
    """Shift of the test images in pixels, for robustness."""
    n_resamples: int = 1000
    """Bootstrap resamples of the test images, or of the blocks of the spatial split."""
    seed: int = 0
    """Seed of random weights, splits, draws and resamples."""

    def __post_init__(self) -> None:
        for name, least in (("n_neighbors", 1), ("n_repeats", 1), ("shift", 1), ("n_resamples", 1)):
            if getattr(self, name) < least:
                msg = f"Cannot probe with {name}={getattr(self, name)}."
                raise InputError(msg, remedy=f"Pass {{{name}:{least}}} or more.", argument=name)
        if any(shot < 2 for shot in self.shots or ()):
            msg = f"Cannot fit a linear probe to {min(self.shots or ())} image per class."
            raise InputError(msg, remedy="Pass {shots} of 2 or more.", value=self.shots, argument="shots")
        if not self.block > 0 or not self.Cs or min(self.Cs) <= 0:
            msg = f"Cannot probe with block={self.block} and Cs={self.Cs}."
            raise InputError(msg, remedy="Pass {block} and {Cs} above 0.", argument="block")

    def shots_of(self, smallest: int) -> tuple[int, ...]:
        """Return the training images per class of the few-shot curve, for a smallest class of `smallest` images.

        Raises
        ------
        InputError
            If `shots` exceed it.
        """
        shots = self.shots or tuple(shot for shot in DEFAULT_SHOTS if shot <= smallest)
        if max(shots, default=0) > smallest:
            msg = f"Cannot draw {max(shots)} training images of each class: the smallest class has {smallest}."
            raise InputError(msg, remedy=f"Pass {{shots}} of at most {smallest}.", value=shots, argument="shots")
        return shots


def fit_probes(rows: Array, labels: Array, parts: Parts, options: ProbeOptions) -> dict[str, Any]:
    """Fit nearest neighbors and a linear probe to the features of the training and validation part.

    Parameters
    ----------
    rows
        Features (n, F) of all samples.
    labels
        Class index (n,).
    parts
        Positions of the samples of each part. C is selected on the validation part, by cross-validation if it is empty.
    options
        n_neighbors, Cs and seed.

    Returns
    -------
    dict
        Fitted estimators "knn" and "linear".
    """
    with optional_import("scikit-learn", "assess", "fit a classifier"):
        from sklearn.model_selection import PredefinedSplit
    train, val = parts["train"], parts["val"]
    table = _table(rows, labels, np.concatenate([train, val]))
    fold = np.repeat([-1, 0], [len(train), len(val)])
    cv = PredefinedSplit(fold) if len(val) else _FOLDS
    return {
        "knn": knn(table, _TARGET, n_neighbors=options.n_neighbors),
        "linear": linear_probe(table, _TARGET, Cs=options.Cs, cv=cv, seed=options.seed),
    }


def scores(
    estimators: Mapping[str, Any], rows: Array, labels: Array, options: ProbeOptions, *, groups: Array | None = None
) -> dict[str, Any]:
    """Return accuracy and its 95 % interval of each estimator on test images.

    Parameters
    ----------
    estimators
        Fitted estimators by name.
    rows, labels
        Features and class indices of the test images.
    options
        Number and seed of the resamples.
    groups
        Group of each image, such as its block; groups are resampled as a whole. By default images are resampled.
    """
    table = _features(rows)
    result = {}
    for name, estimator in estimators.items():
        correct = estimator.predict(table) == labels
        low, high = bootstrap_interval(correct, options, groups=groups)
        result[name] = {"accuracy": float(correct.mean()), "interval": [low, high], "n": len(correct)}
    if "linear" in result:
        result["linear"]["C"] = float(estimators["linear"][-1].C)
    return result


def bootstrap_interval(correct: Array, options: ProbeOptions, *, groups: Array | None = None) -> tuple[float, float]:
    """Return the 95 % percentile interval of the accuracy, resampling images, or groups of images, with replacement.

    Examples
    --------
    >>> bootstrap_interval(np.array([True] * 90 + [False] * 10), ProbeOptions())
    (0.84, 0.95)
    """
    index = np.arange(len(correct)) if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)
    sizes, sums = np.bincount(index), np.bincount(index, weights=correct)
    rng = np.random.default_rng([options.seed, 95])
    means = []
    for _ in range(options.n_resamples):
        resample = rng.integers(0, len(sizes), len(sizes))
        means.append(sums[resample].sum() / sizes[resample].sum())
    low, high = np.quantile(means, [0.025, 0.975]).tolist()
    return round(low, 6), round(high, 6)


def few_shot(rows: Array, labels: Array, parts: Parts, options: ProbeOptions) -> list[dict[str, Any]]:
    """Return mean and standard deviation of the test accuracy over random training samples, by images per class.

    Images are sampled from the training part. C is selected by cross-validation on the sampled images.

    Raises
    ------
    InputError
        If the smallest class has fewer images than `options.shots`.
    """
    train, test = parts["train"], parts["test"]
    by_class = [train[labels[train] == code] for code in np.unique(labels[train])]
    shots = options.shots_of(min(map(len, by_class)))
    test_table = _features(rows[test])
    curve = []
    for shot in shots:
        accuracy: dict[str, list[float]] = {"knn": [], "linear": []}
        for draw in range(options.n_repeats):
            rng = np.random.default_rng([options.seed, shot, draw])
            selected = np.concatenate([rng.choice(members, shot, replace=False) for members in by_class])
            table = _table(rows, labels, selected)
            fitted = {
                "knn": knn(table, _TARGET, n_neighbors=min(options.n_neighbors, len(table))),
                "linear": linear_probe(table, _TARGET, Cs=options.Cs, cv=_FOLDS, seed=options.seed),
            }
            for name, estimator in fitted.items():
                accuracy[name].append(float((estimator.predict(test_table) == labels[test]).mean()))
        point: dict[str, Any] = {"shots": shot, "n_repeats": options.n_repeats}
        for name, values in accuracy.items():
            deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
            point[name] = {"mean": float(np.mean(values)), "std": deviation}
        curve.append(point)
    return curve


def random_parts(data: LabeledImages, options: ProbeOptions) -> Parts:
    """Return a stratified random split of all samples, with the fractions of the published split."""
    fractions = data.fractions()
    split = stratified_split(torch.from_numpy(data.labels), tuple(fractions.values()), seed=options.seed)
    return {part: positions.numpy() for part, positions in zip(fractions, split, strict=True)}


def blocked_parts(data: LabeledImages, options: ProbeOptions) -> tuple[Parts, Array] | str:
    """Return a split of all samples by spatial blocks, and the block of each sample; or why it is not possible.

    Images that overlap an image of a later part are excluded.
    """
    if data.blocked is None:
        return "the images have no coordinates"
    fractions = data.fractions()
    assigned, centers = data.blocked(options.block, {k: v for k, v in fractions.items() if v}, options.seed)
    parts = {part: np.flatnonzero([name == part for name in assigned]) for part in fractions}
    blocks = np.unique(centers // options.block, axis=0, return_inverse=True)[1].reshape(-1)
    empty = [part for part in ("train", "test") if not len(parts[part])]
    if empty or len(np.unique(data.labels[parts["train"]])) < len(np.unique(data.labels)):
        problem = f"its {empty[0]} part is empty" if empty else "its training part lacks a class"
        return f"{problem}, with blocks of {options.block:,.0f} m"
    return parts, blocks


def _table(rows: Array, labels: Array, positions: Sequence[int] | Array) -> pd.DataFrame:
    """Return the table of features and classes for fitting."""
    table = _features(rows[positions])
    table.attrs["bands"] = list(table.columns)
    table[_TARGET] = labels[positions]
    return table


def _features(rows: Array) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=[f"feature {index}" for index in range(rows.shape[1])])

"""Classifiers of scikit-learn, fitted to a table of pixels or embeddings at points."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from geoxt.errors import InputError, NodataWarning, optional_import
from geoxt.source.embedding_attrs import NAMES
from geoxt.types import Array

GRID_OF_C = tuple(10.0**power for power in range(-6, 6))
"""Default inverse strengths of regularization of a linear probe."""


def knn(
    table: Any,
    target: str = "class",
    *,
    n_neighbors: int = 5,
    features: Sequence[str] | None = None,
    **options: Any,
) -> Any:
    """Return a k-nearest-neighbors classifier fitted to the rows of a table.

    Parameters
    ----------
    table
        Table of pixels or embeddings, as `geoxt.extract` returns it. Rows with NaN are left out, with a warning.
    target
        Column of class labels: integers or texts.
    n_neighbors
        Number of neighbors.
    features
        Columns of features. Default: the columns of bands in `table.attrs["bands"]`, without the target.
    **options
        Further arguments of `sklearn.neighbors.KNeighborsClassifier`, such as `metric="cosine"` (default: Euclidean).

    Returns
    -------
    sklearn.neighbors.KNeighborsClassifier
        For `geoxt.predict`.

    Raises
    ------
    InputError
        If rows have no class, a class has one row, there is only one class, fewer rows than neighbors, no row is
        without NaN, features are infinite, or classes are numbers with fractions.

    Examples
    --------
    >>> table = pd.DataFrame({"red": [1.0, 2.0, 8.0, 9.0], "class": ["water", "water", "soil", "soil"]})
    >>> knn(table, n_neighbors=1, features=["red"]).predict(pd.DataFrame({"red": [7.0]})).tolist()
    ['soil']
    """
    with optional_import("scikit-learn", "assess", "fit a classifier"):
        from sklearn.neighbors import KNeighborsClassifier
    rows, labels = training_rows(table, target, features)
    if not 1 <= n_neighbors <= len(rows):
        msg = f"Cannot find {n_neighbors} neighbors among {len(rows)} rows."
        remedy = "Pass a smaller {n_neighbors}, 1 or more."
        raise InputError(msg, remedy=remedy, value=n_neighbors, argument="n_neighbors")
    return _with_attrs(KNeighborsClassifier(n_neighbors, **options).fit(rows, labels), table)


def random_forest(
    table: Any,
    target: str = "class",
    *,
    n_estimators: int = 100,
    features: Sequence[str] | None = None,
    seed: int = 0,
    **options: Any,
) -> Any:
    """Return a random forest classifier fitted to the rows of a table.

    Parameters
    ----------
    table, target, features
        As for `knn`.
    n_estimators
        Number of trees.
    seed
        Seed of the trees.
    **options
        Further arguments of `sklearn.ensemble.RandomForestClassifier`.

    Returns
    -------
    sklearn.ensemble.RandomForestClassifier
        For `geoxt.predict`.

    Raises
    ------
    InputError
        If rows have no class, a class has one row, there is only one class, no row is without NaN, features are
        infinite, or classes are numbers with fractions.

    Examples
    --------
    >>> table = pd.DataFrame({"red": [1.0, 2.0, 8.0, 9.0], "class": ["water", "water", "soil", "soil"]})
    >>> random_forest(table, features=["red"]).classes_.tolist()
    ['soil', 'water']
    """
    with optional_import("scikit-learn", "assess", "fit a classifier"):
        from sklearn.ensemble import RandomForestClassifier
    rows, labels = training_rows(table, target, features)
    forest = RandomForestClassifier(n_estimators, random_state=seed, **options)
    return _with_attrs(forest.fit(rows, labels), table)


def linear_probe(
    table: Any,
    target: str = "class",
    *,
    features: Sequence[str] | None = None,
    Cs: Sequence[float] = GRID_OF_C,  # noqa: N803 (scikit-learn's name)
    cv: Any = 5,
    seed: int = 0,
) -> Any:
    """Return a logistic regression on standardized features, with the L2 penalty chosen by cross-validation.

    Parameters
    ----------
    table, target, features
        As for `knn`.
    Cs
        Inverse strengths of regularization to choose from.
    cv
        Number of stratified folds, at most the rows of the smallest class; or a splitter of scikit-learn.
    seed
        Seed of the folds.

    Returns
    -------
    sklearn.pipeline.Pipeline
        `StandardScaler` and `LogisticRegression` (L-BFGS), for `geoxt.predict`; `probe[-1].C` is the chosen strength.

    Raises
    ------
    InputError
        If rows have no class, a class has one row, there is only one class, no row is without NaN, features are
        infinite, or classes are numbers with fractions.

    Notes
    -----
    The accuracy of the folds is too high if points lie in clusters: compare models on spatial splits.

    Examples
    --------
    >>> table = pd.DataFrame({"red": [1.0, 2.0, 8.0, 9.0], "class": ["water", "water", "soil", "soil"]})
    >>> probe = linear_probe(table, features=["red"], Cs=[0.1, 1.0])
    >>> probe.predict(pd.DataFrame({"red": [7.0]})).tolist()
    ['soil']
    """
    with optional_import("scikit-learn", "assess", "fit a classifier"):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV, StratifiedKFold
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    rows, labels = training_rows(table, target, features)
    folds = cv
    if isinstance(cv, int):
        smallest = int(np.unique(labels, return_counts=True)[1].min())
        folds = StratifiedKFold(max(min(cv, smallest), 2), shuffle=True, random_state=seed)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    search = GridSearchCV(probe, {"logisticregression__C": list(Cs)}, cv=folds)
    with warnings.catch_warnings():  # classes that a plane separates have no minimum without a penalty
        warnings.simplefilter("ignore", ConvergenceWarning)
        search.fit(rows, labels)
    return _with_attrs(search.best_estimator_, table)


def training_rows(table: Any, target: str, features: Sequence[str] | None) -> tuple[pd.DataFrame, Array]:
    """Return features (n, features) and labels (n,) of the rows without NaN.

    Raises
    ------
    InputError
        If columns are missing, rows have no class, or there are too few.
    """
    columns = [name for name in table.attrs.get("bands", ()) if name != target] if features is None else list(features)
    if target in columns:
        msg = f"Cannot fit to features with the target {target!r} itself."
        raise InputError(msg, remedy="Leave it out of {features}.", value=target, argument="features")
    missing = [column for column in (*columns, target) if column not in table.columns]
    if missing or not columns:
        problem = f"the table has no column {', '.join(map(repr, missing))}" if missing else "no columns are stated"
        if "bands" not in table.attrs and not missing:
            problem += " in attrs['bands'], which pandas.concat drops if attrs differ, as does merge"
        msg = f"Cannot fit to features {columns} and target {target!r}: {problem}."
        raise InputError(msg, remedy="Pass {features} and {target}, names of columns.", argument="features")
    if not len(table):
        raise InputError("Cannot fit: the table has no rows.", remedy="Pass a {table} of points.", argument="table")
    labels = table[target]
    unlabeled = labels.isna() | labels.astype(str).str.strip().eq("")
    if unlabeled.any():
        msg = f"Cannot fit: {int(unlabeled.sum())} of {len(table)} rows have no class in {target!r}."
        raise InputError(msg, remedy=f"Drop them: table.dropna(subset=[{target!r}]).", argument="table")
    valid = table[columns].notna().all(axis=1).to_numpy()
    if not valid.any():
        msg = f"Cannot fit: all of {len(table)} rows lie on nodata or outside the layer."
        raise InputError(msg, remedy="Pass a {table} of points on valid pixels.", argument="table")
    if not valid.all():
        text = f"{int((~valid).sum())} of {len(table)} rows have features without a value and are left out."
        warnings.warn(text, NodataWarning, stacklevel=3)
    rows = pd.DataFrame(_numbers(table[columns][valid]), columns=columns)
    values = labels[valid].to_numpy()
    if values.dtype.kind == "f" and (values == np.round(values)).all():  # integers beside missing labels
        values = values.astype(np.int64)
    if values.dtype.kind == "f":
        msg = f"Cannot fit to classes in {target!r} such as {values[values != np.round(values)][0]}: they are numbers "
        msg += "with fractions."
        raise InputError(msg, remedy="Pass {target} of integers or texts.", value=target, argument="target")
    values = values.astype(str) if values.dtype.kind not in "biu" else values
    _require_classes(values, target)
    return rows, values


def _numbers(features: pd.DataFrame) -> Array:
    """Return features (n, features) as numbers, all within the range of float32, in which `predict` passes features."""
    try:
        numbers = features.to_numpy()
        numbers = numbers.astype(np.float64) if numbers.dtype.kind not in "biuf" else numbers
    except (TypeError, ValueError) as error:
        msg = f"Cannot fit: the features {features.columns.tolist()[:4]} are not numbers."
        raise InputError(msg, remedy="Pass {features}, names of columns of numbers.", argument="features") from error
    infinite = ~(np.abs(numbers) <= np.finfo(np.float32).max).all(axis=0)
    if infinite.any():
        names = features.columns[infinite].tolist()[:4]
        msg = f"Cannot fit: the features {names} have infinite numbers."
        remedy = "Replace them: table.replace([np.inf, -np.inf], np.nan), whose rows are left out."
        raise InputError(msg, remedy=remedy, value=names, argument="table")
    return np.asarray(numbers)


def _require_classes(labels: Array, target: str) -> None:
    classes, counts = np.unique(labels, return_counts=True)
    single = classes[counts == 1].tolist()
    if single or len(classes) < 2:
        problem = (
            f"the classes {single} have one row each" if single else f"all rows are of class {classes.tolist()[0]!r}"
        )
        msg = f"Cannot fit to the classes of {target!r}: {problem}."
        remedy = "Pass a {table} of two classes or more, with two rows or more of each."
        raise InputError(msg, remedy=remedy, value=single, argument="table")


def _with_attrs(estimator: Any, table: Any) -> Any:
    """Return an estimator with the attributes of the pixels that it was fitted to, which `predict` compares."""
    estimator.embedding_attrs_ = {name: table.attrs[name] for name in NAMES if name in table.attrs}
    estimator.radiometry_ = dict(table.attrs.get("radiometry", {}))
    return estimator

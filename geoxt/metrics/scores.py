"""Scores of a model or a map as one object: a mapping that prints as a table, plots and exports to a DataFrame."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from geoxt.errors import LabelError
from geoxt.plot import bars, confusion
from geoxt.types import Array

_COUNTS = frozenset({"pixels", "images", "support"})
"""Scores that are integers."""
_HECTARES = frozenset({"area", "mapped_area"})
_MAX_ROWS = 40
"""Maximum number of classes in the text; the DataFrame has all."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class Scores(Mapping[str, Any]):
    """Scores over all classes, and scores by class.

    A mapping of `overall` and `by_class`; `overall` takes precedence: `scores["accuracy"]`, `scores["iou"]["forest"]`.
    Undefined scores of a class, such as the recall of a class without labels, are `None`.

    Examples
    --------
    >>> import torch
    >>> from geoxt.metrics.confusion import classification_scores
    >>> scores = classification_scores(torch.tensor([[3, 1], [0, 4]]), ["forest", "water"])
    >>> scores["accuracy"], scores["iou"]["water"]
    (0.875, 0.8)
    >>> print(scores)
    accuracy           0.8750
    kappa              0.7500
    miou               0.7750
    macro_precision    0.9000
    macro_recall       0.8750
    macro_f1           0.8730
    majority_accuracy  0.5000
    pixels                  8
    <BLANKLINE>
           precision recall     f1    iou support
    forest    1.0000 0.7500 0.8571 0.7500       4
    water     0.8000 1.0000 0.8889 0.8000       4
    """

    overall: Mapping[str, Any] = field(default_factory=dict)
    """Scores over all classes or channels."""
    by_class: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Scores by their name and the name of the class, label or channel."""
    confusion_matrix: Array | None = None
    """Counts by true class (rows) and predicted class (columns), int64 (K, K); `None` for other tasks. A last row and
    column "other" counts predictions of no class."""

    def __getitem__(self, name: str) -> Any:
        return self.overall[name] if name in self.overall else self.by_class[name]

    def __iter__(self) -> Iterator[str]:
        yield from self.overall
        yield from (name for name in self.by_class if name not in self.overall)

    def __len__(self) -> int:
        return len({*self.overall, *self.by_class})

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, labels or channels."""
        return tuple(dict.fromkeys(name for column in self.by_class.values() for name in column))

    def flat(self, *names: str) -> dict[str, float]:
        """Return scores by flat name for loggers, such as `iou/forest`, without undefined scores.

        Parameters
        ----------
        *names
            Scores to return; all by default.
        """
        selected = names or tuple(dict.fromkeys((*self.overall, *self.by_class)))
        numbers = {name: float(self.overall[name]) for name in selected if name in self.overall}
        for name in selected:
            column = self.by_class.get(name, {})
            numbers |= {f"{name}/{key}": float(value) for key, value in column.items() if value is not None}
        return numbers

    def to_dataframe(self) -> pd.DataFrame:
        """Return the scores by class: a row per class, label or channel, a column per score; undefined ones are NaN."""
        table = pd.DataFrame({name: pd.Series(column) for name, column in self.by_class.items()}, index=self.classes)
        return table.astype({name: float for name in table if name not in _COUNTS}).rename_axis(index="class")

    def plot(self) -> Any:
        """Plot the confusion matrix of the classes that occur; without a matrix, bars of the scores by class.

        Returns
        -------
        matplotlib.figure.Figure
        """
        if self.confusion_matrix is not None:
            counts = np.asarray(self.confusion_matrix)
            names = np.array([*self.classes, "other"])[: len(counts)]
            occurs = (counts.sum(axis=0) + counts.sum(axis=1) > 0) | (counts.sum() == 0)
            return confusion(counts[np.ix_(occurs, occurs)], names[occurs].tolist())
        return bars({name: dict(column) for name, column in self.by_class.items()} or {"": dict(self.overall)})

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as JSON-compatible values, for `Scores.from_dict`."""
        matrix = None if self.confusion_matrix is None else self.confusion_matrix.tolist()
        by_class = {name: dict(column) for name, column in self.by_class.items()}
        return {"overall": dict(self.overall), "by_class": by_class, "confusion_matrix": matrix}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scores:
        """Return the scores from the result of `to_dict`."""
        matrix = values["confusion_matrix"]
        return cls(
            overall=values["overall"],
            by_class=values["by_class"],
            confusion_matrix=None if matrix is None else np.array(matrix, np.int64),
        )

    def __repr__(self) -> str:
        width = max(map(len, self.overall), default=0)
        lines = [f"{name:<{width}}  {_text(name, value):>6}" for name, value in self.overall.items()]
        table = self.to_dataframe()
        if len(table):
            shown = _rows(table).rename_axis(index=None)
            text = shown.to_string(formatters={str(name): _Format(str(name)) for name in shown}, na_rep="-")
            lines += ["", *text.splitlines()]
            if len(shown) < len(table):
                lines.append(f"... and {len(table) - len(shown)} more classes: to_dataframe() has all.")
        if _HECTARES & {*table}:
            lines += ["", "Areas are in hectares, of the scored pixels."]
        return "\n".join(lines)


def scores_by_class(names: Sequence[str], columns: Mapping[str, Any]) -> dict[str, dict[str, float | int | None]]:
    """Return columns of scores by class name, with `None` for NaN.

    Raises
    ------
    LabelError
        If two classes have the same name.

    Examples
    --------
    >>> scores_by_class(["forest", "water"], {"iou": [0.5, float("nan")]})
    {'iou': {'forest': 0.5, 'water': None}}
    """
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        msg = f"Cannot list scores by name: {duplicates[0]!r} names several classes."
        raise LabelError(msg, remedy="Pass Legend.distinct_names.", value=duplicates[0], argument="names")
    values = {column: np.asarray(scores)[: len(names)].tolist() for column, scores in columns.items()}
    return {
        column: {name: None if score != score else score for name, score in zip(names, scores, strict=True)}  # noqa: PLR0124 (NaN)
        for column, scores in values.items()
    }


def _rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that the text lists; of many classes those with scores come first."""
    if len(table) <= _MAX_ROWS:
        return table
    scores = table.drop(columns=[name for name in table if name in _COUNTS | _HECTARES])
    return table[scores.notna().any(axis=1)][:_MAX_ROWS]


class _Format:
    """Formats the numbers of a column."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, value: Any) -> str:
        return _text(self.name, value)


def _text(name: str, value: Any) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:,}" if name in _COUNTS else f"{value:,.2f}" if name in _HECTARES else f"{value:.4f}"

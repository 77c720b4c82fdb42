"""Figures of training and evaluation: confusion matrices, scores by class, and scores by epoch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from geoxt.errors import InputError
from geoxt.plot.figures import new_figure
from geoxt.types import SomePath

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_WRITTEN = 20
"""Maximum number of classes for which the cells of a matrix are annotated."""
_TOTALS = {"true": "true class", "pred": "predicted class", "all": "pixels"}


def confusion(
    matrix: npt.ArrayLike,
    names: Sequence[str],
    *,
    normalize: Literal["true", "pred", "all"] | None = None,
    title: str | None = None,
) -> Figure:
    """Plot a confusion matrix.

    Parameters
    ----------
    matrix
        Counts by true class (rows) and predicted class (columns). Shape (K, K).
    names
        Names of the classes.
    normalize
        Show fractions of the true class (rows), of the predicted class (columns) or of all pixels, as in scikit-learn;
        by default counts. Without `normalize`, colors are fractions of the true class.
    title
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the matrix is not square, or there is not one name for each class.

    Examples
    --------
    >>> from geoxt import plot
    >>> figure = plot.confusion([[3, 1], [0, 4]], ["forest", "water"], normalize="true")
    >>> figure.axes[0].get_xlabel()
    'Predicted class'
    """
    counts = np.asarray(matrix)
    if counts.shape != (len(names), len(names)):
        problem = f"Cannot plot a confusion matrix of shape {counts.shape} of {len(names)} classes."
        raise InputError(problem, remedy="Pass {names}, one for each row and column.", argument="names")
    axis: dict[str | None, Any] = {"true": 1, "pred": 0, "all": None}
    if normalize is not None and normalize not in axis:
        problem = f"Cannot normalize a confusion matrix by {normalize!r}."
        raise InputError(problem, remedy="Pass {normalize}: 'true', 'pred' or 'all'.", argument="normalize")
    totals = counts.sum(axis=axis[normalize or "true"], keepdims=True)
    fractions = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    side = min(max(0.55 * len(names), 2.5), 16) + 1.6
    figure = new_figure(side + 0.8, side)
    axes = figure.subplots()
    image = axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1 if normalize != "all" else None)
    figure.colorbar(image, ax=axes, shrink=0.7, label=f"Fraction of the {_TOTALS[normalize or 'true']}")
    ticks = range(len(names))
    size = 9 if len(names) <= _MAX_WRITTEN else 6
    axes.set_xticks(ticks, names, rotation=90 if len(names) > 3 else 0, fontsize=size)
    axes.set_yticks(ticks, names, fontsize=size)
    axes.set(xlabel="Predicted class", ylabel="True class")
    if len(names) <= _MAX_WRITTEN:
        middle = fractions.max() / 2
        for (row, column), value in np.ndenumerate(counts if normalize is None else fractions):
            text = f"{value:,}" if normalize is None else f"{value:.2f}"
            color = "white" if fractions[row, column] > middle else "black"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=7)
    if title:
        figure.suptitle(title)
    return figure


def bars(columns: Mapping[str, Mapping[str, float | None]], *, title: str | None = None) -> Figure:
    """Plot scores by class as horizontal bars, a panel for each score.

    Parameters
    ----------
    columns
        Scores by name and class, such as `{"ap": {"ship": 0.4}}`; `None` has no bar.
    title
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> from geoxt import plot
    >>> figure = plot.bars({"ap": {"ship": 0.4, "plane": None}})
    >>> len(figure.axes)
    1
    """
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    figure = new_figure(2.6 * len(columns) + 1, 0.3 * len(names) + 1)
    panels = figure.subplots(1, len(columns), squeeze=False, sharey=True)[0]
    for axes, (title_of_score, column) in zip(panels, columns.items(), strict=True):
        values = [np.nan if column.get(name) is None else column[name] for name in names]
        axes.barh(range(len(names)), values)
        axes.set_title(title_of_score)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    if title:
        figure.suptitle(title)
    return figure


def history(run: SomePath | Sequence[Mapping[str, float]], *, title: str | None = None) -> Figure:
    """Plot losses and scores by epoch, a panel for each score with training and validation.

    Parameters
    ----------
    run
        Scores by epoch from `trainers.fit`, or the folder of a run of `trainers.train` or `geoxt fit`, whose
        `result.json` is read.
    title
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the folder does not hold a finished run, or there are no epochs.

    Notes
    -----
    Scores by class, such as `val/iou/forest`, are not plotted.

    Examples
    --------
    >>> from geoxt import plot
    >>> epochs = [{"epoch": 1, "train/loss": 0.9, "val/loss": 1.0}, {"epoch": 2, "train/loss": 0.5, "val/loss": 0.7}]
    >>> figure = plot.history(epochs)
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['loss']
    """
    epochs = run if isinstance(run, Sequence) and not isinstance(run, str) else _epochs(Path(run))
    if not epochs:
        raise InputError("Cannot plot a history without epochs.", remedy="Pass {run}, scores by epoch.", argument="run")
    logged = dict.fromkeys(name for epoch in epochs for name in epoch if name.count("/") == 1)
    scores = sorted({name.partition("/")[2] for name in logged}, key=lambda name: (name != "loss", name))
    figure = new_figure(3.2 * max(len(scores), 1) + 0.4, 2.9)
    panels = figure.subplots(1, max(len(scores), 1), squeeze=False)[0]
    numbers = [epoch.get("epoch", index + 1) for index, epoch in enumerate(epochs)]
    for axes, score in zip(panels, scores, strict=False):
        for color, (part, label) in enumerate((("train", "training"), ("val", "validation"))):
            if f"{part}/{score}" in logged:
                values = [epoch.get(f"{part}/{score}", np.nan) for epoch in epochs]
                axes.plot(numbers, values, "o-", color=f"C{color}", markersize=3, label=label)
        axes.set(xlabel="epoch", ylabel=score)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False)
    if title:
        figure.suptitle(title)
    return figure


def _epochs(folder: Path) -> list[dict[str, float]]:
    """Return the scores by epoch of the run in a folder."""
    path = folder / "result.json" if folder.is_dir() else folder
    try:
        epochs: list[dict[str, float]] = json.loads(path.read_text(encoding="utf-8"))["history"]
    except (OSError, ValueError, KeyError) as error:
        problem = f"Cannot read the history of a run from {str(path)!r}: {error}."
        raise InputError(problem, remedy="Pass {run}, the folder of a finished run.", argument="run") from error
    return epochs

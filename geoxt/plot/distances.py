"""Figures of distances: cumulative distributions of the distance to the nearest training point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from geoxt.errors import InputError
from geoxt.plot.figures import new_figure
from geoxt.types import Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def distances(curves: Mapping[str, Floats], *, unit: str = "m", title: str | None = None) -> Figure:
    """Plot cumulative distributions of distances in one panel.

    Parameters
    ----------
    curves
        Distances (n,) by name.
    unit
        Unit of the distances.
    title
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If a distribution is empty, or distances are not finite.

    See Also
    --------
    geoxt.splits.knndm : Folds of points whose distances are like those at prediction.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt import plot
    >>> figure = plot.distances({"folds": np.array([10.0, 20.0]), "prediction": np.array([15.0, 40.0])})
    >>> figure.axes[0].get_xlabel()
    'Distance to the nearest training point (m)'
    """
    figure = new_figure(5.6, 3.6)
    axes = figure.subplots()
    for name, values in curves.items():
        ordered = np.sort(np.asarray(values, float).ravel())
        if not len(ordered) or not np.isfinite(ordered).all():
            problem = f"Cannot plot the distances {name!r}: there are none, or some are not finite."
            raise InputError(problem, remedy="Leave it out of {curves}.", value=name, argument="curves")
        axes.step(np.r_[0, ordered], np.arange(len(ordered) + 1) / len(ordered), where="post", label=name)
    axes.set_xlabel(f"Distance to the nearest training point ({unit})")
    axes.set_ylabel("Cumulative fraction")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1)
    axes.legend(loc="lower right", frameon=False)
    if title:
        figure.suptitle(title)
    return figure

"""Reliability diagram: accuracy against confidence, with the number of pixels below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from geoxt.plot.figures import new_figure
from geoxt.types import Array, Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class HasReliability(Protocol):
    """Bins of confidence and accuracy, such as `geoxt.assess.Reliability`."""

    @property
    def edges(self) -> Floats:
        """Edges of the bins. Shape (bins + 1,)."""

    @property
    def prob_pred(self) -> Floats:
        """Mean confidence of each bin. Shape (bins,)."""

    @property
    def prob_true(self) -> Floats:
        """Accuracy of each bin. Shape (bins,)."""

    @property
    def counts(self) -> Array:
        """Pixels of each bin. Shape (bins,)."""

    @property
    def ece(self) -> float:
        """Expected calibration error."""


def reliability_diagram(curves: Mapping[str, HasReliability]) -> Figure:
    """Plot the accuracy of pixels against their confidence, and the number of pixels in each bin.

    Parameters
    ----------
    curves
        Reliability by name.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(4.6, 5.2)
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    upper.plot((0, 1), (0, 1), color="gray", linestyle="--", linewidth=1, label="calibrated")
    for number, (name, curve) in enumerate(curves.items()):
        color, occupied = f"C{number}", curve.counts > 0
        label = f"{name} (ECE {curve.ece:.3f})"
        upper.plot(curve.prob_pred[occupied], curve.prob_true[occupied], "o-", color=color, label=label, markersize=4)
        lower.stairs(curve.counts / curve.counts.sum(), curve.edges, color=color)
    upper.set(ylabel="Accuracy", xlim=(0, 1), ylim=(0, 1), yticks=np.linspace(0, 1, 6))
    upper.legend(loc="upper left", frameon=False)
    lower.set(xlabel="Confidence", ylabel="Fraction of pixels")
    return figure

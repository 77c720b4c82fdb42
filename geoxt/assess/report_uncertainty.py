"""Sections of an assessment report on uncertainty: calibration of probabilities, conformal sets, applicability."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from geoxt.assess.report_content import Cell, Figure, Section, Table, class_cells, number, percent
from geoxt.assess.report_figures import bar_chart, class_image, overview, reliability_diagram
from geoxt.legend import Legend

_SCORES = {"ece": "Expected calibration error", "brier": "Brier score", "nll": "Negative log-likelihood"}


def calibration_section(calibration: Any) -> Section:
    """Return the section with reliability diagram and scores of a `Calibration` or a `Reliability`."""
    names, parts, texts = ["Value"], [calibration], []
    if hasattr(calibration, "after"):
        names, parts = ["Before", "After"], [calibration.before, calibration.after]
        text = (
            f"Temperature {calibration.temperature:.3f}, fitted on {calibration.pixels:,} held-out pixels: logits are "
        )
        texts = [text + "divided by it. The curve with points is after it, the gray curve before."]
    graphic = reliability_diagram([(part.prob_pred, part.prob_true) for part in parts], parts[-1].counts)
    caption = "Fraction of correct pixels by confidence; on the diagonal they agree. Bars: pixels of each bin."
    rows = tuple(
        (Cell(text), *(Cell(f"{getattr(part, name):.4f}") for part in parts)) for name, text in _SCORES.items()
    )
    table = Table(caption="Scores of probabilities", columns=("Score", *names), rows=rows)
    return Section(title="Calibration", blocks=(*texts, Figure(graphic=graphic, caption=caption), table))


def conformal_section(conformal: Any, legend: Legend | None) -> Section:
    """Return the section on coverage and size of `ConformalSets`, or coverage and width of `ConformalIntervals`."""
    pixels, blocks = int(np.sum(conformal.test_pixels)), conformal.blocks
    prediction = "intervals" if hasattr(conformal, "half_width") else "sets of classes"
    text = (
        f"Conformal {prediction} are to be right for {percent(1 - conformal.alpha)} of the pixels. They are right for "
        f"{percent(conformal.coverage)}{_plus_minus(conformal.coverage_ci95)} of {pixels:,} test pixels in "
        f"{blocks[1]:,} blocks; {blocks[0]:,} other blocks calibrate them. The 95 % intervals of the coverage are over "
        "test blocks."
    )
    if hasattr(conformal, "half_width"):
        text += f" Their half width is {conformal.half_width:.4g}."
        return Section(title="Conformal intervals", blocks=(text,))
    fractions = conformal.sizes / max(conformal.sizes.sum(), 1)
    sizes = np.flatnonzero(conformal.sizes)
    chart = bar_chart(sizes.tolist(), fractions[sizes])
    rows = tuple(
        (cell, Cell(percent(float(coverage)) + _plus_minus(half_width)), Cell(f"{int(count):,}"))
        for cell, coverage, half_width, count in zip(
            class_cells(conformal.classes, legend),
            conformal.class_coverage,
            conformal.class_coverage_ci95,
            conformal.test_pixels,
            strict=True,
        )
    )
    table = Table(caption="Coverage by class", columns=("Class", "Coverage", "Test pixels"), rows=rows)
    figure = Figure(graphic=chart, caption="Test pixels by the number of classes in their set")
    return Section(title="Conformal sets", blocks=(text, figure, table))


def _plus_minus(half_width: float) -> str:
    """Return the half width of an interval as text; an empty string if it cannot be estimated."""
    return f" ± {percent(half_width)}" if np.isfinite(half_width) else ""


def applicability_section(area: xr.Dataset) -> tuple[Section, dict[str, float]]:
    """Return the section of the area of applicability, and its numbers."""
    layer = area["applicable"]
    reduced, legend = overview(layer), Legend.of(layer)
    fraction = reduced.counts[1] / max(reduced.counts.total(), 1)
    values = {"fraction": fraction} | {
        name: float(area.attrs[name]) for name in ("threshold", "mean_training_distance") if name in area.attrs
    }
    limit = f"the threshold of {number(values['threshold'], 1)}" if "threshold" in values else "the threshold"
    text = (
        f"{percent(fraction)} of the valid pixels are like the training pixels: their dissimilarity index is up to "
        f"{limit}. The accuracy of the map is unknown for the other pixels."
    )
    key = tuple(zip(legend.names, legend.colors, strict=True))
    figure = Figure(graphic=class_image(reduced, legend, "area of applicability"), caption="Applicability", key=key)
    return Section(title="Area of applicability", blocks=(text, figure)), values

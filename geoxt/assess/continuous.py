"""Design-based accuracy of a map of numbers, and the total of the reference variable."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from odc.geo.geobox import GeoBox

from geoxt.assess.map_strata import Codes, blocks_of
from geoxt.assess.survey import Z95, Estimate, Survey
from geoxt.errors import InputError
from geoxt.grid import full_window
from geoxt.regions.geodesic_area import pixel_hectares
from geoxt.types import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuousEstimate:
    """Estimated errors of a map of numbers, weighted by area."""

    bias: Estimate
    """Mean of map minus reference, in the unit of the map."""
    rmse: Estimate
    """Root mean square error, in the unit of the map."""
    mae: Estimate
    """Mean absolute error, in the unit of the map."""
    r2: Estimate
    """Coefficient of determination: 1 - mean square error / variance of the reference."""
    mean: Estimate
    """Mean of the reference variable over the map, by the difference estimator."""
    total: Estimate
    """Integral of the reference variable over the map: mean times area in hectares, by the difference estimator."""
    method: str = ""
    """Sampling design and kind of the intervals, with or without finite population correction."""

    def __repr__(self) -> str:
        names = [name for name in self.__slots__ if name != "method"]
        lines = [f"{name:5} {getattr(self, name).value:.4g} ± {getattr(self, name).ci95:.2g}" for name in names]
        return "\n".join(lines)


def continuous_estimate(
    survey: Survey, reference: Floats, mapped: Floats, areas: Floats, *, map_mean: float, total: float
) -> ContinuousEstimate:
    """Return the errors of a map of numbers, and the total of the reference.

    Parameters
    ----------
    survey
        Design of the sample.
    reference, mapped
        Numbers of each sampled pixel by the reference and in the map. Shape (n,).
    areas
        Ground area of each sampled pixel. Shape (n,).
    map_mean
        Mean of the map.
    total
        Area of the population in hectares.

    Notes
    -----
    The difference estimator adds the estimated mean of reference minus map to the known mean of the map (Särndal et al.
    1992, Model Assisted Survey Sampling, section 6.3). Standard errors of RMSE and R² are by linearization.
    """
    if not np.isfinite(reference).all():
        problem = "Cannot estimate from reference numbers that are not finite."
        raise InputError(problem, remedy="Correct the column {reference}.", argument="reference")
    weight = areas / areas.mean()
    error = mapped - reference
    center = float(survey.weights @ (weight * reference) / (survey.weights @ weight))
    spread = (reference - center) ** 2
    columns = np.stack([error, np.abs(error), error**2, -error], axis=1)
    means, deviations = survey.ratio(columns * weight[:, None], np.repeat(weight[:, None], columns.shape[1], 1))
    unexplained, of_unexplained = survey.ratio((error**2 * weight)[:, None], (spread * weight)[:, None])
    if np.ptp(reference) == 0:  # a constant reference has no variance to explain
        unexplained = of_unexplained = np.array([np.nan])
    rmse = float(np.sqrt(means[2]))
    mean = map_mean + float(means[3])
    return ContinuousEstimate(
        bias=_symmetric(float(means[0]), float(deviations[0])),
        mae=_symmetric(float(means[1]), float(deviations[1])),
        rmse=_symmetric(rmse, float(deviations[2]) / (2 * rmse) if rmse > 0 else 0.0),
        r2=_symmetric(1 - float(unexplained[0]), float(of_unexplained[0])),
        mean=_symmetric(mean, float(deviations[3])),
        total=_symmetric(mean * total, float(deviations[3]) * total),
        method=survey.method("normal"),
    )


def _symmetric(value: float, se: float) -> Estimate:
    return Estimate(value, se, Z95 * se, value - Z95 * se, value + Z95 * se)


def mean_of_map(grid: GeoBox, read: Codes) -> tuple[float, int, float]:
    """Return the mean of the valid pixels of a map, weighted by ground area, their number, and their area in hectares.

    The map is read in one pass, block by block.
    """
    amount = area = 0.0
    pixels = 0
    for block in blocks_of(full_window(grid)):
        values, valid = read(block)
        weights = np.where(valid, pixel_hectares(grid, block), 0)
        amount += float((np.where(valid, values, 0).astype(float) * weights).sum())
        area += float(weights.sum())
        pixels += int(np.count_nonzero(valid))
    return amount / area if area else float("nan"), pixels, area

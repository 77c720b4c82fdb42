"""Ratios estimated from stratified and clustered samples, with standard errors by linearization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from geoxt.errors import InputError
from geoxt.types import Array, Floats

Z95 = NormalDist().inv_cdf(0.975)
"""Half width of a 95 % interval of the normal distribution, in standard errors."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Estimated numbers with their standard errors and 95 % intervals."""

    value: Any
    """Estimate: a float, or an array with one number per class."""
    se: Any
    """Standard error, in the unit of the value; NaN if the sample is too small to estimate it."""
    ci95: Any
    """Half width of the symmetric 95 % interval, 1.96 standard errors."""
    lower: Any
    """Lower end of the 95 % interval."""
    upper: Any
    """Upper end of the 95 % interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The design of a probability sample: the weight and stratum of each sampled pixel."""

    weights: Floats
    """Number of population pixels that each sampled pixel represents: 1 / inclusion probability. Shape (n,)."""
    strata: Array
    """Index of the stratum of each sampled pixel. Shape (n,)."""
    sizes: Floats
    """Size of each stratum, in any unit. Shape (strata,)."""
    fractions: Floats | None = None
    """Sampled fraction of each stratum, for the finite population correction; `None` for none. Shape (strata,)."""
    clusters: Array | None = None
    """Index of the cluster of each sampled pixel, or `None` if pixels were drawn independently. Shape (n,)."""
    areas: Floats | None = None
    """Ground area of each sampled pixel, if the areas of the strata are known; `None` for equal areas. Shape (n,)."""

    def method(self, interval: str) -> str:
        """Return the design and the kind of its intervals and standard errors in words."""
        design = "simple" if len(self.sizes) == 1 else "stratified"
        limits = interval.replace("jeffreys", "Jeffreys")
        units = "pixels" if self.clusters is None else "clusters of pixels"
        correction = "with" if self.fractions is not None else "without"
        return f"{design} random sample of {units}; {limits} intervals, {correction} finite population correction"

    def ratio(self, numerator: Floats, denominator: Floats) -> tuple[Floats, Floats]:
        """Return estimated ratios of two population totals, and their standard errors.

        Parameters
        ----------
        numerator, denominator
            The two quantities of each sampled pixel. Shape (n, m) for m ratios.

        Returns
        -------
        numpy.ndarray, numpy.ndarray
            Ratios and standard errors, of shape (m,); NaN where the denominator is zero for all sampled pixels. The
            standard error is NaN if a stratum has a single unit.

        Notes
        -----
        Variance of the linearized ratio between pixels within strata, or between clusters within strata; of pixels of
        unequal areas, deviations are from the mean of the stratum by area (separate ratio estimator).

        References
        ----------
        Stehman 2014, equations 24 to 28. https://doi.org/10.1080/01431161.2014.930207
        Cochran 1977, Sampling Techniques, sections 6.12 and 9A.5.
        """
        total = self.weights @ denominator
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = (self.weights @ numerator) / total
            residual = self.weights[:, None] * (numerator - ratio * denominator) / total
        return ratio, np.sqrt(self._variance(residual))

    def _variance(self, residual: Floats) -> Floats:
        """Return the variance of the sum of weighted residuals, summed over strata."""
        strata = self.strata
        fractions = np.zeros(len(self.sizes)) if self.fractions is None else self.fractions
        pixels = np.ones(len(strata)) if self.areas is None else self.areas
        if self.clusters is not None:
            units, index = np.unique(np.stack([strata, self.clusters]), axis=1, return_inverse=True)
            sums = np.zeros((units.shape[1], residual.shape[1]))
            np.add.at(sums, index.ravel(), residual)
            residual, strata, pixels = sums, units[0], np.bincount(index.ravel(), pixels).astype(float)
        variance = np.zeros(residual.shape[1])
        for stratum in np.unique(strata):
            part, size = residual[strata == stratum], pixels[strata == stratum, None]
            if fractions[stratum] >= 1:  # every pixel of the stratum was sampled
                continue
            if len(part) < 2:
                return np.full(residual.shape[1], np.nan)
            # `size` weights the mean by unequal pixel areas, or unequal cluster sizes
            spread = ((part - part.sum(0) / size.sum() * size) ** 2).sum(0)
            variance += (1 - fractions[stratum]) * len(part) / (len(part) - 1) * spread
        return variance


def by_label(numbers: Any) -> Any:
    """Return a mapping by label for a Series or a DataArray with an index, and other numbers unchanged.

    The default index 0, 1, 2 … of pandas holds no labels: such numbers stay in their order.

    Raises
    ------
    InputError
        If labels are repeated.
    """
    if isinstance(numbers, xr.DataArray) and numbers.ndim == 1:
        numbers = numbers.to_pandas()
    if not isinstance(numbers, pd.Series) or is_unlabeled(numbers.index):
        return numbers
    if numbers.index.has_duplicates:
        repeated = numbers.index[numbers.index.duplicated()].unique().tolist()
        problem = f"Cannot match numbers by label: the labels {repeated} are repeated."
        raise InputError(problem, remedy="Pass one number for each label.", value=repeated)
    return numbers.to_dict()


def is_unlabeled(index: pd.Index) -> bool:
    """Return whether an index is the default 0, 1, 2 … of pandas."""
    return isinstance(index, pd.RangeIndex) and index.equals(pd.RangeIndex(len(index)))


def indices_of(values: Sequence[Any] | Array, groups: Sequence[Any], name: str) -> Array:
    """Return the position of each value in a list of groups.

    Raises
    ------
    InputError
        If a value is none of them.
    """
    position = {group: index for index, group in enumerate(groups)}
    unknown = sorted({str(value) for value in values if value not in position})
    if unknown:
        problem = f"Cannot estimate: the {name} {', '.join(unknown[:5])} are none of {list(position)}."
        raise InputError(problem, remedy=f"Correct the {name} of the sample.", value=unknown)
    return np.array([position[value] for value in values], dtype=np.int64)

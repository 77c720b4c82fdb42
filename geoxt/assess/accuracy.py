"""Design-based accuracy and areas of a class map, with standard errors and intervals."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from geoxt.assess.proportion_intervals import Interval, ProportionLimits
from geoxt.assess.survey import Z95, Estimate, Survey, by_label, is_unlabeled
from geoxt.errors import AssessmentWarning, InputError
from geoxt.types import Array, Floats

SomeSizes = Mapping[Any, float] | pd.Series | xr.DataArray | Sequence[float] | npt.NDArray[Any]
"""Size of each stratum: by its name, or in the order of the strata."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyEstimate:
    """Estimated accuracy and areas of a class map.

    Arrays have one number per class, in the order of `classes`. A class that was never mapped in the sample has no
    user's accuracy (NaN), one without reference pixels no producer's accuracy.
    """

    classes: tuple[Hashable, ...]
    """Classes of map and reference."""
    counts: Array
    """Number of sampled pixels (map class, reference class)."""
    error_matrix: Estimate
    """Estimated fraction of the area (map class, reference class), which sums to 1; its intervals are normal."""
    overall: Estimate
    """Overall accuracy: fraction of the area that is mapped correctly."""
    users: Estimate
    """User's accuracy: fraction of the area mapped as a class that is of that class (precision)."""
    producers: Estimate
    """Producer's accuracy: fraction of the area of a class that is mapped as that class (recall)."""
    f1: Estimate
    """Harmonic mean of user's and producer's accuracy."""
    area: Estimate
    """Area of each class by the reference, in `unit`."""
    mapped_area: Floats
    """Area mapped as each class, in `unit`, estimated from the sample; exact if the strata are the map's classes."""
    unit: str
    """Unit of areas: "ha" for samples of a map, the unit of `stratum_sizes` for tables."""
    method: str = ""
    """Sampling design and kind of the intervals, with or without finite population correction."""

    def to_dataframe(self) -> pd.DataFrame:
        """Return a table with a row per class: users, producers, f1 and area, each with `_se`, `_ci95` and interval.

        The columns of the interval end in `_lower` and `_upper`.
        """
        columns: dict[str, Any] = {"samples": self.counts.sum(0)}
        for name in ("users", "producers", "f1", "area"):
            estimate: Estimate = getattr(self, name)
            columns |= {name: estimate.value, f"{name}_se": estimate.se, f"{name}_ci95": estimate.ci95}
            columns |= {f"{name}_lower": estimate.lower, f"{name}_upper": estimate.upper}
        columns["mapped_area"] = self.mapped_area
        return pd.DataFrame(columns, index=pd.Index(self.classes, name="class"))

    def __repr__(self) -> str:
        columns: dict[str, Any] = {"samples": self.counts.sum(0)}
        for name, form in (("users", ".3f"), ("producers", ".3f"), ("f1", ".3f"), ("area", ",.0f")):
            estimate: Estimate = getattr(self, name)
            ends = zip(estimate.value, estimate.lower, estimate.upper, strict=True)
            columns[name] = [_with_interval(*numbers, form) for numbers in ends]
        table = pd.DataFrame(columns, index=pd.Index(self.classes, name="class")).to_string()
        overall = _with_interval(self.overall.value, self.overall.lower, self.overall.upper, ".3f")
        return f"overall accuracy {overall}, 95 % intervals; areas in {self.unit}\n{table}"


def _with_interval(value: float, lower: float, upper: float, form: str) -> str:
    known = np.isfinite(lower) and np.isfinite(upper)
    return f"{value:{form}} ({lower:{form}} to {upper:{form}})" if known else f"{value:{form}}"


def estimate_from_counts(
    counts: Any, stratum_sizes: SomeSizes, *, classes: Sequence[Hashable] | None = None, interval: Interval = "jeffreys"
) -> AccuracyEstimate:
    """Return design-based accuracy and areas from the counts of a stratified random sample.

    Parameters
    ----------
    counts
        Number of sampled pixels. Shape (stratum, reference class), if the strata are the classes of the map, in the
        same order; else (stratum, map class, reference class). An array, or a DataFrame or DataArray with names.
    stratum_sizes
        Size of each stratum, in pixels or any unit of area: a mapping or a labelled Series by name, or in the order of
        the strata.
    classes
        Names of the classes of an array, by default 0, 1, 2 …; of a DataFrame its columns, in the order of the result.
    interval
        Kind of the 95 % intervals `lower` to `upper`: "jeffreys" (see Notes), "exact", which are wider and rarely
        miss, or "normal", which are `value` ± `ci95` and miss rare classes and small counts more often.

    Returns
    -------
    AccuracyEstimate
        Error matrix, overall, user's and producer's accuracy, F1, and areas in the unit of `stratum_sizes`, each with
        `value`, `se`, `ci95` (half width, 1.96 standard errors), and the interval `lower` to `upper`.

    Raises
    ------
    InputError
        If shapes, names or sizes contradict each other, counts are negative or fractional, or a stratum has no sample.
    MissingDependency
        If scipy is not installed, unless intervals are "normal".

    Warns
    -----
    AssessmentWarning
        If a stratum has a single sampled pixel, so that no variance can be estimated.

    Examples
    --------
    >>> from geoxt import assess
    >>> counts = [[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]
    >>> table = assess.estimate_from_counts(counts, [200_000, 150_000, 3_200_000, 6_450_000])
    >>> round(float(table.overall.value), 3), round(float(table.overall.ci95), 3)
    (0.947, 0.018)
    >>> round(float(table.overall.lower), 2), round(float(table.overall.upper), 2)
    (0.93, 0.96)

    Notes
    -----
    `ci95` is 1.96 standard errors, as in the papers. It supposes that the estimate is normally distributed, and that
    the sample shows the variance of each stratum: a stratum without a sampled pixel of a class adds 0, however large
    it is. In simulated samples of 60 to 600 pixels, of classes of 0.5 to 98 % of the area, `area` ± `ci95` contains the
    true area in 29 to 95 % of the samples; `lower` to `upper` of "jeffreys" in 91 to 97 %, in 94.8 % on average.
    They combine the Jeffreys limits of the strata (Zou et al. 2009). Of a class with a few pixels, coverage depends on
    the proportion, as for all intervals of counts; "exact" intervals are above 95 % instead.

    References
    ----------
    Olofsson et al. 2014, Good practices for estimating area and assessing accuracy of land change.
    https://doi.org/10.1016/j.rse.2014.02.015

    Stehman 2014, Estimating area and map accuracy for stratified random sampling when the strata are different from the
    map classes. https://doi.org/10.1080/01431161.2014.930207

    Zou, Huang and Zhang 2009, A note on confidence interval estimation for a linear function of binomial proportions.
    https://doi.org/10.1016/j.csda.2008.09.033
    """
    counts, strata, classes = _labels_of(counts, classes)
    table = _checked_counts(counts)
    names = tuple(range(table.shape[-1])) if classes is None else tuple(classes)
    if len({*names}) < len(names):
        problem = f"Cannot estimate: names of classes are repeated in {[*names]}."
        raise InputError(problem, remedy="Pass {classes} with different names.", argument="classes")
    if len(names) != table.shape[-1]:
        problem = f"Cannot estimate: {len(names)} classes are named, and {table.shape[-1]} counted."
        raise InputError(problem, remedy="Pass {classes} with a name for each column.", argument="classes")
    if table.ndim == 2:
        rows, columns = table.shape
        if rows != columns or (strata is not None and strata != list(names)):
            problem = f"Cannot estimate: {rows} strata are not the {columns} classes of the map, in their order."
            remedy = "Pass {counts} of shape (stratum, map class, reference class)."
            raise InputError(problem, remedy=remedy, argument="counts")
        table = np.eye(rows, dtype=np.int64)[:, :, None] * table[:, None, :]
    sizes = _sizes(stratum_sizes, strata if strata is not None else names, len(table))
    stratum, mapped, reference = (np.repeat(index, table.ravel()) for index in np.indices(table.shape).reshape(3, -1))
    survey = stratified(stratum, sizes, strata if strata is not None else range(len(table)))
    return accuracy_of(survey, mapped, reference, names, interval=interval)


def stratified(strata: Array, sizes: Floats, names: Sequence[Any]) -> Survey:
    """Return the design of a stratified random sample, without finite population correction.

    Raises
    ------
    InputError
        If a stratum has no sample.
    """
    counts = np.bincount(strata, minlength=len(sizes))
    empty = [name for name, count in zip(names, counts, strict=True) if count == 0]
    if empty:
        problem = f"Cannot estimate: the strata {empty} have no sampled pixel."
        raise InputError(problem, remedy="Sample them, or join them with another stratum.", value=empty)
    single = [name for name, count in zip(names, counts, strict=True) if count == 1]
    if single:
        warnings.warn(
            f"The strata {single} have one sampled pixel each: no variance can be estimated, standard errors are NaN.",
            AssessmentWarning,
            stacklevel=3,
        )
    return Survey(weights=(sizes / counts)[strata], strata=strata, sizes=sizes)


def accuracy_of(
    survey: Survey,
    mapped: Array,
    reference: Array,
    classes: Sequence[Hashable],
    *,
    interval: Interval = "jeffreys",
    areas: Floats | None = None,
    total: float | None = None,
    unit: str = "unit of stratum_sizes",
) -> AccuracyEstimate:
    """Return accuracy and areas from the class indices of sampled pixels.

    Parameters
    ----------
    survey
        Design of the sample.
    mapped, reference
        Class index of each sampled pixel in the map and by the reference. Shape (n,).
    classes
        Names of the classes.
    interval
        Kind of intervals.
    areas
        Ground area of each sampled pixel; by default all pixels are of equal area. Shape (n,).
    total
        Area of the population, in `unit`; by default the sum of the sizes of the strata.
    unit
        Unit of areas.
    """
    if interval not in get_args(Interval):
        problem = f"Cannot compute {interval!r} intervals."
        raise InputError(problem, remedy="Pass {interval:'jeffreys'}, 'exact' or 'normal'.", argument="interval")
    count, weight = len(classes), np.ones(len(mapped)) if areas is None else areas / areas.mean()
    of_map, of_reference = np.eye(count)[mapped] * weight[:, None], np.eye(count)[reference] * weight[:, None]
    agree = of_map * np.eye(count)[reference]
    everything = np.broadcast_to(weight[:, None], of_map.shape)
    cells = (of_map[:, :, None] * np.eye(count)[reference][:, None, :]).reshape(len(mapped), -1)
    total = float(survey.sizes.sum()) if total is None else total
    limits = None if interval == "normal" else ProportionLimits.of(survey, mapped, reference, weight, count, interval)

    def ratio(name: str, numerator: Floats, denominator: Floats) -> Estimate:
        return _proportion(*survey.ratio(numerator, denominator), getattr(limits, name, None))

    matrix = ratio("error_matrix", cells, np.broadcast_to(weight[:, None], cells.shape))
    counts = np.zeros((count, count), np.int64)
    np.add.at(counts, (mapped, reference), 1)
    return AccuracyEstimate(
        classes=tuple(classes),
        counts=counts,
        error_matrix=_mapped(matrix, lambda a: a.reshape(count, count)),
        overall=_mapped(ratio("overall", agree.sum(1, keepdims=True), weight[:, None]), lambda a: float(a[0])),
        users=ratio("users", agree, of_map),
        producers=ratio("producers", agree, of_reference),
        f1=ratio("f1", 2 * agree, of_map + of_reference),
        area=_mapped(ratio("area", of_reference, everything), lambda a: a * total),
        mapped_area=survey.ratio(of_map, everything)[0] * total,
        unit=unit,
        method=survey.method(interval),
    )


def _proportion(value: Floats, se: Floats, limits: tuple[Floats, Floats] | None) -> Estimate:
    """Return proportions with the ends of their intervals; by default 1.96 standard errors away, within 0 and 1."""
    half_width = Z95 * se
    if limits is None:
        return Estimate(value, se, half_width, np.clip(value - half_width, 0, 1), np.clip(value + half_width, 0, 1))
    lower, upper = (np.where(np.isnan(se), np.nan, limit) for limit in limits)
    return Estimate(value, se, half_width, np.minimum(lower, value), np.maximum(upper, value))


def _mapped(estimate: Estimate, function: Any) -> Estimate:
    fields = (estimate.value, estimate.se, estimate.ci95, estimate.lower, estimate.upper)
    return Estimate(*map(function, fields))


def _checked_counts(counts: Any) -> Array:
    try:
        numbers = np.asarray(counts, dtype=float)
    except (TypeError, ValueError) as error:
        problem = f"Cannot estimate from counts that are no table of numbers: {error}."
        raise InputError(problem, remedy="Pass {counts} as an array of numbers.", argument="counts") from error
    if numbers.ndim not in {2, 3} or numbers.size == 0:
        problem = f"Cannot estimate from counts of shape {numbers.shape}."
        remedy = "Pass {counts} of shape (stratum, reference class) or (stratum, map class, reference class)."
        raise InputError(problem, remedy=remedy, argument="counts")
    if not np.isfinite(numbers).all() or (numbers < 0).any() or (numbers % 1 != 0).any():
        problem = "Cannot estimate from counts that are negative, fractional or not finite."
        raise InputError(problem, remedy="Pass {counts} as numbers of sampled pixels.", argument="counts")
    body = numbers[:-1, :-1] if numbers.ndim == 2 else np.zeros((0, 0))
    if min(body.shape) > 1 and body.any():
        margins = np.block([[body, body.sum(1, keepdims=True)], [body.sum(0), body.sum()]])
        if np.array_equal(numbers, margins):
            problem = "Cannot estimate from counts whose last row and column are the sums of the others."
            raise InputError(problem, remedy="Pass {counts} without totals.", argument="counts")
    if numbers.ndim == 3 and numbers.shape[1] != numbers.shape[2]:
        problem = f"Cannot estimate from {numbers.shape[1]} map classes and {numbers.shape[2]} reference classes."
        raise InputError(problem, remedy="Pass {counts} with the same classes twice.", argument="counts")
    return numbers.astype(np.int64)


def _labels_of(
    counts: Any, classes: Sequence[Hashable] | None
) -> tuple[Any, list[Hashable] | None, Sequence[Hashable] | None]:
    """Return the counts ordered by class, the names of the strata (`None` without labels), and those of the classes."""
    if isinstance(counts, xr.DataArray) and counts.ndim == 2:
        counts = counts.to_pandas()
    if isinstance(counts, xr.DataArray) and counts.ndim == 3:
        labels = [list(counts.indexes[dim]) if dim in counts.indexes else None for dim in counts.dims]
        names = labels[2] or labels[1] if classes is None else list(classes)
        for dim, present in zip(counts.dims[1:], labels[1:], strict=True):
            if present is not None and names is not None:
                _require_names(names, present, str(dim))
                counts = counts.sel({dim: names})
        return counts.to_numpy(), labels[0], names
    if not isinstance(counts, pd.DataFrame):
        return counts, None, classes
    if classes is not None and not is_unlabeled(counts.columns):
        names = list(classes)
        _require_names(names, list(counts.columns), "columns")
        rows = names if {*counts.index} == {*names} else list(counts.index)
        counts = counts.loc[rows, names]
    strata = None if is_unlabeled(counts.index) else list(counts.index)
    return counts, strata, list(counts.columns) if classes is None else classes


def _require_names(names: list[Any], labels: list[Any], dim: str) -> None:
    """Raise if class names differ from the labels of the counts, in any order."""
    if {*names} != {*labels} or len(names) != len(labels):
        problem = f"Cannot estimate: classes are named {names}, and the {dim} of the counts are {labels}."
        raise InputError(problem, remedy="Pass {classes} as the names in the counts, in any order.", argument="classes")


def _sizes(sizes: SomeSizes, names: Sequence[Any], count: int) -> Floats:
    """Return the sizes in the order of the strata."""
    sizes = by_label(sizes)
    if isinstance(sizes, Mapping):
        if {*sizes} != {*names}:
            problem = f"Cannot estimate: sizes are given for {list(sizes)}, and the strata are {list(names)}."
            raise InputError(problem, remedy="Pass {stratum_sizes} for each stratum.", argument="stratum_sizes")
        sizes = [sizes[name] for name in names]
    numbers = np.asarray(sizes, dtype=float)
    if numbers.shape != (count,) or not (np.isfinite(numbers) & (numbers > 0)).all():
        problem = f"Cannot estimate: {count} strata need {count} positive sizes, and {numbers.tolist()} are given."
        raise InputError(problem, remedy="Pass {stratum_sizes} for each stratum.", argument="stratum_sizes")
    return numbers

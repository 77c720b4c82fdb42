"""Probability samples of the pixels of a map, to be labelled by reference."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import shapely
import xarray as xr

from geoxt.alignment import align
from geoxt.assess.allocation import (
    Allocation,
    Measure,
    allocate,
    class_deviations,
    sample_size,
    standard_deviations,
)
from geoxt.assess.map_strata import BLOCK, Codes, Strata, class_codes, count_strata, legend_of, positions_of
from geoxt.errors import AssessmentWarning, InputError, optional_import
from geoxt.grid import grid_of
from geoxt.legend import Legend
from geoxt.regions.geodesic_area import HECTARE, point_areas
from geoxt.source import as_layer
from geoxt.types import Array, Floats
from geoxt.windows import Window

REFERENCE = "reference"
"""Column that is filled by those who label the sample."""
POPULATION = "population_pixels"
"""Column of the number of pixels of all strata."""
SIMPLE = "all"
"""Name of the only stratum of a sample that is not stratified."""
_MAX_CODES = 8
"""Codes that a warning names."""


def sample_design(
    map: xr.DataArray | xr.Dataset,  # noqa: A002 (the map to assess, as in the literature)
    n: int | None = None,
    *,
    target_se: float | None = None,
    strata: Literal["classes"] | xr.DataArray | None = "classes",
    allocation: Allocation = "proportional",
    min_per_class: int = 2,
    expected: Mapping[str, float] | None = None,
    target_class: str | None = None,
    measure: Measure = "all",
    systematic: bool = False,
    seed: int = 0,
) -> Any:
    """Return a probability sample of the pixels of a map, to be labelled by reference.

    The map is read once, block by block, and blocks with drawn pixels once more. The sample depends on the seed, not on
    dask chunks.

    Parameters
    ----------
    map
        Class codes (y, x), of any size, in any CRS.
    n
        Number of pixels to draw. Or pass `target_se`.
    target_se
        Standard error to reach for overall accuracy (or for the proportion that `expected` gives, or for `measure` of
        `target_class`), such as 0.01. Gives the number of pixels of the allocation by Cochran's formula.
    strata
        "classes": one stratum for each class of the map. A layer of integers: one for each of its classes, aligned to
        the map if it is on another grid. `None`: a simple random sample.
    allocation
        "proportional" to the pixels of the strata, "equal", or "neyman": by pixels times the expected standard
        deviation, which is optimal for the proportion that `expected` gives: for overall accuracy, the user's
        accuracies. "optimal for one class": smallest variance of `measure` of `target_class`, where `expected` is the
        proportion of that class in each stratum. Other estimates may be poor: see `min_per_class`.
    min_per_class
        Least number of pixels in each stratum.
    expected
        Expected proportion by name of the stratum; for `target_se`, "neyman" and "optimal for one class".
    target_class
        Class for which the allocation is optimal: a class of the map, or, with other strata, any class.
    measure
        Estimate whose variance is to be small: "area" of the class; "users" or "producers" accuracy, with the classes
        as strata; "all": the sum of these three variances.
    systematic
        Whether to draw at equal distances from a random start along each stratum, row by row of blocks, instead of at
        random. Standard errors of a random sample are then conservative where neighbours are alike.
    seed
        Seed of the draw.

    Returns
    -------
    geopandas.GeoDataFrame
        A point at the centre of each drawn pixel, in the CRS of the map, in random order, with `id`, `stratum`,
        `map_class` (names), `reference` (empty), `probability` of inclusion, `stratum_pixels`, `population_pixels` (of
        all strata), `stratum_area` and `pixel_area` (hectares on the ellipsoid), `row` and `col`.

    Raises
    ------
    InputError
        If neither or both of `n` and `target_se` are given, expected proportions or the target class are missing, or
        the map has too few pixels.
    LabelError
        If the map holds no class codes.
    OverlapError
        If the map has no valid pixel.
    MissingDependency
        If geopandas is not installed.

    Warns
    -----
    AssessmentWarning
        If pixels of the map belong to no stratum: the layer of strata is nodata there, or the legend lacks their codes.

    See Also
    --------
    write_sample : Write the sample as a GeoPackage with a style for labelling in QGIS.
    estimate : Accuracy and areas from the labelled sample.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt import assess
    >>> from geoxt.testing import make_layer
    >>> codes = (np.arange(10_000).reshape(100, 100) // 2500).astype("uint8")
    >>> land = make_layer(codes)
    >>> sample = assess.sample_design(land, 50, allocation="equal", seed=1)
    >>> len(sample), sample["reference"].isna().all().item()
    (50, True)

    References
    ----------
    Olofsson et al. 2014, section 5.1. https://doi.org/10.1016/j.rse.2014.02.015

    Stehman 2012, Impact of sample size allocation when using stratified random sampling to estimate accuracy and area
    of land-cover change. https://doi.org/10.1080/01431161.2010.541950

    Wagner and Stehman 2015, Optimizing sample size allocation to strata for estimating area and map accuracy.
    https://doi.org/10.1016/j.rse.2015.06.027
    """
    _require_whole_numbers(n=n, min_per_class=min_per_class, seed=seed)
    map = _layer(map)  # noqa: A001 (the map to assess, as in the literature)
    with optional_import("geopandas", "assess", "draw a sample"):
        import geopandas
    if (n is None) == (target_se is None):
        problem = "Cannot draw a sample: its size is not given, or given twice."
        raise InputError(problem, remedy="Pass either {n} or {target_se}.", argument="n")
    grid, read_map = grid_of(map), class_codes(map, "map")
    legend = legend_of(map)
    unassigned: dict[Window, int] = {}
    layer, read, groups = _strata_of(map, strata, read_map, legend, unassigned)
    strata_counts = count_strata(layer, read, groups)
    _warn_of_pixels_without_stratum(strata_counts, unassigned)
    if strata is None:
        strata_counts = _joined(strata_counts)
        read = _any_class(read_map, groups)
    deviations = None
    if allocation == "optimal for one class":
        if target_se is not None and measure == "all":
            problem = "Cannot size a sample for a standard error of three estimates (measure='all')."
            raise InputError(problem, remedy="Pass {measure:'area'}, 'users' or 'producers'.", argument="measure")
        deviations = class_deviations(
            expected, strata_counts.names, strata_counts.sizes, target_class, measure, isinstance(strata, str)
        )
    elif target_class is not None:
        problem = f"Cannot allocate a sample by {allocation!r} for the class {target_class!r}."
        remedy = "Pass {allocation:'optimal for one class'}. Or leave {target_class} out."
        raise InputError(problem, remedy=remedy, value=target_class, argument="allocation")
    counts = _allocated(strata_counts, n, target_se, allocation, expected, min_per_class, deviations)
    rng = np.random.default_rng(seed)
    ranks = [_ranks(rng, int(size), int(k), systematic) for size, k in zip(strata_counts.sizes, counts, strict=True)]
    pixels = positions_of(strata_counts, read, ranks)
    pixels = pixels[rng.permutation(len(pixels))]
    stratum, row, col = pixels.T
    x, y = grid.affine @ np.stack([col + 0.5, row + 0.5])
    stratum_names = np.array(strata_counts.names, object)
    return geopandas.GeoDataFrame(
        {
            "id": np.arange(1, len(pixels) + 1),
            "stratum": stratum_names[stratum],
            "map_class": map_classes(read_map, legend, row, col),
            REFERENCE: np.full(len(pixels), None, object),
            "probability": (counts / strata_counts.sizes)[stratum],
            "stratum_pixels": strata_counts.sizes[stratum],
            POPULATION: np.full(len(pixels), strata_counts.sizes.sum()),
            "stratum_area": strata_counts.areas[stratum],
            "pixel_area": point_areas(grid, row + 0.5, col + 0.5) / HECTARE,
            "row": row,
            "col": col,
        },
        geometry=shapely.points(x, y),
        crs=None if grid.crs is None else grid.crs.to_wkt(),
    )


def _layer(data: Any) -> xr.DataArray:
    if not isinstance(data, (xr.DataArray, xr.Dataset)):
        problem = f"Cannot take a {type(data).__name__} as a map: its grid is unknown."
        raise InputError(problem, remedy="Pass {map} as a layer, such as geoxt.open_cogs(…).", argument="map")
    return as_layer(data)


def _require_whole_numbers(**numbers: Any) -> None:
    """Raise if an argument is neither `None` nor an integer of 0 or more."""
    for name, number in numbers.items():
        if number is not None and not (isinstance(number, (int, np.integer)) and number >= 0):
            problem = f"Cannot draw a sample with {name}={number!r}: it is not a whole number of 0 or more."
            raise InputError(problem, remedy=f"Pass {{{name}}} as an integer.", value=number, argument=name)


def _strata_of(
    map_layer: xr.DataArray,
    strata: Literal["classes"] | xr.DataArray | None,
    read_map: Codes,
    legend: Legend | None,
    unassigned: dict[Window, int],
) -> tuple[xr.DataArray, Codes, Legend | None]:
    """Return the layer of strata, the reader of its codes, and its classes.

    The reader counts the valid pixels of the map without a class or stratum, by window, in `unassigned`.
    """
    if strata is None or (isinstance(strata, str) and strata == "classes"):
        return map_layer, read_map, legend
    if not isinstance(strata, xr.DataArray):
        problem = f"Cannot take {strata!r} as strata."
        raise InputError(problem, remedy="Pass {strata:'classes'}, a layer or None.", value=strata, argument="strata")
    layer = strata if grid_of(strata) == grid_of(map_layer) else align(strata, map_layer)
    read_strata = class_codes(layer, "strata")

    def read(window: Window) -> tuple[Array, Array]:
        (codes, valid), (classes, on_map) = read_strata(window), read_map(window)
        # pixels without a class in the map are not part of the population
        sampled = valid & on_map if legend is None else valid & on_map & np.isin(classes, legend.codes)
        unassigned[window] = int(np.count_nonzero(on_map)) - int(np.count_nonzero(sampled))
        return codes, sampled

    return layer, read, legend_of(layer)


def _warn_of_pixels_without_stratum(strata: Strata, unassigned: Mapping[Window, int]) -> None:
    """Warn of valid pixels of the map outside all strata."""
    unlisted = sum(strata.unlisted.values())
    count = unlisted + sum(unassigned.values())
    if count:
        total = count + int(strata.sizes.sum())
        text = f"{count:,} of {total:,} pixels of the map ({count / total:.2%}) belong to no stratum"
        if unlisted:
            codes = ", ".join(str(code) for code in [*strata.unlisted][:_MAX_CODES])
            text += f", {unlisted:,} of them because the legend lacks their codes ({codes})"
        text += ". They are not sampled, and estimates exclude them."
        warnings.warn(text, AssessmentWarning, stacklevel=3)


def _joined(strata: Strata) -> Strata:
    """Return all strata as one."""
    counts, areas = strata.counts.sum(1, keepdims=True), strata.areas.sum(keepdims=True)
    return replace(strata, codes=(1,), names=(SIMPLE,), counts=counts, areas=areas)


def _any_class(read: Codes, legend: Legend | None) -> Codes:
    """Return a reader that gives 1 for all valid pixels of a class."""

    def read_any(window: Any) -> tuple[Array, Array]:
        codes, valid = read(window)
        known = valid if legend is None else valid & np.isin(codes, legend.codes)
        return np.ones_like(codes), known

    return read_any


def _allocated(
    strata: Strata,
    n: int | None,
    target_se: float | None,
    allocation: Allocation,
    expected: Mapping[str, float] | None,
    min_per_class: int,
    deviations: Floats | None,
) -> Array:
    if deviations is None and (target_se is not None or allocation == "neyman"):
        purpose = "size the sample" if target_se is not None else "allocate the sample"
        deviations = standard_deviations(expected, strata.names, purpose)
    if target_se is not None:
        assert deviations is not None
        n = max(sample_size(strata.sizes, deviations, target_se, allocation), min_per_class * len(strata.names))
    assert n is not None
    return allocate(int(n), strata.sizes, allocation, deviations, min_per_class, strata.names)


def _ranks(rng: np.random.Generator, size: int, count: int, systematic: bool) -> Array:  # noqa: FBT001 (private)
    if systematic:
        return ((rng.random() + np.arange(count)) * size / max(count, 1)).astype(np.int64)
    return np.sort(rng.choice(size, count, replace=False, shuffle=False))


def map_classes(read: Codes, legend: Legend | None, row: Array, col: Array) -> Array:
    """Return the names of the map's classes at pixels, reading each block with pixels once."""
    names = np.full(len(row), None, object)
    blocks = np.stack([row // BLOCK, col // BLOCK])
    for block_row, block_col in np.unique(blocks, axis=1).T:
        inside = (blocks[0] == block_row) & (blocks[1] == block_col)
        top, left = row[inside].min(), col[inside].min()
        window = Window(int(top), int(left), int(row[inside].max() - top) + 1, int(col[inside].max() - left) + 1)
        codes, valid = read(window)
        at = (row[inside] - top, col[inside] - left)
        pairs = zip(codes[at], valid[at], strict=True)
        names[inside] = [class_name(code, legend) if ok else None for code, ok in pairs]
    return names


def class_name(code: Any, legend: Legend | None) -> str:
    """Return the name of a code, its number if the legend lacks it."""
    return str(int(code)) if legend is None or int(code) not in legend.codes else legend.name(int(code))

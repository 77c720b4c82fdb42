"""Accuracy and areas of a map from labels of many pixels, with intervals from a bootstrap of spatial blocks."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from numbers import Integral
from typing import Any

import numpy as np
import xarray as xr

from geoxt.alignment.scored_classes import is_unnamed, scored_classes
from geoxt.assess.accuracy import AccuracyEstimate
from geoxt.assess.map_strata import blocks_of
from geoxt.assess.survey import Z95, Estimate
from geoxt.errors import AssessmentWarning, GridError, InputError, OverlapError, optional_import
from geoxt.grid import grid_of
from geoxt.legend import Legend
from geoxt.regions.geodesic_area import pixel_hectares
from geoxt.regions.rasterize import SomeRegion, parse_region
from geoxt.regions.region import GridRegion
from geoxt.source import View, as_layer, view_of
from geoxt.types import Array, Floats, SomeSize
from geoxt.windows import Window, parse_size

OTHER = "other"
"""Class of map codes that the legend lacks."""
_DRAWS = 100
"""Draws whose block counts are held in memory at once."""


def estimate_from_labels(
    map: xr.DataArray | xr.Dataset,  # noqa: A002 (the map to assess, as in the literature)
    labels: xr.DataArray | xr.Dataset,
    *,
    region: SomeRegion | None = None,
    block: SomeSize | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> AccuracyEstimate:
    """Return accuracy and areas of a map from labels of many pixels, with intervals from a block bootstrap.

    Neighbouring pixels are alike, so that they count for less than as many independent ones. Blocks of pixels are drawn
    with replacement instead, and the spread of the results gives standard errors and intervals. Map and labels are
    read once, window by window.

    Parameters
    ----------
    map
        Class codes (y, x) of the map to assess; a Dataset of one variable too.
    labels
        Class codes (y, x) on the same grid: wall to wall, or of held-out areas. Their classes are those of the legend,
        else those of the map. Negative codes and codes that the legend lacks are unknown and left out.
    region
        Pixels to assess, such as the test part of a split; all by default.
    block
        Side of the blocks in pixels, or (height, width): larger than the distance up to which errors are alike. By
        default the rectangles of the region, such as the blocks of `splits.by_block`.
    n_boot
        Number of draws.
    seed
        Seed of the draws.

    Returns
    -------
    AccuracyEstimate
        Areas in hectares on the ellipsoid, of the pixels that are valid in map and labels. `value` is that of these
        pixels, `se` the standard error of the bootstrap, `ci95` 1.96 standard errors, and `lower` to `upper` the
        expanded percentile interval, which is wider for few blocks. Codes of the map that are not in the legend are the
        class "other".

    Raises
    ------
    InputError
        If no blocks are given, or there are fewer than two draws.
    GridError
        If map and labels are on different grids.
    LabelError
        If the map holds no class codes, or neither layer states classes.
    OverlapError
        If no pixel of the region is valid in both layers.

    Warns
    -----
    AssessmentWarning
        If pixels lie in a single block, so that no variance can be estimated, or the map has codes outside the legend.

    See Also
    --------
    estimate : The same from a probability sample, whose intervals hold for the map without further assumptions.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt import assess
    >>> from geoxt.legend import Legend
    >>> from geoxt.testing import make_layer
    >>> codes = (np.arange(10_000).reshape(100, 100) // 5000).astype("uint8")
    >>> labels = make_layer(codes).assign_attrs(Legend((0, 1), ("water", "land")).attrs())
    >>> wrong = labels.copy(data=np.where(np.arange(100) < 10, 1 - codes, codes).astype("uint8"))
    >>> table = assess.estimate_from_labels(wrong, labels, block=20)
    >>> round(table.overall.value, 3), table.counts.tolist()
    (0.9, [[4500, 500], [500, 4500]])

    References
    ----------
    Lahiri 2003, Resampling Methods for Dependent Data, chapter 12. https://doi.org/10.1007/978-1-4757-3803-2

    Hesterberg 2015, What teachers should know about the bootstrap, section 5.3 (expanded percentile interval).
    https://doi.org/10.1080/00031305.2015.1089789
    """
    map, labels = as_layer(map), as_layer(labels)  # noqa: A001 (as above)
    legend, grid = scored_classes(labels, map), grid_of(labels)
    if not is_unnamed(legend) and ("flag_values" not in labels.attrs or is_unnamed(Legend.of(labels))):
        text = "The labels have codes without names, taken as those of the map: "
        text += ", ".join(f"{code} {name}" for code, name in zip(legend.codes, legend.names, strict=True))
        warnings.warn(f"{text}.", AssessmentWarning, stacklevel=2)
    if not isinstance(n_boot, Integral) or n_boot < 2:
        problem = f"Cannot estimate intervals from {n_boot!r} draws."
        raise InputError(problem, remedy="Pass {n_boot:1000}.", value=n_boot, argument="n_boot")
    assessed = parse_region(region, grid)
    size = block_size(block, region, assessed)
    views = view_of(map), view_of(labels)
    if any(view.shape[0] > 1 for view in views):
        problem = f"Cannot estimate: the map has {views[0].shape[0]} dates, the labels {views[1].shape[0]}."
        raise GridError(problem, remedy="Select one of each by isel(time=0).")
    counts, areas = _tables(views, legend, assessed, size)
    present = np.flatnonzero(counts.sum((0, 1)) + counts.sum((0, 2)))
    if not len(present):
        problem = "Cannot estimate: no pixel of the region is valid in both the map and the labels."
        raise OverlapError(problem, remedy="Pass another {region}.", argument="region")
    classes = [*legend.distinct_names, OTHER]
    if present[-1] == len(legend):
        text = f"{counts[:, -1].sum():,} pixels of the map have codes that are not in the legend: wrong, {OTHER!r}."
        warnings.warn(text, AssessmentWarning, stacklevel=2)
    if len(counts) == 1:
        text = (
            "All pixels lie in one block: no variance can be estimated, standard errors are NaN. Pass a smaller block."
        )
        warnings.warn(text, AssessmentWarning, stacklevel=2)
    submatrix = np.ix_(np.arange(len(counts)), present, present)
    return _estimates(counts[submatrix], areas[submatrix], [classes[k] for k in present.tolist()], n_boot, seed)


def block_size(block: SomeSize | None, region: SomeRegion | None, assessed: GridRegion) -> tuple[int, int] | None:
    """Return height and width of blocks; `None` for the rectangles of the region."""
    if block is not None:
        return parse_size(block, argument="block")
    if region is None or assessed.joined:
        problem = "Cannot draw blocks of pixels: their size is unknown."
        remedy = "Pass {block:256}, in pixels. Or pass {region} of blocks, such as splits.by_block(…).test."
        raise InputError(problem, remedy=remedy, argument="block")
    return None


def block_keys(window: Window, size: tuple[int, int] | None, number: int) -> Array:
    """Return the key of the block of each pixel: that of its rectangle, or row and column of blocks in one number."""
    if size is None:
        return np.full(window.shape, number)
    row = (window.row + np.arange(window.height)) // size[0]
    col = (window.col + np.arange(window.width)) // size[1]
    return row[:, None] * 2**32 + col


def _tables(
    views: Sequence[View], legend: Legend, region: GridRegion, size: tuple[int, int] | None
) -> tuple[Array, Floats]:
    """Return pixels and hectares (block, map class, reference class) of all blocks with pixels; "other" is last."""
    count = len(legend) + 1
    counts: dict[int, Array] = {}
    areas: dict[int, Array] = {}
    windows = ((number, window) for number, rectangle in enumerate(region) for window in blocks_of(rectangle))
    for number, window in windows:
        (mapped, map_valid), (reference, valid) = (view.read(window) for view in views)
        reference = _encode(legend, reference[0, 0], -1)
        usable = valid[0, 0] & map_valid[0, 0] & (reference >= 0)
        if not usable.any():
            continue
        keys, block = np.unique(block_keys(window, size, number), return_inverse=True)
        mapped = _encode(legend, mapped[0, 0], count - 1)
        index = ((block.reshape(window.shape) * count + mapped) * count + reference)[usable]
        weights = pixel_hectares(region.grid, window)[usable]
        shape = (len(keys), count, count)
        pixels = np.bincount(index, minlength=len(keys) * count**2).reshape(shape)
        hectares = np.bincount(index, weights, minlength=len(keys) * count**2).reshape(shape)
        for key, of_pixels, of_hectares in zip(keys.tolist(), pixels, hectares, strict=True):
            if of_pixels.any():
                counts[key] = counts.get(key, 0) + of_pixels
                areas[key] = areas.get(key, 0) + of_hectares
    order = sorted(counts)
    empty = np.zeros((0, count, count))
    return np.stack([counts[k] for k in order]) if order else empty, np.array([areas[k] for k in order])


def _encode(legend: Legend, codes: Array, missing: int) -> Array:
    """Return class indices, of one byte by a table of all codes."""
    if codes.dtype.itemsize > 1:
        return legend.encode(codes, missing=missing)
    every = np.arange(256, dtype=np.uint8).view(codes.dtype) if codes.dtype != bool else np.array([False, True])
    return legend.encode(every, missing=missing)[codes.view(np.uint8)]


def _estimates(counts: Array, areas: Floats, classes: Sequence[str], n_boot: int, seed: int) -> AccuracyEstimate:
    """Return accuracy and areas from tables of blocks (block, map class, reference class)."""
    blocks, total = len(areas), float(areas.sum())
    values = _Statistics.of(areas.sum(0), total)
    rng, replicates = np.random.default_rng([seed, 19]), []
    for start in range(0, n_boot, _DRAWS):
        times = rng.multinomial(blocks, np.full(blocks, 1 / blocks), min(_DRAWS, n_boot - start))
        replicates.append(_Statistics.of(np.tensordot(times, areas, 1), total))

    def estimate(name: str) -> Estimate:
        return _interval(getattr(values, name), np.concatenate([getattr(part, name) for part in replicates]), blocks)

    return AccuracyEstimate(
        classes=tuple(classes),
        counts=counts.sum(0),
        mapped_area=areas.sum((0, 2)),
        unit="ha",
        method=f"labels of all pixels; bootstrap of {blocks:,} blocks, {n_boot:,} draws, seed {seed}",
        **{field.name: estimate(field.name) for field in fields(_Statistics)},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Statistics:
    """Accuracy and areas of one or several tables (..., map class, reference class)."""

    error_matrix: Any
    overall: Any
    users: Any
    producers: Any
    f1: Any
    area: Any

    @classmethod
    def of(cls, tables: Floats, total: float) -> _Statistics:
        """Return the statistics of tables of areas; areas of classes are scaled to a total."""
        matrix = tables / tables.sum((-1, -2), keepdims=True)
        agree, of_map, of_reference = matrix.diagonal(axis1=-2, axis2=-1), matrix.sum(-1), matrix.sum(-2)
        with np.errstate(invalid="ignore"):
            users, producers = agree / of_map, agree / of_reference
            f1 = 2 * agree / (of_map + of_reference)
        return cls(
            error_matrix=matrix,
            overall=agree.sum(-1),
            users=users,
            producers=producers,
            f1=f1,
            area=of_reference * total,
        )


def _interval(value: Any, replicates: Floats, blocks: int) -> Estimate:
    """Return a number with the standard error and percentiles of its draws (draw, …)."""
    missing = np.isnan(value)
    if blocks == 1:
        se = lower = upper = np.full(np.shape(value), np.nan)
    else:
        # a class that is absent from a draw has no accuracy in it
        replicates = np.where(missing, 0, replicates)
        se = np.nanstd(replicates, axis=0, ddof=1) * np.sqrt(blocks / (blocks - 1))
        lower, upper = np.nanquantile(replicates, _tails(blocks), axis=0)
        se, lower, upper = (np.where(missing, np.nan, number) for number in (se, lower, upper))
    if np.ndim(value) == 0:
        return Estimate(float(value), float(se), Z95 * float(se), float(lower), float(upper))
    return Estimate(value, se, Z95 * se, lower, upper)


def _tails(blocks: int) -> tuple[float, float]:
    """Return the quantiles of draws that are the ends of a 95 % interval: those of Student's t as of a normal."""
    with optional_import("scipy", "assess", "estimate intervals"):
        from scipy.special import ndtr, stdtrit
    tail = float(ndtr(-np.sqrt(blocks / (blocks - 1)) * stdtrit(blocks - 1, 0.975)))
    return tail, 1 - tail

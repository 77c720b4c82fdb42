"""Pixels of each class of a label layer: all pixels of a rare class, a uniform sample of a frequent one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geoxt.errors import LabelError
from geoxt.regions.region import GridRegion
from geoxt.samplers.streaming import stream
from geoxt.source import View
from geoxt.types import Array, Floats

MAX_PIXELS = 2**16
"""Default limit on the pixels stored of each class."""
MAX_CODES = 1024
"""A layer with more distinct values holds no class codes."""


class UnlabelledError(LabelError):
    """Labels without a valid pixel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strata:
    """Pixels of each class of a label layer."""

    codes: tuple[int, ...]
    """Codes of the classes that have pixels, ascending."""
    counts: npt.NDArray[np.int64]
    """Number of valid pixels of each class in the region."""
    pixels: tuple[npt.NDArray[np.int64], ...]
    """(n, 2) for each class: row and column of the pixels that are stored."""

    def count(self, code: int) -> int:
        """Return the number of pixels of a class, 0 for an unknown class."""
        return int(self.counts[self.codes.index(code)]) if code in self.codes else 0


def strata_of(
    view: View,
    region: GridRegion,
    *,
    max_pixels: int = MAX_PIXELS,
    seed: int = 0,
    unknown: frozenset[int] = frozenset(),
) -> Strata:
    """Return the classes of a label layer with a sample of their pixels; the layer is read once, block by block.

    Parameters
    ----------
    view
        View of a layer with one band and one time step.
    region
        Pixels outside are ignored.
    max_pixels
        Pixels stored of each class. Of a class with more, a uniform sample is stored: each pixel gets a random key, and
        those with the smallest keys stay (reservoir sampling by random keys).
    seed
        Seed of the random keys.
    unknown
        Codes of pixels without a class, in addition to negative codes.

    Raises
    ------
    LabelError
        If the region has no valid pixel, or the layer more distinct values than class codes could have.
    """
    sample: dict[int, tuple[Floats, npt.NDArray[np.int64]]] = {}
    counts: dict[int, int] = {}
    for number, (window, values, valid) in enumerate(stream(view, region)):
        rng = np.random.default_rng([seed, 23, number])
        for code, flat in pixels_by_code(values, valid, unknown):
            counts[code] = counts.get(code, 0) + len(flat)
            key, position = rng.random(len(flat)), flat
            if code in sample and len(sample[code][0]) >= max_pixels:
                smaller = key < sample[code][0].max()
                key, position = key[smaller], position[smaller]
            row, col = np.divmod(position, window.width)
            pixel = np.c_[row + window.row, col + window.col]
            if code in sample:
                key, pixel = np.concatenate((sample[code][0], key)), np.concatenate((sample[code][1], pixel))
            if len(key) > max_pixels:
                smallest = np.argpartition(key, max_pixels)[:max_pixels]
                key, pixel = key[smallest], pixel[smallest]
            sample[code] = key, pixel
        if len(sample) > MAX_CODES:
            raise LabelError(
                f"Cannot stratify by classes: the labels have more than {MAX_CODES} values.",
                remedy="Pass {labels} a layer of class codes.",
                argument="labels",
            )
    if not sample:
        raise UnlabelledError(
            "Cannot find any class: the labels have no valid pixel in the region.", remedy="Pass another {region}."
        )
    codes = tuple(sorted(sample))
    pixels = tuple(sample[c][1][np.lexsort(sample[c][1].T[::-1])] for c in codes)
    return Strata(codes=codes, counts=np.array([counts[c] for c in codes]), pixels=pixels)


def merge_strata(strata: list[Strata]) -> Strata:
    """Return the classes of several grids with the pixel counts of all, without pixels."""
    codes = sorted({code for part in strata for code in part.codes})
    counts = [sum(part.count(code) for part in strata) for code in codes]
    return Strata(codes=tuple(codes), counts=np.array(counts), pixels=())


def pixels_by_code(
    values: Array, valid: npt.NDArray[np.bool_], unknown: frozenset[int] = frozenset()
) -> list[tuple[int, npt.NDArray[np.int64]]]:
    """Return each code among the valid pixels with the positions of its pixels in the flattened array.

    Negative codes mark unknown pixels, as do those of `unknown`; both are left out.
    """
    labelled = valid & (values >= 0)
    for code in unknown:
        labelled = labelled & (values != code)
    flat = np.flatnonzero(labelled)
    codes = values.ravel()[flat]
    if codes.dtype.kind == "f":
        fractions = codes[codes != np.rint(codes)]
        if len(fractions):
            raise LabelError(
                f"Cannot use floating-point labels as class codes: {fractions[0]:g} is not a whole number.",
                remedy="Open class codes by open_cogs(…, categorical=True), which are never interpolated.",
            )
        codes = codes.astype("int64")
    order = np.argsort(codes, kind="stable")
    ranked = codes[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]]) if len(ranked) else np.empty(0, "int64")
    groups = np.split(flat[order], starts[1:]) if len(starts) else []
    return [(int(ranked[start]), group) for start, group in zip(starts.tolist(), groups, strict=True)]


def class_weights(strata: Strata, weights: object) -> Floats:
    """Return the probability of each class.

    Parameters
    ----------
    strata
        The classes.
    weights
        "balanced", "natural", or a weight by code; classes without a weight are never drawn.

    Raises
    ------
    LabelError
        If a code has no pixel, or weights are negative or all 0.
    """
    probabilities: Floats | None = None
    if isinstance(weights, str):
        presets = {"balanced": np.ones(len(strata.codes)), "natural": strata.counts.astype("float64")}
        probabilities = presets.get(weights)
    elif isinstance(weights, dict):
        missing = sorted(set(map(int, weights)) - set(strata.codes))
        if missing:
            raise LabelError(
                f"Cannot draw class {missing[0]}: the labels have pixels of {list(strata.codes)} in the region.",
                remedy="Leave it out of {weights}.",
                argument="weights",
            )
        probabilities = np.array([float(weights.get(code, 0)) for code in strata.codes])
    if probabilities is None or probabilities.min() < 0 or not probabilities.sum() > 0:
        raise LabelError(
            f"Cannot draw classes by weights={weights!r}.",
            remedy="Pass {weights} 'balanced', 'natural', or weights of 0 or more by code.",
            argument="weights",
        )
    return np.asarray(probabilities / probabilities.sum())

"""Pixels of each class of a label layer: all of a rare class, a uniform sample of a frequent one, in one reading."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geoxt.errors import LabelError
from geoxt.regions.region import Region
from geoxt.samplers.streaming import stream
from geoxt.source import View
from geoxt.types import Array, Floats

KEEP = 2**16
"""Pixels that are kept of each class, at most."""
MOST_CODES = 1024
"""More distinct values than this are no class codes."""


class UnlabelledError(LabelError):
    """Labels without a valid pixel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strata:
    """Where the pixels of each class lie."""

    codes: tuple[int, ...]
    """Codes of the classes that have pixels, rising."""
    counts: npt.NDArray[np.int64]
    """Valid pixels of each class in the region."""
    places: tuple[npt.NDArray[np.int64], ...]
    """(n, 2) of each class: row and column of the pixels that were kept."""

    def count(self, code: int) -> int:
        """Return the pixels of a class, 0 where there is none."""
        return int(self.counts[self.codes.index(code)]) if code in self.codes else 0


def strata_of(view: View, region: Region, *, keep: int = KEEP, seed: int = 0) -> Strata:
    """Read a label layer once, block by block, and keep pixels of each class.

    Parameters
    ----------
    view
        Of the layer, which has one band and time step.
    region
        Where to look.
    keep
        Pixels kept of each class. Of a class that has more, every pixel is as likely to be kept as any other: each gets
        a random number, and those with the smallest stay.
    seed
        The same seed keeps the same pixels.

    Raises
    ------
    LabelError
        Where the layer holds no valid pixel, or more values than class codes could be.
    """
    held: dict[int, tuple[Floats, npt.NDArray[np.int64]]] = {}
    counts: dict[int, int] = {}
    for number, (window, values, valid) in enumerate(stream(view, region)):
        rng = np.random.default_rng([seed, 23, number])
        for code, flat in by_code(values, valid):
            counts[code] = counts.get(code, 0) + len(flat)
            key, place = rng.random(len(flat)), flat
            if code in held and len(held[code][0]) >= keep:
                near = key < held[code][0].max()
                key, place = key[near], place[near]
            row, col = np.divmod(place, window.width)
            pixel = np.c_[row + window.row, col + window.col]
            if code in held:
                key, pixel = np.concatenate((held[code][0], key)), np.concatenate((held[code][1], pixel))
            if len(key) > keep:
                least = np.argpartition(key, keep)[:keep]
                key, pixel = key[least], pixel[least]
            held[code] = key, pixel
        if len(held) > MOST_CODES:
            msg = f"Cannot tell classes apart: over {MOST_CODES} values. Pass labels= a layer of class codes."
            raise LabelError(msg)
    if not held:
        msg = "Cannot find any class: the labels have no valid pixel in the region. Pass another region."
        raise UnlabelledError(msg)
    codes = tuple(sorted(held))
    places = tuple(held[c][1][np.lexsort(held[c][1].T[::-1])] for c in codes)
    return Strata(codes=codes, counts=np.array([counts[c] for c in codes]), places=places)


def by_code(values: Array, valid: npt.NDArray[np.bool_]) -> list[tuple[int, npt.NDArray[np.int64]]]:
    """Return each code among the valid pixels, and the positions of its pixels in the flattened array."""
    flat = np.flatnonzero(valid)
    found = values.ravel()[flat]
    if found.dtype.kind == "f":
        found = np.rint(found).astype("int64")
    order = np.argsort(found, kind="stable")
    ranked = found[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]]) if len(ranked) else np.empty(0, "int64")
    pieces = np.split(flat[order], starts[1:]) if len(starts) else []
    return [(int(ranked[s]), piece) for s, piece in zip(starts.tolist(), pieces, strict=True)]


def shares_of(strata: Strata, weights: object) -> Floats:
    """Return how likely each class is to be drawn: "balanced", "natural", or a weight by code (0 for those left out).

    Raises
    ------
    LabelError
        Where a code has no pixel, or weights are negative or all 0.
    """
    if isinstance(weights, str):
        known = {"balanced": np.ones(len(strata.codes)), "natural": strata.counts.astype("float64")}
        found = known.get(weights)
    elif isinstance(weights, dict):
        missing = sorted(set(map(int, weights)) - set(strata.codes))
        if missing:
            msg = f"Cannot draw class {missing[0]}: the labels have pixels of {list(strata.codes)} in the region. "
            raise LabelError(msg + "Leave it out of weights=.")
        found = np.array([float(weights.get(code, 0)) for code in strata.codes])
    else:
        found = None
    if found is None or found.min() < 0 or not found.sum() > 0:
        msg = (
            f"Cannot draw classes by weights={weights!r}: pass 'balanced', 'natural', or weights of 0 or more by code."
        )
        raise LabelError(msg)
    return np.asarray(found / found.sum())

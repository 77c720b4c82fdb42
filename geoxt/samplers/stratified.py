"""Windows by class: each drawn around a pixel of a class, rare classes as often as their weight says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Unpack

import numpy as np
import numpy.typing as npt
import xarray as xr

from geoxt.errors import InputError
from geoxt.samplers.places import Places, fill
from geoxt.samplers.plans import Seeded, Table, parse_length
from geoxt.samplers.scope import Options, scope_of
from geoxt.samplers.strata import KEEP, shares_of, strata_of
from geoxt.samplers.streaming import plane_of
from geoxt.source import is_categorical
from geoxt.types import SomeSize


class StratifiedSampler(Seeded):
    """Windows that hold a pixel of a class which is drawn first.

    Parameters
    ----------
    data
        A layer, or a Dataset of layers on one grid.
    size
        Pixels: one number, or (height, width).
    length
        Number of windows in an epoch.
    labels
        The class codes: a layer on the grid of the data, or the name of one of its layers. By default the only
        categorical layer of the data. It is read once, block by block, when the sampler is made; epochs read nothing.
    weights
        How often windows are drawn for a class: "balanced" draws all equally often, "natural" in proportion to their
        pixels, a mapping by its weights, and never those left out.
    keep
        Pixels that are kept of each class, at 16 bytes. Of a class with more, as many are chosen, all equally likely.
    seed, **options
        As for `RandomSampler`.

    Raises
    ------
    LabelError
        Where the labels have no valid pixel, or none of a class that is asked for.

    Notes
    -----
    A pixel of the class is drawn, then one of the windows that hold it, all equally likely. So a window for a rare
    class always holds it, anywhere in the window. `sampler.drawn` is the code that each window was drawn for,
    `sampler.strata` the classes with their numbers of pixels.
    """

    drawn: npt.NDArray[np.int64]

    def __init__(
        self,
        data: xr.DataArray | xr.Dataset,
        *,
        size: SomeSize,
        length: int,
        labels: xr.DataArray | str | None = None,
        weights: Literal["balanced", "natural"] | Mapping[int, float] = "balanced",
        keep: int = KEEP,
        seed: int = 0,
        **options: Unpack[Options],
    ) -> None:
        self.length = parse_length(length)
        if keep < 1 or seed < 0:
            msg = f"Cannot draw with keep={keep} and seed={seed}: pass 1 or more pixels, and a seed of 0 or more."
            raise InputError(msg)
        self.scope = scope_of(data, size, **options)
        self.size = self.scope.size
        self.places = Places(self.scope)
        view = plane_of(labels_of(data, labels), self.scope.grid, what="labels")
        self.strata = strata_of(view, self.scope.region, keep=keep, seed=seed)
        self.shares = shares_of(self.strata, weights if isinstance(weights, str) else dict(weights))
        self._start(self.scope.grid, seed)

    def _draw(self, rng: np.random.Generator) -> tuple[Table, Table | None]:
        which = _dealt(rng, self.length, self.shares)
        ends = np.cumsum([0, *map(len, self.strata.places)])
        pixels = np.concatenate(self.strata.places)

        def propose(rng: np.random.Generator, slots: npt.NDArray[np.int64]) -> Table:
            low, high = ends[which[slots]], ends[which[slots] + 1]
            pixel = pixels[rng.integers(low, high)]
            return self.places.windows(pixel - rng.integers(0, self.size, pixel.shape))

        table, group = fill(self.scope, rng, self.length, propose, fits=lambda found, _: self.places.holds(found))
        self.drawn = np.array(self.strata.codes)[which]
        return table, self.scope.steps(rng, group)


def labels_of(data: xr.DataArray | xr.Dataset, labels: xr.DataArray | str | None) -> xr.DataArray:
    """Return the layer of class codes: the one given or named, else the only categorical one of the data.

    Raises
    ------
    InputError
        Where there is none, or several.
    """
    if isinstance(labels, xr.DataArray):
        return labels
    layers = {str(n): a for n, a in data.data_vars.items()} if isinstance(data, xr.Dataset) else {str(data.name): data}
    if labels is not None and labels in layers:
        return layers[labels]
    found = [a for a in layers.values() if is_categorical(a)]
    if labels is not None or len(found) != 1:
        msg = f"Cannot find the labels {labels or ''!r} among {list(layers)}, of which {len(found)} hold classes. "
        raise InputError(msg + "Pass labels= a layer of class codes, or the name of one.")
    return found[0]


def _dealt(rng: np.random.Generator, count: int, shares: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return a class for each of some windows: in number as near to the shares as can be, in random order."""
    points = (np.arange(count) + rng.random()) / count
    ends = np.cumsum(shares)
    which = np.minimum(np.searchsorted(ends, points, side="right"), len(shares) - 1)
    return rng.permutation(which)

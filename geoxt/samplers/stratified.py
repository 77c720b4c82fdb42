"""Windows by class: each drawn around a pixel of a class, rare classes as often as their weight says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self, Unpack

import numpy as np
import numpy.typing as npt
import xarray as xr

from geoxt.errors import InputError, OverlapError
from geoxt.regions.geodesic_area import pixel_area
from geoxt.samplers.candidates import Places, fill
from geoxt.samplers.constraints import Options, Scope, scope_of
from geoxt.samplers.node_samplers import layer_in, sampler_per_node
from geoxt.samplers.sequence import Seeded, Table, dealt, gathered, parse_length
from geoxt.samplers.strata import KEEP, Strata, UnlabelledError, shares_of, strata_of
from geoxt.samplers.streaming import plane_of
from geoxt.source import is_categorical
from geoxt.types import SomeSize


class StratifiedSampler(Seeded):
    """Windows that hold a pixel of a class which is drawn first.

    Parameters
    ----------
    data
        A layer, a Dataset of layers on one grid, or a tree of these. Of a tree, a class is drawn first, then a child in
        proportion to the class's pixels, by their area on the ground.
    size
        Pixels: one number, or (height, width).
    length
        Number of windows in an epoch.
    labels
        The class codes: a layer on the grid of the data (of a tree, a tree of these), or the name of one of its layers.
        By default the only
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
    scope: Scope
    strata: Strata

    def __init__(
        self,
        data: xr.DataArray | xr.Dataset | xr.DataTree,
        *,
        size: SomeSize,
        length: int,
        labels: xr.DataArray | xr.DataTree | str | None = None,
        weights: Literal["balanced", "natural"] | Mapping[int, float] = "balanced",
        keep: int = KEEP,
        seed: int = 0,
        **options: Unpack[Options],
    ) -> None:
        self.length = parse_length(length)
        if keep < 1 or seed < 0:
            msg = f"Cannot draw with keep={keep} and seed={seed}: pass 1 or more pixels, and a seed of 0 or more."
            raise InputError(msg)
        if isinstance(data, xr.DataTree):
            self.parts = sampler_per_node(
                data, options, lambda *one: self._part(*one, size=size, labels=labels, keep=keep, seed=seed)
            )
            self.strata = _together([part.strata for part in self.parts.values()])
            self.shares = shares_of(self.strata, weights if isinstance(weights, str) else dict(weights))
            self._start({node: part.grid for node, part in self.parts.items()}, seed)
            return
        if isinstance(labels, xr.DataTree):
            msg = f"Cannot take the labels of {len(labels.children)} grids for one: pass labels= a layer on its grid."
            raise InputError(msg)
        self.scope = scope_of(data, size, **options)
        self.size = self.scope.size
        self.places = Places(self.scope)
        view = plane_of(labels_of(data, labels), self.scope.grid, what="labels")
        self.strata = strata_of(view, self.scope.region, keep=keep, seed=seed)
        self.shares = shares_of(self.strata, weights if isinstance(weights, str) else dict(weights))
        self._start({"": self.scope.grid}, seed)

    @staticmethod
    def _part(
        node: str,
        child: xr.Dataset,
        options: Options,
        *,
        size: SomeSize,
        labels: xr.DataArray | xr.DataTree | str | None,
        keep: int,
        seed: int,
    ) -> StratifiedSampler:
        """Return the sampler of a tree's child; it has no place where no pixel has a class."""
        try:
            own = layer_in(labels, node, "labels")
            return StratifiedSampler(
                child, size=size, length=1, labels=own, weights="natural", keep=keep, seed=seed, **options
            )
        except UnlabelledError as error:
            raise OverlapError(str(error)) from error

    def _draw(self, rng: np.random.Generator, length: int | None) -> tuple[Table, Table | None]:
        assert length is not None
        which = dealt(rng, length, self.shares)
        self.drawn = np.array(self.strata.codes)[which]
        return self._windows(rng, which)

    def _draw_tree(self, rng: np.random.Generator, parts: list[Self]) -> tuple[Table, Table | None, Table]:
        """Return windows of classes that are drawn over all children, each of a child that has pixels of its class."""
        assert self.length is not None
        self.drawn = np.array(self.strata.codes)[dealt(rng, self.length, self.shares)]
        area = [pixel_area(part.scope.grid) for part in parts]
        which = np.zeros(self.length, "int64")
        for code in np.unique(self.drawn):
            slots = np.flatnonzero(self.drawn == code)
            held = np.array([part.strata.count(int(code)) * a for part, a in zip(parts, area, strict=True)])
            which[slots] = dealt(rng, len(slots), held / held.sum())
        found = []
        for number, part in enumerate(parts):
            slots = np.flatnonzero(which == number)
            if len(slots):
                classes = np.searchsorted(part.strata.codes, self.drawn[slots])
                found.append((slots, *part._windows(rng, classes)))  # noqa: SLF001 (of its own kind)
        return *gathered(self.length, found), which

    def _windows(self, rng: np.random.Generator, which: npt.NDArray[np.int64]) -> tuple[Table, Table | None]:
        """Return a window for each of some classes, by their positions."""
        ends = np.cumsum([0, *map(len, self.strata.places)])
        pixels = np.concatenate(self.strata.places)

        def propose(rng: np.random.Generator, slots: npt.NDArray[np.int64]) -> Table:
            low, high = ends[which[slots]], ends[which[slots] + 1]
            pixel = pixels[rng.integers(low, high)]
            return self.places.windows(pixel - rng.integers(0, self.size, pixel.shape))

        table, group = fill(self.scope, rng, len(which), propose, fits=lambda found, _: self.places.holds(found))
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


def _together(strata: list[Strata]) -> Strata:
    """Return the classes of several grids with the pixels of all; where these lie, each knows by itself."""
    codes = sorted({code for one in strata for code in one.codes})
    counts = [sum(one.count(code) for one in strata) for code in codes]
    return Strata(codes=tuple(codes), counts=np.array(counts), places=())

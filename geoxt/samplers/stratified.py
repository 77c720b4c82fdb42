"""Class-balanced windows: for each window a class is drawn, then a pixel of this class as its center."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Unpack

import numpy as np
import numpy.typing as npt
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.alignment.label_roles import as_labels, require_codes, unknown_codes
from geoxt.errors import InputError, OverlapError
from geoxt.regions.geodesic_area import pixel_area
from geoxt.regions.region import layers_in
from geoxt.samplers.candidates import Candidates, draw_accepted
from geoxt.samplers.constraints import Constraints, NodeOptions, Options, parse_constraints
from geoxt.samplers.node_samplers import layer_per_node, sampler_per_node
from geoxt.samplers.sequence import Drawn, SeededSampler, Table, gather, parse_length, systematic_sample
from geoxt.samplers.strata import MAX_PIXELS, Strata, UnlabelledError, class_weights, merge_strata, strata_of
from geoxt.samplers.streaming import view_on_grid
from geoxt.source import is_categorical
from geoxt.trees import SomeData, nodes_of
from geoxt.types import SomeSize


class StratifiedSampler(SeededSampler):
    """Windows that contain a pixel of a class, which is drawn first.

    Parameters
    ----------
    data
        A layer, a Dataset of layers on one grid, or a tree of these. In a tree, a class is drawn first, then a node in
        proportion to the area of the class on the ground.
    size
        Pixels: one number, or (height, width).
    length
        Number of windows in an epoch.
    labels
        Class codes: a layer on the grid of the data (for a tree, a tree of these), or the name of a layer of the data.
        By default the only categorical layer of the data. The layer is read once, block by block, when the sampler is
        made; epochs read nothing.
    weights
        Frequency of the classes: "balanced" draws all equally often, "natural" in proportion to their pixels, a mapping
        by its weights; classes that it leaves out are never drawn.
    max_pixels
        Pixels stored of each class, at 16 bytes each. Of a class with more, a uniform sample is stored.
    seed, **options
        As for `RandomSampler`.

    Attributes
    ----------
    codes : numpy.ndarray
        (n,) of int64: the class code for which each window was drawn.
    strata : Strata
        The classes with their numbers of pixels.

    Raises
    ------
    LabelError
        If the labels have no valid pixel, or no pixel of a requested class.

    Notes
    -----
    A pixel of the class is drawn, then one of the windows that contain it, all equally likely. So a window for a rare
    class always contains it, anywhere in the window.
    """

    codes: npt.NDArray[np.int64]
    strata: Strata

    def __init__(
        self,
        data: SomeData,
        *,
        size: SomeSize,
        length: int,
        labels: SomeData | str | None = None,
        weights: Literal["balanced", "natural"] | Mapping[int, float] = "balanced",
        max_pixels: int = MAX_PIXELS,
        seed: int = 0,
        **options: Unpack[Options],
    ) -> None:
        self.length = parse_length(length)
        if max_pixels < 1 or seed < 0:
            raise InputError(
                f"Cannot draw with max_pixels={max_pixels} and seed={seed}.",
                remedy="Pass {max_pixels:1} or more, and {seed:0} or more.",
            )
        name = labels if isinstance(labels, str) else None
        layers: dict[str, xr.DataArray] = {}
        if labels is not None and not isinstance(labels, str):
            layers = layer_per_node(labels, nodes_of(data), "labels")

        def make(node: str, ds: xr.Dataset, node_options: NodeOptions) -> _ClassWindows:
            constraints = parse_constraints(ds, size, **node_options)
            candidates = Candidates(constraints)
            layer = layers[node] if layers else find_labels(ds, name)
            require_codes(layer, layer.name)
            view = view_on_grid(layer, constraints.grid, argument="labels")
            try:
                strata = strata_of(
                    view, constraints.region, max_pixels=max_pixels, seed=seed, unknown=unknown_codes(layer)
                )
            except UnlabelledError as error:
                if not node:
                    raise
                raise OverlapError(error.problem, remedy=error.remedy) from error  # other nodes may have labels
            return _ClassWindows(constraints=constraints, candidates=candidates, strata=strata)

        self.samplers = sampler_per_node(data, options, make)
        self.strata = merge_strata([sampler.strata for sampler in self.samplers.values()])
        self.class_weights = class_weights(self.strata, weights if isinstance(weights, str) else dict(weights))
        self._start(seed)

    def _draw(self, rng: np.random.Generator) -> tuple[Table, Table | None, Table]:
        """Return windows of classes that are drawn over all nodes, each in a node that has pixels of its class."""
        assert self.length is not None
        samplers: list[_ClassWindows] = list(self.samplers.values())
        self.codes = np.array(self.strata.codes)[systematic_sample(rng, self.length, self.class_weights)]
        node_index = np.zeros(self.length, "int64")
        if len(samplers) > 1 or "" not in self.samplers:  # see SeededSampler._draw_nodes
            pixel_areas = [pixel_area(sampler.grid) for sampler in samplers]
            for code in np.unique(self.codes):
                index = np.flatnonzero(self.codes == code)
                areas = [s.strata.count(int(code)) * area for s, area in zip(samplers, pixel_areas, strict=True)]
                node_index[index] = systematic_sample(rng, len(index), np.array(areas) / np.sum(areas))

        def draw(sampler: _ClassWindows, index: Table) -> Drawn:
            return sampler.draw_classes(rng, np.searchsorted(sampler.strata.codes, self.codes[index]))

        return *gather(node_index, samplers, draw), node_index


@dataclass(frozen=True, slots=True, kw_only=True)
class _ClassWindows:
    """Draws windows of classes in one node."""

    constraints: Constraints
    candidates: Candidates
    strata: Strata

    @property
    def grid(self) -> GeoBox:
        """The grid of the windows."""
        return self.constraints.grid

    def draw_classes(self, rng: np.random.Generator, classes: npt.NDArray[np.int64]) -> Drawn:
        """Return a window for each of some classes, given by their positions in `strata.codes`, and its time steps."""
        ends = np.cumsum([0, *map(len, self.strata.pixels)])
        pixels = np.concatenate(self.strata.pixels)

        def propose(rng: np.random.Generator, slots: npt.NDArray[np.int64]) -> Table:
            low, high = ends[classes[slots]], ends[classes[slots] + 1]
            pixel = pixels[rng.integers(low, high)]
            return self.candidates.windows(pixel - rng.integers(0, self.constraints.size, pixel.shape))

        table, group = draw_accepted(
            self.constraints,
            rng,
            len(classes),
            propose,
            fits=lambda proposals, _: self.candidates.contains(proposals),
        )
        return table, self.constraints.steps(rng, group)


def find_labels(data: xr.Dataset, name: str | None) -> xr.DataArray:
    """Return the layer of class codes by its name, by default the only categorical layer.

    Raises
    ------
    InputError
        If no layer has the name, or none or several layers are categorical.
    """
    layers = {str(layer.name): layer for layer in layers_in(data)}
    if name is not None and name in layers:
        return layers[name]
    categorical = [
        layer for key, layer in layers.items() if is_categorical(layer) or is_categorical(as_labels(layer, key))
    ]
    if name is not None or len(categorical) != 1:
        raise InputError(
            f"Cannot find the labels {name or ''!r} among {list(layers)}, of which {len(categorical)} hold classes.",
            remedy="Pass {labels} a layer of class codes, or the name of one.",
            argument="labels",
        )
    return categorical[0]

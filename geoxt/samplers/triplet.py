"""Triplets of windows for Tile2Vec: an anchor, a neighbour within a radius, and a distant window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Unpack

import numpy as np
import numpy.typing as npt
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError
from geoxt.samplers.candidates import Candidates, draw_accepted
from geoxt.samplers.constraints import Constraints, NodeOptions, Options, parse_constraints, size_in_pixels
from geoxt.samplers.node_samplers import node_weights, sampled_area, sampler_per_node
from geoxt.samplers.sequence import Drawn, SeededSampler, Table, parse_length
from geoxt.trees import SomeData
from geoxt.types import Mask, SomeSize


class TripletSampler(SeededSampler):
    """Triplets of windows, one after the other: anchor, neighbour, distant.

    Parameters
    ----------
    data
        A layer, a Dataset of layers on one grid, or a tree of these: each triplet then lies in one node.
    size
        Pixels: one number, or (height, width).
    length
        Number of triplets in an epoch; there are three times as many windows.
    radius
        Maximum distance between the centres of an anchor and its neighbour, in the units of `size`.
    distance
        Minimum distance between the centres of an anchor and its distant window; by default the radius.
    seed, **options
        As for `RandomSampler`. A triplet has one group of time steps.

    Raises
    ------
    OverlapError
        If an anchor has no window near enough or far enough.

    Notes
    -----
    Anchors are uniform over all positions, neighbours over those within the radius of the anchor (the anchor itself
    excluded), distant windows over those beyond the distance. In a loader, let `batch_size` be a multiple of 3: a batch
    (3 n, …) becomes triplets by `image.unflatten(0, (-1, 3))`.

    References
    ----------
    Jean et al. 2019, Tile2Vec, https://doi.org/10.1609/aaai.v33i01.33013967
    """

    windows_per_item = 3

    def __init__(
        self,
        data: SomeData,
        *,
        size: SomeSize,
        length: int,
        radius: float,
        distance: float | None = None,
        seed: int = 0,
        **options: Unpack[Options],
    ) -> None:
        self.length = parse_length(length)

        def make(_: str, ds: xr.Dataset, node_options: NodeOptions) -> _Triplets:
            constraints = parse_constraints(ds, size, **node_options)
            units, grid = node_options.get("units", "pixels"), constraints.grid
            near = max(size_in_pixels(radius, grid, units, argument="radius"))
            far = near if distance is None else max(size_in_pixels(distance, grid, units, argument="distance"))
            if far < near:
                raise InputError(
                    f"Cannot draw distant windows at {far} pixels: neighbours lie at up to {near} pixels.",
                    remedy="Pass {distance} of {radius} or more.",
                    argument="distance",
                )
            return _Triplets(constraints=constraints, candidates=Candidates(constraints), radius=near, distance=far)

        self.samplers = sampler_per_node(data, options, make)
        self.node_weights = node_weights(self.samplers, lambda sampler: sampled_area(sampler.constraints))
        self._start(seed, unit=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Triplets:
    """Draws triplets of windows of one node."""

    constraints: Constraints
    candidates: Candidates
    radius: int
    """Pixels."""
    distance: int
    """Pixels."""

    @property
    def grid(self) -> GeoBox:
        """The grid of the windows."""
        return self.constraints.grid

    def draw(self, rng: np.random.Generator, count: int) -> Drawn:
        """Return the windows of `count` triplets and their time steps."""
        constraints, candidates = self.constraints, self.candidates
        anchor, group = draw_accepted(constraints, rng, count, lambda rng, slots: candidates.draw(rng, len(slots)))

        def propose_neighbour(rng: np.random.Generator, slots: npt.NDArray[np.int64]) -> Table:
            offset = rng.integers(-self.radius, self.radius + 1, (len(slots), 2))
            return candidates.windows(anchor[slots, :2] + offset)

        def is_neighbour(proposals: Table, slots: npt.NDArray[np.int64]) -> Mask:
            distance = _distance(proposals, anchor[slots])
            return (distance > 0) & (distance <= self.radius) & candidates.contains(proposals)

        neighbour, _ = draw_accepted(constraints, rng, count, propose_neighbour, fits=is_neighbour, group=group)
        distant, _ = draw_accepted(
            constraints,
            rng,
            count,
            lambda rng, slots: candidates.draw(rng, len(slots)),
            fits=lambda proposals, slots: _distance(proposals, anchor[slots]) > self.distance,
            group=group,
        )
        table = np.stack((anchor, neighbour, distant), axis=1).reshape(-1, 4)
        return table, constraints.steps(rng, np.repeat(group, 3))


def _distance(table: Table, other: Table) -> npt.NDArray[np.float64]:
    """Return the distance in pixels between windows of one size."""
    offset = (table - other)[:, :2].astype("float64")
    return np.asarray(np.hypot(offset[:, 0], offset[:, 1]))

"""Triplets of windows: an anchor, a neighbour within a radius, and a distant one, as Tile2Vec learns from."""

from __future__ import annotations

from typing import Unpack

import numpy as np
import numpy.typing as npt
import xarray as xr

from geoxt.errors import InputError
from geoxt.samplers.candidates import Places, fill
from geoxt.samplers.constraints import Options, Scope, pixels, scope_of
from geoxt.samplers.node_samplers import ground, sampler_per_node, shares
from geoxt.samplers.sequence import Seeded, Table, parse_length
from geoxt.types import Mask, SomeSize


class TripletSampler(Seeded):
    """Triplets of windows, one after the other: anchor, neighbour, distant.

    Parameters
    ----------
    data
        A layer, a Dataset of layers on one grid, or a tree of these: each triplet then lies in one child.
    size
        Pixels: one number, or (height, width).
    length
        Number of triplets in an epoch; there are three times as many windows.
    radius
        Farthest that the centre of a neighbour lies from that of its anchor, in the units of `size`.
    distance
        Least that a distant window lies from its anchor; the radius by default.
    seed, **options
        As for `RandomSampler`. A triplet takes one group of time steps.

    Raises
    ------
    OverlapError
        Where no window lies near enough, or far enough, from an anchor.

    Notes
    -----
    Anchors are uniform over all places, neighbours over those within the radius of the anchor (the anchor's own left
    out), distant ones over those beyond the distance. In a loader, let `batch_size` be a multiple of 3: a batch of
    layers (3 n, …) is `image.unflatten(0, (-1, 3))`.

    References
    ----------
    Jean et al. 2019, Tile2Vec, https://doi.org/10.1609/aaai.v33i01.33013967
    """

    _per = 3
    scope: Scope

    def __init__(
        self,
        data: xr.DataArray | xr.Dataset | xr.DataTree,
        *,
        size: SomeSize,
        length: int,
        radius: float,
        distance: float | None = None,
        seed: int = 0,
        **options: Unpack[Options],
    ) -> None:
        self.length = parse_length(length)
        if isinstance(data, xr.DataTree):
            self.parts = sampler_per_node(
                data,
                options,
                lambda _, child, own: TripletSampler(
                    child, size=size, length=1, radius=radius, distance=distance, seed=seed, **own
                ),
            )
            self.shares = shares({node: ground(part.scope) for node, part in self.parts.items()})
            self._start({node: part.grid for node, part in self.parts.items()}, seed, unit=3)
            return
        self.scope = scope_of(data, size, **options)
        self.size = self.scope.size
        units = options.get("units", "pixels")
        self.radius = max(pixels(radius, self.scope.grid, units, what="radius"))
        far = self.radius if distance is None else max(pixels(distance, self.scope.grid, units, what="distance"))
        if far < self.radius:
            msg = f"Cannot call windows {far} pixels away distant where neighbours lie {self.radius} away. Pass a "
            raise InputError(msg + "distance=… of the radius or more.")
        self.distance = far
        self.places = Places(self.scope)
        self._start({"": self.scope.grid}, seed, unit=3)

    def _draw(self, rng: np.random.Generator, length: int | None) -> tuple[Table, Table | None]:
        assert length is not None
        scope, places, count = self.scope, self.places, length
        anchor, group = fill(scope, rng, count, lambda rng, slots: places.draw(rng, len(slots)))

        def near(rng: np.random.Generator, slots: npt.NDArray[np.int64]) -> Table:
            step = rng.integers(-self.radius, self.radius + 1, (len(slots), 2))
            return places.windows(anchor[slots, :2] + step)

        def fits_near(found: Table, slots: npt.NDArray[np.int64]) -> Mask:
            apart = _apart(found, anchor[slots])
            return (apart > 0) & (apart <= self.radius) & places.holds(found)

        neighbour, _ = fill(scope, rng, count, near, fits=fits_near, group=group)
        distant, _ = fill(
            scope,
            rng,
            count,
            lambda rng, slots: places.draw(rng, len(slots)),
            fits=lambda found, slots: _apart(found, anchor[slots]) > self.distance,
            group=group,
        )
        table = np.stack((anchor, neighbour, distant), axis=1).reshape(-1, 4)
        return table, scope.steps(rng, np.repeat(group, 3))


def _apart(table: Table, other: Table) -> npt.NDArray[np.float64]:
    """Return how far windows of one size lie apart, in pixels."""
    step = (table - other)[:, :2].astype("float64")
    return np.asarray(np.hypot(step[:, 0], step[:, 1]))

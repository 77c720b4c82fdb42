"""Random windows: uniform over all places where a window may lie, one by one or in batches that lie close together."""

from __future__ import annotations

from typing import Unpack

import numpy as np
import numpy.typing as npt
import xarray as xr

from geoxt.errors import InputError
from geoxt.regions.geodesic_area import pixel_area
from geoxt.samplers.candidates import Places, fill
from geoxt.samplers.constraints import Options, Scope, pixels, scope_of
from geoxt.samplers.node_samplers import ground, layer_in, sampler_per_node, shares
from geoxt.samplers.scene_ownership import territories
from geoxt.samplers.sequence import Seeded, Table, parse_length
from geoxt.samplers.weight_grid import Cells
from geoxt.types import Mask, SomeSize


class RandomSampler(Seeded):
    """Windows at random places, each place where one may lie equally likely.

    Parameters
    ----------
    data
        A layer, a Dataset of layers on one grid, or a tree of these, whose children are drawn in proportion to their
        area on the ground.
    size
        Pixels: one number, or (height, width).
    length
        Number of windows in an epoch.
    seed
        The same seed gives the same windows, on any machine and for any number of workers.
    weights
        A layer (y, x) on the same grid (of a tree, a tree of these): places are drawn in proportion to its value at
        the window's centre. It is read once, block by block; on a grid of over a million pixels the mean of a cell of
        several pixels stands for them. By default all are equally likely.
    **options
        `region`, `placement`, `units`, `times`, `min_covered` (0.5 by default) and `min_valid`; see
        `geoxt.samplers.Options`.

    Raises
    ------
    InputError
        Where a window fits nowhere in the region.
    OverlapError
        Where no window is covered well enough.

    Notes
    -----
    Uniform over places. With `placement="touching"` it is uniform over pixels as well: each is in as many places as any
    other. With "inside", a pixel nearer to the region's edge than a window's size is in fewer: a corner pixel in one.
    With several groups of time steps, all pairs of a place and a group that are covered are equally likely.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from geoxt.grid import coordinates
    >>> from geoxt.testing import make_grid
    >>> layer = xr.DataArray(np.zeros((60, 80)), dims=("y", "x"), coords=coordinates(make_grid((60, 80))))
    >>> sampler = RandomSampler(layer, size=16, length=8, seed=1)
    >>> len(list(sampler)) == len(sampler) == 8, sampler.at(2) == sampler.at(2), sampler.at(2) == sampler
    (True, True, False)
    >>> len(sampler.shard(rank=0, world_size=2)), len(sampler.skip(6))
    (4, 2)
    """

    scope: Scope

    def __init__(
        self,
        data: xr.DataArray | xr.Dataset | xr.DataTree,
        *,
        size: SomeSize,
        length: int,
        seed: int = 0,
        weights: xr.DataArray | xr.DataTree | None = None,
        **options: Unpack[Options],
    ) -> None:
        self.length = parse_length(length)
        if isinstance(data, xr.DataTree):
            self.parts = sampler_per_node(
                data, options, lambda *one: self._part(*one, size=size, seed=seed, weights=weights)
            )
            self.shares = shares({node: _weight(part) for node, part in self.parts.items()})
            self._start({node: part.grid for node, part in self.parts.items()}, seed)
            return
        if isinstance(weights, xr.DataTree):
            msg = f"Cannot draw by weights of {len(weights.children)} grids on one: pass weights= a layer on its grid."
            raise InputError(msg)
        self.scope = scope_of(data, size, **options)
        self.size = self.scope.size
        self.places = Places(self.scope)
        self.cells = None if weights is None else Cells.of(weights, self.scope.grid)
        self._start({"": self.scope.grid}, seed)

    @staticmethod
    def _part(
        node: str,
        child: xr.Dataset,
        options: Options,
        *,
        size: SomeSize,
        seed: int,
        weights: xr.DataArray | xr.DataTree | None,
    ) -> RandomSampler:
        """Return the sampler of a tree's child."""
        own = layer_in(weights, node, "weights")
        assert not isinstance(own, str)
        return RandomSampler(child, size=size, length=1, seed=seed, weights=own, **options)

    def _draw(self, rng: np.random.Generator, length: int | None) -> tuple[Table, Table | None]:
        assert length is not None
        places, cells = self.places, self.cells
        if cells is None:
            table, group = fill(self.scope, rng, length, lambda rng, slots: places.draw(rng, len(slots)))
        else:
            back = np.array(self.size) // 2
            table, group = fill(
                self.scope,
                rng,
                length,
                lambda rng, slots: places.windows(cells.draw(rng, len(slots)) - back),
                fits=lambda found, _: places.holds(found),
            )
        return table, self.scope.steps(rng, group)


def _weight(part: RandomSampler) -> float:
    """Return how much a child of a tree counts: its area on the ground, times the mean of its weights."""
    return ground(part.scope) if part.cells is None else float(part.cells.ends[-1]) * pixel_area(part.scope.grid)


class RandomBatchSampler(Seeded):
    """Windows in batches: those of a batch lie in one block of one scene, so that they share what is read of its files.

    Parameters
    ----------
    data, size, length, seed, **options
        As for `RandomSampler`.
    batch_size
        Windows in a batch; give the loader the same number.
    block
        Side of the block in which a batch lies, in the units of `size`. By default the root of `batch_size` times the
        size.

    Notes
    -----
    Every window, seen alone, is as uniform as one of `RandomSampler`: blocks lie on a lattice that is shifted at random
    for each batch, and are drawn in proportion to the places in them. A batch takes one group of time steps.

    Of a mosaic, a batch keeps to the scene that shows at the centre of its first window: it shows at the centres of all
    (with several layers, the scene of each). Windows near a seam still reach into the next scene. Where windows take
    several time steps at once, which have scenes of their own, blocks alone count. Of a tree, a batch has one child.
    """

    scope: Scope

    def __init__(
        self,
        data: xr.DataArray | xr.Dataset | xr.DataTree,
        *,
        size: SomeSize,
        length: int,
        batch_size: int,
        block: SomeSize | None = None,
        seed: int = 0,
        **options: Unpack[Options],
    ) -> None:
        if batch_size < 1:
            msg = f"Cannot draw batches of {batch_size} windows: pass batch_size=1 or more."
            raise InputError(msg)
        self.length, self.batch_size = parse_length(length), batch_size
        if isinstance(data, xr.DataTree):
            self.parts = sampler_per_node(
                data,
                options,
                lambda _, child, own: RandomBatchSampler(
                    child, size=size, length=1, batch_size=batch_size, block=block, seed=seed, **own
                ),
            )
            self.shares = shares({node: ground(part.scope) for node, part in self.parts.items()})
            self._start({node: part.grid for node, part in self.parts.items()}, seed, unit=batch_size)
            return
        self.scope = scope_of(data, size, **options)
        self.size = self.scope.size
        side = int(np.ceil(np.sqrt(batch_size)))
        whole = (self.size[0] * side, self.size[1] * side)
        self.block = (
            whole if block is None else pixels(block, self.scope.grid, options.get("units", "pixels"), what="block")
        )
        if min(np.subtract(self.block, self.size)) < 0:
            msg = f"Cannot draw windows of {self.size} pixels in a block of {self.block}: pass a larger block."
            raise InputError(msg)
        self.places = Places(self.scope)
        self.territories = territories(data, self.scope)
        self._start({"": self.scope.grid}, seed, unit=batch_size)

    def _draw(self, rng: np.random.Generator, length: int | None) -> tuple[Table, Table | None]:
        assert length is not None
        places, lands = self.places, self.territories
        count = -(-length // self.batch_size)
        first, turn = fill(self.scope, rng, count, lambda rng, slots: places.draw(rng, len(slots)))
        low, high = self._around(rng, first)
        batch = np.repeat(np.arange(count), self.batch_size)[:length]
        home = None if lands is None else lands.at(first, turn)[batch]

        def at_home(found: Table, slots: npt.NDArray[np.int64]) -> Mask:
            if lands is None or home is None:
                return np.ones(len(found), bool)
            return np.asarray((lands.at(found, turn[batch[slots]]) == home[slots]).all(1))

        rest, group = fill(
            self.scope,
            rng,
            length,
            lambda rng, slots: places.windows(rng.integers(low[batch[slots]], high[batch[slots]])),
            fits=at_home,
            group=turn[batch],
            otherwise=first[batch],
        )
        rest[:: self.batch_size] = first
        return rest, self.scope.steps(rng, group)

    def _around(self, rng: np.random.Generator, first: Table) -> tuple[Table, Table]:
        """Return the places, from and to, of the block that holds each window, of a lattice of its own."""
        which = self.places.within(first)
        corner, span = self.places.outer[which], self.places.span[which]
        reach: Table = np.array(self.block) - np.array(self.size) + 1
        shift = rng.integers(0, reach, first[:, :2].shape)
        low = first[:, :2] - (first[:, :2] - corner + shift) % reach
        return np.maximum(low, corner), np.minimum(low + reach, corner + span)

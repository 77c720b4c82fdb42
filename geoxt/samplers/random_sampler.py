"""Windows at uniformly random positions, one by one or in batches that lie close together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Unpack

import numpy as np
import numpy.typing as npt
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError
from geoxt.regions.geodesic_area import pixel_area
from geoxt.samplers.candidates import Candidates, draw_accepted
from geoxt.samplers.constraints import Constraints, NodeOptions, Options, parse_constraints, size_in_pixels
from geoxt.samplers.locality import block_groups, local_order
from geoxt.samplers.node_samplers import layer_per_node, node_weights, sampled_area, sampler_per_node
from geoxt.samplers.scene_ownership import SceneOwnership, scene_ownership
from geoxt.samplers.sequence import Drawn, SeededSampler, Table, parse_length
from geoxt.samplers.weight_grid import WeightGrid
from geoxt.trees import SomeData, nodes_of
from geoxt.types import Mask, SomeSize
from geoxt.windows import is_whole


class RandomSampler(SeededSampler):
    """Windows at random positions; every position at which a window may lie is equally likely.

    Parameters
    ----------
    data
        A layer, a Dataset of layers on one grid, or a tree of these, whose nodes are drawn in proportion to their area
        on the ground.
    size
        Pixels: one number, or (height, width).
    length
        Number of windows in an epoch.
    seed
        The same seed gives the same windows, on any machine and for any number of workers.
    weights
        A layer (y, x) on the same grid (for a tree, a tree of these): windows are drawn in proportion to its value at
        their centre. It is read once, block by block; grids of over a million pixels are summed up in cells of several
        pixels. By default all positions are equally likely.
    locality
        "block" draws the same windows, and orders those of one block of the grid near each other, so that compressed
        files are decoded less often. By default the order is uniformly random.
    block
        Height and width of the blocks with `locality="block"`, in the units of `size`; see Notes.
    buffer
        Windows in the shuffle buffer with `locality="block"`: 1 keeps the windows of a block together, the length of
        the epoch gives a uniformly random order. Several batches are a good choice.
    **options
        `region`, `placement`, `units`, `times`, `min_covered` (0.5 by default) and `min_valid`; see
        `geoxt.samplers.Options`.

    Raises
    ------
    InputError
        If no window fits into the region, or `block` or `buffer` is not positive.
    OverlapError
        If no window fulfils `min_covered` and `min_valid`.

    Notes
    -----
    Windows are uniform over positions. With `placement="touching"` they are uniform over pixels as well: each pixel
    lies in equally many positions. With "inside", a pixel nearer to the region's edge than the window size lies in
    fewer of them; a corner pixel in one. With several groups of time steps, all pairs of a position and a group that
    fulfil the constraints are equally likely.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> layer = make_layer(np.zeros((60, 80)))
    >>> sampler = RandomSampler(layer, size=16, length=8, seed=1)
    >>> len(list(sampler)) == len(sampler) == 8, sampler.at(2) == sampler.at(2), sampler.at(2) == sampler
    (True, True, False)
    >>> len(sampler.shard(rank=0, world_size=2)), len(sampler.skip(6))
    (4, 2)
    """

    def __init__(
        self,
        data: SomeData,
        *,
        size: SomeSize,
        length: int,
        seed: int = 0,
        weights: SomeData | None = None,
        locality: Literal["block"] | None = None,
        block: SomeSize | None = None,
        buffer: int = 256,
        **options: Unpack[Options],
    ) -> None:
        self.length = parse_length(length)
        self.buffer = _parse_buffer(locality, block, buffer)
        layers = {} if weights is None else layer_per_node(weights, nodes_of(data), "weights")

        def make(node: str, ds: xr.Dataset, node_options: NodeOptions) -> _RandomWindows:
            constraints = parse_constraints(ds, size, **node_options)
            candidates = Candidates(constraints)
            weight_grid = WeightGrid.of(layers[node], constraints.grid) if layers else None
            return _RandomWindows(constraints=constraints, candidates=candidates, weight_grid=weight_grid)

        self.samplers = sampler_per_node(data, options, make)
        self.node_weights = node_weights(self.samplers, lambda sampler: sampler.weight)
        self.block = None if locality is None else _locality_block(block, self.samplers, options)
        self._start(seed)

    def _draw(self, rng: np.random.Generator) -> tuple[Table, Table | None, Table]:
        """Return windows, time steps and nodes as without locality, in the order of `local_order` with it."""
        table, steps, node_index = super()._draw(rng)
        if self.block is None:
            return table, steps, node_index
        groups = block_groups(table, steps, node_index, self.block)
        order = local_order(groups, rng, buffer=self.buffer)
        return table[order], None if steps is None else steps[order], node_index[order]


def _parse_buffer(locality: str | None, block: SomeSize | None, buffer: int) -> int:
    if locality not in {None, "block"}:
        raise InputError(
            f"Cannot order windows by locality={locality!r}.", remedy="Pass 'block' or None.", argument="locality"
        )
    if locality is None and block is not None:
        raise InputError(
            "Cannot use block= without locality='block'.", remedy="Pass {locality:'block'} too.", argument="block"
        )
    if not is_whole(buffer, minimum=1):
        raise InputError(
            f"Cannot mix windows in a buffer of {buffer}.", remedy="Pass {buffer:1} or more.", argument="buffer"
        )
    return int(buffer)


def _locality_block(
    block: SomeSize | None, samplers: Mapping[str, _RandomWindows], options: Options
) -> tuple[int, int]:
    """Return height and width of the blocks in pixels; a size in CRS units is converted on the first node's grid."""
    first = next(iter(samplers.values())).constraints
    if block is None:
        return first.size[0] * 4, first.size[1] * 4
    return size_in_pixels(block, first.grid, options.get("units", "pixels"), argument="block")


@dataclass(frozen=True, slots=True, kw_only=True)
class _RandomWindows:
    """Draws windows of one node."""

    constraints: Constraints
    candidates: Candidates
    weight_grid: WeightGrid | None

    @property
    def grid(self) -> GeoBox:
        """The grid of the windows."""
        return self.constraints.grid

    @property
    def weight(self) -> float:
        """The area on the ground in which windows may lie, times the mean of the weights if there are some."""
        if self.weight_grid is None:
            return sampled_area(self.constraints)
        return float(self.weight_grid.ends[-1]) * pixel_area(self.grid)

    def draw(self, rng: np.random.Generator, count: int) -> Drawn:
        """Return windows and their time steps."""
        candidates, weight_grid = self.candidates, self.weight_grid
        if weight_grid is None:
            table, group = draw_accepted(
                self.constraints, rng, count, lambda rng, slots: candidates.draw(rng, len(slots))
            )
        else:
            to_corner = np.array(self.constraints.size) // 2
            table, group = draw_accepted(
                self.constraints,
                rng,
                count,
                lambda rng, slots: candidates.windows(weight_grid.draw(rng, len(slots)) - to_corner),
                fits=lambda proposals, _: candidates.contains(proposals),
            )
        return table, self.constraints.steps(rng, group)


class RandomBatchSampler(SeededSampler):
    """Random windows in batches: the windows of a batch lie in one block of one scene, so that file reads are shared.

    Parameters
    ----------
    data, size, length, seed, **options
        As for `RandomSampler`.
    batch_size
        Windows in a batch; pass the loader the same number.
    block
        Side of the block that contains a batch, in the units of `size`. By default the square root of `batch_size`
        times the size.

    Notes
    -----
    Each single window is as uniform as a window of `RandomSampler`: blocks form a lattice with a random offset for each
    batch, and are drawn in proportion to the positions in them. A batch has one group of time steps.

    In a mosaic, the centres of all windows of a batch lie in the same topmost scene (of each layer); windows near a
    seam still extend into the next scene. Windows of several time steps, each with other scenes, share only the block.
    In a tree, a batch lies in one node.
    """

    def __init__(
        self,
        data: SomeData,
        *,
        size: SomeSize,
        length: int,
        batch_size: int,
        block: SomeSize | None = None,
        seed: int = 0,
        **options: Unpack[Options],
    ) -> None:
        if not is_whole(batch_size, minimum=1):
            raise InputError(
                f"Cannot draw batches of {batch_size} windows.",
                remedy="Pass {batch_size:1} or more.",
                argument="batch_size",
            )
        self.length, self.batch_size = parse_length(length), batch_size

        def make(_: str, ds: xr.Dataset, node_options: NodeOptions) -> _BatchWindows:
            constraints = parse_constraints(ds, size, **node_options)
            return _BatchWindows(
                constraints=constraints,
                batch_size=batch_size,
                block=_block_size(block, constraints, batch_size, node_options),
                candidates=Candidates(constraints),
                ownership=scene_ownership(ds, constraints),
            )

        self.samplers = sampler_per_node(data, options, make)
        self.node_weights = node_weights(self.samplers, lambda sampler: sampled_area(sampler.constraints))
        self._start(seed, unit=batch_size)


def _block_size(
    block: SomeSize | None, constraints: Constraints, batch_size: int, options: NodeOptions
) -> tuple[int, int]:
    """Return height and width of the blocks in pixels."""
    size, units = constraints.size, options.get("units", "pixels")
    if block is None:
        side = int(np.ceil(np.sqrt(batch_size)))
        return size[0] * side, size[1] * side
    shape = size_in_pixels(block, constraints.grid, units, argument="block")
    if min(np.subtract(shape, size)) < 0:
        raise InputError(
            f"Cannot draw windows of {size} pixels in a block of {shape}.",
            remedy="Pass a larger {block}.",
            argument="block",
        )
    return shape


@dataclass(frozen=True, slots=True, kw_only=True)
class _BatchWindows:
    """Draws batches of windows of one node."""

    constraints: Constraints
    candidates: Candidates
    batch_size: int
    block: tuple[int, int]
    """Height and width of a block in pixels."""
    ownership: SceneOwnership | None

    @property
    def grid(self) -> GeoBox:
        """The grid of the windows."""
        return self.constraints.grid

    def draw(self, rng: np.random.Generator, count: int) -> Drawn:
        """Return windows and their time steps; the first window of each batch chooses block, scene and time steps."""
        candidates, ownership = self.candidates, self.ownership
        batches = -(-count // self.batch_size)
        first, batch_group = draw_accepted(
            self.constraints, rng, batches, lambda rng, slots: candidates.draw(rng, len(slots))
        )
        low, high = self._block_around(rng, first)
        batch = np.repeat(np.arange(batches), self.batch_size)[:count]
        owner = None if ownership is None else ownership.at(first, batch_group)[batch]

        def same_scene(proposals: Table, slots: npt.NDArray[np.int64]) -> Mask:
            if ownership is None or owner is None:
                return np.ones(len(proposals), bool)
            return np.asarray((ownership.at(proposals, batch_group[batch[slots]]) == owner[slots]).all(1))

        table, group = draw_accepted(
            self.constraints,
            rng,
            count,
            lambda rng, slots: candidates.windows(rng.integers(low[batch[slots]], high[batch[slots]])),
            fits=same_scene,
            group=batch_group[batch],
            fallback=first[batch],
        )
        table[:: self.batch_size] = first
        return table, self.constraints.steps(rng, group)

    def _block_around(self, rng: np.random.Generator, first: Table) -> tuple[Table, Table]:
        """Return the first and stop positions in the block of each window, in a lattice of blocks per window."""
        rectangle = self.candidates.rectangle_of(first)
        corner, span = self.candidates.outer[rectangle], self.candidates.span[rectangle]
        positions: Table = np.array(self.block) - np.array(self.constraints.size) + 1
        offset = rng.integers(0, positions, first[:, :2].shape)
        low = first[:, :2] - (first[:, :2] - corner + offset) % positions
        return np.maximum(low, corner), np.minimum(low + positions, corner + span)

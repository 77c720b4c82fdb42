"""Sequences of windows: the immutable tables of windows that samplers draw, sharded and saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self, overload

import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox

from geoxt.errors import GridError, InputError
from geoxt.plot.interactive_map import InteractiveMap, WindowGroup, draw_map
from geoxt.reprs import abbreviate, html_table, svg_map
from geoxt.samplers.drawing import Figure, draw_windows
from geoxt.samplers.sampler_files import load_table, save_table
from geoxt.trees import SomeData
from geoxt.types import Floats, SomePath
from geoxt.windows import Window, is_whole

Table = npt.NDArray[np.int64]
Drawn = tuple[Table, Table | None]
"""Windows (n, 4): row, column, height, width; and their time steps (n, k) padded with -1, `None` for all."""


class WindowSequence:
    """A sequence of windows of one grid, or of the grids of a tree.

    Parameters
    ----------
    grids
        The grid of each node; {"": grid} for data on one grid.
    table
        (n, 4) of int64: row, column, height, width of each window.
    steps
        (n, k) of int64: positions along time of each window; shorter rows are padded with -1. `None`: all time steps.
    unit
        Number of consecutive windows that stay together, such as a batch or a triplet; `shard` distributes whole units.
    node_index
        (n,) of int64: the position of each window's node in `grids`; by default the first.
    """

    def __init__(
        self,
        grids: Mapping[str, GeoBox],
        table: Table,
        steps: Table | None = None,
        *,
        unit: int = 1,
        node_index: Table | None = None,
    ) -> None:
        self.grids = dict(grids)
        self.table = table
        self.steps = steps
        self.unit = unit
        self.node_index = np.zeros(len(table), "int64") if node_index is None else node_index
        self._nodes = tuple(self.grids)
        for array in (table, steps, self.node_index):
            if array is not None:
                array.setflags(write=False)

    @property
    def grid(self) -> GeoBox:
        """The only grid of the windows.

        Raises
        ------
        GridError
            If the windows have several grids.
        """
        if len(self.grids) == 1:
            return next(iter(self.grids.values()))
        raise GridError(
            f"Cannot name one grid of windows over a tree: they lie in the nodes {list(self.grids)}.",
            remedy="Use them with the tree, or take those of one node by windows.of(node).",
        )

    def of(self, node: str) -> WindowSequence:
        """Return the windows of one node, in order, as a fixed sequence on its grid alone."""
        if node not in self.grids:
            raise InputError(
                f"Cannot take the windows of node {node!r}: the windows lie in {list(self.grids)}.",
                remedy="Pass the name of a node.",
                argument="node",
            )
        index = np.flatnonzero(self.node_index == self._nodes.index(node))
        steps = None if self.steps is None else self.steps[index]
        return WindowSequence({"": self.grids[node]}, self.table[index], steps, unit=self.unit)

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[Window]:
        return (self[i] for i in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Window: ...
    @overload
    def __getitem__(self, index: slice) -> WindowSequence: ...
    def __getitem__(self, index: int | slice) -> Window | WindowSequence:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        time = None if self.steps is None else tuple(s for s in self.steps[index].tolist() if s >= 0)
        row, col, height, width = self.table[index].tolist()
        return Window(row, col, height, width, time, self._nodes[self.node_index[index]])

    def at(self, epoch: int) -> WindowSequence:  # noqa: ARG002 (a fixed sequence is the same in every epoch)
        """Return the windows of an epoch."""
        return self

    def shard(self, rank: int, world_size: int, *, even: bool = True) -> Shard:
        """Return the windows of one of several processes; in no epoch do two processes get the same window.

        Parameters
        ----------
        rank
            Rank of the process, from 0.
        world_size
            Number of processes.
        even
            Whether all processes get the same number of windows, as distributed training requires; up to
            `world_size` - 1 units are then left out. Otherwise no unit is left out, and the first ranks get one more.
        """
        return Shard(self, rank, world_size, even=even)

    def skip(self, count: int) -> WindowSequence:
        """Return the windows of this epoch after the first `count`, to resume an interrupted run.

        Later epochs are those of the sampler: `sampler.at(epoch).skip(done)`, then `sampler.at(epoch + 1)`.
        """
        if not 0 <= count <= len(self):
            raise InputError(
                f"Cannot skip {count} of {len(self)} windows.", remedy=f"Pass 0 to {len(self)}.", argument="count"
            )
        return self[count:]

    def save(self, path: SomePath) -> None:
        """Write the windows and their grids to a NumPy `.npz` file, for `WindowSequence.load`."""
        save_table(path, self.grids, self.table, self.steps, self.unit, self.node_index)

    @classmethod
    def load(cls, path: SomePath) -> WindowSequence:
        """Read saved windows: the same windows in the same order, in every epoch."""
        grids, table, steps, unit, node_index = load_table(path)
        return WindowSequence(grids, table, steps, unit=unit, node_index=node_index)

    def plot(self, layer: SomeData | None = None, *, max_windows: int = 500, title: str | None = None) -> Figure:
        """Draw the outlines of the windows, over a layer if one is given.

        Parameters
        ----------
        layer
            On the grid of the windows: (y, x), (band, y, x), or with a time dimension of one step. For windows of a
            tree, a tree of such layers.
        max_windows
            Maximum number of outlines; more windows are thinned evenly. Windows of one unit have the same color.
        title
            Title of the figure; by default the class and number of windows.

        Returns
        -------
        matplotlib.figure.Figure
        """
        title = title or f"{type(self).__name__}, {len(self)} windows"
        return draw_windows(self, layer, max_windows=max_windows, title=title)

    def take(self, index: npt.NDArray[np.int64]) -> WindowSequence:
        """Return the windows at some positions as a fixed sequence."""
        steps = None if self.steps is None else self.steps[index]
        return WindowSequence(self.grids, self.table[index], steps, unit=self.unit, node_index=self.node_index[index])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WindowSequence) or list(self.grids.items()) != list(other.grids.items()):
            return False
        if (self.steps is None) != (other.steps is None):
            return False
        pairs = [(self.table, other.table), (self.node_index, other.node_index)]
        if self.steps is not None and other.steps is not None:
            pairs.append((self.steps, other.steps))
        return all(np.array_equal(a, b) for a, b in pairs)

    __hash__: Any = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)} windows>"

    def _repr_html_(self) -> str:
        """Return number and size of the windows, and a small map of them for each node."""
        heights_widths = (f"{height} x {width}" for height, width in np.unique(self.table[:, 2:], axis=0).tolist())
        rows = {"windows": f"{len(self):,}", "height x width": abbreviate(heights_widths, 3)}
        maps = "".join(
            svg_map(
                tuple(self.grids[node].shape), [("#2e76b8", map(tuple, self.table[self.node_index == index].tolist()))]
            )
            for index, node in enumerate(self._nodes[:4])
        )
        return html_table(type(self).__name__, rows, below=maps)

    def explore(
        self, layer: SomeData | None = None, *, basemap: str | None = None, title: str | None = None
    ) -> InteractiveMap:
        """Return an interactive map of the windows, over a layer if one is given; see `geoxt.plot.explore`."""
        group = WindowGroup(name="windows", color="#2e76b8", grids=self.grids, windows=tuple(self))
        return draw_map(layer, [group], basemap=basemap, title=title)


class Shard(WindowSequence):
    """The windows of one of several processes: every `world_size`-th unit of a sequence.

    Parameters
    ----------
    windows
        The windows of all processes.
    rank, world_size, even
        As for `WindowSequence.shard`.
    """

    def __init__(self, windows: WindowSequence, rank: int, world_size: int, *, even: bool = True) -> None:
        if not 0 <= rank < world_size:
            raise InputError(
                f"Cannot shard for rank={rank} of world_size={world_size}.",
                remedy=f"Pass {{rank}} 0 to {world_size - 1}.",
                argument="rank",
            )
        self.windows, self.rank, self.world_size, self.even = windows, rank, world_size, even
        unit = np.arange(len(windows)) // windows.unit
        selected = unit % world_size == rank
        if even:
            selected &= unit < len(windows) // windows.unit // world_size * world_size
        part = windows.take(np.flatnonzero(selected))
        super().__init__(part.grids, part.table, part.steps, unit=windows.unit, node_index=part.node_index)

    def at(self, epoch: int) -> Shard:
        """Return the windows of this process in another epoch."""
        return Shard(self.windows.at(epoch), self.rank, self.world_size, even=self.even)


class NodeSampler(Protocol):
    """Draws windows of one node."""

    @property
    def grid(self) -> GeoBox:
        """The grid of the windows."""

    def draw(self, rng: np.random.Generator, count: int) -> Drawn:
        """Return `count` items: windows, or triplets of windows."""


class SeededSampler(WindowSequence):
    """A window sequence that is redrawn for every epoch from a seed.

    Subclasses set `samplers` and `node_weights` and call `_start`. Units (windows, batches, triplets) are drawn from
    the nodes in proportion to `node_weights`; a subclass that chooses nodes otherwise overrides `_draw`.
    """

    seed: int
    epoch: int
    length: int | None
    samplers: Mapping[str, Any]
    """A `NodeSampler` for each node."""
    node_weights: Floats
    """Probability of each node; the sum is 1."""
    windows_per_item: ClassVar[int] = 1
    """Windows in one of the `length` items of an epoch."""

    def at(self, epoch: int) -> Self:
        """Return the windows of an epoch: equal for the same epoch, different for other epochs."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._start(self.seed, epoch, unit=self.unit)
        return other

    def _start(self, seed: int, epoch: int = 0, *, unit: int = 1) -> None:
        """Draw the windows of an epoch; called last by the constructors of samplers."""
        if seed < 0 or epoch < 0:
            raise InputError(f"Cannot draw with seed={seed} in epoch {epoch}.", remedy="Pass 0 or more.")
        self.seed, self.epoch, self.unit = seed, epoch, unit
        table, steps, node_index = self._draw(np.random.default_rng([seed, epoch]))
        grids = {node: sampler.grid for node, sampler in self.samplers.items()}
        WindowSequence.__init__(self, grids, table, steps, unit=unit, node_index=node_index)

    def _draw(self, rng: np.random.Generator) -> tuple[Table, Table | None, Table]:
        """Return windows, time steps and the position of each window's node."""
        assert self.length is not None
        total = self.length * self.windows_per_item
        unit = self._draw_nodes(rng, -(-total // self.unit), self.node_weights)
        node_index = np.repeat(unit, self.unit)[:total]

        def draw(sampler: NodeSampler, index: Table) -> Drawn:
            return sampler.draw(rng, len(index) // self.windows_per_item)

        return *gather(node_index, list(self.samplers.values()), draw), node_index

    def _draw_nodes(self, rng: np.random.Generator, count: int, weights: Floats) -> Table:
        """Return the position of a node for each of `count` units."""
        if list(self.samplers) == [""]:
            return np.zeros(count, "int64")  # no random number is taken, so that seeds of earlier versions stay valid
        return systematic_sample(rng, count, weights)


def gather(node_index: Table, samplers: Sequence[Any], draw: Any) -> Drawn:
    """Return the windows and time steps of all nodes in one table each.

    Parameters
    ----------
    node_index
        (n,): the position of each window's node.
    samplers
        Samplers of the nodes.
    draw
        Function from a sampler and the positions of its windows in the result to its windows and time steps.
    """
    total = len(node_index)
    table = np.zeros((total, 4), "int64")
    steps: dict[int, tuple[Table, Table]] = {}
    for number, sampler in enumerate(samplers):
        index = np.flatnonzero(node_index == number)
        if len(index):
            table[index], node_steps = draw(sampler, index)
            if node_steps is not None:
                steps[number] = index, node_steps
    if not steps:
        return table, None
    padded = np.full((total, max(node_steps.shape[1] for _, node_steps in steps.values())), -1, "int64")
    for index, node_steps in steps.values():
        padded[index, : node_steps.shape[1]] = node_steps
    return table, padded


def systematic_sample(rng: np.random.Generator, count: int, weights: Floats) -> Table:
    """Return `count` indices whose frequencies are as close to the weights as whole numbers allow, in random order.

    Systematic sampling: equally spaced points with one random offset, looked up in the cumulative weights.
    """
    points = (np.arange(count) + rng.random()) / count
    index = np.minimum(np.searchsorted(np.cumsum(weights), points, side="right"), len(weights) - 1)
    return rng.permutation(index)


def parse_length(length: int) -> int:
    """Return a number of windows of 1 or more."""
    if not is_whole(length, minimum=1):
        raise InputError(
            f"Cannot draw {length} windows.", remedy="Pass {length:1} or more.", value=length, argument="length"
        )
    return int(length)

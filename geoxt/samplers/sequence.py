"""Plans: the windows a sampler yields, as an immutable table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self, overload

import numpy as np
import numpy.typing as npt
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import GridError, InputError
from geoxt.samplers.drawing import Figure, draw_windows
from geoxt.samplers.sampler_files import load_table, save_table
from geoxt.types import Floats, SomePath
from geoxt.windows import Window

Table = npt.NDArray[np.int64]


class WindowSequence:
    """A sequence of windows of one grid, or of the grids of a tree.

    Parameters
    ----------
    grids
        The grid of each node; of data on one grid {"": grid}.
    table
        (n, 4) of int64: row, column, height, width of each window.
    steps
        (n, k) of int64: positions along time of each window; shorter rows are padded with -1. `None`: all time steps.
    unit
        Number of consecutive windows that stay together, such as a batch or a triplet; `shard` deals whole units.
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
            If they refer to several.
        """
        if len(self.grids) == 1:
            return next(iter(self.grids.values()))
        msg = f"Cannot name one grid of windows over a tree: they lie in the nodes {list(self.grids)}. Use them "
        raise GridError(msg + "with the tree, or take those of one node by windows.of(node).")

    def of(self, node: str) -> WindowSequence:
        """Return the windows of one node, in order, as a fixed sequence on its grid alone."""
        if node not in self.grids:
            msg = f"Cannot take the windows of node {node!r}: the windows lie in {list(self.grids)}. Pass one of these."
            raise InputError(msg)
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
            return self.only(np.arange(len(self))[index])
        time = None if self.steps is None else tuple(s for s in self.steps[index].tolist() if s >= 0)
        row, col, height, width = self.table[index].tolist()
        return Window(row, col, height, width, time, self._nodes[self.node_index[index]])

    def at(self, epoch: int) -> WindowSequence:  # noqa: ARG002 (a fixed plan is the same in every epoch)
        """Return the plan of an epoch."""
        return self

    def shard(self, rank: int, world_size: int, *, even: bool = True) -> Shard:
        """Return the windows of one of several processes, in every epoch; no two processes get the same one.

        Parameters
        ----------
        rank
            Number of this process, from 0.
        world_size
            Number of processes.
        even
            Give all the same number of windows, as processes that wait for each other need, and leave out the last few
            windows that would be too many. Otherwise nothing is left out, and the first get more.
        """
        return Shard(self, rank, world_size, even=even)

    def skip(self, count: int) -> WindowSequence:
        """Return the rest of this epoch after a number of windows, to go on where a run was cut off.

        The epochs after it are those of the sampler itself: `sampler.at(epoch).skip(done)`, then `sampler.at(epoch +
        1)`.
        """
        if not 0 <= count <= len(self):
            msg = f"Cannot skip {count} windows of a plan of {len(self)}: pass 0 to {len(self)}."
            raise InputError(msg)
        return self[count:]

    def save(self, path: SomePath) -> None:
        """Write the windows with their grid to a file (NumPy's `.npz`), to be loaded by `WindowSequence.load`."""
        save_table(path, self.grids, self.table, self.steps, self.unit, self.node_index)

    @classmethod
    def load(cls, path: SomePath) -> WindowSequence:
        """Read a plan that was saved: the same windows in the same order, in every epoch."""
        grids, table, steps, unit, node_index = load_table(path)
        return WindowSequence(grids, table, steps, unit=unit, node_index=node_index)

    def plot(
        self, layer: xr.DataArray | xr.DataTree | None = None, *, most: int = 500, title: str | None = None
    ) -> Figure:
        """Draw the windows, over a layer where one is given.

        Parameters
        ----------
        layer
            On the plan's grid; (y, x), (band, y, x), or with a time of one step. For a tree, a tree of such layers.
        most
            Windows that are outlined, at most: some of them, from first to last. Those of a batch or triplet have one
            colour.
        title
            Stands above it; the kind and number of windows by default.
        """
        return draw_windows(self, layer, most=most, title=title or f"{type(self).__name__}, {len(self)} windows")

    def only(self, index: npt.NDArray[np.int64]) -> WindowSequence:
        """Return some of the windows by their positions, as a fixed plan."""
        steps = None if self.steps is None else self.steps[index]
        return WindowSequence(self.grids, self.table[index], steps, unit=self.unit, node_index=self.node_index[index])

    def __eq__(self, other: object) -> bool:
        if (
            not isinstance(other, WindowSequence)
            or list(self.grids.items()) != list(other.grids.items())
            or not np.array_equal(self.table, other.table)
        ):
            return False
        return _same(self.steps, other.steps) and _same(self.node_index, other.node_index)

    __hash__: Any = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)} windows>"


class Shard(WindowSequence):
    """The windows of one of several processes: every `world_size`-th window, batch or triplet of a plan.

    Parameters
    ----------
    plan
        Of all processes.
    rank, world_size, even
        As for `WindowSequence.shard`.
    """

    def __init__(self, plan: WindowSequence, rank: int, world_size: int, *, even: bool = True) -> None:
        if not 0 <= rank < world_size:
            msg = f"Cannot shard for rank={rank} of world_size={world_size}: pass a rank of 0 to {world_size - 1}."
            raise InputError(msg)
        self.plan, self.rank, self.world_size, self.even = plan, rank, world_size, even
        unit = np.arange(len(plan)) // plan.unit
        chosen = unit % world_size == rank
        if even:
            chosen &= unit < len(plan) // plan.unit // world_size * world_size
        own = plan.only(np.flatnonzero(chosen))
        super().__init__(own.grids, own.table, own.steps, unit=plan.unit, node_index=own.node_index)

    def at(self, epoch: int) -> Shard:
        """Return this process's windows of another epoch."""
        return Shard(self.plan.at(epoch), self.rank, self.world_size, even=self.even)


class Seeded(WindowSequence):
    """A plan that is drawn anew for every epoch from a seed; what draws defines `_draw`.

    Over a tree it has a sampler for each child, and deals its units (windows, batches, triplets) to them.
    """

    seed: int
    epoch: int
    length: int | None
    parts: Mapping[str, Any] | None = None
    """The samplers of a tree's children, by node."""
    shares: Floats
    """How often each child of a tree is drawn."""
    _per: ClassVar[int] = 1
    """Windows to one of `length`."""

    def at(self, epoch: int) -> Self:
        """Return the plan of another epoch: other windows, and for the same epoch always the same."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._start(self.grids, self.seed, epoch, unit=self.unit)
        return other

    def _start(self, grids: Mapping[str, GeoBox], seed: int, epoch: int = 0, *, unit: int = 1) -> None:
        """Draw the windows of an epoch; a sampler calls it when all else is set."""
        if seed < 0 or epoch < 0:
            msg = f"Cannot draw with seed={seed} in epoch {epoch}: pass 0 or more."
            raise InputError(msg)
        self.seed, self.epoch, self.unit = seed, epoch, unit
        rng = np.random.default_rng([seed, epoch])
        if self.parts is None:
            table, steps = self._draw(rng, self.length)
            which = None
        else:
            table, steps, which = self._draw_tree(rng, list(self.parts.values()))
        WindowSequence.__init__(self, grids, table, steps, unit=unit, node_index=which)

    def _draw(self, rng: np.random.Generator, length: int | None) -> tuple[Table, Table | None]:
        """Return the windows of one grid, as many as `length` says, and their time steps."""
        raise NotImplementedError

    def _draw_tree(self, rng: np.random.Generator, parts: list[Self]) -> tuple[Table, Table | None, Table]:
        """Return the windows of a tree, their time steps, and the child of each: whole units, in proportion."""
        assert self.length is not None
        total = self.length * self._per
        unit = dealt(rng, -(-total // self.unit), self.shares)
        which = np.repeat(unit, self.unit)[:total]
        found = []
        for number, part in enumerate(parts):
            slots = np.flatnonzero(which == number)
            if len(slots):
                found.append((slots, *part._draw(rng, len(slots) // self._per)))  # noqa: SLF001 (of its own kind)
        return *gathered(total, found), which


def gathered(total: int, found: list[tuple[npt.NDArray[np.int64], Table, Table | None]]) -> tuple[Table, Table | None]:
    """Return windows and time steps in one order, of those of several children: (their places in it, both)."""
    table = np.zeros((total, 4), "int64")
    wide = max((s.shape[1] for _, _, s in found if s is not None), default=0)
    steps = np.full((total, wide), -1, "int64")
    for slots, own, taken in found:
        table[slots] = own
        if taken is not None:
            steps[slots, : taken.shape[1]] = taken
    return table, steps if any(s is not None for _, _, s in found) else None


def dealt(rng: np.random.Generator, count: int, shares: Floats) -> Table:
    """Return a kind for each of some windows: in number as near to the shares as can be, in random order."""
    points = (np.arange(count) + rng.random()) / count
    ends = np.cumsum(shares)
    which = np.minimum(np.searchsorted(ends, points, side="right"), len(shares) - 1)
    return rng.permutation(which)


def _same(one: Table | None, other: Table | None) -> bool:
    return one is other if one is None or other is None else np.array_equal(one, other)


def parse_length(length: int) -> int:
    """Return a number of windows, one or more."""
    if length < 1:
        msg = f"Cannot draw {length} windows: pass length=1 or more."
        raise InputError(msg)
    return int(length)

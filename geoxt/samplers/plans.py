"""Plans: the windows a sampler yields, as an immutable table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError
from geoxt.samplers.drawing import Figure, draw_windows
from geoxt.samplers.saving import load_table, save_table
from geoxt.types import SomePath
from geoxt.windows import Window

Table = npt.NDArray[np.int64]


class Plan:
    """A sequence of windows of one grid.

    Parameters
    ----------
    grid
        The grid that the windows refer to.
    table
        (n, 4) of int64: row, column, height, width of each window.
    steps
        (n, k) of int64: positions along time of each window, rows that hold fewer filled up with -1. `None` takes all.
    unit
        Windows that stay together, in a batch or a triplet; `shard` deals whole ones.
    """

    def __init__(self, grid: GeoBox, table: Table, steps: Table | None = None, *, unit: int = 1) -> None:
        self.grid = grid
        self.table = table
        self.steps = steps
        self.unit = unit
        table.setflags(write=False)
        if steps is not None:
            steps.setflags(write=False)

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[Window]:
        return (self[i] for i in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Window: ...
    @overload
    def __getitem__(self, index: slice) -> Plan: ...
    def __getitem__(self, index: int | slice) -> Window | Plan:
        if isinstance(index, slice):
            return self.only(np.arange(len(self))[index])
        time = None if self.steps is None else tuple(s for s in self.steps[index].tolist() if s >= 0)
        row, col, height, width = self.table[index].tolist()
        return Window(row, col, height, width, time)

    def at(self, epoch: int) -> Plan:  # noqa: ARG002 (a fixed plan is the same in every epoch)
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

    def skip(self, count: int) -> Plan:
        """Return the rest of this epoch after a number of windows, to go on where a run was cut off.

        The epochs after it are those of the sampler itself: `sampler.at(epoch).skip(done)`, then `sampler.at(epoch +
        1)`.
        """
        if not 0 <= count <= len(self):
            msg = f"Cannot skip {count} windows of a plan of {len(self)}: pass 0 to {len(self)}."
            raise InputError(msg)
        return self[count:]

    def save(self, path: SomePath) -> None:
        """Write the windows with their grid to a file (NumPy's `.npz`), to be loaded by `Plan.load`."""
        save_table(path, self.grid, self.table, self.steps, self.unit)

    @classmethod
    def load(cls, path: SomePath) -> Plan:
        """Read a plan that was saved: the same windows in the same order, in every epoch."""
        grid, table, steps, unit = load_table(path)
        return Plan(grid, table, steps, unit=unit)

    def plot(self, layer: xr.DataArray | None = None, *, most: int = 500, title: str | None = None) -> Figure:
        """Draw the windows, over a layer where one is given.

        Parameters
        ----------
        layer
            On the plan's grid; (y, x), (band, y, x), or with a time of one step.
        most
            Windows that are outlined, at most: some of them, from first to last. Those of a batch or triplet have one
            colour.
        title
            Stands above it; the kind and number of windows by default.
        """
        return draw_windows(self, layer, most=most, title=title or f"{type(self).__name__}, {len(self)} windows")

    def only(self, index: npt.NDArray[np.int64]) -> Plan:
        """Return some of the windows by their positions, as a fixed plan."""
        steps = None if self.steps is None else self.steps[index]
        return Plan(self.grid, self.table[index], steps, unit=self.unit)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plan) or self.grid != other.grid or not np.array_equal(self.table, other.table):
            return False
        if self.steps is None or other.steps is None:
            return self.steps is other.steps
        return np.array_equal(self.steps, other.steps)

    __hash__: Any = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)} windows>"


class Shard(Plan):
    """The windows of one of several processes: every `world_size`-th window, batch or triplet of a plan.

    Parameters
    ----------
    plan
        Of all processes.
    rank, world_size, even
        As for `Plan.shard`.
    """

    def __init__(self, plan: Plan, rank: int, world_size: int, *, even: bool = True) -> None:
        if not 0 <= rank < world_size:
            msg = f"Cannot shard for rank={rank} of world_size={world_size}: pass a rank of 0 to {world_size - 1}."
            raise InputError(msg)
        self.plan, self.rank, self.world_size, self.even = plan, rank, world_size, even
        unit = np.arange(len(plan)) // plan.unit
        chosen = unit % world_size == rank
        if even:
            chosen &= unit < len(plan) // plan.unit // world_size * world_size
        own = plan.only(np.flatnonzero(chosen))
        super().__init__(own.grid, own.table, own.steps, unit=plan.unit)

    def at(self, epoch: int) -> Shard:
        """Return this process's windows of another epoch."""
        return Shard(self.plan.at(epoch), self.rank, self.world_size, even=self.even)


class Seeded(Plan):
    """A plan that is drawn anew for every epoch from a seed; what draws defines `_draw`."""

    seed: int
    epoch: int

    def at(self, epoch: int) -> Self:
        """Return the plan of another epoch: other windows, and for the same epoch always the same."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._start(self.grid, self.seed, epoch, unit=self.unit)
        return other

    def _start(self, grid: GeoBox, seed: int, epoch: int = 0, *, unit: int = 1) -> None:
        """Draw the windows of an epoch; a sampler calls it when all else is set."""
        if seed < 0 or epoch < 0:
            msg = f"Cannot draw with seed={seed} in epoch {epoch}: pass 0 or more."
            raise InputError(msg)
        self.seed, self.epoch = seed, epoch
        table, steps = self._draw(np.random.default_rng([seed, epoch]))
        Plan.__init__(self, grid, table, steps, unit=unit)

    def _draw(self, rng: np.random.Generator) -> tuple[Table, Table | None]:
        raise NotImplementedError


def parse_length(length: int) -> int:
    """Return a number of windows, one or more."""
    if length < 1:
        msg = f"Cannot draw {length} windows: pass length=1 or more."
        raise InputError(msg)
    return int(length)

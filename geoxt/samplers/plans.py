"""Plans: the windows a sampler yields, as an immutable table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox

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
    """

    def __init__(self, grid: GeoBox, table: Table) -> None:
        self.grid = grid
        self.table = table
        table.setflags(write=False)

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[Window]:
        return (Window(*row) for row in self.table.tolist())

    @overload
    def __getitem__(self, index: int) -> Window: ...
    @overload
    def __getitem__(self, index: slice) -> Plan: ...
    def __getitem__(self, index: int | slice) -> Window | Plan:
        if isinstance(index, slice):
            return Plan(self.grid, self.table[index])
        return Window(*self.table[index].tolist())

    def at(self, epoch: int) -> Plan:  # noqa: ARG002 (a fixed plan is the same in every epoch)
        """Return the plan of an epoch."""
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self.grid == other.grid and np.array_equal(self.table, other.table)

    __hash__: Any = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)} windows>"

"""Sampling weights of a layer, summed up in at most a million square cells, from which pixels are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError, OverlapError
from geoxt.samplers.streaming import BLOCK, stream, view_on_grid
from geoxt.types import Floats

MAX_CELLS = 2**20
"""Maximum number of cells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightGrid:
    """Square cells of a grid with cumulative weights."""

    side: int
    """Side of a cell in pixels."""
    shape: tuple[int, int]
    """Rows and columns of the grid in pixels."""
    ends: Floats
    """Cumulative sum of the weights of the cells in row-major order."""

    @classmethod
    def of(cls, weights: xr.DataArray, grid: GeoBox) -> WeightGrid:
        """Sum up the weights of a layer, which is read once; invalid pixels have weight 0.

        Raises
        ------
        InputError
            If a weight is negative or infinite.
        OverlapError
            If no weight is above 0.
        """
        rows, cols = grid.shape
        side = 1
        while -(-rows // side) * -(-cols // side) > MAX_CELLS:
            side *= 2
        sums = np.zeros((-(-rows // side), -(-cols // side)))
        for window, values, valid in stream(view_on_grid(weights, grid, argument="weights"), block=max(BLOCK, side)):
            block = np.where(valid, values, 0).astype("float64")
            if block.min(initial=0) < 0 or not np.isfinite(block).all():
                raise InputError(
                    f"Cannot draw by the weights {weights.name!r}: one is {block.min():g} in the block at row "
                    f"{window.row}, column {window.col}.",
                    remedy="Pass finite {weights} of 0 or more.",
                    argument="weights",
                )
            row_starts, col_starts = np.arange(0, window.height, side), np.arange(0, window.width, side)
            part = np.add.reduceat(np.add.reduceat(block, row_starts, axis=0), col_starts, axis=1)
            top, left = window.row // side, window.col // side
            sums[top : top + part.shape[0], left : left + part.shape[1]] = part
        ends = np.cumsum(sums.ravel())
        if not ends[-1] > 0:
            raise OverlapError(
                f"Cannot draw by the weights {weights.name!r}: all are 0 or invalid.",
                remedy="Pass {weights} with values above 0.",
                argument="weights",
            )
        return cls(side=side, shape=(rows, cols), ends=ends)

    def draw(self, rng: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
        """Return (count, 2): row and column of pixels, cells in proportion to their weight."""
        cell = np.searchsorted(self.ends, rng.random(count) * self.ends[-1], side="right")
        row, col = np.divmod(np.minimum(cell, len(self.ends) - 1), -(-self.shape[1] // self.side))
        low = np.c_[row, col] * self.side
        return np.asarray(rng.integers(low, np.minimum(low + self.side, self.shape)))

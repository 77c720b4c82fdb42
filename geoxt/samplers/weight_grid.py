"""Weights of places: a layer summed up in cells of the grid, few enough to keep, and drawn from in proportion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError, OverlapError
from geoxt.samplers.streaming import BLOCK, plane_of, stream
from geoxt.types import Floats

MOST = 2**20
"""Cells that are kept, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """Squares of a grid with the sum of the weights in each."""

    side: int
    """Pixels: side of a cell."""
    shape: tuple[int, int]
    """Rows and columns of the grid, in pixels."""
    ends: Floats
    """Running sums over the cells, row by row."""

    @classmethod
    def of(cls, weights: xr.DataArray, grid: GeoBox) -> Cells:
        """Sum up a layer, which is read once; invalid pixels weigh nothing.

        Raises
        ------
        InputError
            Where a weight is negative or infinite.
        OverlapError
            Where none is above 0.
        """
        rows, cols = grid.shape
        side = 1
        while -(-rows // side) * -(-cols // side) > MOST:
            side *= 2
        sums = np.zeros((-(-rows // side), -(-cols // side)))
        for window, values, valid in stream(plane_of(weights, grid, what="weights"), block=max(BLOCK, side)):
            found = np.where(valid, values, 0).astype("float64")
            if found.min(initial=0) < 0 or not np.isfinite(found).all():
                msg = f"Cannot draw by the weights {weights.name!r}: one is {found.min():g} in the block at row "
                raise InputError(msg + f"{window.row}, column {window.col}. Pass finite weights of 0 or more.")
            down, across = np.arange(0, window.height, side), np.arange(0, window.width, side)
            part = np.add.reduceat(np.add.reduceat(found, down, axis=0), across, axis=1)
            top, left = window.row // side, window.col // side
            sums[top : top + part.shape[0], left : left + part.shape[1]] = part
        ends = np.cumsum(sums.ravel())
        if not ends[-1] > 0:
            msg = f"Cannot draw by the weights {weights.name!r}: all are 0 or invalid. Pass some above 0."
            raise OverlapError(msg)
        return cls(side=side, shape=(rows, cols), ends=ends)

    def draw(self, rng: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
        """Return (count, 2): row and column of pixels, each cell in proportion to its weight."""
        cell = np.searchsorted(self.ends, rng.random(count) * self.ends[-1], side="right")
        row, col = np.divmod(np.minimum(cell, len(self.ends) - 1), -(-self.shape[1] // self.side))
        low = np.c_[row, col] * self.side
        return np.asarray(rng.integers(low, np.minimum(low + self.side, self.shape)))

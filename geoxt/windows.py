"""Windows: rectangles of a grid in pixels, with their time steps and the tree node of their grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geoxt.errors import InputError
from geoxt.types import SomeSize


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A rectangle of a grid in pixels; it may reach over the grid's edge."""

    row: int
    """First row, counted from the grid's first row; negative above it."""
    col: int
    """First column, counted from the grid's first column."""
    height: int
    """Rows, at least one."""
    width: int
    """Columns, at least one."""
    time: tuple[int, ...] | None = None
    """Positions along the time dimension; `None` takes all of them."""
    node: str = ""
    """Name of the tree node whose grid the window refers to; "" for data on one grid."""

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            msg = f"Cannot make a window of {self.height} x {self.width} pixels: pass a height and width of 1 or more."
            raise InputError(msg)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, in pixels."""
        return self.height, self.width

    @property
    def stop(self) -> tuple[int, int]:
        """The row and column just after the last ones."""
        return self.row + self.height, self.col + self.width

    def shift(self, rows: int, cols: int) -> Window:
        """Return the same window, moved by whole pixels."""
        return Window(self.row + rows, self.col + cols, self.height, self.width, self.time, self.node)

    def pad(self, pixels: int) -> Window:
        """Return the window grown by a number of pixels on every side (shrunk if negative)."""
        height, width = self.height + 2 * pixels, self.width + 2 * pixels
        return Window(self.row - pixels, self.col - pixels, height, width, self.time, self.node)

    def intersect(self, other: Window) -> Window | None:
        """Return the part that two windows of one grid share, or `None`."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        bottom, right = min(self.stop[0], other.stop[0]), min(self.stop[1], other.stop[1])
        if bottom <= row or right <= col:
            return None
        return Window(row, col, bottom - row, right - col, self.time, self.node)

    def contains(self, other: Window) -> bool:
        """Tell whether another window lies wholly inside this one."""
        return (
            self.row <= other.row
            and self.col <= other.col
            and other.stop[0] <= self.stop[0]
            and other.stop[1] <= self.stop[1]
        )

    def within(self, outer: Window) -> tuple[slice, slice]:
        """Return the slices that cut this window out of an array that holds `outer`."""
        row, col = self.row - outer.row, self.col - outer.col
        return slice(row, row + self.height), slice(col, col + self.width)


def parse_size(size: SomeSize, *, what: str = "size") -> tuple[int, int]:
    """Return (height, width) in pixels from one number or a pair."""
    height, width = (size, size) if isinstance(size, (int, float, np.number)) else size
    if int(height) != height or int(width) != width or height < 1 or width < 1:
        msg = f"Cannot use {what}={size!r}: pass whole pixels of 1 or more, one number or (height, width)."
        raise InputError(msg)
    return int(height), int(width)

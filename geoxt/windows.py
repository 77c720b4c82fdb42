"""Windows: rectangles of a grid in pixels, with their time steps and the tree node of their grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geoxt.errors import InputError
from geoxt.reprs import abbreviate, html_table
from geoxt.types import Mask, SomeSize

__all__ = ["Window"]


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A rectangle of a grid in pixels; it may extend beyond the grid.

    Examples
    --------
    >>> window = Window(row=2, col=3, height=4, width=5)
    >>> window.shape, window.stop
    ((4, 5), (6, 8))
    >>> window.intersect(Window(0, 0, 4, 4))
    Window(row=2, col=3, height=2, width=1, time=None, node='')
    """

    row: int
    """First row; rows above the grid are negative."""
    col: int
    """First column; columns left of the grid are negative."""
    height: int
    """Number of rows, 1 or more."""
    width: int
    """Number of columns, 1 or more."""
    time: tuple[int, ...] | None = None
    """Positions along the time dimension; `None`: all time steps."""
    node: str = ""
    """Name of the tree node whose grid the window refers to; "" for data on one grid."""

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise InputError(
                f"Cannot make a window of {self.height} x {self.width} pixels.",
                remedy="Pass a height and width of 1 or more.",
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.height, self.width

    @property
    def stop(self) -> tuple[int, int]:
        """Row and column after the last pixel."""
        return self.row + self.height, self.col + self.width

    def _repr_html_(self) -> str:
        """Return rows, columns, time steps and node as a table."""
        bottom, right = self.stop
        rows = {"rows": f"{self.row} to {bottom - 1}", "columns": f"{self.col} to {right - 1}"}
        rows["height x width"] = f"{self.height} x {self.width} px"
        rows |= {} if self.time is None else {"time steps": abbreviate(self.time)}
        return html_table("Window", rows | ({"node": self.node} if self.node else {}))

    def shift(self, rows: int, cols: int) -> Window:
        """Return the window moved down and right by whole pixels."""
        return Window(self.row + rows, self.col + cols, self.height, self.width, self.time, self.node)

    def pad(self, pixels: int) -> Window:
        """Return the window enlarged by a number of pixels on each side; a negative number shrinks it."""
        height, width = self.height + 2 * pixels, self.width + 2 * pixels
        return Window(self.row - pixels, self.col - pixels, height, width, self.time, self.node)

    def intersect(self, other: Window) -> Window | None:
        """Return the intersection with another window of the same grid, or `None` if it is empty."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        bottom, right = min(self.stop[0], other.stop[0]), min(self.stop[1], other.stop[1])
        if bottom <= row or right <= col:
            return None
        return Window(row, col, bottom - row, right - col, self.time, self.node)

    def contains(self, other: Window) -> bool:
        """Return whether another window of the same grid lies entirely inside this one."""
        return (
            self.row <= other.row
            and self.col <= other.col
            and other.stop[0] <= self.stop[0]
            and other.stop[1] <= self.stop[1]
        )

    def within(self, outer: Window) -> tuple[slice, slice]:
        """Return the row and column slices of this window in an array that holds `outer`."""
        row, col = self.row - outer.row, self.col - outer.col
        return slice(row, row + self.height), slice(col, col + self.width)

    def mask_inside(self, other: Window) -> Mask:
        """Return which pixels (height, width) of this window lie in another window of the same grid."""
        mask = np.zeros(self.shape, bool)
        shared = self.intersect(other)
        if shared is not None:
            mask[shared.within(self)] = True
        return mask


def invalid_window(window: Window, valid: Mask) -> Window:
    """Return the bounding window of the invalid pixels of a window; at least one pixel must be invalid."""
    cols, rows = np.flatnonzero(~valid.all(axis=(0, 1))), np.flatnonzero(~valid.all(axis=(0, 2)))
    height, width = rows[-1] - rows[0] + 1, cols[-1] - cols[0] + 1
    return Window(window.row + int(rows[0]), window.col + int(cols[0]), int(height), int(width))


def is_whole(number: float, *, minimum: int) -> bool:
    """Return whether a number is finite, whole and not below a minimum."""
    return bool(np.isfinite(number)) and int(number) == number and number >= minimum


def parse_size(size: SomeSize, *, argument: str = "size") -> tuple[int, int]:
    """Return (height, width) in pixels from one number or a pair.

    Parameters
    ----------
    size
        Whole pixels of 1 or more.
    argument
        Name of the argument, for errors.
    """
    height, width = (size, size) if isinstance(size, (int, float, np.number)) else size
    if not (is_whole(height, minimum=1) and is_whole(width, minimum=1)):
        raise InputError(
            f"Cannot use {argument}={size!r}.",
            remedy=f"Pass {{{argument}}} whole pixels of 1 or more, one number or (height, width).",
            value=size,
            argument=argument,
        )
    return int(height), int(width)

"""Where the pixels of one grid lie in another: pyproj on an anchored control grid, linear between its nodes.

Nodes stand at every `step`-th pixel of the target grid, counted from its origin, and are rounded to 2**-16 pixel.
All interpolation between them is then exact in float64, so a pixel's coordinates do not depend on the window
that asks for them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

from geoxt.grid import offset, transformer
from geoxt.types import Array, Floats
from geoxt.windows import Window

STEPS = (32, 16, 8, 4, 2, 1)
TOLERANCE = 2.5e-4
"""Source pixels: the error allowed at the middle of a control cell, where it is greatest (more beyond a scale of 4)."""
QUANTUM = 2.0**-16
FAR = 2.0**24
"""Source pixels: a place that no raster reaches; stands for what cannot be transformed."""


class Mapping:
    """Coordinates of a target grid's pixels in the pixels of a source grid.

    Parameters
    ----------
    target, source
        The grids; both need a CRS.

    Notes
    -----
    Coordinates are counted in pixels of the source, 0 at the centre of its first pixel.
    """

    __slots__ = (
        "_affine", "_centre", "_limit", "_project", "scale", "shift", "source", "source_shape", "step", "target",
        "to_source",
    )  # fmt: skip

    def __init__(self, target: GeoBox, source: GeoBox) -> None:
        self.target = target
        self.source = source
        self.source_shape = int(source.shape[0]), int(source.shape[1])
        self.to_source = ~source.affine
        self.shift = offset(target, source)
        self._affine = self.to_source @ target.affine if target.crs == source.crs else None
        self._project = None if self._affine is not None else transformer(target.crs, source.crs)
        geographic = source.crs is not None and source.crs.geographic
        self._centre = (source.affine @ (source.shape[1] / 2, source.shape[0] / 2))[0] if geographic else None
        inside = self._inside(source)
        self.scale = self._scale(inside)
        """Source pixels for one target pixel, along y and x."""
        self._limit = 8 * max(*self.scale, 1e-6)
        self.step = STEPS[0] if self._affine is not None else self._choose_step(inside)

    def points(self, rows: Array, cols: Array) -> Floats:
        """Return exact source coordinates (2, ...), y before x, of target pixels."""
        a = self._affine or self.target.affine
        rows, cols = rows + 0.5, cols + 0.5
        x, y = a.a * cols + a.b * rows + a.c, a.d * cols + a.e * rows + a.f
        if self._project is not None:
            x, y = self._project.transform(x, y)
            if self._centre is not None:
                x = x - 360 * np.rint((x - self._centre) / 360)
            b = self.to_source
            x, y = b.a * x + b.b * y + b.c, b.d * x + b.e * y + b.f
        found = np.stack((y, x)) - 0.5
        return np.where(np.abs(found) < FAR, found, np.nan)

    def nodes(self, window: Window) -> Floats:
        """Return the control nodes (2, n, m) whose cells cover a window, rounded to 2**-16 pixel."""
        first, last = self._cells(window)
        rows = np.arange(first[0], last[0] + 2, dtype="float64") * self.step
        cols = np.arange(first[1], last[1] + 2, dtype="float64") * self.step
        found = self.points(*np.broadcast_arrays(rows[:, None], cols[None, :]))
        return np.asarray(np.rint(found / QUANTUM) * QUANTUM)

    def coordinates(
        self,
        window: Window,
        nodes: Floats,
        *,
        origin: tuple[float, float] = (0, 0),
        scale: tuple[float, float] = (1, 1),
        bias: tuple[float, float] = (0, 0),
        magic: tuple[float, float] | None = None,
    ) -> Floats:
        """Return source coordinates (2, height, width), y before x, of a window's pixels.

        Parameters
        ----------
        window
            Rectangle of the target grid.
        nodes
            What `nodes` gave for this window or for one around it with the same first cell.
        origin, scale, bias
            The result is `(coordinate - origin) * scale + bias`; exact where these are dyadic.
        magic
            Numbers added before the last sum and taken off after it: they round the result to their last bit.
        """
        step = self.step
        first, _ = self._cells(window)
        broken = self._broken(nodes)
        if broken.any():
            nodes = np.where(np.isfinite(nodes), nodes, -FAR)
        plain = _column(-np.array(origin)) + nodes
        plain *= _column(scale)
        plain += _column(bias)
        rows = np.arange(window.row, window.row + window.height)
        cell, along = rows // step - first[0], (rows % step / step)[:, None]
        upper = plain[:, cell]
        lines = upper + (plain[:, cell + 1] - upper) * along
        starts, slopes = lines[:, :, :-1], np.diff(lines, axis=2)
        if magic is not None:
            starts = starts + _column(magic)
        found = slopes[..., None] * (np.arange(step) / step)
        found += starts[..., None]
        if magic is not None:
            found -= _column(magic)[..., None]
        skip = window.col - first[1] * step
        found = found.reshape(2, window.height, -1)[:, :, skip : skip + window.width]
        if broken.any():
            self._mend(found, window, broken, (np.array(origin), np.array(scale), np.array(bias)))
        return found

    def extent(self, window: Window, nodes: Floats) -> tuple[Floats, Floats] | None:
        """Return the least and greatest source coordinates (y, x) of a window's pixels; `None` where it has none."""
        if self._broken(nodes).any():
            found = self.coordinates(window, nodes).reshape(2, -1)
            found = found[:, (found > -FAR).all(0)]
        else:
            found = self._vertices(window, nodes).reshape(2, -1)
        return (found.min(1), found.max(1)) if found.size else None

    def _vertices(self, window: Window, nodes: Floats) -> Floats:
        """Return the corners of the control cells, cut to the window: the extremes are among them."""
        step, (bottom, right) = self.step, window.stop
        first, last = window.row % step / step, (bottom - 1) % step / step
        ends = nodes[:, 0] + (nodes[:, 1] - nodes[:, 0]) * first, nodes[:, -2] + (nodes[:, -1] - nodes[:, -2]) * last
        cut = np.concatenate((ends[0][:, None], nodes[:, 1:-1], ends[1][:, None]), axis=1)
        first, last = window.col % step / step, (right - 1) % step / step
        a, b = cut[:, :, 0], cut[:, :, -2]
        sides = a + (cut[:, :, 1] - a) * first, b + (cut[:, :, -1] - b) * last
        return np.concatenate((sides[0][..., None], cut[:, :, 1:-1], sides[1][..., None]), axis=2)

    def _cells(self, window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
        step, (bottom, right) = self.step, window.stop
        return (window.row // step, window.col // step), ((bottom - 1) // step, (right - 1) // step)

    def _broken(self, nodes: Floats) -> Array:
        """Tell which cells hold a jump or a point that cannot be transformed."""
        if self._project is None:
            return np.zeros((1, 1), bool)
        limit = self._limit * self.step
        down, across = np.diff(nodes, axis=1), np.diff(nodes, axis=2)
        smooth_down = np.asarray((np.abs(down) < limit).all(0))
        smooth_across = np.asarray((np.abs(across) < limit).all(0))
        return np.asarray(~(smooth_down[:, :-1] & smooth_down[:, 1:] & smooth_across[:-1] & smooth_across[1:]))

    def _mend(self, found: Floats, window: Window, broken: Array, terms: tuple[Array, Array, Array]) -> None:
        """Transform every pixel of the broken cells by itself."""
        (first_row, first_col), _ = self._cells(window)
        rows = np.arange(window.row, window.row + window.height)
        cols = np.arange(window.col, window.col + window.width)
        here = broken[(rows // self.step - first_row)[:, None], (cols // self.step - first_col)[None, :]]
        y, x = np.nonzero(here)
        exact = self.points(rows[y].astype("float64"), cols[x].astype("float64"))
        exact = np.where(np.isfinite(exact).all(0), np.rint(exact / QUANTUM) * QUANTUM, -FAR)
        origin, scale, bias = (t[:, None] for t in terms)
        found[:, y, x] = (exact - origin) * scale + bias

    def _inside(self, source: GeoBox) -> Floats:
        """Return target pixels (2, n), row before column, spread over the source."""
        t = np.linspace(0.02, 0.98, 9)
        rows, cols = (g.ravel() for g in np.meshgrid(t * source.shape[0], t * source.shape[1], indexing="ij"))
        a, back = source.affine, ~self.target.affine
        x, y = a.a * cols + a.b * rows + a.c, a.d * cols + a.e * rows + a.f
        if self._project is not None:
            x, y = self._project.transform(x, y, direction="INVERSE")
        found = np.stack((back.d * x + back.e * y + back.f, back.a * x + back.b * y + back.c))
        return found[:, np.isfinite(found).all(0)]

    def _scale(self, inside: Floats) -> tuple[float, float]:
        if self._affine is not None:
            a = self._affine
            return float(np.hypot(a.d, a.e)), float(np.hypot(a.a, a.b))
        here = self.points(inside[0], inside[1])
        down, across = self.points(inside[0] + 1, inside[1]), self.points(inside[0], inside[1] + 1)
        steps = np.abs(down - here) + np.abs(across - here)
        squares = np.sqrt((down - here) ** 2 + (across - here) ** 2)
        if not np.isfinite(steps).all(0).any():
            return 1.0, 1.0
        y, x = np.nanmedian(squares, axis=1)
        return float(y), float(x)

    def _choose_step(self, inside: Floats) -> int:
        """Return the widest spacing of nodes whose error stays within the tolerance."""
        for step in STEPS[:-1]:
            row, col = np.floor(inside / step) * step
            corners = [self.points(row + i * step, col + j * step) for i in (0, 1) for j in (0, 1)]
            error = np.abs(self.points(row + step / 2, col + step / 2) - sum(corners) / 4)
            if not np.isfinite(error).any():
                continue
            if np.nanmax(error) < TOLERANCE * max(1, max(self.scale) / 4):
                return step
        return STEPS[-1]


def _column(pair: Any) -> Floats:
    return np.asarray(pair, dtype="float64").reshape(2, 1, 1)

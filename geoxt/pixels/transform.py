"""Where the pixels of one grid lie in another: pyproj on an anchored control grid, linear between its nodes.

Nodes stand at every `step`-th pixel of the target grid, counted from its origin, and are rounded to 2**-16 pixel.
All interpolation between them is then exact in float64, so a pixel's coordinates do not depend on the window
that asks for them.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from geoxt.grid import pixel_offset, transformer
from geoxt.types import Array, Floats, Mask
from geoxt.windows import Window

STEPS = (32, 16, 8, 4, 2, 1)
TOLERANCE = 2.5e-4
"""Source pixels: the error allowed in the middle of a control cell and of its edges (more beyond a scale of 4)."""
QUANTUM = 2.0**-16
FAR = 2.0**24
"""Source pixels: a place that no raster reaches; stands for what cannot be transformed."""
ALONE = 200_000
"""Multiplications of a matrix product below which it stays in its thread."""
PIECE = 256
"""Pixels: columns of a window whose coordinates are worked out together."""


class PixelTransform:
    """Coordinates of a target grid's pixels in the pixels of a source grid.

    Parameters
    ----------
    target, source
        The grids; both need a CRS.

    Notes
    -----
    Coordinates are counted in pixels of the source, 0 at the centre of its first pixel.
    """

    __slots__ = ("_affine", "_centre", "_limit", "_project", "_to_source", "scale", "shift", "source", "step", "target")

    def __init__(self, target: GeoBox, source: GeoBox) -> None:
        source = _near(source, target)
        self.target, self.source = target, source
        self._to_source = ~source.affine
        self.shift = pixel_offset(target, source)
        """Rows and columns from the target to the source where the two coincide, else `None`."""
        self._affine = self._to_source @ target.affine if target.crs == source.crs else None
        self._project = None if self._affine is not None else transformer(target.crs, source.crs)
        geographic = source.crs is not None and source.crs.geographic
        self._centre = (source.affine @ (source.shape[1] / 2, source.shape[0] / 2))[0] if geographic else None
        inside = self._inside()
        self.scale = self._scale(inside)
        """Source pixels for one target pixel, along y and x."""
        self.step = STEPS[0] if self._affine is not None else self._choose_step(inside)
        self._limit = 8 * max(*self.scale, 1e-6) * self.step

    def points(self, rows: Array, cols: Array) -> Floats:
        """Return exact source coordinates (2, ...), y before x, of target pixels; NaN where there are none."""
        a = self._affine or self.target.affine
        rows, cols = rows + 0.5, cols + 0.5
        x, y = a.a * cols + a.b * rows + a.c, a.d * cols + a.e * rows + a.f
        if self._project is not None:
            x, y = self._project.transform(x, y)
            b = self._to_source
            with np.errstate(invalid="ignore"):
                if self._centre is not None:
                    x = x - 360 * np.rint((x - self._centre) / 360)
                x, y = b.a * x + b.b * y + b.c, b.d * x + b.e * y + b.f
        found = np.stack((y, x)) - 0.5
        return np.where(np.abs(found) < FAR, found, np.nan)

    @property
    def separable(self) -> bool:
        """Whether source rows depend on target rows alone, and columns on columns."""
        return self._affine is not None and self._affine.b == 0 and self._affine.d == 0

    def patch(self, window: Window) -> ControlGrid:
        """Return the coordinates of a window's pixels, as the control cells that cover it."""
        return ControlGrid(self, window)

    def broken(self, nodes: Floats) -> Mask | None:
        """Return which cells between nodes hold a jump or a point that has no coordinates; `None` for none."""
        with np.errstate(invalid="ignore"):
            down = np.abs(nodes[:, 1:] - nodes[:, :-1]) < self._limit
            across = np.abs(nodes[:, :, 1:] - nodes[:, :, :-1]) < self._limit
        if down.all() and across.all():
            return None
        down, across = np.asarray(down.all(0)), np.asarray(across.all(0))
        return np.asarray(~(down[:, :-1] & down[:, 1:] & across[:-1] & across[1:]))

    def _inside(self) -> Floats:
        """Return target pixels (2, n), row before column, spread over the source."""
        t = np.linspace(0.02, 0.98, 9)
        shape = self.source.shape
        rows, cols = (g.ravel() for g in np.meshgrid(t * shape[0], t * shape[1], indexing="ij"))
        a, back = self.source.affine, ~self.target.affine
        x, y = a.a * cols + a.b * rows + a.c, a.d * cols + a.e * rows + a.f
        if self._project is not None:
            x, y = self._project.transform(x, y, direction="INVERSE")
        with np.errstate(invalid="ignore"):
            found = np.stack((back.d * x + back.e * y + back.f, back.a * x + back.b * y + back.c))
        return found[:, np.isfinite(found).all(0)]

    def _scale(self, inside: Floats) -> tuple[float, float]:
        if self._affine is not None:
            a = self._affine
            return float(np.hypot(a.d, a.e)), float(np.hypot(a.a, a.b))
        here = self.points(inside[0], inside[1])
        down, across = self.points(inside[0] + 1, inside[1]), self.points(inside[0], inside[1] + 1)
        lengths = np.sqrt((down - here) ** 2 + (across - here) ** 2)
        lengths = lengths[:, np.isfinite(lengths).all(0)]
        if not lengths.size:
            return 1.0, 1.0
        y, x = np.median(lengths, axis=1)
        return float(y), float(x)

    def _choose_step(self, inside: Floats) -> int:
        """Return the widest spacing of nodes whose error stays within the tolerance.

        The middles of a cell's edges count too: between conformal projections coordinates are harmonic, so in the
        middle of the cell the errors along rows and along columns cancel.
        """
        allowed = TOLERANCE * max(1, max(self.scale) / 4)
        for step in STEPS[:-1]:
            row, col = np.floor(inside / step) * step
            a, b = self.points(row, col), self.points(row + step, col)
            c, d = self.points(row, col + step), self.points(row + step, col + step)
            half = step / 2
            errors = np.concatenate(
                (
                    self.points(row + half, col + half) - (a + b + c + d) / 4,
                    self.points(row + half, col) - (a + b) / 2,
                    self.points(row, col + half) - (a + c) / 2,
                ),
            )
            smooth = np.abs(np.concatenate((b - a, c - a, d - a))).max(0) < 8 * max(self.scale) * step
            errors = errors[:, smooth]
            errors = np.abs(errors[np.isfinite(errors)])
            if errors.size and errors.max() < allowed:
                return step
        return STEPS[-1]


class ControlGrid:
    """The control cells that cover a window of the target grid.

    Parameters
    ----------
    mapping
        From the target grid to the source grid.
    window
        Rectangle of the target grid.
    outer
        The cells of a window around this one, which hold those of this one; worked out anew by default.
    """

    __slots__ = ("broken", "extent", "first", "mapping", "nodes", "window")

    def __init__(self, mapping: PixelTransform, window: Window, outer: ControlGrid | None = None) -> None:
        step, (bottom, right) = mapping.step, window.stop
        self.mapping, self.window = mapping, window
        self.first = window.row // step, window.col // step
        last = (bottom - 1) // step + 1, (right - 1) // step + 1
        self.nodes: Floats = self._nodes(last) if outer is None else outer.nodes[:, *outer.cells(self.first, last)]
        """(2, n, m): source coordinates of the corners of the cells, y before x, rounded to 2**-16 pixel."""
        self.broken = mapping.broken(self.nodes)
        """(n - 1, m - 1): cells whose pixels have to be transformed one by one; `None` for none."""
        self.extent = self._extent()
        """Least and greatest source coordinates (y, x) of the window's pixels; `None` where none has any."""

    def part(self, window: Window) -> ControlGrid:
        """Return the cells that cover a window within this one."""
        return ControlGrid(self.mapping, window, self)

    def cells(self, first: tuple[int, int], last: tuple[int, int]) -> tuple[slice, slice]:
        """Return where the nodes from a first to a last one stand among these."""
        (top, left), (bottom, right), (row, col) = first, last, self.first
        return slice(top - row, bottom - row + 1), slice(left - col, right - col + 1)

    def _nodes(self, last: tuple[int, int]) -> Floats:
        step = self.mapping.step
        rows, cols = (np.arange(self.first[a], last[a] + 1, dtype="float64") * step for a in (0, 1))
        shape = len(rows), len(cols)
        found = self.mapping.points(np.repeat(rows, shape[1]), np.tile(cols, shape[0])).reshape(2, *shape)
        return np.asarray(np.rint(found * (1 / QUANTUM)) * QUANTUM)

    def coordinates(
        self,
        *,
        origin: tuple[float, float] = (0, 0),
        scale: tuple[float, float] = (1, 1),
        bias: tuple[float, float] = (0, 0),
        magic: tuple[float, float] | None = None,
    ) -> Floats:
        """Return source coordinates (2, height, width), y before x, of the window's pixels.

        Parameters
        ----------
        origin, scale, bias
            The result is `(coordinate - origin) * scale + bias`; exact where these are dyadic.
        magic
            Numbers added before the last sum and taken off after it: they round the result to their last bit.
        """
        step, window = self.mapping.step, self.window
        nodes = self.nodes if self.broken is None else np.where(np.isfinite(self.nodes), self.nodes, -FAR)
        plain = (nodes - _column(origin)) * _column(scale) + _column(bias)
        rows = np.arange(window.row, window.row + window.height)
        cell = rows // step - self.first[0]
        upper = plain[:, cell]
        lines = upper + (plain[:, cell + 1] - upper) * (rows % step / step)[:, None]
        found = _across(lines, step, window.col - self.first[1] * step, window.width)
        if magic is not None:
            found += _column(magic)
            found -= _column(magic)
        if self.broken is not None:
            self._mend(found, self.broken, np.array((origin, scale, bias, magic or (0, 0)))[..., None])
        return found

    def _extent(self) -> tuple[Floats, Floats] | None:
        if self.broken is None:
            found = self._vertices().reshape(2, -1)
        else:
            found = self.coordinates().reshape(2, -1)
            found = found[:, (found > -FAR).all(0)]
        return (found.min(1), found.max(1)) if found.size else None

    def _vertices(self) -> Floats:
        """Return the corners of the control cells, cut to the window: the extremes are among them."""
        step, (bottom, right), nodes = self.mapping.step, self.window.stop, self.nodes
        start, end = self.window.row % step / step, (bottom - 1) % step / step
        cut = nodes.copy()
        cut[:, 0] = nodes[:, 0] + (nodes[:, 1] - nodes[:, 0]) * start
        cut[:, -1] = nodes[:, -2] + (nodes[:, -1] - nodes[:, -2]) * end
        start, end = self.window.col % step / step, (right - 1) % step / step
        first = cut[:, :, 0] + (cut[:, :, 1] - cut[:, :, 0]) * start
        cut[:, :, -1] = cut[:, :, -2] + (cut[:, :, -1] - cut[:, :, -2]) * end
        cut[:, :, 0] = first
        return cut

    def _mend(self, found: Floats, broken: Mask, terms: Floats) -> None:
        """Transform every pixel of the broken cells by itself."""
        step, window = self.mapping.step, self.window
        rows = np.arange(window.row, window.row + window.height)
        cols = np.arange(window.col, window.col + window.width)
        here = broken[(rows // step - self.first[0])[:, None], (cols // step - self.first[1])[None, :]]
        y, x = np.nonzero(here)
        exact = self.mapping.points(rows[y].astype("float64"), cols[x].astype("float64"))
        exact = np.where(np.isfinite(exact).all(0), np.rint(exact / QUANTUM) * QUANTUM, -FAR)
        origin, scale, bias, magic = terms
        found[:, y, x] = ((exact - origin) * scale + bias + magic) - magic


def _near(source: GeoBox, target: GeoBox) -> GeoBox:
    """Return a grid in degrees moved by whole turns, next to another of the same CRS."""
    if source.crs != target.crs or source.crs is None or not source.crs.geographic:
        return source
    middles = [(g.affine @ (g.shape[1] / 2, g.shape[0] / 2))[0] for g in (target, source)]
    turns = round((middles[0] - middles[1]) / 360)
    return GeoBox(source.shape, Affine.translation(360 * turns, 0) @ source.affine, source.crs) if turns else source


@lru_cache(maxsize=256)
def _hats(step: int, nodes: int, skip: int, width: int) -> Floats:
    """Return the weight of each node (rows) at each of some pixels (columns)."""
    places = (np.arange(width) + skip) / step
    return np.clip(1 - np.abs(np.arange(nodes)[:, None] - places), 0, None)


def _across(lines: Floats, step: int, skip: int, width: int) -> Floats:
    """Return (2, height, width) between nodes (2, height, nodes), of which the first lies `skip` pixels to the left.

    It is a product with the weights of the nodes, by pieces of the width: a node has no weight far from it. All sums
    are exact, so their order does not matter. Rows are taken by the piece too, each too small for the linear algebra
    library to use threads of its own.
    """
    axes, height, _ = lines.shape
    found = np.empty((axes, height, width))
    for left in range(0, width, PIECE):
        cols = slice(left, min(left + PIECE, width))
        first, last = (left + skip) // step, (cols.stop - 1 + skip) // step + 1
        weights = _hats(step, last + 1 - first, (left + skip) % step, cols.stop - left)
        some = max(ALONE // weights.size, 1)
        for top in range(0, height, some):
            rows = slice(top, top + some)
            np.matmul(lines[:, rows, first : last + 1], weights, out=found[:, rows, cols])
    return found


def _column(pair: tuple[float, float]) -> Floats:
    return np.array(pair, dtype="float64").reshape(2, 1, 1)

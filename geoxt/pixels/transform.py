"""Coordinates of one grid's pixels in another: exact at the nodes of a control grid, interpolated between them.

pyproj transforms every `step`-th pixel of the target grid, counted from the target's origin and not from the window's.
Node coordinates are rounded to 2**-16 pixel and weights between nodes are multiples of 1 / step, a power of two. All
sums and products are then exact in float64 (24 bits before the binary point, 16 + 2 * 5 behind it), so that a pixel has
the same coordinates in every window, whatever the order of the operations.

GDAL interpolates likewise (`GDALApproxTransform`), but between the ends of each window's scanlines and with a tolerance
of 0.125 pixel, so that its result depends on the window.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from geoxt.crs import transformer_to
from geoxt.grid import pixel_offset
from geoxt.types import Array, Floats, Mask
from geoxt.windows import Window

STEPS = (32, 16, 8, 4, 2, 1)
TOLERANCE = 2.5e-4
"""Source pixels: the error allowed at the centre of a control cell and of its edges (more above a scale of 4)."""
QUANTUM = 2.0**-16
FAR = 2.0**24
"""Coordinate, in source pixels, of points that cannot be transformed: outside any raster."""
SINGLE_THREAD = 200_000
"""Multiplications of a matrix product below which BLAS stays in the calling thread (measured with OpenBLAS)."""
COLUMNS = 256
"""Pixels: columns of a window whose coordinates are interpolated in one product."""


class PixelTransform:
    """Source pixel coordinates of target pixels.

    Parameters
    ----------
    target, source
        Grids with a CRS.

    Notes
    -----
    Coordinates are in pixels of the source; the centre of its first pixel is 0.

    A grid in degrees may intersect another of the same CRS at several turns of 360 degrees, such as one of 0 to 360
    and one of -180 to 180. It is then read turn by turn, so that coinciding pixels are copied.
    """

    __slots__ = (
        "_affine", "_centre", "_limit", "_project", "_to_source", "flips", "parts", "scale", "shift", "source", "step",
        "target",
    )  # fmt: skip

    def __init__(self, target: GeoBox, source: GeoBox) -> None:
        turns = _turns(source, target)
        self._build(target, _turned(source, turns[0]), single=len(turns) == 1)
        self.parts = () if len(turns) == 1 else tuple(self._part(target, _turned(source, turn)) for turn in turns)
        """Transforms to the source at each of several turns, the one with the largest overlap first; else empty."""

    @classmethod
    def _part(cls, target: GeoBox, source: GeoBox) -> PixelTransform:
        part = cls.__new__(cls)
        part._build(target, source, single=True)  # noqa: SLF001 (of this class)
        part.parts = ()
        return part

    def _build(self, target: GeoBox, source: GeoBox, *, single: bool) -> None:
        self.target, self.source = target, source
        self._to_source = ~source.affine
        coincidence = coinciding_grid(target, source) if single else None
        self.flips = (False, False) if coincidence is None else coincidence[0]
        self.shift = None if coincidence is None else coincidence[1]
        """Whether rows and columns of the source are mirrored; and rows and columns from the target to the source (of
        its mirrored grid) if the grids coincide, else `None`."""
        same_crs = target.crs == source.crs
        self._affine = self._to_source @ target.affine if same_crs and single else None
        self._project = None if same_crs else transformer_to(source, target.crs)
        geographic = source.crs is not None and source.crs.geographic
        self._centre = (source.affine @ (source.shape[1] / 2, source.shape[0] / 2))[0] if geographic else None
        probes = self._probe_pixels()
        self.scale = self._scale(probes)
        """Source pixels per target pixel along y and x."""
        self.step = STEPS[0] if self._affine is not None else self._choose_step(probes)
        # Neighbouring nodes farther apart than this lie on both sides of a seam, such as the antimeridian.
        self._limit = 8 * max(*self.scale, 1e-6) * self.step
        if self._affine is None and self._centre is not None:
            self._limit = min(self._limit, 180 / np.hypot(source.affine.a, source.affine.b))

    def points(self, rows: Array, cols: Array) -> Floats:
        """Return exact source coordinates (2, ...), y before x, of target pixels; NaN if PROJ cannot transform them."""
        to_crs = self._affine or self.target.affine
        rows, cols = rows + 0.5, cols + 0.5
        x = to_crs.a * cols + to_crs.b * rows + to_crs.c
        y = to_crs.d * cols + to_crs.e * rows + to_crs.f
        if self._project is not None:
            x, y = self._project.transform(x, y)
        if self._affine is None:
            inverse = self._to_source
            with np.errstate(invalid="ignore"):
                if self._centre is not None:  # PROJ returns -180 to 180; the source may lie across the antimeridian
                    x = x - 360 * np.rint((x - self._centre) / 360)
                x, y = inverse.a * x + inverse.b * y + inverse.c, inverse.d * x + inverse.e * y + inverse.f
        coordinates = np.stack((y, x)) - 0.5
        return np.where(np.abs(coordinates) < FAR, coordinates, np.nan)  # PROJ returns inf on failure

    def copied(self, window: Window) -> Window | None:
        """Return the source window that coincides with a target window, mirrored by `flips`; else `None`."""
        if self.shift is None:
            return None
        moved, (rows, cols), stop = window.shift(*self.shift), self.source.shape, window.shift(*self.shift).stop
        row, col = (rows - stop[0] if self.flips[0] else moved.row), (cols - stop[1] if self.flips[1] else moved.col)
        return Window(row, col, window.height, window.width)

    def oriented(self, pixels: Array) -> Array:
        """Return pixels (…, y, x) of the source in the orientation of the target."""
        if not any(self.flips):
            return pixels
        rows, cols = (slice(None, None, -1 if flip else 1) for flip in self.flips)
        return np.ascontiguousarray(pixels[..., rows, cols])

    @property
    def separable(self) -> bool:
        """Whether source rows depend on target rows alone, and source columns on target columns."""
        return self._affine is not None and self._affine.b == 0 and self._affine.d == 0

    def control_grid(self, window: Window) -> ControlGrid:
        """Return the control grid of a window."""
        return ControlGrid(self, window)

    def discontinuous(self, nodes: Floats) -> Mask | None:
        """Return the cells between nodes with a jump or a node without coordinates, or `None`."""
        with np.errstate(invalid="ignore"):  # comparisons with NaN are False
            down = np.abs(nodes[:, 1:] - nodes[:, :-1]) < self._limit
            across = np.abs(nodes[:, :, 1:] - nodes[:, :, :-1]) < self._limit
        if down.all() and across.all():
            return None
        down, across = np.asarray(down.all(0)), np.asarray(across.all(0))
        return np.asarray(~(down[:, :-1] & down[:, 1:] & across[:-1] & across[1:]))

    def _probe_pixels(self) -> Floats:
        """Return target pixels (2, n), row before column, spread over the source."""
        t = np.linspace(0.02, 0.98, 9)
        shape = self.source.shape
        rows, cols = (g.ravel() for g in np.meshgrid(t * shape[0], t * shape[1], indexing="ij"))
        to_crs, inverse = self.source.affine, ~self.target.affine
        x = to_crs.a * cols + to_crs.b * rows + to_crs.c
        y = to_crs.d * cols + to_crs.e * rows + to_crs.f
        if self._project is not None:
            x, y = self._project.transform(x, y, direction="INVERSE")
        with np.errstate(invalid="ignore"):
            pixels = np.stack((inverse.d * x + inverse.e * y + inverse.f, inverse.a * x + inverse.b * y + inverse.c))
        return pixels[:, np.isfinite(pixels).all(0)]

    def _scale(self, probes: Floats) -> tuple[float, float]:
        """Return the median gradient length of the source row and column, by differences over one target pixel."""
        if self._affine is not None:
            a = self._affine
            return float(np.hypot(a.d, a.e)), float(np.hypot(a.a, a.b))
        start = self.points(probes[0], probes[1])
        down, across = self.points(probes[0] + 1, probes[1]), self.points(probes[0], probes[1] + 1)
        lengths = np.sqrt((down - start) ** 2 + (across - start) ** 2)
        lengths = lengths[:, np.isfinite(lengths).all(0)]
        if not lengths.size:
            return 1.0, 1.0
        y, x = np.median(lengths, axis=1)
        return float(y), float(x)

    def _choose_step(self, probes: Floats) -> int:
        """Return the widest node spacing whose interpolation error stays within the tolerance.

        Centres of cell edges are tested too: coordinates between conformal projections are harmonic functions, whose
        second derivatives along rows and columns cancel, so that errors at the cell's centre do too.
        """
        allowed = TOLERANCE * max(1, max(self.scale) / 4)
        for step in STEPS[:-1]:
            row, col = np.floor(probes / step) * step
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
            # cells across a seam are transformed pixel by pixel, so that they allow any step
            smooth = np.abs(np.concatenate((b - a, c - a, d - a))).max(0) < 8 * max(self.scale) * step
            errors = errors[:, smooth]
            errors = np.abs(errors[np.isfinite(errors)])
            if errors.size and errors.max() < allowed:
                return step
        return STEPS[-1]


class ControlGrid:
    """Exactly transformed nodes around a window of the target grid, and interpolation between them.

    Parameters
    ----------
    transform
        From the target grid to the source grid.
    window
        Window of the target grid.
    outer
        Control grid of a window around this one, whose nodes are reused; transformed anew by default.
    """

    __slots__ = ("discontinuous", "extent", "first", "nodes", "transform", "window")

    def __init__(self, transform: PixelTransform, window: Window, outer: ControlGrid | None = None) -> None:
        step, (bottom, right) = transform.step, window.stop
        self.transform, self.window = transform, window
        # Node numbers count from the target grid's origin: this anchors the nodes to the grid, not to the window.
        self.first = window.row // step, window.col // step
        last = (bottom - 1) // step + 1, (right - 1) // step + 1
        self.nodes: Floats = self._nodes(last) if outer is None else outer.nodes[:, *outer.slices(self.first, last)]
        """(2, n, m): source coordinates of the nodes, y before x, rounded to 2**-16 pixel."""
        self.discontinuous = transform.discontinuous(self.nodes)
        """(n - 1, m - 1): cells whose pixels are transformed one by one; `None` if there are none."""
        self.extent = self._extent()
        """Minimum and maximum source coordinates (y, x) of the window's pixels; `None` if no pixel has any."""

    def crop(self, window: Window) -> ControlGrid:
        """Return the control grid of a smaller window inside this control grid's window."""
        return ControlGrid(self.transform, window, self)

    def slices(self, first: tuple[int, int], last: tuple[int, int]) -> tuple[slice, slice]:
        """Return the slices of `nodes` from one node number to another, both included."""
        (top, left), (bottom, right), (row, col) = first, last, self.first
        return slice(top - row, bottom - row + 1), slice(left - col, right - col + 1)

    def _nodes(self, last: tuple[int, int]) -> Floats:
        step = self.transform.step
        rows, cols = (np.arange(self.first[a], last[a] + 1, dtype="float64") * step for a in (0, 1))
        shape = len(rows), len(cols)
        exact = self.transform.points(np.repeat(rows, shape[1]), np.tile(cols, shape[0])).reshape(2, *shape)
        return np.asarray(np.rint(exact * (1 / QUANTUM)) * QUANTUM)

    def coordinates(
        self,
        *,
        origin: tuple[float, float] = (0, 0),
        scale: tuple[float, float] = (1, 1),
        bias: tuple[float, float] = (0, 0),
        rounding: tuple[float, float] | None = None,
    ) -> Floats:
        """Return source coordinates (2, height, width), y before x, of the window's pixels.

        Parameters
        ----------
        origin, scale, bias
            The result is `(coordinate - origin) * scale + bias`, which is exact if they are multiples of small powers
            of two.
        rounding
            Numbers that are added to the result and subtracted again, which rounds it to the last bit of the sum.
        """
        step, window = self.transform.step, self.window
        # Missing nodes become a finite number, as 0 * NaN would spread into cells in which they have no weight.
        nodes = self.nodes if self.discontinuous is None else np.where(np.isfinite(self.nodes), self.nodes, -FAR)
        affine = (nodes - _per_axis(origin)) * _per_axis(scale) + _per_axis(bias)  # before interpolation: fewer points
        rows = np.arange(window.row, window.row + window.height)
        cell = rows // step - self.first[0]
        upper = affine[:, cell]
        lines = upper + (affine[:, cell + 1] - upper) * (rows % step / step)[:, None]
        coordinates = _interpolate_columns(lines, step, window.col - self.first[1] * step, window.width)
        if rounding is not None:
            coordinates += _per_axis(rounding)
            coordinates -= _per_axis(rounding)
        if self.discontinuous is not None:
            terms = np.array((origin, scale, bias, rounding or (0, 0)))[..., None]
            self._transform_each(coordinates, self.discontinuous, terms)
        return coordinates

    def _extent(self) -> tuple[Floats, Floats] | None:
        if self.discontinuous is None:
            coordinates = self._cell_corners().reshape(2, -1)
        else:
            coordinates = self.coordinates().reshape(2, -1)
            coordinates = coordinates[:, (coordinates > -FAR).all(0)]
        return (coordinates.min(1), coordinates.max(1)) if coordinates.size else None

    def _cell_corners(self) -> Floats:
        """Return the corners of the cells, cut to the window: bilinear functions have their extremes there."""
        step, (bottom, right), nodes = self.transform.step, self.window.stop, self.nodes
        start, end = self.window.row % step / step, (bottom - 1) % step / step
        corners = nodes.copy()
        corners[:, 0] = nodes[:, 0] + (nodes[:, 1] - nodes[:, 0]) * start
        corners[:, -1] = nodes[:, -2] + (nodes[:, -1] - nodes[:, -2]) * end
        start, end = self.window.col % step / step, (right - 1) % step / step
        first = corners[:, :, 0] + (corners[:, :, 1] - corners[:, :, 0]) * start
        corners[:, :, -1] = corners[:, :, -2] + (corners[:, :, -1] - corners[:, :, -2]) * end
        corners[:, :, 0] = first  # last, as both sides of a single cell need its old value
        return corners

    def _transform_each(self, coordinates: Floats, discontinuous: Mask, terms: Floats) -> None:
        """Replace the coordinates in discontinuous cells by exactly transformed ones."""
        step, window = self.transform.step, self.window
        rows = np.arange(window.row, window.row + window.height)
        cols = np.arange(window.col, window.col + window.width)
        inside = discontinuous[(rows // step - self.first[0])[:, None], (cols // step - self.first[1])[None, :]]
        y, x = np.nonzero(inside)
        exact = self.transform.points(rows[y].astype("float64"), cols[x].astype("float64"))
        exact = np.where(np.isfinite(exact).all(0), np.rint(exact / QUANTUM) * QUANTUM, -FAR)
        origin, scale, bias, rounding = terms
        coordinates[:, y, x] = ((exact - origin) * scale + bias + rounding) - rounding


def coinciding_grid(target: GeoBox, source: GeoBox) -> tuple[tuple[bool, bool], tuple[int, int]] | None:
    """Return how the source is mirrored to the target, and the offset in it, if their pixels coincide."""
    offset = pixel_offset(target, source)
    if offset is not None:
        return (False, False), offset
    if target.crs != source.crs:
        return None
    ratio = ~source.affine @ target.affine
    flips = ratio.e < 0, ratio.a < 0
    if not any(flips):
        return None
    rows, cols = source.shape
    mirror = Affine(-1 if flips[1] else 1, 0, cols * flips[1], 0, -1 if flips[0] else 1, rows * flips[0])
    offset = pixel_offset(target, GeoBox(source.shape, source.affine @ mirror, source.crs))
    return None if offset is None else (flips, offset)


def _turns(source: GeoBox, target: GeoBox) -> list[int]:
    """Return the multiples of 360 degrees by which a grid intersects another of its CRS, or the nearest multiple.

    Turns are in order of the overlap in longitude, the largest first; 0 for grids that are not in degrees.
    """
    if source.crs != target.crs or source.crs is None or not source.crs.geographic:
        return [0]
    (left, right), (first, last) = _longitudes(source), _longitudes(target)
    tolerance = 1e-6 * min(abs(g.affine.a) + abs(g.affine.b) for g in (source, target))
    low, high = math.ceil((first - right + tolerance) / 360), math.floor((last - left - tolerance) / 360)
    if low > high:
        return [round((first + last - left - right) / 720)]

    def overlap(turn: int) -> float:
        return min(right + 360 * turn, last) - max(left + 360 * turn, first)

    return sorted(range(low, high + 1), key=overlap, reverse=True)


def _longitudes(grid: GeoBox) -> tuple[float, float]:
    """Return the minimum and maximum longitude of a grid in degrees."""
    (rows, cols), a = grid.shape, grid.affine
    corners = [(a @ corner)[0] for corner in ((0, 0), (cols, 0), (0, rows), (cols, rows))]
    return min(corners), max(corners)


def _turned(grid: GeoBox, turn: int) -> GeoBox:
    """Return a grid in degrees moved by turns of 360 degrees."""
    return GeoBox(grid.shape, Affine.translation(360 * turn, 0) @ grid.affine, grid.crs) if turn else grid


@lru_cache(maxsize=256)
def _hat_weights(step: int, nodes: int, skip: int, width: int) -> Floats:
    """Return the linear interpolation weight max(0, 1 - |node - pixel|) of each node (rows) at each pixel (columns)."""
    pixels = (np.arange(width) + skip) / step
    return np.clip(1 - np.abs(np.arange(nodes)[:, None] - pixels), 0, None)


def _interpolate_columns(lines: Floats, step: int, skip: int, width: int) -> Floats:
    """Return (2, height, width) interpolated between nodes (2, height, nodes); the first lies `skip` pixels left.

    This is a matrix product with the weights of the nodes, in blocks of columns, as a node has no weight farther than
    one cell away. All sums are exact, so that BLAS may add in any order. Blocks of rows keep each product too small
    for BLAS to start threads, which would compete with those of dask.
    """
    axes, height, _ = lines.shape
    coordinates = np.empty((axes, height, width))
    for left in range(0, width, COLUMNS):
        cols = slice(left, min(left + COLUMNS, width))
        first, last = (left + skip) // step, (cols.stop - 1 + skip) // step + 1
        weights = _hat_weights(step, last + 1 - first, (left + skip) % step, cols.stop - left)
        block = max(SINGLE_THREAD // weights.size, 1)
        for top in range(0, height, block):
            rows = slice(top, top + block)
            np.matmul(lines[:, rows, first : last + 1], weights, out=coordinates[:, rows, cols])
    return coordinates


def _per_axis(pair: tuple[float, float]) -> Floats:
    return np.array(pair, dtype="float64").reshape(2, 1, 1)

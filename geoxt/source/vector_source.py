"""Shapes: the features of a vector file, drawn on a grid as windows are read. Later ones lie over earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import shapely
from dask.base import normalize_token
from odc.geo.geobox import GeoBox

from geoxt.footprints import outlines
from geoxt.grid import full_window
from geoxt.pixels.scanline import Ints, PixelGeometries, burn, find_spans
from geoxt.pixels.transform import PixelTransform
from geoxt.pixels.vector_file import VectorHeader
from geoxt.source.array_source import clip_mask
from geoxt.source.feature_index import FeatureIndex, Value, feature_index
from geoxt.types import Array, Floats, Mask, Resampling
from geoxt.windows import Window

FEW = 4096
"""Features whose extents are united one by one for a footprint."""
CELL = 64
"""Pixels: side of the cells in which a footprint is worked out, at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowFeatures:
    """Features of a window, for detection and instance segmentation."""

    ids: Ints
    """(features,): the file's own number of each, plus one: what an instance layer holds."""
    codes: Ints
    """(features,): class codes."""
    boxes: Floats
    """(features, 4): left, top, right, bottom of what lies in the window, in its pixels."""
    geometry: Array
    """(features,): what lies in the window, as shapely geometries in its pixels (x is the column, y the row)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class VectorSource:
    """Features of a vector file on a grid.

    A process reads those that touch the grid once, when a window is first asked for; a pickle holds the path alone.
    """

    file: VectorHeader
    """The file."""
    grid: GeoBox
    """The grid that windows refer to."""
    dtype: np.dtype[Any]
    """Data type of the layer."""
    column: str | None = None
    """The attribute that gives the class; `None`: all features have code 1."""
    classes: tuple[tuple[Value, int], ...] = ((None, 1),)
    """Code of each value of the attribute; features of other values are left out."""
    by: str | None = None
    """The attribute that says which feature lies on top, the largest; `None`: the largest number in the file (FID)."""
    instances: bool = False
    """Whether pixels hold the features' ids in place of their codes."""
    all_touched: bool = False
    """Whether polygons cover all pixels that they share, in place of those whose centre they hold."""
    background: int = 0
    """Value where no feature lies."""
    nodata: float | None = None
    """Value that counts as missing; that of the background, where it is unknown what lies there."""
    clips: tuple[GeoBox, ...] = ()
    """Grids beyond which nothing is valid, from layers that were cut before they were aligned."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Time steps, bands, rows, columns."""
        return 1, 1, *self.grid.shape

    @property
    def fill(self) -> float:
        """Value of pixels beyond the grid."""
        return 0 if self.nodata is None else self.nodata

    @property
    def index(self) -> FeatureIndex:
        """The features that touch the grid; read once in a process."""
        found: FeatureIndex | None = self.__dict__.get("_index")
        if found is None:
            found = self.__dict__["_index"] = feature_index(
                self.file, self.grid, column=self.column, classes=self.classes, by=self.by
            )
        return found

    @property
    def _clips(self) -> list[tuple[GeoBox, PixelTransform]]:
        """The clips, and the way to each from the grid."""
        found: list[tuple[GeoBox, PixelTransform]] | None = self.__dict__.get("_ways")
        if found is None:
            found = self.__dict__["_ways"] = [(clip, PixelTransform(self.grid, clip)) for clip in self.clips]
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Leave the features behind: they are read again where they are needed."""
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}

    def __dask_tokenize__(self) -> Any:
        """Return all that decides the pixels."""
        return normalize_token((
            type(self).__name__, self.file.path, self.file.layer, str(self.file.crs), self.grid, str(self.dtype),
            self.column, self.classes, self.by, self.instances, self.all_touched, self.background, self.nodata,
            self.clips,
        ))  # fmt: skip

    def onto(self, grid: GeoBox, *, resampling: Resampling | None = None) -> VectorSource:
        """Return the same features drawn on another grid: nothing is resampled, whatever `resampling` says."""
        del resampling
        return replace(self, grid=grid)

    def clip(self, grid: GeoBox) -> VectorSource:
        """Return the same features, beyond a grid nothing valid."""
        return self if grid in self.clips else replace(self, clips=(*self.clips, grid))

    def footprint(self) -> shapely.Geometry:
        """Return the area that can hold valid pixels, in pixels of the grid (x is the column, y the row).

        That is all of the grid, unless the background counts as missing: then the pixels within the extents of
        features, or the blocks that many of them touch.
        """
        rows, cols = self.grid.shape
        box: shapely.Geometry = shapely.box(0, 0, cols, rows)
        for one in outlines(self.clips, self.grid):
            box = box if one is None else shapely.intersection(box, one)
        if self.nodata != self.background:
            return box
        bounds = self.index.outlines.bounds()
        if len(bounds) <= FEW:
            first = np.floor(bounds[:, :2])
            last = np.maximum(np.ceil(bounds[:, 2:]), first + 1)
            return shapely.intersection(shapely.union_all(shapely.box(*first.T, *last.T)), box)
        return shapely.intersection(shapely.union_all(_blocks(bounds, (rows, cols))), box)

    def read(
        self,
        window: Window,
        *,
        times: Sequence[int] | None = None,
        bands: Sequence[int] | None = None,
        dtype: np.dtype[Any] | None = None,
    ) -> tuple[Array, Mask]:
        """Return values and validity (time, band, height, width) of a window.

        Raises
        ------
        ReadError
            Where the file cannot be read.
        """
        values = np.full(window.shape, self.fill, dtype or self.dtype)
        inside = window.intersect(full_window(self.grid))
        valid: Mask | None = np.zeros(window.shape, bool)
        if inside == window:
            values.fill(self.background)
            self._draw(values, window)
            valid = None
        elif inside is not None:
            here = inside.within(window)
            piece = np.full(inside.shape, self.background, values.dtype)
            self._draw(piece, inside)
            values[here] = piece
            valid[here] = True  # type: ignore[index]
        valid = self._valid(values, valid, window)
        if valid is None:
            valid = np.broadcast_to(True, window.shape)
        else:
            values[~valid] = self.fill
        shape = (1 if times is None else len(times), 1 if bands is None else len(bands), *window.shape)
        if shape[:2] == (1, 1):
            return values[None, None], valid[None, None]
        return np.broadcast_to(values, shape).copy(), np.broadcast_to(valid, shape)

    def features(self, window: Window) -> WindowFeatures:
        """Return the features that share area with a window (lines and points: that meet it), in painting order."""
        index = self.index
        parts = index.touching(window)
        box = shapely.box(0, 0, window.width, window.height)
        shapes = shapely.intersection(_polygons(index.outlines, parts, window), box)
        areas = index.outlines.areas[parts]
        keep = ~shapely.is_empty(shapes) & (~areas | (shapely.area(shapes) > 0))
        groups = index.feature[parts][keep]
        which, starts = np.unique(groups, return_index=True)
        some = np.split(shapes[keep], starts[1:]) if len(which) else []
        joined = np.array([s[0] if len(s) == 1 else shapely.union_all(s) for s in some], object)
        boxes = shapely.bounds(joined).reshape(-1, 4)
        return WindowFeatures(ids=index.ids[which], codes=index.codes[which], boxes=boxes, geometry=joined)

    def _draw(self, out: Array, window: Window) -> None:
        index = self.index
        parts = index.touching(window)
        if len(parts):
            found = find_spans(index.outlines, parts, window, all_touched=self.all_touched)
            values = index.ids if self.instances else index.codes
            burn(out, found, values[index.feature[parts]].astype(out.dtype))

    def _valid(self, values: Array, valid: Mask | None, window: Window) -> Mask | None:
        """Return which pixels are valid; `None` where all are."""
        if self.nodata is not None:
            known = values != self.nodata
            valid = known if valid is None else valid & known
        for clip, mapping in self._clips:
            inside = clip_mask(mapping, clip, window)
            if inside is not None:
                valid = inside if valid is None else valid & inside
        return None if valid is not None and valid.all() else valid


def _blocks(bounds: Floats, shape: tuple[int, int]) -> Array:
    """Return the blocks of a grid that extents touch, as boxes."""
    size = max(CELL, -(-max(shape) // 256))
    cells = np.zeros((-(-shape[0] // size), -(-shape[1] // size)), bool)
    places = np.clip(np.floor(bounds / size).astype(np.int64), 0, 2 * cells.shape[::-1])
    for left, top, right, bottom in np.unique(places, axis=0).tolist():
        cells[top : bottom + 1, left : right + 1] = True
    row, col = np.nonzero(cells)
    return np.asarray(shapely.box(col * size, row * size, (col + 1) * size, (row + 1) * size))


def _polygons(outlines: PixelGeometries, parts: Ints, window: Window) -> Array:
    """Return parts as shapely geometries, in pixels of a window."""
    shapes = np.empty(len(parts), object)
    for place, part in enumerate(parts):
        rings = range(outlines.parts[part], outlines.parts[part + 1])
        corner = (window.col, window.row)
        lines = [outlines.points[outlines.rings[r] : outlines.rings[r + 1]] - corner for r in rings]
        if outlines.areas[part]:
            found = shapely.Polygon(lines[0], lines[1:])
            shapes[place] = found if shapely.is_valid(found) else shapely.make_valid(found)  # rounding may fold it
        else:
            points = lines[0]
            shapes[place] = shapely.Point(points[0]) if (points == points[0]).all() else shapely.LineString(points)
    return shapes

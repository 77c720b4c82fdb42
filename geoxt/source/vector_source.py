"""Source over a vector file: features are rasterized when a window is read; later ones overwrite earlier ones."""

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

MAX_EXACT = 4096
"""Maximum number of features whose footprint is the union of their extents, and not of blocks."""
MIN_BLOCK = 64
"""Minimum side of these blocks, in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowFeatures:
    """Features in a window, for detection and instance segmentation."""

    ids: Ints
    """(features,): feature id in the file plus one, the values of an instance layer."""
    codes: Ints
    """(features,): class codes."""
    boxes: Floats
    """(features, 4): left, top, right, bottom of the part in the window, in its pixels."""
    geometry: Array
    """(features,): shapely geometries of the part in the window, in its pixels (x is the column, y the row)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class VectorSource:
    """Features of a vector file, rasterized on a grid.

    Each process reads the features that touch the grid once, at the first window; a pickle holds the path only.
    """

    file: VectorHeader
    """Header of the file."""
    grid: GeoBox
    """Grid that windows refer to."""
    dtype: np.dtype[Any]
    """Data type of the layer."""
    column: str | None = None
    """Attribute that gives the class; `None` if all features have code 1."""
    classes: tuple[tuple[Value, int], ...] = ((None, 1),)
    """(value, code) pairs; features with other values are left out."""
    by: str | None = None
    """Attribute whose largest value lies on top; `None` for the feature id (FID)."""
    instances: bool = False
    """Whether pixels hold feature ids plus one instead of class codes."""
    all_touched: bool = False
    """Whether polygons cover all pixels that they intersect, instead of those whose centre they contain."""
    background: int = 0
    """Value of pixels without a feature."""
    nodata: float | None = None
    """Nodata value; equal to `background` if pixels without a feature are unlabeled."""
    clips: tuple[GeoBox, ...] = ()
    """Grids outside which pixels are invalid, of layers that were cropped before they were aligned."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Time steps, bands, rows, columns."""
        return 1, 1, *self.grid.shape

    @property
    def fill(self) -> float:
        """Value of pixels outside the grid."""
        return 0 if self.nodata is None else self.nodata

    @property
    def index(self) -> FeatureIndex:
        """Features that touch the grid; read once per process."""
        index: FeatureIndex | None = self.__dict__.get("_index")
        if index is None:
            index = self.__dict__["_index"] = feature_index(
                self.file, self.grid, column=self.column, classes=self.classes, by=self.by
            )
        return index

    @property
    def _clip_transforms(self) -> list[tuple[GeoBox, PixelTransform]]:
        """The clips, each with the transform from the grid."""
        transforms: list[tuple[GeoBox, PixelTransform]] | None = self.__dict__.get("_transforms")
        if transforms is None:
            transforms = self.__dict__["_transforms"] = [(c, PixelTransform(self.grid, c)) for c in self.clips]
        return transforms

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields without the features, which each process reads itself."""
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}

    def __dask_tokenize__(self) -> Any:
        """Return the fields that determine the pixels."""
        return normalize_token((
            type(self).__name__, self.file.path, self.file.layer, str(self.file.crs), self.grid, str(self.dtype),
            self.column, self.classes, self.by, self.instances, self.all_touched, self.background, self.nodata,
            self.clips, self.file.version,
        ))  # fmt: skip

    def onto(self, grid: GeoBox, *, resampling: Resampling | None = None) -> VectorSource:
        """Return the same features on another grid; rasterized again, so that `resampling` is ignored."""
        del resampling
        return replace(self, grid=grid)

    def clip(self, grid: GeoBox) -> VectorSource:
        """Return the same features, with pixels outside a further grid invalid."""
        return self if grid in self.clips else replace(self, clips=(*self.clips, grid))

    def footprint(self) -> shapely.Geometry:
        """Return the area that can hold valid pixels, in pixels of the grid (x is the column, y the row).

        This is the whole grid, unless the background is nodata: then the union of the features' extents, or of the
        blocks that they touch if there are many.
        """
        rows, cols = self.grid.shape
        box: shapely.Geometry = shapely.box(0, 0, cols, rows)
        for clip in outlines(self.clips, self.grid):
            box = box if clip is None else shapely.intersection(box, clip)
        if self.nodata != self.background:
            return box
        bounds = self.index.geometries.bounds()
        if len(bounds) <= MAX_EXACT:
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
        """Return values and valid mask (time, band, height, width) of a window.

        Raises
        ------
        ReadError
            If the file cannot be read.
        """
        values = np.full(window.shape, self.fill, dtype or self.dtype)
        inside = window.intersect(full_window(self.grid))
        valid: Mask | None = np.zeros(window.shape, bool)
        if inside == window:
            values.fill(self.background)
            self._rasterize(values, window)
            valid = None
        elif inside is not None:
            target = inside.within(window)
            inside_values = np.full(inside.shape, self.background, values.dtype)
            self._rasterize(inside_values, inside)
            values[target] = inside_values
            valid[target] = True  # type: ignore[index]
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
        """Return the features that share area with a window (lines and points: that intersect it), in burning order."""
        index = self.index
        parts = index.touching(window)
        box = shapely.box(0, 0, window.width, window.height)
        clipped = shapely.intersection(_to_shapely(index.geometries, parts, window), box)
        areas = index.geometries.areas[parts]
        visible = ~shapely.is_empty(clipped) & (~areas | (shapely.area(clipped) > 0))
        part_feature = index.feature[parts][visible]
        features, starts = np.unique(part_feature, return_index=True)
        groups = np.split(clipped[visible], starts[1:]) if len(features) else []
        united = np.array([group[0] if len(group) == 1 else shapely.union_all(group) for group in groups], object)
        boxes = shapely.bounds(united).reshape(-1, 4)
        return WindowFeatures(ids=index.ids[features], codes=index.codes[features], boxes=boxes, geometry=united)

    def _rasterize(self, out: Array, window: Window) -> None:
        index = self.index
        parts = index.touching(window)
        if len(parts):
            spans = find_spans(index.geometries, parts, window, all_touched=self.all_touched)
            values = index.ids if self.instances else index.codes
            burn(out, spans, values[index.feature[parts]].astype(out.dtype))

    def _valid(self, values: Array, valid: Mask | None, window: Window) -> Mask | None:
        """Return the valid mask; `None` if all pixels are valid."""
        if self.nodata is not None:
            has_data = values != self.nodata
            valid = has_data if valid is None else valid & has_data
        for clip, transform in self._clip_transforms:
            inside = clip_mask(transform, clip, window)
            if inside is not None:
                valid = inside if valid is None else valid & inside
        return None if valid is not None and valid.all() else valid


def _blocks(bounds: Floats, shape: tuple[int, int]) -> Array:
    """Return the blocks of a grid that extents intersect, as boxes."""
    size = max(MIN_BLOCK, -(-max(shape) // 256))
    touched = np.zeros((-(-shape[0] // size), -(-shape[1] // size)), bool)
    blocks = np.clip(np.floor(bounds / size).astype(np.int64), 0, 2 * touched.shape[::-1])
    for left, top, right, bottom in np.unique(blocks, axis=0).tolist():
        touched[top : bottom + 1, left : right + 1] = True
    row, col = np.nonzero(touched)
    return np.asarray(shapely.box(col * size, row * size, (col + 1) * size, (row + 1) * size))


def _to_shapely(geometries: PixelGeometries, parts: Ints, window: Window) -> Array:
    """Return parts as shapely geometries in pixels of a window."""
    out = np.empty(len(parts), object)
    for index, part in enumerate(parts):
        rings = range(geometries.parts[part], geometries.parts[part + 1])
        corner = (window.col, window.row)
        lines = [geometries.points[geometries.rings[r] : geometries.rings[r + 1]] - corner for r in rings]
        if geometries.areas[part]:
            polygon = shapely.Polygon(lines[0], lines[1:])
            # rounding of vertices may make a polygon self-intersect
            out[index] = polygon if shapely.is_valid(polygon) else shapely.make_valid(polygon)
        else:
            points = lines[0]
            out[index] = shapely.Point(points[0]) if (points == points[0]).all() else shapely.LineString(points)
    return out

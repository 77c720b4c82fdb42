"""Mosaics of scenes on one grid: the first valid pixel, or a composite of all valid ones."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import shapely
from dask.base import normalize_token
from odc.geo.geobox import GeoBox

from geoxt.errors import CatalogError, InputError, ReadError, ReadWarning
from geoxt.footprints import clip_to_footprints, outline, outlines
from geoxt.grid import COINCIDE, full_window, pixel_offset
from geoxt.pixels.block_cache import BlockCache
from geoxt.pixels.credentials import Credentials
from geoxt.pixels.remote import is_remote
from geoxt.pixels.resample import resample
from geoxt.pixels.transform import PixelTransform
from geoxt.source.array_source import cast_values, clip_mask
from geoxt.source.asset_group import AVERAGING, AssetGroup
from geoxt.source.composite import Reduction, compose
from geoxt.source.dequantize import to_unit_length
from geoxt.source.fill import comparable, require_free
from geoxt.source.scene_assets import Asset, Scene, token_of
from geoxt.source.scene_table import table_of
from geoxt.types import Array, Mask, Resampling
from geoxt.windows import Window, invalid_window


@dataclass(frozen=True, kw_only=True, eq=False)
class Mosaic:
    """Scenes on one grid."""

    grid: GeoBox
    """Grid that windows refer to."""
    scenes: tuple[Scene, ...]
    """All scenes, each with one asset or `None` per band."""
    steps: tuple[tuple[int, ...], ...]
    """Indices of the scenes of each time step, in order of priority."""
    bands: tuple[str, ...]
    """Names of the bands."""
    dtype: np.dtype[Any]
    """Data type of the layer."""
    nodata: float | None = None
    """Value of invalid pixels; `None`: NaN for floating point, else 0."""
    resampling: Resampling = "bilinear"
    """Resampling method."""
    clips: tuple[GeoBox, ...] = ()
    """Grids outside which pixels are invalid, of layers that were cropped before they were aligned."""
    errors: Literal["raise", "nodata"] = "raise"
    """Whether a scene that cannot be read raises, or is nodata (with a warning)."""
    composite: Reduction = "first"
    """Method that combines overlapping scenes of a time step."""
    rescale: bool = False
    """Whether stored values are converted to physical ones by the scale and offset of their scene and band."""
    unit_length: int = 0
    """Number of bands of vectors of unit length, which resampling and composites keep; 0 for other pixels."""
    credentials: Credentials | None = None
    """URL signer and GDAL options to open files with; not part of the dask token."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Time steps, bands, rows, columns."""
        return len(self.steps), len(self.bands), *self.grid.shape

    @cached_property
    def remote(self) -> bool:
        """Whether any file is remote, so that many windows should be read concurrently."""
        return any(is_remote(a.href) for scene in self.scenes for a in scene.assets if a is not None)

    @property
    def block_cache(self) -> BlockCache | None:
        """Cache of decoded blocks, or `None`."""
        return None if self.credentials is None else self.credentials.cache

    @property
    def fill(self) -> float:
        """Value of invalid pixels."""
        if self.nodata is not None:
            return self.nodata
        return np.nan if self.dtype.kind == "f" else 0

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields without cached trees, transforms and warnings; the scenes as columns."""
        state = {name: self.__dict__[name] for name in self.__dataclass_fields__}
        return {**state, "scenes": table_of(self.scenes)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Set the fields."""
        self.__dict__.update({**state, "scenes": state["scenes"].scenes})

    def __dask_tokenize__(self) -> Any:
        """Return the fields that determine the pixels."""
        return normalize_token((
            type(self).__name__, self.grid, token_of(self.scenes), self.steps, self.bands, str(self.dtype), self.nodata,
            self.resampling, self.clips, self.errors, self.composite, self.rescale,
            self.unit_length,
        ))  # fmt: skip

    def onto(self, grid: GeoBox, *, resampling: Resampling | None = None) -> Mosaic:
        """Return the same scenes on another grid, lazily; pixels are still resampled once, from the files."""
        return replace(self, grid=grid, resampling=resampling or self.resampling)

    def choose(self, times: Sequence[int], bands: Sequence[int], *, clip: tuple[GeoBox, ...] = ()) -> Mosaic:
        """Return a selection of time steps and bands, with further grids outside which pixels are invalid."""
        clips = self.clips + tuple(c for c in clip if c not in self.clips and not self._covers_scenes(c))
        if list(bands) == list(range(len(self.bands))):
            scenes = self.scenes
        else:
            scenes = tuple(replace(s, assets=tuple(s.assets[b] for b in bands)) for s in self.scenes)
        names = tuple(self.bands[b] for b in bands)
        return replace(self, scenes=scenes, bands=names, steps=tuple(self.steps[t] for t in times), clips=clips)

    def _covers_scenes(self, clip: GeoBox) -> bool:
        """Return whether a grid contains every scene, so that it clips nothing."""
        if clip.crs != self.grid.crs:
            return False
        offset = pixel_offset(clip, self.grid)
        if offset is None:
            return False
        (row, col), (rows, cols) = offset, clip.shape
        box = shapely.box(col, row, col + cols, row + rows).buffer(COINCIDE)
        return all(box.contains(scene_outline) for scene_outline in self._outlines)

    def stackable(self, other: Mosaic) -> bool:
        """Return whether another mosaic and this one can be stacked to one source."""
        properties, others = (
            (m.grid, m.bands, m.dtype, comparable(m.nodata), m.resampling, m.clips, m.errors, m.rescale, m.credentials)
            for m in (self, other)
        )
        single = all(len(m.steps) == 1 and m.composite == "first" for m in (self, other))
        return properties == others and single

    def footprint(self) -> shapely.Geometry:
        """Return the area in which scenes can have valid pixels, in pixels of the grid (x is the column, y the row).

        This is the union of the outlines of the scenes' grids, clipped to their footprints in the catalog; see
        `geoxt.footprints.clip_to_footprints`.
        """
        areas = [*self._data_areas]
        for clip in self.clips:
            areas = list(shapely.intersection(areas, self._outline(clip)))
        rows, cols = self.grid.shape
        return shapely.intersection(shapely.union_all(areas), shapely.box(0, 0, cols, rows))

    def scene_areas(self, steps: Sequence[int]) -> list[tuple[Scene, shapely.Geometry]]:
        """Return the scenes of time steps with the areas that can hold valid pixels, in pixels of the grid."""
        indices = dict.fromkeys(index for step in steps for index in self.steps[step])
        return [(self.scenes[i], self._data_areas[i]) for i in indices]

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
            If a file cannot be read and `errors` is "raise".
        """
        steps = range(len(self.steps)) if times is None else times
        band_indices = tuple(range(len(self.bands)) if bands is None else bands)
        dtype = dtype or self.dtype
        images = [self._step(window, step, band_indices, dtype) for step in steps]
        if len(images) == 1:
            return images[0][0][None], images[0][1][None]
        shape = (len(band_indices), *window.shape)
        values = np.stack([image for image, _ in images]) if images else np.empty((0, *shape), dtype)
        valid = np.stack([mask for _, mask in images]) if images else np.empty((0, *shape), bool)
        return values, valid

    def _step(self, window: Window, step: int, bands: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, Mask]:
        """Return one time step: scenes in order of priority until every pixel is valid."""
        if self.composite != "first":
            return self._compose(window, step, bands, dtype)
        shape = (len(bands), *window.shape)
        values: Array | None = None
        valid: Mask | None = None
        for index in self._scene_indices(window, step):
            if values is None or valid is None:
                image = self._scene(index, window, bands, dtype)
                if image is None:
                    continue
                values, valid = image
            else:
                # A scene below is read only where pixels are missing: a window of it equals that part of the whole.
                gap = invalid_window(window, valid)
                image = self._scene(index, gap, bands, dtype)
                if image is None:
                    continue
                below, below_valid = image
                target = (slice(None), *gap.within(window))
                fills = ~valid[target] if below_valid is None else _shared(below_valid) & ~valid[target]
                np.copyto(values[target], below, where=fills)
                valid = np.broadcast_to(valid, (max(len(valid), len(fills)), *window.shape)).copy()
                valid[target] |= fills
            if valid is None or (valid := _shared(valid)).all():
                valid = None
                break
        if values is None:
            return np.full(shape, self.fill, dtype), np.zeros(shape, bool)
        return self._finish(window, values, valid)

    def _compose(self, window: Window, step: int, bands: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, Mask]:
        """Return the composite of all scenes of a time step."""
        images = (self._scene(index, window, bands, self.dtype) for index in self._scene_indices(window, step))
        image = compose((image for image in images if image is not None), self.composite)
        if image is None:
            shape = (len(bands), *window.shape)
            return np.full(shape, self.fill, dtype), np.zeros(shape, bool)
        values, valid = image
        values[~valid] = 0  # arbitrary values may not fit the dtype
        partial = None if valid.all() else valid
        values = self._unit_length(values) if self.unit_length else values
        return self._finish(window, cast_values(values, self.dtype, dtype, valid=partial, nodata=self.nodata), partial)

    def _finish(self, window: Window, values: Array, valid: Mask | None) -> tuple[Array, Mask]:
        """Mark pixels outside the clips and the grid as invalid, and set invalid values to the fill value."""
        for clip in self.clips:
            inside = self._clip_mask(clip, window)
            if inside is not None:
                valid = inside[None] if valid is None else valid & inside
        area = full_window(self.grid)
        if not area.contains(window):
            inside = window.mask_inside(area)
            valid = inside[None] if valid is None else valid & inside
        require_free(values, valid, self.dtype, self.nodata)
        if valid is None:
            return values, np.broadcast_to(True, values.shape)
        np.copyto(values, np.asarray(self.fill).astype(values.dtype), where=~valid)
        return values, np.broadcast_to(valid, values.shape)

    def _scene(
        self, index: int, window: Window, bands: tuple[int, ...], dtype: np.dtype[Any]
    ) -> tuple[Array, Mask | None] | None:
        """Return one scene at a window; `None` if it does not intersect the window."""
        if self.unit_length and len(bands) < len(self.bands) and self._averages(index, bands):
            vectors = self._scene(index, window, tuple(range(len(self.bands))), dtype)
            if vectors is None:
                return None
            values, valid = vectors
            return values[list(bands)], None if valid is None else valid[list(bands)]
        try:
            groups = self._asset_groups(index, bands)
            images = [(targets, self._resample(group, window, dtype)) for targets, group in groups]
        except CatalogError as error:  # never nodata: a wrong catalog would silently become a map with gaps
            problem = f"{error.problem.rstrip('.')} (scene {self.scenes[index].id!r})."
            raise CatalogError(problem, remedy=error.remedy) from error
        except ReadError as error:
            if self.errors == "raise":
                problem = f"{error.problem.rstrip('.')} (scene {self.scenes[index].id!r})."
                remedy = f"{error.remedy} Pass {{errors:'nodata'}} to continue without the scene.".strip()
                raise ReadError(problem, remedy=remedy) from error
            self._warn(index, error)
            return None
        if len(images) == 1 and len(images[0][0]) == len(bands):
            return images[0][1]
        if all(image is None for _, image in images):
            return None
        values = np.empty((len(bands), *window.shape), dtype)
        valid = np.zeros(values.shape, bool)
        for targets, image in images:
            if image is not None:
                values[targets] = image[0]
                valid[targets] = True if image[1] is None else image[1]
        return values, valid

    def _resample(self, group: AssetGroup, window: Window, dtype: np.dtype[Any]) -> tuple[Array, Mask | None] | None:
        """Return the bands of a scene that share a grid, in the layer's dtype cast to `dtype`."""
        # GDAL rounds averages of integers; physical values are averages of the stored ones, not of rounded ones
        fetch = group.fetch_float if self.rescale and self.resampling in AVERAGING else group.fetch
        resampled = resample(fetch, group.transform, window, self.resampling)
        if resampled is None:
            return None
        values, valid = resampled
        if self.rescale:
            values = group.physical(values)
        if self.unit_length and group.transform.shift is None:
            values = self._unit_length(values)
        averaged = group.transform.shift is None and self.resampling in AVERAGING
        nodata = self.nodata if averaged or self.rescale else None
        if nodata == group.extreme_nodata and self.resampling == "bilinear" and not self.rescale:
            nodata = None  # averages of other numbers do not round to it
        return cast_values(values, self.dtype, dtype, valid=valid, nodata=nodata), valid

    def _averages(self, index: int, bands: tuple[int, ...]) -> bool:
        """Return whether pixels of a scene are averages of several pixels."""
        shifted = (group.transform.shift is None for _, group in self._asset_groups(index, bands))
        return self.composite != "first" or (self.resampling in AVERAGING and any(shifted))

    def _unit_length(self, values: Array) -> Array:
        """Return vectors of unit length.

        Raises
        ------
        InputError
            If bands are missing.
        """
        if self.resampling not in AVERAGING and self.composite == "first":
            return values
        if len(values) != self.unit_length:
            msg = f"Cannot average vectors of unit length: {len(values)} of their {self.unit_length} bands were opened."
            raise InputError(msg, remedy="Pass {resampling:'nearest'}. Or open all bands, and select from the result.")
        return to_unit_length(values)

    def _asset_groups(self, index: int, bands: tuple[int, ...]) -> list[tuple[list[int], AssetGroup]]:
        """Return the assets of a scene grouped by grid, with the indices of their bands in the result; cached."""
        cache: dict[Any, list[tuple[list[int], AssetGroup]]] = self.__dict__.setdefault("_groups", {})
        key = index, bands
        groups = cache.get(key)
        if groups is None:
            by_grid: dict[GeoBox, list[int]] = {}
            assets = [self.scenes[index].assets[b] for b in bands]
            for target, asset in enumerate(assets):
                if asset is not None:
                    by_grid.setdefault(asset.grid, []).append(target)
            groups = [
                (targets, self._new_group([a for t in targets if (a := assets[t]) is not None], grid, index))
                for grid, targets in by_grid.items()
            ]
            cache[key] = groups
        return groups

    def _new_group(self, assets: list[Asset], grid: GeoBox, index: int) -> AssetGroup:
        quality = self.scenes[index].quality
        return AssetGroup(assets, self.grid, grid, self.resampling, quality=quality, credentials=self.credentials)

    @cached_property
    def _outlines(self) -> list[shapely.Polygon | shapely.MultiPolygon]:
        """Return the outlines of the scenes' grids in pixels; of the whole grid if they have no outline (at a pole)."""
        rows, cols = self.grid.shape
        everywhere = shapely.box(0, 0, cols, rows)
        grids = [scene.grid for scene in self.scenes]
        keys = [(id(g.crs), g.affine, *g.shape) for g in grids]  # hashing a GeoBox is slow: it hashes the CRS's WKT
        unique = dict(zip(keys, grids, strict=True))
        by_key = dict(zip(unique, outlines(list(unique.values()), self.grid), strict=True))
        return [by_key[key] or everywhere for key in keys]

    @cached_property
    def _data_areas(self) -> list[shapely.Geometry]:
        """Return the outlines of scenes, clipped to their footprints if their files have a valid mask or nodata."""
        areas: list[shapely.Geometry] = [*self._outlines]
        known = [i for i, scene in enumerate(self.scenes) if scene.geometry is not None and scene.has_valid_mask]
        if known:
            footprints = shapely.from_wkb([self.scenes[i].geometry for i in known])
            clipped = clip_to_footprints([areas[i] for i in known], footprints, self.grid)
            for i, area in zip(known, clipped, strict=True):
                areas[i] = area
        return areas

    def _outline(self, grid: GeoBox) -> shapely.Polygon | shapely.MultiPolygon:
        """Return the outline of a grid in pixels of the mosaic; of the whole mosaic if the grid has no outline."""
        rows, cols = self.grid.shape
        polygon = outline(grid, self.grid)
        return shapely.box(0, 0, cols, rows) if polygon is None else polygon

    @cached_property
    def _trees(self) -> tuple[tuple[shapely.STRtree, Array], ...]:
        """Return the parts of the scenes' outlines, and the position of the scene of each part, by time step."""
        parts = [shapely.get_parts([self._outlines[i] for i in step], return_index=True) for step in self.steps]
        return tuple((shapely.STRtree(polygons), scene) for polygons, scene in parts)

    def _scene_indices(self, window: Window, step: int) -> Iterator[int]:
        """Yield the indices of scenes whose extent, with a margin of one pixel, intersects a window."""
        bottom, right = window.stop
        box = shapely.box(window.col - 1, window.row - 1, right + 1, bottom + 1)
        tree, scene = self._trees[step]
        hits = np.unique(scene[tree.query(box)])  # restores the order of priority
        return (self.steps[step][int(hit)] for hit in hits)

    def _clip_mask(self, clip: GeoBox, window: Window) -> Mask | None:
        """Return which pixels of a window lie inside a clip grid; `None` if all do."""
        cache: dict[GeoBox, PixelTransform] = self.__dict__.setdefault("_clips", {})
        transform = cache.get(clip)
        if transform is None:
            transform = cache.setdefault(clip, PixelTransform(self.grid, clip))
        return clip_mask(transform, clip, window)

    def _warn(self, index: int, error: ReadError) -> None:
        warned: set[int] = self.__dict__.setdefault("_warned", set())
        if index not in warned:
            warned.add(index)
            warnings.warn(f"{error} Its pixels are treated as nodata.", ReadWarning, stacklevel=2)


def _shared(valid: Mask) -> Mask:
    """Return the valid mask of the first band if all bands share it, for fewer operations."""
    return valid if valid.strides[0] else valid[:1]

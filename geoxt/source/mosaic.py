"""Mosaic: scenes on one grid. The first valid pixel wins, or a composite is made of all of them."""

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

from geoxt.errors import ReadError, ReadWarning
from geoxt.footprints import clip_to_footprints, outline, outlines
from geoxt.grid import COINCIDE, full_window, pixel_offset
from geoxt.pixels.credentials import Credentials
from geoxt.pixels.remote import is_remote
from geoxt.pixels.resample import resample
from geoxt.pixels.transform import PixelTransform
from geoxt.source.array_source import cast_values, clip_mask
from geoxt.source.asset_group import AssetGroup
from geoxt.source.composite import Reduction, compose
from geoxt.source.scene_assets import Asset, Scene, token_of
from geoxt.types import Array, Mask, Resampling
from geoxt.windows import Window


@dataclass(frozen=True, kw_only=True, eq=False)
class Mosaic:
    """Scenes on one grid."""

    grid: GeoBox
    """The grid that windows refer to."""
    scenes: tuple[Scene, ...]
    """All scenes; each holds an asset or `None` for every band."""
    steps: tuple[tuple[int, ...], ...]
    """For each time step, the positions of its scenes, in order of priority."""
    bands: tuple[str, ...]
    """Names of the bands."""
    dtype: np.dtype[Any]
    """Data type of the layer."""
    nodata: float | None = None
    """Value of invalid pixels; `None`: NaN for floating point, else 0."""
    resampling: Resampling = "bilinear"
    """How pixels come onto the grid."""
    clips: tuple[GeoBox, ...] = ()
    """Grids beyond which nothing is valid, from layers that were cut before they were aligned."""
    errors: Literal["raise", "nodata"] = "raise"
    """What to do with a scene that cannot be read."""
    composite: Reduction = "first"
    """How the scenes of a step become one image: by the first that is valid at a pixel, or of all that are."""
    rescale: bool = False
    """Whether values are physical: numbers times the scale of their scene and band, plus the offset."""
    credentials: Credentials | None = None
    """How files are opened; `None` for as they are. It does not decide the pixels."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Time steps, bands, rows, columns."""
        return len(self.steps), len(self.bands), *self.grid.shape

    @cached_property
    def remote(self) -> bool:
        """Whether files are behind a network, as far as their addresses say: many windows are then read at once."""
        return any(is_remote(a.href) for scene in self.scenes for a in scene.assets if a is not None)

    @property
    def fill(self) -> float:
        """Value of invalid pixels."""
        if self.nodata is not None:
            return self.nodata
        return np.nan if self.dtype.kind == "f" else 0

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is worked out on use: trees, mappings, warnings given."""
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}

    def __dask_tokenize__(self) -> Any:
        """Return all that decides the pixels."""
        return normalize_token((
            type(self).__name__, self.grid, token_of(self.scenes), self.steps, self.bands, str(self.dtype), self.nodata,
            self.resampling, self.clips, self.errors, self.composite, self.rescale,
        ))  # fmt: skip

    def onto(self, grid: GeoBox, *, resampling: Resampling | None = None) -> Mosaic:
        """Return the same scenes on another grid; nothing is read, and pixels are still resampled once."""
        return replace(self, grid=grid, resampling=resampling or self.resampling)

    def choose(self, times: Sequence[int], bands: Sequence[int], *, clip: tuple[GeoBox, ...] = ()) -> Mosaic:
        """Return some of the time steps and bands; beyond the clips nothing is valid."""
        kept = self.clips + tuple(c for c in clip if c not in self.clips and not self._fills(c))
        if list(bands) == list(range(len(self.bands))):
            scenes = self.scenes
        else:
            scenes = tuple(replace(s, assets=tuple(s.assets[b] for b in bands)) for s in self.scenes)
        names = tuple(self.bands[b] for b in bands)
        return replace(self, scenes=scenes, bands=names, steps=tuple(self.steps[t] for t in times), clips=kept)

    def _fills(self, clip: GeoBox) -> bool:
        """Tell whether a grid holds every scene, so that it clips nothing."""
        if clip.crs != self.grid.crs:
            return False
        place = pixel_offset(clip, self.grid)
        if place is None:
            return False
        rows, cols = clip.shape
        box = shapely.box(place[1], place[0], place[1] + cols, place[0] + rows).buffer(COINCIDE)
        return all(box.contains(one) for one in self._outlines)

    def stackable(self, other: Mosaic) -> bool:
        """Tell whether another mosaic can lie over or under this one, as one source."""
        mine, theirs = (
            (m.grid, m.bands, m.dtype, _mark(m.nodata), m.resampling, m.clips, m.errors, m.rescale, m.credentials)
            for m in (self, other)
        )
        alone = all(len(m.steps) == 1 and m.composite == "first" for m in (self, other))
        return mine == theirs and alone

    def footprint(self) -> shapely.Geometry:
        """Return where scenes can have valid pixels, in pixels of the grid (x is the column, y the row).

        It is the outline of a scene's grid, less what lies clearly outside the place where it is said to have data; see
        `footprints.clip_to_footprints`.
        """
        outlines = [*self._reaches]
        for clip in self.clips:
            outlines = list(shapely.intersection(outlines, self._outline(clip)))
        rows, cols = self.grid.shape
        return shapely.intersection(shapely.union_all(outlines), shapely.box(0, 0, cols, rows))

    def scenes_in(self, window: Window, *, step: int) -> list[Scene]:
        """Return the scenes of a time step that may touch a window, in order of priority."""
        return [self.scenes[i] for i in self._hits(window, step)]

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
            Where a file cannot be read and `errors` is "raise".
        """
        steps = range(len(self.steps)) if times is None else times
        chosen = tuple(range(len(self.bands)) if bands is None else bands)
        kind = dtype or self.dtype
        found = [self._step(window, step, chosen, kind) for step in steps]
        if len(found) == 1:
            return found[0][0][None], found[0][1][None]
        shape = (len(chosen), *window.shape)
        values = np.stack([f[0] for f in found]) if found else np.empty((0, *shape), kind)
        valid = np.stack([f[1] for f in found]) if found else np.empty((0, *shape), bool)
        return values, valid

    def _step(self, window: Window, step: int, bands: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, Mask]:
        if self.composite != "first":
            return self._compose(window, step, bands, dtype)
        shape = (len(bands), *window.shape)
        values: Array | None = None
        valid: Mask | None = None
        for index in self._hits(window, step):
            if values is None or valid is None:
                found = self._scene(index, window, bands, dtype)
                if found is None:
                    continue
                values, valid = found
            else:
                here = _where_missing(valid, window)
                found = self._scene(index, here, bands, dtype)
                if found is None:
                    continue
                place = (slice(None), *here.within(window))
                valid = valid if valid.flags.writeable else valid.copy()
                better = ~valid[place] if found[1] is None else found[1] & ~valid[place]
                values[place][better] = found[0][better]
                valid[place] |= better
            if valid is None or valid.all():
                valid = None
                break
        if values is None:
            return np.full(shape, self.fill, dtype), np.zeros(shape, bool)
        return self._finish(window, values, valid)

    def _compose(self, window: Window, step: int, bands: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, Mask]:
        """Return a composite of all scenes of a step."""
        found = (self._scene(index, window, bands, self.dtype) for index in self._hits(window, step))
        image = compose((one for one in found if one is not None), self.composite)
        if image is None:
            shape = (len(bands), *window.shape)
            return np.full(shape, self.fill, dtype), np.zeros(shape, bool)
        values, valid = image
        values[~valid] = 0  # what is arbitrary may not fit the type
        return self._finish(window, cast_values(values, self.dtype, dtype), None if valid.all() else valid)

    def _finish(self, window: Window, values: Array, valid: Mask | None) -> tuple[Array, Mask]:
        for clip in self.clips:
            inside = self._within(clip, window)
            if inside is not None:
                valid = np.broadcast_to(inside, values.shape) if valid is None else valid & inside
        if full_window(self.grid).intersect(window) is None or not full_window(self.grid).contains(window):
            inside = _inside(window, full_window(self.grid))
            valid = np.broadcast_to(inside, values.shape) if valid is None else valid & inside
        if valid is None:
            return values, np.broadcast_to(True, values.shape)
        np.copyto(values, np.asarray(self.fill).astype(values.dtype), where=~valid)
        return values, valid

    def _scene(
        self, index: int, window: Window, bands: tuple[int, ...], dtype: np.dtype[Any]
    ) -> tuple[Array, Mask | None] | None:
        """Return one scene at a window; `None` where it does not touch it."""
        parts = self._parts(index, bands)
        try:
            found = [(places, self._part(part, window, dtype)) for places, part in parts]
        except ReadError as error:
            if self.errors == "raise":
                msg = f"{error} (scene {self.scenes[index].id!r}; errors='nodata' would go on without it)"
                raise ReadError(msg) from error
            self._warn(index, error)
            return None
        if len(found) == 1 and len(found[0][0]) == len(bands):
            return found[0][1]
        if all(one is None for _, one in found):
            return None
        values = np.empty((len(bands), *window.shape), dtype)
        valid = np.zeros(values.shape, bool)
        for places, one in found:
            if one is not None:
                values[places] = one[0]
                valid[places] = True if one[1] is None else one[1]
        return values, valid

    def _part(self, part: AssetGroup, window: Window, dtype: np.dtype[Any]) -> tuple[Array, Mask | None] | None:
        """Return the bands of a scene that share a grid."""
        found = resample(part.fetch, part.mapping, window, self.resampling)
        if found is None:
            return None
        values, valid = found
        if self.rescale:
            values = part.physical(values)
        return cast_values(values, self.dtype, dtype), valid

    def _parts(self, index: int, bands: tuple[int, ...]) -> list[tuple[list[int], AssetGroup]]:
        """Return the assets of a scene that share a grid, with the places of their bands in the result."""
        cache: dict[Any, list[tuple[list[int], AssetGroup]]] = self.__dict__.setdefault("_plans", {})
        key = index, bands
        found = cache.get(key)
        if found is None:
            groups: dict[GeoBox, list[int]] = {}
            assets = [self.scenes[index].assets[b] for b in bands]
            for place, asset in enumerate(assets):
                if asset is not None:
                    groups.setdefault(asset.grid, []).append(place)
            found = [
                (places, self._new_part([a for p in places if (a := assets[p]) is not None], grid, index))
                for grid, places in groups.items()
            ]
            cache[key] = found
        return found

    def _new_part(self, assets: list[Asset], grid: GeoBox, index: int) -> AssetGroup:
        quality = self.scenes[index].quality
        return AssetGroup(assets, self.grid, grid, self.resampling, quality=quality, credentials=self.credentials)

    @cached_property
    def _outlines(self) -> list[shapely.Polygon]:
        rows, cols = self.grid.shape
        everywhere = shapely.box(0, 0, cols, rows)
        grids = [scene.grid for scene in self.scenes]
        keys = [(id(g.crs), g.affine, *g.shape) for g in grids]  # a grid itself takes long to hash
        unique = dict(zip(keys, grids, strict=True))
        found = dict(zip(unique, outlines(list(unique.values()), self.grid), strict=True))
        return [found[key] or everywhere for key in keys]

    @cached_property
    def _reaches(self) -> list[shapely.Geometry]:
        """Return the outlines of scenes, narrowed to where they may have data if their files mark what is missing."""
        found: list[shapely.Geometry] = [*self._outlines]
        told = [i for i, scene in enumerate(self.scenes) if scene.place is not None and scene.marks]
        if told:
            places = shapely.from_wkb([self.scenes[i].place for i in told])
            for i, one in zip(told, clip_to_footprints([found[i] for i in told], places, self.grid), strict=True):
                found[i] = one
        return found

    def _outline(self, grid: GeoBox) -> shapely.Polygon:
        """Return the outline of a grid in pixels of this one; the whole of this one where there is no outline."""
        rows, cols = self.grid.shape
        found = outline(grid, self.grid)
        return shapely.box(0, 0, cols, rows) if found is None else found

    @cached_property
    def _trees(self) -> tuple[shapely.STRtree, ...]:
        return tuple(shapely.STRtree([self._outlines[i] for i in step]) for step in self.steps)

    def _hits(self, window: Window, step: int) -> Iterator[int]:
        bottom, right = window.stop
        box = shapely.box(window.col - 1, window.row - 1, right + 1, bottom + 1)
        places = np.sort(self._trees[step].query(box))
        return (self.steps[step][int(place)] for place in places)

    def _within(self, clip: GeoBox, window: Window) -> Mask | None:
        """Return which pixels of a window lie inside a clip; `None` where all do."""
        cache: dict[GeoBox, PixelTransform] = self.__dict__.setdefault("_clips", {})
        mapping = cache.get(clip)
        if mapping is None:
            mapping = cache.setdefault(clip, PixelTransform(self.grid, clip))
        return clip_mask(mapping, clip, window)

    def _warn(self, index: int, error: ReadError) -> None:
        warned: set[int] = self.__dict__.setdefault("_warned", set())
        if index not in warned:
            warned.add(index)
            warnings.warn(f"{error} Its pixels are taken as nodata.", ReadWarning, stacklevel=2)


def _where_missing(valid: Mask, window: Window) -> Window:
    """Return the part of a window in which pixels are missing: at least one is."""
    missing = np.argwhere(~valid.all(axis=(0, 1))), np.argwhere(~valid.all(axis=(0, 2)))
    cols, rows = (found[:, 0] for found in missing)
    height, width = rows[-1] - rows[0] + 1, cols[-1] - cols[0] + 1
    return Window(window.row + int(rows[0]), window.col + int(cols[0]), int(height), int(width))


def _inside(window: Window, outer: Window) -> Mask:
    """Return which pixels of a window lie inside another."""
    flags = np.zeros(window.shape, bool)
    shared = window.intersect(outer)
    if shared is not None:
        flags[shared.within(window)] = True
    return flags


def _mark(nodata: float | None) -> float | str | None:
    """Return a nodata value that is equal to itself."""
    return "nan" if nodata is not None and np.isnan(nodata) else nodata

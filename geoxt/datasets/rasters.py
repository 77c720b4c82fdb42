"""Read the image files of an asset of a sample as pixels (time, band, y, x), or as class codes of a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

from geoxt.datasets.assets import FETCH_AGAIN, Raster
from geoxt.datasets.codes import code_type, decode
from geoxt.errors import ReadError
from geoxt.grid import window_grid
from geoxt.legend import Legend
from geoxt.pixels.images import ImageHeader, has_alpha, read_image, read_image_header, strict_decoding
from geoxt.types import Array
from geoxt.windows import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """A window of an image of known size."""

    window: Window
    """Rectangle of the image's pixels."""
    image_shape: tuple[int, int]
    """Height and width of the whole image."""

    def within(self, outer: Crop | None) -> Crop:
        """Return this crop in coordinates of the image that `outer` was cut from."""
        if outer is None:
            return self
        return Crop(window=self.window.shift(outer.window.row, outer.window.col), image_shape=outer.image_shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """The files of one asset of one sample, in order of time and, within a time step, of bands."""

    asset: Raster
    """The asset."""
    paths: tuple[str, ...]
    """(time x files per time step)."""
    times: int
    """Time steps."""
    bands: tuple[int, ...]
    """Indices of the bands to read in the bands of the asset; empty for masks and for assets without band names."""
    legend: Legend | None
    """The classes, for masks."""
    crs: str | None = None
    """CRS of files without CRS."""
    crop: Crop | None = None
    """Window to read from each file; `None` reads all. Not for bands of several resolutions."""

    @property
    def files_per_time(self) -> int:
        """Files of one time step."""
        return len(self.paths) // self.times

    def header(self) -> tuple[tuple[int, int, int, int], np.dtype[Any], GeoBox | None]:
        """Return shape (time, band, y, x), dtype and grid, from the header of the file with most rows."""
        positions = self._file_positions() if self.asset.mixed_resolution else self._file_positions()[:1]
        with strict_decoding():
            headers = [self._header(self.paths[position]) for position in positions]
        finest = max(headers, key=lambda header: header.shape[0])
        shape = self.crop.window.shape if self.crop else finest.shape
        grid = self._crop_grid(finest.grid)
        if self.asset.is_mask:
            return (self.times, 1, *shape), code_type(self.asset, self.legend, finest.dtype), grid
        count = len(self.bands) or (1 if self.files_per_time > 1 or self.asset.channel else finest.count)
        return (self.times, count, *shape), finest.dtype, grid

    def read(self) -> tuple[Array, GeoBox | None]:
        """Return pixels (time, band, y, x), or codes of a mask with one band, and the grid of georeferenced files.

        Raises
        ------
        ReadError
            If a file cannot be read, or files that belong together differ in size.
        LabelError
            If a pixel of a mask has no class.
        """
        with strict_decoding():
            steps = [self._read_step(time) for time in range(self.times)]
        shapes = {values.shape for values, _ in steps}
        if len(shapes) > 1:
            msg = f"Cannot stack images of several sizes {sorted(shapes)}, the first {self.paths[0]!r}."
            raise ReadError(msg, remedy=FETCH_AGAIN)
        values = np.stack([step[0] for step in steps]) if len(steps) > 1 else steps[0][0][np.newaxis]
        if self.asset.is_mask:
            bands = values if self.asset.colors else values[:, 0]
            values = decode(bands, self.asset, self.legend, self.paths[0])[:, np.newaxis]
        return values, steps[0][1]

    def _file_positions(self) -> list[int]:
        """Return the positions of the files to read within a time step."""
        return list(self.bands) if self.files_per_time > 1 and self.bands else list(range(self.files_per_time))

    def _read_step(self, time: int) -> tuple[Array, GeoBox | None]:
        paths = [self.paths[time * self.files_per_time + position] for position in self._file_positions()]
        channel = self.asset.channel
        if self.files_per_time == 1:
            return self._read_file(paths[0], [channel] if channel else [band + 1 for band in self.bands])
        layers = [self._read_file(path, [channel or 1]) for path in paths]
        finest, grid = max(layers, key=lambda layer: layer[0].shape[-1])
        shapes = {values.shape[-2:] for values, _ in layers}
        if len(shapes) > 1 and not self.asset.mixed_resolution:
            msg = f"Cannot stack bands of several sizes {sorted(shapes)}, the first {paths[0]!r}."
            raise ReadError(msg, remedy=FETCH_AGAIN)
        return np.concatenate([_upsample(values, finest.shape[-2:]) for values, _ in layers]), grid

    def _read_file(self, path: str, bands: Sequence[int]) -> tuple[Array, GeoBox | None]:
        """Read bands (1-based) of a file; all bands if `bands` is empty."""
        header = self._header(path)
        if bands and max(bands) > header.count:
            msg = f"Cannot read band {max(bands)} of {path!r}: it has {header.count}."
            raise ReadError(msg, remedy="Fetch the dataset again with force=True. Or pass {bands}.", argument="bands")
        if self.asset.bands and self.files_per_time == 1 and header.count > len(self.asset.bands):
            self._require_opaque(path, header)
        if self.crop and header.shape != self.crop.image_shape:
            msg = f"Cannot read a window of {path!r}: its size is {header.shape}, that of the first file "
            msg += f"{self.crop.image_shape}."
            raise ReadError(msg, remedy=FETCH_AGAIN)
        window = self.crop.window if self.crop else Window(0, 0, *header.shape)
        try:
            values = read_image(path, bands or range(1, header.count + 1), window)
        except ReadError as error:
            raise _unreadable(path, error) from error
        return values, self._crop_grid(header.grid)

    def _require_opaque(self, path: str, header: ImageHeader) -> None:
        """Raise if a file has other bands than those of the spec and an opaque alpha band."""
        count = len(self.asset.bands)
        problem = f"Cannot read {path!r}: it has {header.count} bands, not {count}"
        if header.count == count + 1 and has_alpha(path, header.count):
            opaque = np.iinfo(header.dtype).max if header.dtype.kind in "iu" else 1
            if (read_image(path, [header.count], Window(0, 0, *header.shape)) == opaque).all():
                return
            problem += ", and transparent pixels"
        raise ReadError(f"{problem}.", remedy="Fetch the dataset again with force=True, or load another release.")

    def _header(self, path: str) -> ImageHeader:
        try:
            return read_image_header(path, crs=self.crs)
        except ReadError as error:
            raise _unreadable(path, error) from error

    def _crop_grid(self, grid: GeoBox | None) -> GeoBox | None:
        return window_grid(grid, self.crop.window) if grid is not None and self.crop else grid


def _unreadable(path: str, error: ReadError) -> ReadError:
    return ReadError(f"Cannot read the image {path!r}: {error}", remedy=FETCH_AGAIN)


def _upsample(values: Array, shape: tuple[int, ...]) -> Array:
    """Resample bands (band, y, x) to a finer grid of the same extent, bilinearly and in the same dtype."""
    if values.shape[-2:] == shape:
        return values
    rows, cols = (_bilinear_weights(old, new) for old, new in zip(values.shape[-2:], shape, strict=True))
    fine = rows @ values.astype(np.float64) @ cols.T
    return (np.rint(fine) if values.dtype.kind in "iu" else fine).astype(values.dtype)


def _bilinear_weights(old: int, new: int) -> Array:
    """Return (new, old): the weight of each old pixel in each new one, along one axis; edges are extended."""
    positions = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    lower = np.minimum(positions.astype(int), max(old - 2, 0))
    weights = np.zeros((new, old))
    weights[np.arange(new), lower] = 1 - (positions - lower)
    weights[np.arange(new), np.minimum(lower + 1, old - 1)] += positions - lower
    return weights

"""Image files -> pixels: one file for all bands, a file a band, a time series; masks by number or colour."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from geoxt.datasets.assets import Raster
from geoxt.datasets.codes import code_type, decode
from geoxt.errors import ReadError
from geoxt.grid import parse_crs
from geoxt.legend import Legend
from geoxt.types import Array

_STRICT = {
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE",
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",
}
"""A truncated JPEG or PNG is an error; no file beside is looked for, or written."""
_opening = threading.Lock()
"""Filters of warnings belong to the whole process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of an image to read."""

    rows: tuple[int, int]
    """First row, and the one after the last."""
    columns: tuple[int, int]
    """First column, and the one after the last."""
    shape: tuple[int, int]
    """Height and width of the whole image."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the part."""
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]

    def within(self, outer: Part | None) -> Part:
        """Return the same pixels as a part of the image that this is a part of a part of."""
        if outer is None:
            return self
        (top, _), (left, _) = outer.rows, outer.columns
        rows, columns = (top + self.rows[0], top + self.rows[1]), (left + self.columns[0], left + self.columns[1])
        return Part(rows=rows, columns=columns, shape=outer.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """The files of one asset of one sample, in order: time by time, and within it band by band or all in one."""

    asset: Raster
    """What they are."""
    paths: tuple[str, ...]
    """(time x files a time)."""
    times: int
    """Time steps."""
    bands: tuple[int, ...]
    """Positions of the bands to read, in the asset's order; empty for masks, and where bands are not known."""
    legend: Legend | None
    """The classes, for masks."""
    crs: str | None = None
    """CRS of files that do not say."""
    part: Part | None = None
    """What to read of each file; all where `None`. Not for bands of several sizes."""

    @property
    def per_time(self) -> int:
        """Files of one time step."""
        return len(self.paths) // self.times

    def header(self) -> tuple[tuple[int, int, int, int], np.dtype[Any], GeoBox | None]:
        """Return shape (time, band, y, x), dtype and grid, from the header of the finest file."""
        with rasterio.Env(**_STRICT):
            best: tuple[int, int, int] = (0, 0, 0)
            kind, grid = np.dtype(self.asset.dtype), None
            chosen = self._chosen() if self.asset.own_size else self._chosen()[:1]
            for at in chosen:
                with _open(self.paths[at]) as file:
                    if file.height > best[1]:
                        best, kind = (file.count, *file.shape), np.dtype(file.dtypes[0])
                        grid = _grid(file, self.crs)
        if self.part is not None:
            best, grid = (best[0], *self.part.size), _cropped(grid, self.part)
        count = len(self.bands) or (1 if self.per_time > 1 or self.asset.channel else best[0])
        if self.asset.is_mask:
            return (self.times, 1, *best[1:]), code_type(self.asset, self.legend, kind), grid
        return (self.times, count, *best[1:]), kind, grid

    def read(self) -> tuple[Array, GeoBox | None]:
        """Return pixels (time, band, y, x), or codes of a mask with one band, and the grid where files have one."""
        with rasterio.Env(**_STRICT):
            steps = [self._step(time) for time in range(self.times)]
        shapes = {step[0].shape for step in steps}
        if len(shapes) > 1:
            msg = f"Cannot stack images of several sizes {sorted(shapes)}, the first {self.paths[0]!r}. Fetch it again."
            raise ReadError(msg)
        values = np.stack([step[0] for step in steps]) if len(steps) > 1 else steps[0][0][np.newaxis]
        if self.asset.is_mask:
            bands = values if self.asset.colors else values[:, 0]
            values = decode(bands, self.asset, self.legend, self.paths[0])[:, np.newaxis]
        return values, steps[0][1]

    def _chosen(self) -> list[int]:
        """Return places of the files of the first time step that are wanted."""
        return list(self.bands) if self.per_time > 1 and self.bands else list(range(self.per_time))

    def _step(self, time: int) -> tuple[Array, GeoBox | None]:
        paths = [self.paths[time * self.per_time + at] for at in self._chosen()]
        if self.per_time == 1:
            wanted = [b + 1 for b in self.bands] or None
            if self.asset.channel:
                wanted = [self.asset.channel]
            return _read(paths[0], wanted, self.crs, self.part)
        read = [_read(path, [self.asset.channel or 1], self.crs, self.part) for path in paths]
        finest = max(read, key=lambda one: one[0].shape[-1])
        shape = finest[0].shape[-2:]
        if not self.asset.own_size and any(one[0].shape[-2:] != shape for one in read):
            sizes = sorted({one[0].shape[-2:] for one in read})
            msg = f"Cannot stack bands of several sizes {sizes}, the first {paths[0]!r}. Fetch the dataset again."
            raise ReadError(msg)
        return np.concatenate([_onto(values, shape) for values, _ in read]), finest[1]


def _onto(values: Array, shape: Sequence[int]) -> Array:
    """Bring a band onto a finer grid of the same place: bilinear between the centres of its pixels, its type kept."""
    if values.shape[-2:] == tuple(shape):
        return values
    rows, cols = (_weights(old, new) for old, new in zip(values.shape[-2:], shape, strict=True))
    fine = rows @ values.astype(np.float64) @ cols.T
    return (np.rint(fine) if values.dtype.kind in "iu" else fine).astype(values.dtype)


def _weights(old: int, new: int) -> Array:
    """Return (new, old): how much each old pixel counts for each new one, along one side."""
    at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    low = np.minimum(at.astype(int), max(old - 2, 0))
    weights = np.zeros((new, old))
    weights[np.arange(new), low] = 1 - (at - low)
    weights[np.arange(new), np.minimum(low + 1, old - 1)] += at - low
    return weights


def _read(path: str, bands: list[int] | None, crs: str | None, part: Part | None) -> tuple[Array, GeoBox | None]:
    with _open(path) as file:
        if bands and max(bands) > file.count:
            msg = f"Cannot read band {max(bands)} of {path!r}: it has {file.count}. Fetch it again, or pass bands=."
            raise ReadError(msg)
        if part is not None and file.shape != part.shape:
            msg = f"Cannot read a part of {path!r}: its size is {file.shape}, that of the first file {part.shape}."
            raise ReadError(msg + " Fetch the dataset again.")
        try:
            return file.read(bands, window=part and (part.rows, part.columns)), _cropped(_grid(file, crs), part)
        except (RasterioError, OSError) as error:
            raise ReadError(_corrupt(path, error)) from error


def _open(path: str) -> rasterio.DatasetReader:
    try:
        with _opening, warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return rasterio.open(path)
    except (RasterioError, OSError) as error:
        raise ReadError(_corrupt(path, error)) from error


def _corrupt(path: str, error: Exception) -> str:
    told = str(error.__cause__ if "See previous exception" in str(error) and error.__cause__ else error)
    said = told.removeprefix(f"{path}: ").rstrip(".")
    return f"Cannot read the image {path!r}: {said}. Fetch the dataset again."


def _grid(file: rasterio.DatasetReader, crs: str | None) -> GeoBox | None:
    found = file.crs or (crs if not file.transform.is_identity else None)
    return GeoBox(file.shape, file.transform, parse_crs(found)) if found else None


def _cropped(grid: GeoBox | None, part: Part | None) -> GeoBox | None:
    return grid if grid is None or part is None else grid[slice(*part.rows), slice(*part.columns)]

"""Blocks of files that reading a window touches, from headers alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import rasterio
import xarray as xr

from geoxt.errors import InputError
from geoxt.grid import full_window
from geoxt.pixels import reader
from geoxt.pixels.resample import resample
from geoxt.pixels.transform import PixelTransform
from geoxt.source.asset_group import AssetGroup
from geoxt.source.layer import view_of
from geoxt.source.mosaic import Mosaic
from geoxt.types import Array, Resampling
from geoxt.windows import Window

COLUMNS = ("scene", "file", "overview", "band", "row", "col", "offset", "bytes")
"""Columns of the table of blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _FileRead:
    """A window of some bands of one file."""

    scene: str
    href: str
    bands: tuple[int, ...]
    level: int | None
    window: Window


def reads(layer: xr.DataArray, window: Window | None = None) -> pd.DataFrame:
    """Return the blocks of files that reading a window of a layer touches.

    Only headers and block indexes are read. Of scenes that overlap, all are listed: reading stops at the first scene
    whose pixels are all valid. Blocks of internal masks, and of caches, are not listed.

    Parameters
    ----------
    layer
        A layer opened by `open_cogs` or `open_stac`, or aligned or selected from one.
    window
        Window of the layer's grid, in pixels; by default the whole grid and all time steps.

    Returns
    -------
    pandas.DataFrame
        A row for each block: `scene`, `file`, `overview` (from 0; -1 for the full resolution), `band` (0 if blocks hold
        all bands), `row` and `col` of the block in the file's block grid, `offset` in the file and stored (compressed)
        `bytes`. Offset and bytes are NaN for formats other than TIFF; sparse blocks have 0 bytes.

    Raises
    ------
    InputError
        If pixels of the layer are not read from raster files: after arithmetic, or from a Zarr store or vector file.

    Examples
    --------
    >>> import geoxt
    >>> image = geoxt.open_cogs("scene.tif")  # doctest: +SKIP
    >>> image.geoml.reads(geoxt.Window(0, 0, 256, 256)).groupby("file").bytes.sum()  # doctest: +SKIP
    """
    view = view_of(layer)
    mosaic = view.source
    if not isinstance(mosaic, Mosaic) or any(a.array is not None for s in mosaic.scenes for a in s.assets if a):
        problem = f"Cannot list the blocks of {layer.name!r}: its pixels are not read from raster files."
        raise InputError(problem, remedy="Pass a layer that was opened, and at most selected or aligned.")
    requested = full_window(view.grid) if window is None else window
    static = requested.time is None or "time" not in view.dims
    times = view.times if static else [view.times[t] for t in requested.time or ()]
    inside = requested.shift(view.window.row, view.window.col)
    rows: dict[tuple[Any, ...], None] = {}
    for read in dict.fromkeys(_file_reads(mosaic, inside, times, view.bands)):
        blocks = reader.use_file(read.href, partial(_blocks, read), credentials=mosaic.credentials)
        rows |= dict.fromkeys(blocks)
    table = pd.DataFrame(list(rows), columns=list(COLUMNS))
    return table.astype({"offset": "float64", "bytes": "float64"})


def _file_reads(mosaic: Mosaic, window: Window, times: Sequence[int], bands: tuple[int, ...]) -> Iterator[_FileRead]:
    """Yield the windows of files that a mosaic reads, as `Mosaic.read` requests them."""
    for step in times:
        for index in mosaic._scene_indices(window, step):  # noqa: SLF001 (the scenes that `read` looks up)
            averages = mosaic.unit_length and mosaic._averages(index, bands)  # noqa: SLF001
            of_scene = tuple(range(len(mosaic.bands))) if averages else bands
            for _, group in mosaic._asset_groups(index, of_scene):  # noqa: SLF001
                yield from _group_reads(group, mosaic.scenes[index].id, window, mosaic.resampling)


def _group_reads(group: AssetGroup, scene: str, window: Window, resampling: Resampling) -> Iterator[_FileRead]:
    for part in _requests(group.transform, window, resampling):
        for href, _, bands, _ in group._files:  # noqa: SLF001
            yield _FileRead(scene=scene, href=href, bands=tuple(bands), level=group.level, window=part)
        for mask in group._masks:  # noqa: SLF001
            asset = mask._quality.asset  # noqa: SLF001
            if asset.array is not None:
                continue
            for quality in _requests(mask._transform, part, "nearest"):  # noqa: SLF001
                yield _FileRead(scene=scene, href=asset.href, bands=(asset.band,), level=None, window=quality)


def _requests(transform: PixelTransform, window: Window, resampling: Resampling) -> list[Window]:
    """Return the source windows that resampling requests."""
    requests: list[Window] = []

    def record(source: Window) -> tuple[Array, None]:
        requests.append(source)
        return np.zeros((1, *source.shape), "uint8"), None

    resample(record, transform, window, resampling)
    return requests


def _blocks(read: _FileRead, file: rasterio.DatasetReader) -> list[tuple[Any, ...]]:
    """Return the rows of the table for one file."""
    tiff, shared = file.driver in {"GTiff", "COG"}, str(file.interleaving).upper().endswith("PIXEL")
    if read.level is None:
        shapes = file.block_shapes
    else:
        with rasterio.open(file.name, overview_level=read.level) as overview:
            shapes = overview.block_shapes
    bottom, right = read.window.stop
    rows: list[tuple[Any, ...]] = []
    for band in read.bands[:1] if shared else read.bands:
        height, width = shapes[band - 1]
        for row in range(read.window.row // height, -(-bottom // height)):
            for col in range(read.window.col // width, -(-right // width)):
                offset, size = (
                    file.get_tag_item(f"BLOCK_{name}_{col}_{row}", "TIFF", bidx=band, ovr=read.level) if tiff else "nan"
                    for name in ("OFFSET", "SIZE")
                )
                level = -1 if read.level is None else read.level
                number = 0 if shared and file.count > 1 else band
                rows.append((read.scene, read.href, level, number, row, col, float(offset or "nan"), float(size or 0)))
    return rows

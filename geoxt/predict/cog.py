"""A layer into a cloud-optimised GeoTIFF: piece by piece, and under its own name only once it is whole."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import rasterio
import rasterio.shutil
import xarray as xr
from rasterio.errors import RasterioError

from geoxt.errors import GeoxtError, InputError, OutputError
from geoxt.grid import grid_of
from geoxt.legend import Legend
from geoxt.source import is_categorical, nodata_of
from geoxt.types import SomePath
from geoxt.windows import Window

_BLOCK = 512
"""Pixels: side of a COG's tiles, GDAL's own default."""
_MOST_NAMES = 65536
"""GDAL lists category names from code 0 up; beyond this a list would be mostly blanks."""
_WIDER = {"bool": "uint8", "float16": "float32"}
"""Types that rasterio cannot write, and those that hold the same values."""


def to_cog(layer: xr.DataArray, path: SomePath) -> Path:
    """Write a layer as a COG.

    Parameters
    ----------
    layer
        Dimensions (y, x) or (band, y, x). It is computed chunk by chunk. A categorical one gets a colour table (where
        its type is uint8), class names, and overviews by mode; any other one overviews by average. Booleans become
        uint8, 0 and 1, and float16 becomes float32.
    path
        Where to write. An older file of that name is replaced, once the new one is whole.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    InputError
        Where no GeoTIFF can hold the layer: its dimensions, or its type.
    ReadError
        Where a file that the layer comes from cannot be read.
    OutputError
        Where the file cannot be written.

    Notes
    -----
    rasterio cannot set GDAL's category names, which a GeoTIFF keeps in a file beside it; so they are written there
    (`.aux.xml`) and, as CF's `flag_values` and `flag_meanings`, into the file's own band metadata.
    """
    path = Path(path)
    if set(layer.dims) not in ({"y", "x"}, {"band", "y", "x"}):
        found = tuple(map(str, layer.dims))
        msg = f"Cannot write the dimensions {found} as a COG: choose with isel() down to (band, y, x)."
        raise InputError(msg)
    layer = _storable(layer.transpose("band", "y", "x", missing_dims="ignore"))
    require_writable(path)
    beside = path.with_name(f"{path.name}.aux.xml")
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
            whole, cog, names = (Path(folder) / name for name in ("whole.tif", "cog.tif", "names.xml"))
            _write(layer, whole)
            rasterio.shutil.copy(whole, cog, driver="COG", **_cog_options(layer))
            _write_names(layer, names)
            beside.unlink(missing_ok=True)
            cog.replace(path)
            if names.exists():
                names.replace(beside)
    except GeoxtError:
        raise
    except (OSError, RasterioError) as error:
        msg = f"Cannot write {str(path)!r}: {error}. Free space there, or pass another path."
        raise OutputError(msg) from error
    return path


def require_writable(path: SomePath) -> None:
    """Make the folder of an output and try to write there.

    Raises
    ------
    OutputError
        Where the folder cannot be made or written to, or the path is a folder itself.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        msg = f"Cannot write {str(path)!r}: {error.strerror or error}. Pass a path in a folder that can be written to."
        raise OutputError(msg) from error
    if path.is_dir():
        msg = f"Cannot write {str(path)!r}: it is a folder. Pass the path of a file."
        raise OutputError(msg)


def _storable(layer: xr.DataArray) -> xr.DataArray:
    """Return the layer in a type that a GeoTIFF can hold."""
    layer = layer.astype(_WIDER.get(layer.dtype.name, layer.dtype), copy=False)
    if not rasterio.dtypes.check_dtype(layer.dtype):
        msg = f"Cannot write pixels of type {layer.dtype} as a COG: no GeoTIFF can hold them. "
        raise InputError(msg + "Pass numbers, e.g. layer.astype('float32').")
    return layer


def _write(layer: xr.DataArray, path: Path) -> None:
    """Write a plain tiled file, window by window, with all that a COG is to carry."""
    grid = grid_of(layer)
    assert grid.crs is not None
    rows, cols = grid.shape
    profile: dict[str, Any] = {"driver": "GTiff", "tiled": True, "blockxsize": _BLOCK, "blockysize": _BLOCK}
    profile |= {"height": rows, "width": cols, "count": layer.sizes.get("band", 1), "dtype": layer.dtype}
    profile |= {"crs": grid.crs.to_wkt(), "transform": grid.affine, "nodata": nodata_of(layer), "bigtiff": "if_safer"}
    with rasterio.open(path, "w", **profile) as file:
        _describe(layer, file)
        for window in _chunks(layer):
            piece = layer.isel(y=slice(window.row, window.stop[0]), x=slice(window.col, window.stop[1]))
            values = piece.to_numpy().reshape(-1, *window.shape)
            file.write(values, window=rasterio.windows.Window(window.col, window.row, window.width, window.height))


def _chunks(layer: xr.DataArray) -> Iterator[Window]:
    """Yield the windows of the chunks, so that each is computed once; of a layer without chunks, rows of blocks."""
    sizes = layer.chunksizes or {"y": _split(layer.sizes["y"])}
    rows, cols = (sizes.get(dim) or (layer.sizes[dim],) for dim in ("y", "x"))
    tops, lefts = np.cumsum([0, *rows[:-1]]).tolist(), np.cumsum([0, *cols[:-1]]).tolist()
    for (top, height), (left, width) in itertools.product(zip(tops, rows, strict=True), zip(lefts, cols, strict=True)):
        yield Window(top, left, height, width)


def _split(length: int) -> tuple[int, ...]:
    return tuple(min(_BLOCK, length - start) for start in range(0, length, _BLOCK))


def _describe(layer: xr.DataArray, file: Any) -> None:
    if "band" in layer.coords and "band" in layer.dims:
        for index, name in enumerate(layer["band"].values, start=1):
            file.set_band_description(index, str(name))
    elif layer.name is not None:
        file.set_band_description(1, str(layer.name))
    if not is_categorical(layer):
        return
    legend = Legend.of(layer)
    if not legend:
        return
    tags = {key: " ".join(map(str, np.atleast_1d(value))) for key, value in legend.attrs().items()}
    for index in range(1, file.count + 1):
        file.update_tags(index, **tags)
    if layer.dtype == np.uint8 and file.count == 1:
        file.write_colormap(1, legend.colormap())


def _cog_options(layer: xr.DataArray) -> dict[str, Any]:
    predictor = {"f": "FLOATING_POINT"}.get(layer.dtype.kind, "NO" if is_categorical(layer) else "STANDARD")
    overviews = "MODE" if is_categorical(layer) else "AVERAGE"
    return {
        "BLOCKSIZE": _BLOCK,
        "COMPRESS": "DEFLATE",
        "PREDICTOR": predictor,
        "OVERVIEW_RESAMPLING": overviews,
        "BIGTIFF": "IF_SAFER",
    }


def _write_names(layer: xr.DataArray, path: Path) -> None:
    """Write GDAL's category names, where the layer has some and GDAL can number them."""
    legend = Legend.of(layer) if is_categorical(layer) else None
    if not legend:
        return
    if min(legend.codes) < 0 or max(legend.codes) >= _MOST_NAMES:
        return
    known = dict(zip(legend.codes, legend.names, strict=True))
    rows = "".join(f"<Category>{escape(known.get(code, ''))}</Category>" for code in range(max(known) + 1))
    text = f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{rows}</CategoryNames></PAMRasterBand></PAMDataset>\n'
    path.write_text(text, encoding="utf-8")

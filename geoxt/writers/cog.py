"""A layer into a cloud-optimised GeoTIFF: piece by piece, and under its own name only once it is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import rasterio
import rasterio.shutil
import xarray as xr
from rasterio.errors import RasterioError

from geoxt.errors import GeoxtError, InputError, OutputError
from geoxt.legend import Legend
from geoxt.source import is_categorical, nodata_of
from geoxt.types import SomePath
from geoxt.writers.blocks import regions_of, write
from geoxt.writers.staging import require_writable, staging
from geoxt.writers.vrt import BLOCK, Save, assemble

_SIDE = 2048
"""Pixels: side of the regions of a layer without chunks."""
_MOST_NAMES = 65536
"""GDAL lists category names from code 0 up; beyond this a list would be mostly blanks."""
_WIDER = {"bool": "uint8", "float16": "float32"}
"""Types that rasterio cannot write, and those that hold the same values."""


def to_cog(layer: xr.DataArray, path: SomePath, *, resume: bool = True, progress: bool | None = None) -> Path:
    """Write a layer as a COG.

    It is computed and written region by region, a chunk each, into a hidden folder beside the output; under a dask
    cluster whose workers see that folder, they do so. The file appears under its name once it is whole.

    Parameters
    ----------
    layer
        Dimensions (y, x) or (band, y, x). It is computed chunk by chunk. A categorical one gets a colour table (where
        its type is uint8), class names, and overviews by mode; any other one overviews by average. Booleans become
        uint8, 0 and 1, and float16 becomes float32.
    path
        Where to write. An older file of that name is replaced, once the new one is whole.
    resume
        Whether regions that an interrupted write of the same layer has finished are taken over, and whether they are
        kept after an error or an interrupt. The files that the layer is read from must not have changed.
    progress
        Whether to show a progress bar; by default where standard error is a terminal.

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
    with staging(layer, path, "cog", resume=resume) as folder:
        try:
            _write(layer, path, folder, progress)
        except GeoxtError:
            raise
        except (OSError, RasterioError) as error:
            msg = f"Cannot write {str(path)!r}: {error}. Free space there, or pass another path."
            raise OutputError(msg) from error
    return path


def _write(layer: xr.DataArray, path: Path, folder: Path, progress: bool | None) -> None:  # noqa: FBT001
    """Write all regions, make one file of them, and move it to its place."""
    regions = regions_of(layer, side=_SIDE)
    write(regions, Save(folder=folder), folder, progress=progress, label=path.name)
    whole = assemble(regions, folder)
    with rasterio.open(whole, "r+") as file:
        nodata = nodata_of(layer)
        if nodata is not None:
            file.nodata = nodata
        _describe(layer, file)
    cog, names, beside = folder / "cog.tif", folder / "names.xml", path.with_name(f"{path.name}.aux.xml")
    with rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS"):
        rasterio.shutil.copy(whole, cog, driver="COG", **_cog_options(layer))
    _write_names(layer, names)
    beside.unlink(missing_ok=True)
    cog.replace(path)
    if names.exists():
        names.replace(beside)


def _storable(layer: xr.DataArray) -> xr.DataArray:
    """Return the layer in a type that a GeoTIFF can hold."""
    layer = layer.astype(_WIDER.get(layer.dtype.name, layer.dtype), copy=False)
    if not rasterio.dtypes.check_dtype(layer.dtype):
        msg = f"Cannot write pixels of type {layer.dtype} as a COG: no GeoTIFF can hold them. "
        raise InputError(msg + "Pass numbers, e.g. layer.astype('float32').")
    return layer


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
        "BLOCKSIZE": BLOCK,
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

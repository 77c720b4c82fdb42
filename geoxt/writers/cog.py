"""Write a layer as a cloud-optimized GeoTIFF, block by block; the file is complete or absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import rasterio
import rasterio.shutil
import xarray as xr
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from geoxt.errors import GeoxtError, InputError
from geoxt.legend import Legend
from geoxt.source import as_layer, is_categorical, resolve_attrs
from geoxt.source.embedding_attrs import to_tags
from geoxt.storage import flush
from geoxt.types import SomePath
from geoxt.writers.blocks import blocks_of, write_blocks
from geoxt.writers.complete import require_complete
from geoxt.writers.staging import require_writable, staging, write_error
from geoxt.writers.vrt import BLOCK, SaveGeoTIFF, write_vrt

_SIDE = 2048
"""Pixels: side of the blocks of a layer without chunks."""
_MAX_NAMES = 65536
"""GDAL lists category names from code 0 up; beyond this code a list would be mostly blank."""
_SIDECARS = (".aux.xml", ".msk", ".msk.ovr", ".ovr")
"""Suffixes of the files in which GDAL keeps metadata, valid mask and overviews of a GeoTIFF."""
_OTHER_FORMATS = {".bmp", ".csv", ".gpkg", ".img", ".jp2", ".jpeg", ".jpg", ".nc", ".png", ".vrt", ".webp", ".zarr"}
"""Extensions of other formats."""
_WIDER = {"bool": "uint8", "float16": "float32"}
"""Dtypes that rasterio cannot write, and dtypes that hold the same values."""


def to_cog(
    layer: xr.DataArray | xr.Dataset, path: SomePath, *, resume: bool = True, progress: bool | None = None
) -> Path:
    """Write a layer as a cloud-optimized GeoTIFF (COG).

    It is computed and written block by block, one per dask chunk, into a hidden folder beside the output; by the
    workers of a dask cluster if they see that folder. The file appears under its name once it is complete.

    Parameters
    ----------
    layer
        Dimensions (y, x) or (band, y, x), or a Dataset of one variable per band. Class codes get a color table (uint8
        only), class names, and overviews by mode; other layers get overviews by average. Booleans become uint8 (0 and
        1), float16 becomes float32.
    path
        Output file. An existing file is replaced once the new one is complete, and its sidecars (`.aux.xml`, `.msk`,
        `.ovr`) are removed.
    resume
        Whether to reuse the blocks that an interrupted write of the same layer has finished, and to keep finished
        blocks after an error or an interrupt. The files that the layer is read from must not have changed.
    progress
        Whether to show a progress bar; by default if standard error is a terminal.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    InputError
        If a GeoTIFF cannot hold the dimensions or the dtype of the layer.
    ReadError
        If a file of the layer cannot be read.
    OutputError
        If the file cannot be written, or another process or thread is writing it.

    Notes
    -----
    rasterio cannot set GDAL's category names, which GDAL keeps in a sidecar of a GeoTIFF. They are written to that
    sidecar (`.aux.xml`) and, as CF `flag_values` and `flag_meanings`, to the band metadata of the file.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> from geoxt.writers import to_cog
    >>> layer = make_layer(np.ones((64, 64), "float32"))
    >>> to_cog(layer, Path(tempfile.mkdtemp(), "map.tif")).name
    'map.tif'
    """
    path, layer = Path(path), as_layer(layer)
    if path.suffix.lower() in _OTHER_FORMATS:
        problem = f"Cannot write {str(path)!r}: a COG is a GeoTIFF, not a file of the extension {path.suffix!r}."
        raise InputError(problem, remedy="Pass {path} with the extension .tif.", value=str(path), argument="path")
    if set(layer.dims) not in ({"y", "x"}, {"band", "y", "x"}):
        raise InputError(
            f"Cannot write the dimensions {tuple(map(str, layer.dims))} as a COG.",
            remedy="Select with isel() down to (band, y, x).",
        )
    layer = _storable(resolve_attrs(layer).transpose("band", "y", "x", missing_dims="ignore"))
    require_writable(path)
    with staging(layer, path, "cog", resume=resume) as folder:
        try:
            _write(layer, path, folder, progress)
        except GeoxtError:
            raise
        except (OSError, RasterioError, CPLE_BaseError, SystemError) as error:  # the latter two are raised by copy()
            raise write_error(path, error, size=layer.nbytes) from error
    return path


def _write(layer: xr.DataArray, path: Path, folder: Path, progress: bool | None) -> None:  # noqa: FBT001
    """Write all blocks, combine them, and move the file to its path."""
    cog, names, former = folder / "cog.tif", folder / "names.xml", folder / "former"
    if cog.exists():  # a killed process did not replace the former file
        _move_sidecars(former, path.parent, path.name)
    blocks = blocks_of(layer, side=_SIDE)
    write_blocks(blocks, SaveGeoTIFF(folder=folder), folder, progress=progress, label=path.name)
    vrt = write_vrt(blocks, folder)
    with rasterio.open(vrt, "r+") as file:
        _describe(layer, file)
    with rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS"):
        rasterio.shutil.copy(vrt, cog, driver="COG", **_cog_options(layer))
    require_complete(cog)
    flush(cog)  # some file systems report a full disk only now
    _write_names(layer, names)
    former.mkdir(exist_ok=True)
    try:
        # They would mask the new file, or name its classes. Moved and not removed: the next step may fail.
        _move_sidecars(path.parent, former, path.name)
        cog.replace(path)
    except BaseException:
        _move_sidecars(former, path.parent, path.name)
        raise
    if names.exists():
        names.replace(path.with_name(f"{path.name}.aux.xml"))


def _move_sidecars(source: Path, target: Path, name: str) -> None:
    """Move the sidecars of a file from one folder to another."""
    for suffix in _SIDECARS:
        sidecar = source / f"{name}{suffix}"
        if sidecar.is_file():
            sidecar.replace(target / sidecar.name)


def _storable(layer: xr.DataArray) -> xr.DataArray:
    """Return the layer in a dtype that a GeoTIFF can hold."""
    layer = layer.astype(_WIDER.get(layer.dtype.name, layer.dtype), copy=False)
    if not rasterio.dtypes.check_dtype(layer.dtype):
        raise InputError(
            f"Cannot write pixels of dtype {layer.dtype} as a COG: a GeoTIFF cannot hold them.",
            remedy="Pass numbers, e.g. layer.astype('float32').",
        )
    return layer


def _describe(layer: xr.DataArray, file: Any) -> None:
    """Set band names, class codes and the color table of a file."""
    if "band" in layer.coords and "band" in layer.dims:
        for index, name in enumerate(layer["band"].values, start=1):
            file.set_band_description(index, str(name))
    elif layer.name is not None or "band" in layer.coords:  # a band of an image: image.sel(band="ndvi")
        file.set_band_description(1, str(layer["band"].item() if "band" in layer.coords else layer.name))
    file.update_tags(**to_tags(layer))
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
    # Prediction compresses measured values well; class codes have no gradients.
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
    """Write GDAL's category names of class codes that GDAL can number."""
    legend = Legend.of(layer) if is_categorical(layer) else None
    if not legend:
        return
    if min(legend.codes) < 0 or max(legend.codes) >= _MAX_NAMES:
        return
    class_names = dict(zip(legend.codes, legend.names, strict=True))
    rows = "".join(f"<Category>{escape(class_names.get(code, ''))}</Category>" for code in range(max(class_names) + 1))
    text = f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{rows}</CategoryNames></PAMRasterBand></PAMDataset>\n'
    path.write_text(text, encoding="utf-8")

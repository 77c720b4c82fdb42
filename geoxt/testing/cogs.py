"""GeoTIFFs from an array and a grid: COGs, strips, overviews, masks, palettes, rotated and south-up grids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import rasterio
import xarray as xr
from affine import Affine
from numpy.typing import ArrayLike, DTypeLike, NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, Resampling

from geoxt.grid import coordinates

__all__ = ["distinct", "make_grid", "make_layer", "write_bands", "write_cog"]

# The COG driver names predictors, the GTiff driver takes the numbers of the TIFF specification.
_PREDICTORS = {2: "STANDARD", 3: "FLOATING_POINT"}


def make_grid(
    shape: tuple[int, int],
    *,
    crs: str | None = "EPSG:32615",
    left: float = 600_000.0,
    top: float = 4_550_000.0,
    resolution: float = 30.0,
    south_up: bool = False,
    degrees: float = 0.0,
) -> GeoBox:
    """
    Make the grid of a small raster.

    Parameters
    ----------
    shape
        Rows and columns.
    crs
        None for a raster without a CRS.
    left, top
        Upper left corner in units of `crs`, before rotation.
    resolution
        Pixel size, in units of `crs`.
    south_up
        Whether row 0 is the southernmost row.
    degrees
        Rotation about the upper left corner, counter-clockwise.

    Examples
    --------
    >>> grid = make_grid((2, 3), crs="EPSG:5070", left=0, top=100, resolution=10)
    >>> grid.shape.yx, grid.affine[:6]
    ((2, 3), (10.0, 0.0, 0.0, 0.0, -10.0, 100.0))
    """
    turn = np.deg2rad(degrees)
    cos, sin = (round(float(part), 15) * resolution for part in (np.cos(turn), np.sin(turn)))
    if south_up:
        height = shape[0]
        affine = Affine(cos, -sin, left + sin * height, sin, cos, top - cos * height)
    else:
        affine = Affine(cos, sin, left, sin, -cos, top)
    return GeoBox(shape, affine, crs)


def make_layer(
    values: ArrayLike,
    *,
    grid: GeoBox | None = None,
    bands: Sequence[str] | None = None,
    name: str | None = None,
    **options: Any,
) -> xr.DataArray:
    """
    Make a layer in memory.

    Parameters
    ----------
    values
        Array (y, x) or (band, y, x).
    grid
        Grid of the pixels; by default that of `make_grid(shape, **options)`.
    bands
        Names of the bands.
    name
        Name of the layer.
    options
        Options of `make_grid`.

    Examples
    --------
    >>> make_layer(np.ones((2, 4, 4)), bands=["red", "nir"]).geoml.grid.shape.yx
    (4, 4)
    """
    array = np.asarray(values)
    height, width = array.shape[-2:]
    coords = coordinates(grid or make_grid((height, width), **options))
    layer = xr.DataArray(array, dims=("band", "y", "x")[-array.ndim :], coords=coords, name=name)
    return layer if bands is None else layer.assign_coords(band=list(bands))


def distinct(shape: Sequence[int], dtype: DTypeLike = "uint16") -> NDArray[Any]:
    """
    Return an array of distinct pixel values, so that a pixel read from a wrong position is noticed.

    Values count up from 1, so that 0 can be nodata. If `dtype` holds too few values (``uint8`` beyond 255 pixels),
    values repeat, but never within 7 rows and 7 columns of each other.

    Examples
    --------
    >>> distinct((2, 3))
    array([[1, 2, 3],
           [4, 5, 6]], dtype=uint16)
    """
    kind = np.dtype(dtype)
    count = np.arange(int(np.prod(shape)))
    if _largest_count(kind) > count.size:
        return (count + 1).astype(kind).reshape(shape)
    row, col = np.indices(shape[-2:])
    plane = np.arange(int(np.prod(shape[:-2]))).reshape(*shape[:-2], 1, 1)
    period = min(251, _largest_count(kind))  # the largest prime below 256
    return np.asarray((row * 16 + col + plane * 37) % period + 1, kind)


def _largest_count(kind: np.dtype[Any]) -> int:
    """Return the largest integer up to which a dtype holds all integers exactly."""
    if kind.kind in "iu":
        return int(np.iinfo(kind).max)
    return int(2 ** (np.finfo(kind).nmant + 1))


def write_cog(
    path: str | Path,
    values: ArrayLike,
    *,
    grid: GeoBox,
    nodata: float | None = None,
    bands: Sequence[str] | None = None,
    names: Mapping[int, str] | None = None,
    colors: Mapping[int, str] | None = None,
    scale: float | None = None,
    offset: float | None = None,
    mask: ArrayLike | None = None,
    alpha: ArrayLike | None = None,
    point: bool = False,
    tiled: bool = True,
    blocksize: int = 256,
    overviews: Sequence[int] | None = None,
    external: bool = False,
    resampling: str = "nearest",
    **creation: Any,
) -> Path:
    """
    Write an array as a COG, or as a plain GeoTIFF if the arguments rule out a COG.

    Parameters
    ----------
    path
        Path of the file. Missing folders are created.
    values
        Array (y, x) or (band, y, x), in the file's order of rows.
    grid
        CRS, affine and shape. It may be south-up or rotated, and its CRS may be None.
    nodata
        Value of missing pixels.
    bands
        Description of each band.
    names
        Class name of each code, written as CF ``flag_values`` and ``flag_meanings`` in the band's tags (blanks as
        "_"), and as GDAL category names in a sidecar file.
    colors
        Color of each code, as "#rrggbb": written as a color table, and as ``flag_colors`` in the band's tags.
    scale, offset
        Scale and offset in the header; `values` are written unchanged.
    mask
        Valid pixels (y, x), written as an internal mask.
    alpha
        Array (y, x), written as an additional alpha band.
    point
        Whether the file has ``AREA_OR_POINT=Point``, which leaves the grid unchanged.
    tiled
        False writes strips.
    blocksize
        Height and width of a tile, in pixels: a multiple of 16.
    overviews
        Overview factors, such as ``(2, 4)``. By default those of GDAL's COG driver, and none in a plain GeoTIFF.
    external
        Whether overviews are written to a separate ``.ovr`` file.
    resampling
        Resampling of overviews, by rasterio's names.
    creation
        GDAL creation options, such as ``compress="deflate", predictor=2``.

    Returns
    -------
    Path
        `path`.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "map.tif")
    >>> write_cog(path, np.ones((64, 64), "uint8"), grid=make_grid((64, 64)), nodata=0).name
    'map.tif'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    cube = np.asarray(values)
    cube = cube[np.newaxis] if cube.ndim == 2 else cube
    if alpha is not None:
        cube = np.concatenate([cube, np.asarray(alpha, cube.dtype)[np.newaxis]])
    cog = tiled and overviews is None and not external
    layout = (
        _cog_options(blocksize, resampling, creation)
        if cog
        else _tiff_options(tiled=tiled, blocksize=blocksize, creation=creation)
    )
    count, height, width = cube.shape
    profile = {"count": count, "height": height, "width": width, "dtype": cube.dtype, "nodata": nodata}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", crs=_wkt(grid), transform=grid.affine, **profile, **layout) as file,
    ):
        file.update_tags(AREA_OR_POINT="Point" if point else "Area")
        if alpha is not None:
            file.colorinterp = (*file.colorinterp[:-1], ColorInterp.alpha)
        _describe(file, bands=bands, scale=scale, offset=offset)
        _classify(file, names=names or {}, colors=colors or {})
        file.write(cube)
        if mask is not None:
            file.write_mask(np.asarray(mask, bool))
    if overviews and not cog:
        with rasterio.Env(TIFF_USE_OVR=external), rasterio.open(path, "r+") as file:
            file.build_overviews(list(overviews), Resampling[resampling])
    if names:
        _write_categories(path, names)
    return path


def write_bands(directory: str | Path, values: ArrayLike, *, names: Sequence[str], **options: Any) -> tuple[Path, ...]:
    """
    Write an array (band, y, x) as one file per band.

    Parameters
    ----------
    directory
        Output folder.
    values
        Array (band, y, x).
    names
        File name of each band.
    options
        Options of `write_cog`.

    Returns
    -------
    tuple of Path
        Paths in band order.

    Examples
    --------
    >>> import tempfile
    >>> values = np.ones((2, 64, 64), "uint8")
    >>> paths = write_bands(tempfile.mkdtemp(), values, names=["B4.tif", "B8.tif"], grid=make_grid((64, 64)))
    >>> [path.name for path in paths]
    ['B4.tif', 'B8.tif']
    """
    cube = np.asarray(values)
    return tuple(write_cog(Path(directory) / name, band, **options) for name, band in zip(names, cube, strict=True))


def _wkt(grid: GeoBox) -> str | None:
    return None if grid.crs is None else grid.crs.to_wkt()


def _cog_options(blocksize: int, resampling: str, creation: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {"driver": "COG", "blocksize": blocksize, "compress": "none"}
    options |= {"overview_resampling": resampling, **creation}
    if options.get("predictor") in _PREDICTORS:
        options["predictor"] = _PREDICTORS[options["predictor"]]
    return options


def _tiff_options(*, tiled: bool, blocksize: int, creation: Mapping[str, Any]) -> dict[str, Any]:
    blocks = {"tiled": True, "blockxsize": blocksize, "blockysize": blocksize} if tiled else {}
    return {"driver": "GTiff", **blocks, **creation}


def _describe(file: Any, *, bands: Sequence[str] | None, scale: float | None, offset: float | None) -> None:
    for index, name in enumerate(bands or (), start=1):
        file.set_band_description(index, name)
    if scale is not None:
        file.scales = (scale,) * file.count
    if offset is not None:
        file.offsets = (offset,) * file.count


def _classify(file: Any, *, names: Mapping[int, str], colors: Mapping[int, str]) -> None:
    """Write the color table and the classes as CF flags (CF conventions, section 3.5)."""
    if colors:
        file.write_colormap(1, {code: (*bytes.fromhex(color.lstrip("#")), 255) for code, color in colors.items()})
    tags = {}
    if names:
        tags["flag_meanings"] = " ".join(name.replace(" ", "_") for name in names.values())
    if colors:
        tags["flag_colors"] = " ".join(colors[code] for code in (names or colors))
    if tags:
        file.update_tags(1, flag_values=" ".join(str(code) for code in (names or colors)), **tags)


def _write_categories(path: Path, names: Mapping[int, str]) -> None:
    """Write GDAL's category names to the sidecar file, since rasterio cannot set them."""
    rows = "".join(f"<Category>{escape(names.get(code, ''))}</Category>" for code in range(max(names) + 1))
    text = f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{rows}</CategoryNames></PAMRasterBand></PAMDataset>\n'
    Path(f"{path}.aux.xml").write_text(text, encoding="utf-8")

"""GeoTIFFs of every kind a reader meets, written from an array and a grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import ArrayLike, DTypeLike, NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, Resampling

__all__ = ["distinct", "make_grid", "write_bands", "write_cog"]

# The COG driver spells predictors in words, the GTiff driver in the numbers of the TIFF specification.
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
        None for a raster that has no CRS.
    left, top
        The raster's upper left corner on the map, in units of `crs` (before it is turned).
    resolution
        Side of a pixel, in units of `crs`.
    south_up
        Whether row 0 is the southernmost one.
    degrees
        Angle by which the raster is turned about its corner, counter-clockwise.

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


def distinct(shape: Sequence[int], dtype: DTypeLike = "uint16") -> NDArray[Any]:
    """
    Return an array in which each pixel has a value of its own, so that a pixel read from a wrong place shows.

    Values count up from 1, so 0 is free for nodata. Where `dtype` has too little room (``uint8`` beyond 255 pixels)
    values recur, but never within 7 rows and 7 columns of each other.

    Examples
    --------
    >>> distinct((2, 3))
    array([[1, 2, 3],
           [4, 5, 6]], dtype=uint16)
    """
    kind = np.dtype(dtype)
    count = np.arange(int(np.prod(shape)))
    if _room(kind) > count.size:
        return (count + 1).astype(kind).reshape(shape)
    row, col = np.indices(shape[-2:])
    plane = np.arange(int(np.prod(shape[:-2]))).reshape(*shape[:-2], 1, 1)
    period = min(251, _room(kind))  # the largest prime that a byte holds
    return np.asarray((row * 16 + col + plane * 37) % period + 1, kind)


def _room(kind: np.dtype[Any]) -> int:
    """Largest count that a dtype holds exactly."""
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
    Write an array as a GeoTIFF: a COG, unless the arguments ask for what a COG cannot be.

    Parameters
    ----------
    path
        Where to write. Missing folders are made.
    values
        Array of dims (y, x) or (band, y, x), in the order in which the file holds it.
    grid
        CRS, affine and shape. It may be south-up or rotated, and its CRS may be None.
    nodata
        Value of pixels that hold no data.
    bands
        Description of each band.
    names
        Class name of each code. It is written as CF ``flag_values`` and ``flag_meanings`` in the band's tags (blanks
        in a name as "_"), and as GDAL category names beside the file.
    colors
        Colour of each code, as "#rrggbb". Makes a paletted file, and ``flag_colors`` in the band's tags.
    scale, offset
        Stored with the bands. `values` are written as they are.
    mask
        Valid pixels (True) of dims (y, x), kept as an internal mask.
    alpha
        Array of dims (y, x), written as one more band, of colour interpretation alpha.
    point
        Whether the file says ``AREA_OR_POINT=Point``. The grid is the same either way.
    tiled
        False writes strips.
    blocksize
        Side of a tile, in pixels: a multiple of 16.
    overviews
        Factors, such as ``(2, 4)``. None leaves it to GDAL's COG driver, and builds none in a plain GeoTIFF.
    external
        Whether overviews go into a file of their own, ``.ovr``.
    resampling
        How overviews are made, in rasterio's words.
    creation
        More creation options, such as ``compress="deflate", predictor=2``.

    Returns
    -------
    Path
        `path`.
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
    Write an array of dims (band, y, x) as one file a band, named by `names`.

    Parameters
    ----------
    directory
        Folder to write to.
    values
        Array of dims (band, y, x).
    names
        File name of each band.
    options
        What `write_cog` takes.

    Returns
    -------
    tuple of Path
        In the order of the bands.
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
    """Write the colour table, and the classes as CF spells them (section 3.5)."""
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
    """Write GDAL's category names. rasterio cannot, so the file that GDAL would make beside the raster is made here."""
    rows = "".join(f"<Category>{escape(names.get(code, ''))}</Category>" for code in range(max(names) + 1))
    text = f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{rows}</CategoryNames></PAMRasterBand></PAMDataset>\n'
    Path(f"{path}.aux.xml").write_text(text, encoding="utf-8")
